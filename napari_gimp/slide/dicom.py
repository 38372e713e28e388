"""DICOM whole-slide images, decoded frame by frame.

A slide is a series of files, one or more for each level; any of them, or their
folder, stands for the whole. wsidicom reads the structure, imagecodecs the frames.
"""

from __future__ import annotations

import hashlib
import math
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.dicom_image import DicomImage, open_images
from napari_gimp.slide.dicom_series import (
    Member,
    dicom_files,
    has_magic,
    plain,
    slide_series,
)
from napari_gimp.slide.factors import level_factor, level_factors
from napari_gimp.slide.fingerprint import fingerprint
from napari_gimp.slide.refusals import NoReaderError
from napari_gimp.slide.resolution import from_file
from napari_gimp.slide.source import Level, Pixels, Resolution
from napari_gimp.slide.tiled import SlideFacts, TiledSource

ASSOCIATED = {"LABEL": "label", "OVERVIEW": "macro", "THUMBNAIL": "thumbnail"}
ORIGIN_APART_MM = 0.02
"""Images whose origins lie further apart show different places of the glass."""

SKEWED = 0.02
"""A level's factors of height and width differ by less: only rounding parts them."""


@dataclass(frozen=True, slots=True)
class Plane:
    """One channel of a level: an image, its focal plane (um) and optical path."""

    image: DicomImage
    z: float
    path: str

    def decode(self, row: int, col: int) -> Pixels | None:
        """Return a frame (h, w, samples), None where the scanner left it out."""
        number = self.image.frame(row, col, self.z, self.path)
        return None if number < 0 else self.image.decode(number)


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, or a folder holds a DICOM file."""
    if not path.is_dir():
        return has_magic(path)
    try:
        return next(dicom_files(path), None) is not None
    except OSError:
        return False


class DicomSource(TiledSource):
    """A DICOM whole-slide image.

    Colour is read as such; grey images become one channel for each optical path. Of
    several focal planes the middle one is shown.

    Parameters
    ----------
    path
        Any file of the slide, or the folder that holds them.

    Raises
    ------
    SlideError
        If it is no slide, is damaged, or holds what is not read.
    """

    def __init__(self, path: Path) -> None:
        members = slide_series(path)
        volumes = [m.path for m in members if m.flavour == "VOLUME"]
        if not volumes:
            raise NoReaderError(
                f"{path.name} has no level (image type VOLUME) beside it: put all "
                "files of the slide into one folder."
            )
        self._images = open_images(volumes)
        try:
            shown = _one_pyramid(self._images)
            self._planes = _levels(shown)
            super().__init__(_facts(path, members, self._planes, volumes))
            self.properties = {**self.properties, **_choice(shown, self._planes[0][0])}
        except BaseException:
            self._close_images()
            raise
        self._beside = {
            name: [m.path for m in members if ASSOCIATED.get(m.flavour) == name]
            for name in self.associated
        }

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one native tile (h, w, C), cut off at the edge of the level."""
        spec = self.levels[level]
        height = min(spec.tile[0], spec.shape[0] - row * spec.tile[0])
        width = min(spec.tile[1], spec.shape[1] - col * spec.tile[1])
        planes = [plane.decode(row, col) for plane in self._planes[level]]
        if len(planes) == 1 and planes[0] is not None:
            return planes[0][:height, :width]
        tile = np.full((height, width, self.channels), self.fill, self.dtype)
        for channel, plane in enumerate(planes):
            if plane is not None:
                tile[:, :, channel] = plane[:height, :width, 0]
        return tile

    def decode_associated(self, name: str) -> Pixels:
        """Return the label, macro or thumbnail image (height, width, channels).

        Raises
        ------
        SlideError
            If it is damaged.
        """
        with ExitStack() as files:
            images = open_images(self._beside[name])
            for image in images:
                files.callback(image.close)
            return self._stitched(max(images, key=lambda i: math.prod(i.shape)), name)

    def close(self) -> None:
        """Release file handles and cached tiles."""
        super().close()
        self._close_images()

    def _stitched(self, image: DicomImage, name: str) -> Pixels:
        try:
            return _stitched(image)
        except Exception as error:  # each codec raises its own kind
            raise SlideError(
                f"The {name} image of {self.path.name} cannot be read ({error}): copy "
                "the slide again from its source."
            ) from error

    def _close_images(self) -> None:
        for image in self._images:
            image.close()


def _stitched(image: DicomImage) -> Pixels:
    """Return all of an image, its missing frames white."""
    (rows, cols), (height, width) = image.shape, image.tile
    white = np.iinfo(image.dtype.str).max
    out = np.full((rows, cols, image.samples), white, image.dtype)
    plane = Plane(image, image.focal_planes[0], image.optical_paths[0])
    for row in range(-(-rows // height)):
        for col in range(-(-cols // width)):
            frame = plane.decode(row, col)
            if frame is not None:
                y, x = row * height, col * width
                part = out[y : y + height, x : x + width]
                part[:] = frame[: part.shape[0], : part.shape[1]]
    return out


def _one_pyramid(images: list[DicomImage]) -> list[DicomImage]:
    """Return the images that show the same place and kind as the largest."""
    base = max(images, key=lambda i: (i.samples, math.prod(i.shape)))
    return [i for i in images if _belongs(base, i)]


def _belongs(base: DicomImage, image: DicomImage) -> bool:
    if (image.samples, image.dtype) != (base.samples, base.dtype):
        return False
    if image.extended_focus != base.extended_focus:
        return False
    fy, fx = level_factor(base.shape, image.shape)
    if abs(fy / fx - 1) > SKEWED and min(image.shape) > 1 / SKEWED:
        return False
    if base.place is None or image.place is None:
        return True
    (y, x, turn), (other_y, other_x, other_turn) = base.place, image.place
    near = math.hypot(y - other_y, x - other_x) <= ORIGIN_APART_MM
    return near and turn == other_turn


def _levels(images: list[DicomImage]) -> list[list[Plane]]:
    """Return the planes of each level, finest first: one, or one for each channel."""
    sizes: dict[tuple[int, int], list[DicomImage]] = {}
    for image in sorted(images, key=lambda i: math.prod(i.shape), reverse=True):
        sizes.setdefault(image.shape, []).append(image)
    finest = next(iter(sizes.values()))
    focal, paths = _focal_planes(finest), _optical_paths(finest)
    middle = focal[len(focal) // 2]
    levels = [[_plane(group, p, middle) for p in paths] for group in sizes.values()]
    return [[p for p in level if p] for level in levels if all(level)]


def _focal_planes(images: list[DicomImage]) -> list[float]:
    """Return the heights of all focal planes, um, from the lowest."""
    return sorted({z for image in images for z in image.focal_planes})


def _optical_paths(images: list[DicomImage]) -> list[str]:
    """Return the paths to show: all of grey images, the first of colour ones."""
    paths = list(dict.fromkeys(p for image in images for p in image.optical_paths))
    return paths[:1] if images[0].samples > 1 else paths


def _plane(images: list[DicomImage], path: str, z: float) -> Plane | None:
    """Return the plane of a path nearest to a focal plane, None where it is absent."""
    found = [
        Plane(image, plane, path)
        for image in images
        if path in image.optical_paths
        for plane in image.focal_planes
    ]
    return min(found, key=lambda plane: abs(plane.z - z), default=None)


def _facts(
    path: Path, members: list[Member], planes: list[list[Plane]], volumes: list[Path]
) -> SlideFacts:
    firsts = [level[0].image for level in planes]
    shapes = [image.shape for image in firsts]
    optics = [_optics(members, plane) for plane in planes[0]]
    return SlideFacts(
        path=path,
        reader="wsidicom",
        levels=tuple(
            map(Level, shapes, (i.tile for i in firsts), level_factors(shapes))
        ),
        resolution=_resolution(firsts[0]),
        fingerprint=_fingerprint(volumes),
        channels=len(planes[0]) * firsts[0].samples,
        dtype=firsts[0].dtype,
        properties=_properties(_member(members, firsts[0]), optics[0], planes[0][0]),
        associated=_associated(members),
        rgb=firsts[0].samples == 3,
        channel_names=_channel_names(optics) if firsts[0].samples == 1 else (),
        channel_colors=_channel_colors(optics) if firsts[0].samples == 1 else (),
        icc=_icc(optics[0]),
    )


def _member(members: list[Member], image: DicomImage) -> Member:
    return next(member for member in members if member.path.name == image.name)


def _optics(members: list[Member], plane: Plane) -> Any:
    """Return what the file says of the optical path of a plane, {} if nothing."""
    return _member(members, plane.image).optics.get(plane.path, {})


def _channel_names(optics: list[Any]) -> tuple[str, ...]:
    names = tuple(map(_channel_name, optics))
    return names if any(names) else ()


def _channel_name(optics: Any) -> str:
    """Return the path's description, else its wavelength, else ""."""
    name = plain(optics.get("OpticalPathDescription"))
    wavelength = _number(optics.get("IlluminationWaveLength"))
    return name or (f"{wavelength} nm" if wavelength else "")


def _channel_colors(optics: list[Any]) -> tuple[str, ...]:
    colors = tuple(map(_channel_color, optics))
    return colors if all(colors) else ()


def _channel_color(optics: Any) -> str:
    """Return the colour of the brightest value, "" where the file gives none.

    The last word of each palette is that value, segmented or not.
    """
    tables = optics.get("PaletteColorLookupTableSequence") or [{}]
    color = "#"
    for name in ("Red", "Green", "Blue"):
        stem = f"{name}PaletteColorLookupTableData"
        words = tables[0].get(stem) or tables[0].get(f"Segmented{stem}")
        if not isinstance(words, bytes) or len(words) < 2:
            return ""
        color += f"{int.from_bytes(words[-2:], 'little') >> 8:02x}"
    return color


def _icc(optics: Any) -> bytes | None:
    profile = optics.get("ICCProfile")
    return profile if isinstance(profile, bytes) and profile else None


def _resolution(image: DicomImage) -> Resolution:
    if image.spacing_mm is None:
        return from_file(None, "none")
    y, x = image.spacing_mm
    return from_file((y * 1000, x * 1000), "DICOM PixelSpacing")


def _properties(member: Member, optics: Any, plane: Plane) -> dict[str, str]:
    stated = {
        "vendor": member.header.get("Manufacturer"),
        "scanner": member.header.get("ManufacturerModelName"),
        "objective": _number(optics.get("ObjectiveLensPower")),
        "compression": plane.image.syntax,
        "photometric": member.header.get("PhotometricInterpretation"),
    }
    return {key: text for key, value in stated.items() if (text := plain(value))}


def _choice(images: list[DicomImage], shown: Plane) -> dict[str, str]:
    """Return which focal plane is shown, {} where there is no choice."""
    focal = _focal_planes([i for i in images if i.shape == shown.image.shape])
    if len(focal) == 1:
        return {}
    place = focal.index(shown.z) + 1
    return {"focal plane": f"{place} of {len(focal)}, at {shown.z:g} um"}


def _number(value: Any) -> str:
    """Return a number as text, "" where the file has none."""
    return f"{value:g}" if isinstance(value, int | float) else ""


def _associated(members: list[Member]) -> tuple[str, ...]:
    flavours = {member.flavour for member in members}
    return tuple(name for flavour, name in ASSOCIATED.items() if flavour in flavours)


def _fingerprint(volumes: list[Path]) -> str:
    """Return one digest of all levels' files, whatever they are called."""
    digests = sorted(fingerprint(volume) for volume in volumes)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:32]
