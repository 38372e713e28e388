"""Scanners' formats, written here: right vendor, levels, um/px, pixels, no names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import openslide
import pytest
import tifffile

from napari_gimp.slide.openslide import OpenSlideSource
from napari_gimp.slide.source import SlideSource, open_slide
from planted_slides import averaged
from vendor_bif import write_bif
from vendor_czi import write_czi
from vendor_mrxs import write_mrxs
from vendor_ndpi import write_ndpi
from vendor_philips import write_philips
from vendor_scn import write_scn
from vendor_svs import J2K_RGB, J2K_YCBCR, write_svs
from vendor_vms import write_vms
from vendor_vmu import write_vmu

MPP = 0.46
JPEG_LOSS = 4
"""Largest mean difference of a level after JPEG of quality 95, chroma halved."""


@dataclass(frozen=True)
class Case:
    """A format, how to write it, and what opening it must tell."""

    name: str
    write: Callable[..., Path]
    vendor: str
    reader: str = "openslide"
    loss: float = JPEG_LOSS
    factors: tuple[int, ...] = (1, 4, 16)
    properties: tuple[str, ...] = ()
    associated: frozenset[str] = frozenset()
    at_px: tuple[int, int] = (0, 0)


SVS_IMAGES = frozenset({"thumbnail", "label", "macro"})
SVS = {"vendor": "aperio", "reader": "tifffile", "associated": SVS_IMAGES}
CASES = (
    Case("a.svs", write_svs, **SVS),
    Case("b.svs", partial(write_svs, compression=J2K_YCBCR), loss=0.5, **SVS),
    Case("c.svs", partial(write_svs, compression=J2K_RGB), loss=0, **SVS),
    Case("d.tiff", write_philips, "philips"),
    Case("e.scn", write_scn, "leica", properties=("scanner",)),
    Case(
        "f.scn",
        partial(write_scn, margin_px=(64, 128)),
        "leica",
        factors=(1, 4),
        properties=("scanner", "bounds"),
        associated=frozenset({"macro"}),
        at_px=(64, 128),
    ),
    Case(
        "g.ndpi",
        write_ndpi,
        "hamamatsu",
        properties=("scanner", "compression"),
        associated=frozenset({"macro"}),
    ),
    Case(
        "h.vms",
        write_vms,
        "hamamatsu",
        factors=(1, 16),
        properties=("compression",),
    ),
    Case(
        "h.vmu",
        write_vmu,
        "hamamatsu",
        loss=0,
        factors=(1, 16),
        properties=("compression",),
    ),
    Case(
        "i.bif",
        write_bif,
        "ventana",
        properties=("scanner",),
        associated=frozenset({"macro"}),
    ),
    Case(
        "j.bif",
        partial(write_bif, overlap_px=16),
        "ventana",
        associated=frozenset({"macro"}),
    ),
    Case("k.mrxs", write_mrxs, "mirax", properties=("compression",)),
    Case("l.mrxs", partial(write_mrxs, image_format="PNG"), "mirax", loss=0),
    Case(
        "m.mrxs",
        partial(write_mrxs, image_format="PNG", overlap_px=16),
        "mirax",
        loss=0.5,
    ),
    Case(
        "n.czi",
        write_czi,
        "zeiss",
        loss=0,
        properties=("scanner",),
        associated=frozenset({"label"}),
    ),
)


@pytest.fixture(scope="module")
def levels() -> list[np.ndarray]:
    """Long waves (1040, 1504, 3), and what is 4 and 16 times coarser."""
    y, x = np.mgrid[:1040, :1504]
    waves = (y / 91 + x / 70, x / 83 - y / 77, (x - y) / 60)
    finest = np.stack([128 + 100 * np.sin(w) for w in waves], axis=2).astype(np.uint8)
    return [finest, *(averaged(finest, Fraction(f)) for f in (4, 16))]


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request: pytest.FixtureRequest) -> Case:
    return request.param


@pytest.fixture
def source(case, levels, tmp_path):
    path = case.write(tmp_path / case.name, levels, mpp=MPP)
    with open_slide(path) as slide:
        yield slide


def level_of(source: SlideSource, factor: int) -> int:
    """Return the number of the level that is `factor` times coarser."""
    return [level.downsample for level in source.levels].index((factor, factor))


def test_it_is_known_for_what_it_is(case, source):
    assert (source.reader, source.refused) == (case.reader, ())
    assert source.properties["vendor"] == case.vendor
    assert source.properties["objective"] == "20"
    assert set(source.associated) == case.associated
    assert set(case.properties) <= set(source.properties)
    assert source.resolution.verified
    assert source.mpp == pytest.approx((MPP, MPP), rel=1e-4)
    assert len(source.damage) == 0


def test_names_and_barcodes_stay_in_the_file(source):
    told = " ".join([*source.properties, *source.properties.values()]).lower()
    assert "secret" not in told
    assert "c2vjcmv0" not in told  # "secret" in base64
    assert set(source.properties) <= {
        *("vendor", "objective", "scanner", "compression", "photometric", "bounds"),
    }


def test_each_level_holds_what_was_written(case, source, levels):
    for factor in case.factors:
        wanted = levels[(1, 4, 16).index(factor)].astype(int)
        y, x = (side // factor for side in case.at_px)
        found = source.read_region(level_of(source, factor), y, x, *wanted.shape[:2])
        assert abs(found - wanted).mean() <= case.loss


def test_windows_equal_openslides_own(source):
    rng = np.random.default_rng(3)
    with openslide.OpenSlide(source.path) as reference:
        for _ in range(20):
            y, x = (int(rng.integers(side - 1)) for side in source.levels[0].shape)
            window = min(300, source.levels[0].shape[1] - x), 200
            wanted = np.asarray(reference.read_region((x, y), 0, window))
            found = source.read_region(0, y, x, *window[::-1])
            opaque = wanted[:, :, 3] == 255
            apart = abs(found[opaque].astype(int) - wanted[opaque, :3])
            # decoders of JPEG 2000's YCbCr round each in its way
            assert apart.max(initial=0) <= (2 if source.reader == "tifffile" else 0)
            beyond = wanted[:, :, 3] == 0
            assert (found[beyond] == 255).all()


def test_associated_images_are_those_written(case, source):
    colour = {"label": (255, 0, 0), "macro": (0, 0, 255)}
    for name in case.associated - {"thumbnail"}:
        wanted = (255, 0, 0) if case.vendor == "ventana" else colour[name]
        pixels = source.read_associated(name)
        assert pixels.shape[2] == 3
        np.testing.assert_allclose(pixels.mean((0, 1)), wanted, atol=4)


def test_a_philips_level_ends_where_its_factor_says(tmp_path, levels):
    """Its page is padded with 16 px of white on either side."""
    path = write_philips(tmp_path / "a.tiff", levels)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[1].shape == (384, 384, 3)
    with open_slide(path) as slide:
        assert slide.levels[1].shape == (260, 376)


def test_tiles_a_mirax_scanner_left_out_are_white(tmp_path, levels):
    empty = frozenset({(0, 0), (3, 5)})
    path = write_mrxs(tmp_path / "a.mrxs", levels, image_format="PNG", empty=empty)
    with open_slide(path) as slide:
        found = slide.read_region(0, 0, 0, *levels[0].shape[:2])
        assert len(slide.damage) == 0
    wanted = levels[0].copy()
    for row, col in empty:
        wanted[row * 128 : (row + 1) * 128, col * 128 : (col + 1) * 128] = 255
    np.testing.assert_array_equal(found, wanted)


def test_a_leica_slide_states_where_the_picture_lies(tmp_path, levels):
    path = write_scn(tmp_path / "a.scn", levels[:2], margin_px=(64, 128))
    with open_slide(path) as slide:
        assert slide.properties["bounds"] == "1504 x 1040 px at x 128, y 64"
        assert slide.corner_px == (64, 128)
        assert slide.levels[0].shape == (1040 + 128, 1504 + 256)
        assert (slide.read_region(0, 0, 0, 64, 1760) == 255).all()


@pytest.mark.parametrize("margin_px", [(61, 131), (7, 3), (90, 5)])
def test_a_leica_picture_that_starts_anywhere_lies_there_in_every_level(
    tmp_path, margin_px
):
    """No level's factor divides the margin, so its pixels lie between the canvas'."""
    finest = np.full((1024, 1536, 3), 230, np.uint8)
    spots = [(200, 300), (700, 1200), (512, 768)]
    for y, x in spots:
        finest[y : y + 96, x : x + 96] = 20
    levels = [averaged(finest, Fraction(factor)) for factor in (1, 4, 16)]
    path = write_scn(tmp_path / "a.scn", levels, margin_px=margin_px)
    with open_slide(path) as slide:
        for number, level in enumerate(slide.levels):
            dark = 230.0 - slide.read_region(number, 0, 0, *level.shape)[..., 1]
            for spot in spots:
                truth = [a + b + 48 for a, b in zip(spot, margin_px, strict=True)]
                found = dark_centre(dark.clip(0), level.downsample[0], truth)
                np.testing.assert_allclose(found, truth, atol=0.5)


def test_a_leica_slide_whose_first_coarse_tile_is_damaged_still_opens(tmp_path, levels):
    path = write_scn(tmp_path / "a.scn", levels[:2], margin_px=(61, 131))
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[1].dataoffsets[0]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * 64)
    with open_slide(path) as slide:
        slide.read_region(1, 0, 0, *slide.levels[1].shape)
        assert [place[0] for place in slide.damage.places] == [1]
        found = slide.read_region(0, 61, 131, 512, 512).astype(int)
    assert abs(found - levels[0][:512, :512]).mean() < 5  # JPEG


def dark_centre(
    dark: np.ndarray, factor: float, near: list[int]
) -> tuple[float, float]:
    """Return the level-0 row and column of the dark square near a place."""
    ys, xs = ((np.arange(side) + 0.5) * factor for side in dark.shape)
    there = dark * (np.abs(ys - near[0]) < 100)[:, None] * (np.abs(xs - near[1]) < 100)
    total = there.sum()
    return (there.sum(1) * ys).sum() / total, (there.sum(0) * xs).sum() / total


def test_a_slide_filled_by_its_picture_states_no_bounds(tmp_path, levels):
    with open_slide(write_scn(tmp_path / "a.scn", levels)) as slide:
        assert "bounds" not in slide.properties
        assert slide.corner_px == (0, 0)


def test_tifffile_finds_the_same_ndpi_pixels(tmp_path, levels):
    """Another reader's word that the file is one as the format has it."""
    path = write_ndpi(tmp_path / "a.ndpi", levels)
    with tifffile.TiffFile(path) as tiff, OpenSlideSource(path) as slide:
        assert tiff.is_ndpi
        wanted = tiff.series[0].levels[1].asarray()
        found = slide.read_region(level_of(slide, 4), 0, 0, *wanted.shape[:2])
    assert abs(found.astype(int) - wanted).max() <= 2
