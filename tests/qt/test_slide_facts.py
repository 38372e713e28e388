"""What the Slide dock says of a slide."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from napari_gimp._qt.slide_facts import Fact, doubt_about, facts_of, hint_of
from napari_gimp.slide.describe import Facts, IccFacts, LevelFacts

Deliver = Callable[[Any], None]
Make = Callable[..., Path]


def some_facts(**changed: Any) -> Facts:
    known: dict[str, Any] = {
        "file": "a.svs",
        "size_px": (1000, 2000),
        "size_mm": (0.5, 1.0),
        "mpp": (0.5, 0.5),
        "mpp_origin": "Aperio MPP",
        "mpp_verified": True,
        "mpp_usable": True,
        "likely_mpp": None,
        "objective": 20.0,
        "vendor": "aperio",
        "scanner": "",
        "compression": "JPEG",
        "photometric": "YCBCR",
        "reader": "tifffile",
        "refused": (),
        "levels": (LevelFacts((1000, 2000), (1.0, 1.0), (256, 240)),),
        "rgb": True,
        "channels": 3,
        "channel_names": (),
        "dtype": "uint8",
        "icc": None,
        "associated": (),
        "fingerprint": "abc",
    }
    return Facts(**(known | changed))


def test_facts_have_units_and_what_is_silent_is_left_out() -> None:
    facts = facts_of(some_facts())

    assert facts["Size"].text == "2,000 × 1,000 px\n1.00 × 0.500 mm"
    assert facts["Resolution"].text == "0.5 µm/px (Aperio MPP)"
    assert facts["Objective"].text == "20×"
    assert facts["Tiles"].text == "240 × 256 px"
    assert facts["Colour profile"].text == "none"
    assert "Scanner" not in facts
    assert "Label images" not in facts


def test_an_implausible_resolution_is_flagged_with_the_likely_one() -> None:
    facts = some_facts(
        mpp=(0.00499, 0.00499),
        mpp_verified=False,
        mpp_usable=False,
        size_mm=None,
        likely_mpp=0.499,
    )

    text = facts_of(facts)["Resolution"].text
    assert "implausible; probably 0.499 is meant" in text
    assert "no slide scanner has" in doubt_about(facts)
    assert hint_of(facts).startswith("Probably 0.499 µm/px")


def test_refusals_of_readers_are_told_in_the_tooltip() -> None:
    facts = some_facts(refused=("tifffile: overlapping tiles.",), reader="openslide")

    assert facts_of(facts)["Reader"] == Fact(
        "openslide (1 other refused the file)", "tifffile: overlapping tiles."
    )


def test_the_colour_profile_is_named_and_whether_it_is_applied() -> None:
    off, on = (IccFacts("ScanScope v1", 3144, applied) for applied in (False, True))

    assert facts_of(some_facts(icc=off))["Colour profile"].text == (
        "ScanScope v1 (not applied)"
    )
    assert "converted to sRGB" in facts_of(some_facts(icc=on))["Colour profile"].text
