"""One name for every encoder: embedded, preset, timm's, or a path."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders.bfloat16 import ENDING, in_bfloat16
from napari_gimp.patches.encoders.embedded import (
    WEIGHTS,
    embedded_names,
    load_embedded,
    read_card,
)
from napari_gimp.patches.encoders.imported import PREFIX, load_imported
from napari_gimp.patches.encoders.presets import PRESETS
from napari_gimp.patches.encoders.protocol import Encoder

SUFFIXES = (".safetensors", ".pt", ".pth", ".pt2", ".bin", ".ts")
"""Ends by which a name is a path even if no such file is there."""


@dataclass(frozen=True, slots=True)
class EncoderFacts:
    """What can be said of an encoder without loading it.

    Parameters
    ----------
    name
        What `load_encoder` takes.
    title
        Its name in print.
    width
        P, features per patch.
    input_px
        Side of its input, px.
    mpp
        um/px at which it looks.
    patch_um
        Side of a patch, um.
    licence
        Of its weights.
    access
        "included", "open" or "gated".
    page
        Where to read about it and to ask for access; "" for an included one.
    source
        Where these numbers come from.
    """

    name: str
    title: str
    width: int
    input_px: int
    mpp: float
    patch_um: float
    licence: str
    access: str
    page: str
    source: str


def list_encoders() -> list[str]:
    """Return the names of the encoders that are included."""
    return embedded_names()


def encoder_facts() -> list[EncoderFacts]:
    """Return what is known of every included encoder and preset; loads none."""
    return [_embedded_facts(name) for name in embedded_names()] + [
        EncoderFacts(
            preset.name,
            preset.title,
            preset.width,
            preset.look.input_px,
            preset.look.mpp,
            preset.look.patch_um,
            preset.licence,
            "gated" if preset.gated else "open",
            preset.page,
            preset.source,
        )
        for preset in PRESETS.values()
    ]


def _embedded_facts(name: str) -> EncoderFacts:
    card = read_card(name)
    return EncoderFacts(
        name,
        f"{card.facts['architecture']} of this package",
        card.width,
        card.input_px,
        card.mpp,
        card.input_px * card.mpp,
        card.facts["licence"].partition(" for ")[0],
        "included",
        "",
        "its card",
    )


def load_encoder(name: str = "default", *, folder: Path = WEIGHTS) -> Encoder:
    """Return an encoder, on the CPU, ready for inference.

    Parameters
    ----------
    name
        An included encoder; a preset ("uni"); a preset from your own file
        ("uni=FILE"); a pretrained network of timm ("timm:NAME@0.5"); features of
        another tool ("imported:uni2:1536"); or the path of a file or folder. All but
        the included ones may end in @UM_PER_PX; with "+bf16" behind it, an encoder
        computes in bfloat16.
    folder
        Where included encoders are.

    Raises
    ------
    EncoderError
        If there is none of that name, it cannot be had, or its files are damaged.
    """
    if name in embedded_names(folder):
        return load_embedded(name, folder=folder)
    if name.endswith(ENDING) and not Path(name).exists():
        return in_bfloat16(load_encoder(name.removesuffix(ENDING), folder=folder))
    plain, mpp = _split_mpp(name)
    if plain.startswith("timm:"):
        return _load_timm(plain.removeprefix("timm:"), mpp)
    if plain.startswith(PREFIX):
        return load_imported(plain, mpp)
    preset, equals, file = plain.partition("=")
    if preset in PRESETS:
        return _load_preset(preset, Path(file) if equals else None, mpp)
    path = Path(plain)
    if path.exists() or path.suffix in SUFFIXES or len(path.parts) > 1:
        from napari_gimp.patches.encoders.files import load_file

        return load_file(path, mpp=mpp)
    raise EncoderError(
        f"there is no encoder {name!r} in {folder}; known: "
        f"{', '.join([*embedded_names(folder), *PRESETS])}. Choose one, or give "
        "timm:NAME@UM_PER_PX or the path of a file"
    )


def _split_mpp(name: str) -> tuple[str, float | None]:
    """Return a name without its @UM_PER_PX, and that number."""
    plain, at, number = name.rpartition("@")
    if not at or Path(name).exists():
        return name, None
    try:
        mpp = float(number)
    except ValueError:  # an @ within a path
        return name, None
    if not (math.isfinite(mpp) and mpp > 0):
        raise EncoderError(
            f"um/px after @ must be above 0, got {number} in {name!r}; write e.g. @0.5"
        )
    return plain, mpp


def _load_timm(model: str, mpp: float | None) -> Encoder:
    from napari_gimp.patches.encoders.hub import load_timm

    if mpp is None:
        raise EncoderError(
            f"timm's {model} does not say at which um/px it is to look; name it as in "
            f"timm:{model}@0.5"
        )
    return load_timm(model, mpp=mpp)


def _load_preset(name: str, path: Path | None, mpp: float | None) -> Encoder:
    from napari_gimp.patches.encoders.hub import load_preset, load_preset_file

    if path is None:
        return load_preset(name, mpp=mpp)
    return load_preset_file(name, path, mpp=mpp)
