"""Small DICOM whole-slide images, written with pydicom; plain functions.

Pixels are (h, w, 3) for colour or (h, w) for one grey channel, uint8 or uint16.
`write_dicom` makes a folder with one file for each level; `write_instance` one file,
with everything a scanner may vary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
    VLWholeSlideMicroscopyImageStorage,
    generate_uid,
)

from napari_gimp.slide.dicom import DicomSource

MPP = 0.5
TILE = (128, 128)
PATIENT = "Doe^Jane"
SYNTAXES = {
    "raw": ExplicitVRLittleEndian,
    "jpeg": JPEGBaseline8Bit,
    "jpeg2000": JPEG2000Lossless,
    "rle": RLELossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-lossless": JPEGLosslessSV1,
    "htj2k": HTJ2KLossless,
}
LOSSLESS = tuple(syntax for syntax in SYNTAXES if syntax != "jpeg")


@dataclass(frozen=True)
class Instance:
    """How one file is written.

    `missing` names the tiles (row, col) that are left out; given, even if empty, the
    file is TILED_SPARSE. `frames` is the part (first, end) of the frames of a
    concatenation that this file holds. `names` and `colors` (uint16) belong to the
    optical `paths`. Focal planes lie 2 um apart, from `z_um` up.
    """

    syntax: str = "raw"
    tile: tuple[int, int] = TILE
    mpp: float | None = MPP
    flavour: str = "VOLUME"
    series: str = "1"
    missing: frozenset[tuple[int, int]] | None = None
    paths: tuple[str, ...] = ("0",)
    names: tuple[str, ...] = ()
    colors: tuple[tuple[int, int, int], ...] = ()
    focal_planes: int = 1
    z_um: float = 0.0
    origin_mm: tuple[float, float] = (10.0, 20.0)
    photometric: str | None = None
    frames: tuple[int, int] | None = None
    icc: bytes | None = None
    fragments: int = 1
    offset_table: bool = True


def write_dicom(
    folder: Path,
    levels: Sequence[np.ndarray],
    *,
    factor: Fraction | int = 2,
    mpp: float = MPP,
    **how: Any,
) -> Path:
    """Write `level-0.dcm`, `level-1.dcm`, ... into a folder and return it.

    Level n was made from level 0 by `factor` ** n; `how` is as in `Instance`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, level in enumerate(levels):
        spacing = mpp * float(factor) ** number
        instance = Instance(mpp=spacing, **how)
        write_instance(folder / f"level-{number}.dcm", level, instance)
    return folder


def write_concatenation(
    folder: Path, pixels: np.ndarray, parts: int, how: Instance
) -> Path:
    """Write one level as `parts` files that each hold a run of its frames."""
    folder.mkdir(parents=True, exist_ok=True)
    edges = np.linspace(0, len(_tiles(pixels, how)), parts + 1).astype(int)
    for number, (first, end) in enumerate(pairwise(edges)):
        part = replace(how, frames=(int(first), int(end)))
        write_instance(folder / f"part-{number}.dcm", pixels, part)
    return folder


def write_instance(
    path: Path,
    pixels: np.ndarray | Sequence[np.ndarray],
    how: Instance | None = None,
) -> Path:
    """Write one file and return its path.

    Several planes are given in the order of the optical paths, and for each path in
    that of the focal planes.
    """
    how = how or Instance()
    planes = [pixels] if isinstance(pixels, np.ndarray) else list(pixels)
    tiles = [tile for plane in planes for tile in _tiles(plane, how)]
    first, end = how.frames or (0, len(tiles))
    dataset = _dataset(path, planes[0], how)
    dataset.NumberOfFrames = end - first
    if how.missing is not None:
        dataset.PerFrameFunctionalGroupsSequence = [
            _frame_group(how, row, col) for (row, col), _ in tiles[first:end]
        ]
    if how.frames is not None:
        source = _uid("concatenation", how.series, how.paths, planes[0].shape)
        dataset.SOPInstanceUIDOfConcatenationSource = source
        dataset.ConcatenationUID = source
        dataset.ConcatenationFrameOffsetNumber = first
        dataset.InConcatenationNumber = first + 1
    _put_frames(dataset, [_encode(tile, how) for _, tile in tiles[first:end]], how)
    dataset.save_as(path, enforce_file_format=True)
    return path


def write_other(path: Path) -> Path:
    """Write a DICOM file that is no slide: a secondary capture of 4 x 4 px."""
    dataset = _with_meta("1.2.840.10008.5.1.4.1.1.7", "raw", "other")
    dataset.Modality = "OT"
    dataset.PatientName = PATIENT
    dataset.Rows = dataset.Columns = 4
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.PixelData = bytes(16)
    dataset.save_as(path, enforce_file_format=True)
    return path


def decoded_jpeg(pixels: np.ndarray, tile: tuple[int, int] = TILE) -> np.ndarray:
    """Return what the pixels are after `_encode` as JPEG tile by tile."""
    out = np.empty_like(pixels)
    how = Instance(syntax="jpeg", tile=tile)
    for (row, col), block in _tiles(pixels, how):
        y, x = row * tile[0], col * tile[1]
        view = out[y : y + tile[0], x : x + tile[1]]
        decoded = imagecodecs.jpeg8_decode(_encode(block, how))
        view[:] = decoded[: view.shape[0], : view.shape[1]]
    return out


def _uid(*words: object) -> UID:
    return generate_uid(entropy_srcs=[str(word) for word in words])


def _with_meta(sop_class: str, syntax: str, *words: object) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = SYNTAXES[syntax]
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(sop_class)
    uid = _uid("instance", *words)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = uid
    return dataset


def _dataset(path: Path, pixels: np.ndarray, how: Instance) -> Dataset:
    dataset = _with_meta(VLWholeSlideMicroscopyImageStorage, how.syntax, path.name, how)
    dataset.ImageType = ["ORIGINAL", "PRIMARY", how.flavour, "NONE"]
    dataset.Modality = "SM"
    dataset.Manufacturer, dataset.ManufacturerModelName = "Acme", "Scan 1"
    dataset.PatientName, dataset.PatientID = PATIENT, "12345"
    dataset.StudyInstanceUID = _uid("study")
    dataset.SeriesInstanceUID = _uid("series", how.series)
    dataset.FrameOfReferenceUID = _uid("frame of reference", how.series)
    dataset.DimensionOrganizationType = (
        "TILED_FULL" if how.missing is None else "TILED_SPARSE"
    )
    _put_pixel_kind(dataset, pixels, how)
    _put_place(dataset, pixels, how)
    return dataset


def _put_pixel_kind(dataset: Dataset, pixels: np.ndarray, how: Instance) -> None:
    bits = pixels.dtype.itemsize * 8
    dataset.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    colours = {"jpeg": "YBR_FULL_422", "jpeg2000": "YBR_RCT", "htj2k": "YBR_RCT"}
    colour = colours.get(how.syntax, "RGB")
    kind = "MONOCHROME2" if pixels.ndim == 2 else colour
    dataset.PhotometricInterpretation = how.photometric or kind
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = how.tile
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0


def _put_place(dataset: Dataset, pixels: np.ndarray, how: Instance) -> None:
    rows, cols = pixels.shape[:2]
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = rows, cols
    dataset.TotalPixelMatrixFocalPlanes = how.focal_planes
    dataset.NumberOfOpticalPaths = len(how.paths)
    origin = Dataset()
    origin.YOffsetInSlideCoordinateSystem = how.origin_mm[0]
    origin.XOffsetInSlideCoordinateSystem = how.origin_mm[1]
    origin.ZOffsetInSlideCoordinateSystem = how.z_um
    dataset.TotalPixelMatrixOriginSequence = [origin]
    dataset.ImageOrientationSlide = [0, 1, 0, 1, 0, 0]
    dataset.ExtendedDepthOfField, dataset.FocusMethod = "NO", "AUTO"
    dataset.OpticalPathSequence = [_optics(how, n) for n in range(len(how.paths))]
    shared = Dataset()
    if how.mpp is not None:
        measures = Dataset()
        measures.PixelSpacing = [how.mpp / 1000, how.mpp / 1000]
        measures.SliceThickness = 0.001
        measures.SpacingBetweenSlices = 0.002
        shared.PixelMeasuresSequence = [measures]
        dataset.ImagedVolumeWidth = cols * how.mpp / 1000
        dataset.ImagedVolumeHeight = rows * how.mpp / 1000
        dataset.ImagedVolumeDepth = 0.001
    dataset.SharedFunctionalGroupsSequence = [shared]


def _optics(how: Instance, number: int) -> Dataset:
    optics = Dataset()
    optics.OpticalPathIdentifier = how.paths[number]
    optics.ObjectiveLensPower = 20
    if how.names:
        optics.OpticalPathDescription = how.names[number]
    if how.colors:
        optics.PaletteColorLookupTableSequence = [_palette(how.colors[number])]
    if how.icc is not None:
        optics.ICCProfile = how.icc
    return optics


def _palette(color: tuple[int, int, int]) -> Dataset:
    """Return a segmented palette: 0, and from there straight up to the colour."""
    palette = Dataset()
    for name, top in zip(("Red", "Green", "Blue"), color, strict=True):
        segments = np.array([0, 1, 0, 1, 255, top], "<u2").tobytes()
        stem = f"{name}PaletteColorLookupTable"
        setattr(palette, f"{stem}Descriptor", [256, 0, 16])
        setattr(palette, f"Segmented{stem}Data", segments)
    return palette


def _frame_group(how: Instance, row: int, col: int) -> Dataset:
    place = Dataset()
    place.RowPositionInTotalImagePixelMatrix = row * how.tile[0] + 1
    place.ColumnPositionInTotalImagePixelMatrix = col * how.tile[1] + 1
    place.YOffsetInSlideCoordinateSystem = how.origin_mm[0]
    place.XOffsetInSlideCoordinateSystem = how.origin_mm[1]
    place.ZOffsetInSlideCoordinateSystem = how.z_um
    optics = Dataset()
    optics.OpticalPathIdentifier = how.paths[0]
    group = Dataset()
    group.PlanePositionSlideSequence = [place]
    group.OpticalPathIdentificationSequence = [optics]
    return group


def _put_frames(dataset: Dataset, frames: list[bytes], how: Instance) -> None:
    if how.syntax == "raw":
        data = b"".join(frames)
        dataset.PixelData = data + bytes(len(data) % 2)
        dataset["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"
        return
    dataset.PixelData = encapsulate(
        frames, fragments_per_frame=how.fragments, has_bot=how.offset_table
    )
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True


def _tiles(
    pixels: np.ndarray, how: Instance
) -> list[tuple[tuple[int, int], np.ndarray]]:
    """Return ((row, col), tile) of all tiles, the last padded with their edge."""
    height, width = how.tile
    rows, cols = -(-pixels.shape[0] // height), -(-pixels.shape[1] // width)
    pads = [(0, rows * height - pixels.shape[0]), (0, cols * width - pixels.shape[1])]
    padded = np.pad(pixels, pads + [(0, 0)] * (pixels.ndim - 2), mode="edge")
    return [
        ((r, c), padded[r * height : (r + 1) * height, c * width : (c + 1) * width])
        for r in range(rows)
        for c in range(cols)
        if (r, c) not in (how.missing or ())
    ]


def _encode(tile: np.ndarray, how: Instance) -> bytes:
    tile = np.ascontiguousarray(tile)
    return bytes(_ENCODERS[how.syntax](tile))


def _rle(tile: np.ndarray) -> bytes:
    from wsidicom.codec.rle import RleCodec

    return bytes(RleCodec.encode(tile))


_ENCODERS: dict[str, Callable[[np.ndarray], Any]] = {
    "raw": np.ndarray.tobytes,
    "jpeg": partial(imagecodecs.jpeg8_encode, level=90),
    "jpeg2000": partial(imagecodecs.jpeg2k_encode, codecformat="j2k", reversible=True),
    "rle": _rle,
    "jpeg-ls": imagecodecs.jpegls_encode,
    "jpeg-lossless": partial(imagecodecs.jpeg8_encode, lossless=True),
    "htj2k": partial(imagecodecs.htj2k_encode, reversible=True),
}


def whole(path: Path, level: int = 0) -> np.ndarray:
    with DicomSource(path) as slide:
        return slide.read_region(level, 0, 0, *slide.levels[level].shape)


def by_wsidicom(path: Path, level: int, box: tuple[int, int, int, int]) -> np.ndarray:
    """Return (y, x, height, width) of a level as wsidicom reads it."""
    from wsidicom import WsiDicom

    y, x, height, width = box
    with WsiDicom.open(path) as slide:
        pixels = slide.read_region((x, y), level, (width, height), as_array=True)
    return np.asarray(pixels)


def rewritten(path: Path, **attributes: object) -> Path:
    """Change attributes of a file in place."""
    dataset = pydicom.dcmread(path)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    dataset.save_as(path)
    return path


def damage_frame(path: Path, number: int) -> None:
    """Overwrite the middle of an encapsulated frame."""
    stored = path.read_bytes()
    dataset = pydicom.dcmread(path)
    frames = generate_frames(
        dataset.PixelData, number_of_frames=int(dataset.NumberOfFrames)
    )
    frame = list(frames)[number]
    at = stored.index(frame)
    path.write_bytes(stored[:at] + b"\0" * len(frame) + stored[at + len(frame) :])
