"""What the numbers of a foreign feature file mean: unit, patch size, encoder.

Some tools say it in the file, some do not. Each answer is an `Inferred`: a value,
where it comes from, and whether the file (or the user) states it, so that a person
can look at it before anything is kept.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import StoreError
from napari_gimp.geometry import YX
from napari_gimp.patches.h5 import H5Features

T = TypeVar("T")
Unit = Literal["px", "um", "stamp1"]
"""Level-0 pixels, micrometres, or STAMP 1's 224 steps to 256 um."""
STAMP1_STEPS, STAMP1_UM = 224, 256.0
GIVEN = "as given"


@dataclass(frozen=True, slots=True)
class Inferred(Generic[T]):
    """A value, what it was concluded from, and whether that leaves no doubt.

    Parameters
    ----------
    value
        The answer.
    evidence
        Where it comes from, for people.
    stated
        Whether the file or the user says so; else it is a conclusion.
    """

    value: T
    evidence: str
    stated: bool


@dataclass(frozen=True, slots=True)
class Interpretation:
    """What the numbers of a feature file mean on a slide.

    Parameters
    ----------
    unit
        Unit of the coordinates.
    patch_um, stride_um
        Side and distance of patches, um.
    mpp
        um/px of the pixels that were given to the encoder.
    encoder
        Name of the encoder.
    """

    unit: Inferred[Unit]
    patch_um: Inferred[float]
    stride_um: Inferred[float]
    mpp: Inferred[float]
    encoder: Inferred[str]

    @property
    def stated(self) -> bool:
        """Whether nothing had to be concluded."""
        facts = (self.unit, self.patch_um, self.stride_um, self.mpp, self.encoder)
        return all(fact.stated for fact in facts)

    def as_rows(self) -> dict[str, str]:
        """Return each answer with its evidence, for people."""
        rows: dict[str, tuple[str, Inferred[Any]]] = {
            "unit": (self.unit.value, self.unit),
            "patch": (f"{self.patch_um.value:g} um", self.patch_um),
            "stride": (f"{self.stride_um.value:g} um", self.stride_um),
            "um/px": (f"{self.mpp.value:.4g}", self.mpp),
            "encoder": (self.encoder.value, self.encoder),
        }
        return {
            name: f"{text}  ({'' if fact.stated else 'inferred: '}{fact.evidence})"
            for name, (text, fact) in rows.items()
        }

    def as_dict(self) -> dict[str, dict[str, Any]]:
        """Return each answer as plain values, for programs."""
        names = ("unit", "patch_um", "stride_um", "mpp", "encoder")
        facts = {name: getattr(self, name) for name in names}
        return {
            name: {"value": f.value, "evidence": f.evidence, "stated": f.stated}
            for name, f in facts.items()
        }


def interpret(
    file: H5Features,
    slide_mpp: YX,
    *,
    unit: Unit | None = None,
    patch_um: float | None = None,
    encoder: str | None = None,
) -> Interpretation:
    """Conclude what a file's numbers mean; what is given is not doubted.

    Parameters
    ----------
    file
        The feature file.
    slide_mpp
        um per level-0 pixel (y, x) of its slide.
    unit, patch_um, encoder
        What the user says; None to conclude it.

    Raises
    ------
    StoreError
        If a value is out of range, or the patch size cannot be concluded.
    """
    if patch_um is not None and not 0 < patch_um < 1e5:
        raise StoreError(
            f"the patch size must be above 0 and below 100000 um, got {patch_um:g}; "
            "128 or 256 are usual"
        )
    units = Inferred(unit, GIVEN, True) if unit else _unit(file)
    spacing = _spacing(file.coords)
    scale = um_per_unit(units.value, slide_mpp).mean()
    side = (
        Inferred(patch_um, GIVEN, True)
        if patch_um
        else _patch(file, float(scale), float(np.mean(slide_mpp)), spacing)
    )
    return Interpretation(
        unit=units,
        patch_um=side,
        stride_um=_stride(float(scale), spacing, side),
        mpp=_mpp(file, side.value, float(np.mean(slide_mpp))),
        encoder=Inferred(encoder, GIVEN, True) if encoder else _encoder(file),
    )


def um_per_unit(unit: Unit, slide_mpp: YX) -> NDArray[np.float64]:
    """Return the um of one step of the coordinates, (2,) in (y, x)."""
    if unit == "px":
        return np.asarray(slide_mpp, dtype=np.float64)
    return np.full(2, 1.0 if unit == "um" else STAMP1_UM / STAMP1_STEPS)


def _unit(file: H5Features) -> Inferred[Unit]:
    if file.layout == "stamp":
        return _stamp_unit(file)
    if "patch_size_level0" in file.said:
        return Inferred("px", "TRIDENT counts in level-0 pixels", True)
    if "patch_level" in file.said:
        return Inferred("px", "CLAM's patches count in level-0 pixels", True)
    if np.issubdtype(file.coords.dtype, np.integer):
        return Inferred("px", "whole numbers without attributes, as CLAM writes", False)
    return Inferred("um", "fractions, which pixels do not have", False)


def _stamp_unit(file: H5Features) -> Inferred[Unit]:
    at = file.said
    if at.get("unit") == "um":
        version = at.get("stamp_version", "2")
        return Inferred("um", f"attribute unit of STAMP {version}", True)
    if "tile_size_um" in at and "unit" not in at:
        return Inferred("um", "STAMP with tile_size_um counts in um", True)
    if "unit" not in at and round(_spacing(file.coords) or 0) == STAMP1_STEPS:
        return Inferred(
            "stamp1", "no unit and a distance of 224: STAMP 1, 224 to 256 um", False
        )
    raise StoreError(
        f"the coordinates of {file.path} have the unit {at.get('unit', 'unknown')!r}, "
        "of which nobody knows the um; say it with --unit px or --unit um"
    )


def _patch(
    file: H5Features, scale: float, slide_mpp: float, spacing: float | None
) -> Inferred[float]:
    """Return the side of a patch, um."""
    said = file.said
    for name in ("tile_size_um", "tile_size"):
        if name in said and (name == "tile_size_um" or said.get("unit") == "um"):
            return _positive(file, name, said[name], 1.0, "")
    if "patch_size_level0" in said:
        size = said["patch_size_level0"]
        return _positive(file, "patch_size_level0", size, slide_mpp, " level-0 px")
    if "patch_size" in said and "downsample" in said:
        down = float(np.mean(said["downsample"]))
        down *= float(said.get("custom_downsample", 1))
        size = said["patch_size"]
        text = f" px of a level {down:g} times coarser"
        return _positive(file, "patch_size", size, slide_mpp * down, text)
    if spacing is None:
        raise StoreError(
            f"nothing in {file.path} tells how large its patches are; say it with "
            "--patch-um, or give CLAM's patch file with --patches"
        )
    text = f"the distance of neighbours, {spacing:g}, if patches do not overlap"
    return Inferred(spacing * scale, text, False)


def _positive(
    file: H5Features, name: str, value: Any, factor: float, of: str
) -> Inferred[float]:
    size = float(value)
    if not size > 0:
        raise StoreError(
            f"{file.path} says {name} = {value}, which is no size; give --patch-um"
        )
    return Inferred(size * factor, f"attribute {name} = {size:g}{of}", True)


def _stride(
    scale: float, spacing: float | None, patch: Inferred[float]
) -> Inferred[float]:
    if spacing is None:
        return Inferred(patch.value, "no two neighbours: the patch size", False)
    text = f"the commonest distance of neighbours, {spacing:g}"
    return Inferred(spacing * scale, text, True)


def _mpp(file: H5Features, patch_um: float, slide_mpp: float) -> Inferred[float]:
    sizes = file.said
    for name in ("tile_size_px", "patch_size"):
        if name in sizes and float(sizes[name]) > 0:
            px = float(sizes[name])
            return Inferred(patch_um / px, f"{patch_um:g} um in {px:g} px", True)
    return Inferred(slide_mpp, "level 0, since the file does not say", False)


def _encoder(file: H5Features) -> Inferred[str]:
    """Return the encoder's name: an attribute, TRIDENT's folder, or only P."""
    for name in ("extractor", "encoder", "model_name"):
        value = str(file.said.get(name, "None"))
        if value != "None":  # TRIDENT writes None as a word
            return Inferred(value, f"attribute {name}", True)
    folder = file.path.resolve().parent.name
    if folder.startswith("features_"):
        name = folder.removeprefix("features_")
        return Inferred(name, f"folder {folder}, as TRIDENT names them", False)
    text = f"no name anywhere, only {file.width} features per patch; --encoder names it"
    return Inferred(f"unnamed-{file.width}", text, False)


def _spacing(coords: NDArray[Any]) -> float | None:
    """Return the commonest distance of neighbours in a row or column, None if none.

    CLAM begins a lattice anew for each piece of tissue, so the smallest distance
    would be wrong.
    """
    steps = np.concatenate([_steps(coords, 0, 1), _steps(coords, 1, 0)])
    steps = steps[steps > 0]
    if not len(steps):
        return None
    values, counts = np.unique(steps.round(3), return_counts=True)
    return float(np.median(steps[steps.round(3) == values[counts.argmax()]]))


def _steps(coords: NDArray[Any], along: int, within: int) -> NDArray[np.float64]:
    """Return distances of neighbours along one axis among equals on the other."""
    places = coords.astype(np.float64)
    places = places[np.lexsort((places[:, along], places[:, within].round(3)))]
    same = np.diff(places[:, within].round(3)) == 0
    steps: NDArray[np.float64] = np.diff(places[:, along])[same]
    return steps
