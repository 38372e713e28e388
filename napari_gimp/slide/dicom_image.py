"""One image of a DICOM slide: which frame is which tile, and what its pixels are.

wsidicom reads the structure. Frames are then read by position, without the lock that
its stream needs and past its caches, so several threads decode at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import SlideError
from napari_gimp.slide.codestream import stated_shape
from napari_gimp.slide.dicom_series import damaged_header, plain, quietly, read_member
from napari_gimp.slide.source import Pixels
from napari_gimp.slide.tiff_bytes import FileBytes
from napari_gimp.slide.tiff_colour import ycbcr_to_rgb

MOST_TILES = 1 << 24
"""Tiles of one plane; the largest slides have less than a million."""
LENGTH_BYTES, TAG_BYTES = 4, 4
"""Before a fragment stand its tag and its length."""
ITEM = b"\xfe\xff\x00\xe0"
JPEG_DCT = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
"""The compressions whose codec itself turns YCbCr into RGB."""
Decoder = Callable[[bytes], Pixels]


@dataclass(frozen=True, slots=True)
class Frames:
    """Where the frames of one file lie, from frame number `first` on."""

    file: FileBytes
    first: int
    places: NDArray[np.int64]
    """Offset and length of each frame (n, 2), bytes."""
    encapsulated: bool

    def read(self, number: int) -> bytes:
        """Return the bytes of a frame, its fragments joined.

        Raises
        ------
        ValueError
            If the file ends within it.
        OSError
            If the file can no longer be read.
        """
        offset, count = self.places[number - self.first].tolist()
        before = LENGTH_BYTES if self.encapsulated else 0
        stored = self.file.read(offset - before, count + before)
        return _joined(stored) if self.encapsulated else stored


class DicomImage:
    """One instance: a level, or a part of one, or a label, in one or more files.

    Parameters
    ----------
    readers
        wsidicom's readers of its files: one, or all of a concatenation in order.
    kept
        Closes the files that the image keeps open, should something fail later.

    Raises
    ------
    SlideError
        If a file is damaged or holds what is not read.
    """

    def __init__(self, readers: Sequence[Any], kept: ExitStack) -> None:
        from wsidicom.cache import DecodedFrameCache, EncodedFrameCache
        from wsidicom.file.wsidicom_file_image_data import WsiDicomFileImageData

        image = WsiDicomFileImageData(
            list(readers), DecodedFrameCache(0), EncodedFrameCache(0)
        )
        self.name = Path(str(readers[0].filepath)).name
        self.syntax = str(readers[0].transfer_syntax.name)
        self.shape = image.image_size.height, image.image_size.width
        self.tile = image.tile_size.height, image.tile_size.width
        self.samples = int(image.samples_per_pixel)
        self.dtype = np.dtype(image.dtype)
        self.place = _place(image)
        self.extended_focus = bool(readers[0].dataset.ext_depth_of_field)
        self._check(readers)
        self._tiles = image.tiles
        self.focal_planes = tuple(float(z) for z in image.focal_planes)
        self.optical_paths = tuple(image.optical_paths)
        self.spacing_mm = _spacing(image)
        self._decode = _decoder(readers[0], image, self.tile)
        self._frames = [_frames(reader, kept) for reader in readers]

    def frame(self, row: int, col: int, z: float, path: str) -> int:
        """Return the number of the frame that holds a tile, -1 where there is none."""
        from wsidicom.geometry import Point

        return int(self._tiles.get_frame_index(Point(col, row), z, path))

    def decode(self, number: int) -> Pixels:
        """Return the pixels (h, w, samples) of a frame.

        Raises
        ------
        ValueError
            If the frame is cut off or is not of the size the file states; each codec
            raises its own kind for what it cannot decode.
        OSError
            If the file can no longer be read.
        """
        stored = self._stored(number)
        shape = stated_shape(stored)
        if shape is not None and shape != self.tile:
            raise ValueError(f"it says that it holds {shape[0]} x {shape[1]} px")
        pixels = self._decode(stored)
        if pixels.ndim == 2:
            pixels = pixels[:, :, None]
        if pixels.shape != (*self.tile, self.samples) or pixels.dtype != self.dtype:
            raise ValueError(f"it holds {pixels.shape} {pixels.dtype}")
        return pixels

    def close(self) -> None:
        """Release the files."""
        for frames in self._frames:
            frames.file.close()

    def _stored(self, number: int) -> bytes:
        for part in self._frames:
            if part.first <= number < part.first + len(part.places):
                return part.read(number)
        raise ValueError(f"frame {number} is in none of its files")

    def _check(self, readers: Sequence[Any]) -> None:
        rows, cols = (-(-a // b) for a, b in zip(self.shape, self.tile, strict=True))
        if rows * cols > MOST_TILES:
            raise SlideError(
                f"{self.name} states {rows:,} x {cols:,} tiles, which no slide has: it "
                "is damaged; copy the file again from its source."
            )
        bits = readers[0].dataset.bits
        if not readers[0].transfer_syntax.is_encapsulated and bits not in (8, 16):
            raise SlideError(
                f"{self.name} holds {bits} bits per sample uncompressed; 8 and 16 are "
                "read: compress it (JPEG 2000) with a DICOM toolkit."
            )
        for reader in readers:
            _check_grid(reader, self.name)


def open_images(paths: Sequence[Path]) -> list[DicomImage]:
    """Return the images in some files, concatenated ones put together.

    Raises
    ------
    SlideError
        If a file is damaged or holds what is not read.
    """
    with ExitStack() as files, ExitStack() as kept, quietly():
        readers = [_reader(path, files) for path in paths]
        images = [_image(group, kept) for group in _instances(readers)]
        kept.pop_all()
    return images


def _reader(path: Path, files: ExitStack) -> Any:
    from wsidicom.errors import WsiDicomNotSupportedError
    from wsidicom.file.io import WsiDicomReader
    from wsidicom.file.wsidicom_stream_opener import WsiDicomStreamOpener

    try:
        (stream,) = WsiDicomStreamOpener().open(path)
    except ValueError as error:  # the opener passes over what it cannot read
        raise damaged_header(path) from error
    files.callback(stream.close)
    try:
        return WsiDicomReader(stream)
    except WsiDicomNotSupportedError as error:
        raise SlideError(_unsupported(path, stream.transfer_syntax)) from error
    except Exception as error:  # each kind of damage raises another
        raise damaged_header(path) from error


def _unsupported(path: Path, syntax: Any) -> str:
    header = read_member(path).header
    kind, samples, bits = (
        plain(header.get(keyword)) or "?"
        for keyword in ("PhotometricInterpretation", "SamplesPerPixel", "BitsStored")
    )
    return (
        f"{path.name} has pixels of a kind that is not read ({syntax.name}, {kind}, "
        f"{samples} samples of {bits} bits): RGB or YBR of 8 bits and MONOCHROME2 of "
        "8 or 16 are; convert it with a DICOM toolkit."
    )


def _instances(readers: Sequence[Any]) -> list[list[Any]]:
    groups: dict[str, list[Any]] = {}
    for reader in readers:
        groups.setdefault(str(reader.uids.identifier), []).append(reader)
    return [sorted(group, key=lambda r: r.frame_offset) for group in groups.values()]


def _image(readers: Sequence[Any], kept: ExitStack) -> DicomImage:
    from wsidicom.errors import WsiDicomFileError

    path = Path(str(readers[0].filepath))
    try:
        return DicomImage(readers, kept)
    except SlideError:
        raise
    except WsiDicomFileError as error:
        raise SlideError(
            f"{path.name} cannot be read ({error.error}): it is cut off or damaged, or "
            "lacks an offset table; copy it again from its source or write it anew."
        ) from error
    except Exception as error:  # each kind of damage raises another
        raise damaged_header(path) from error


def _frames(reader: Any, kept: ExitStack) -> Frames:
    index = reader.frame_index
    places = np.fromiter(chain.from_iterable(index), np.int64, 2 * len(index))
    places = places.reshape(-1, 2)
    file = FileBytes(Path(str(reader.filepath)))
    kept.callback(file.close)
    encapsulated = bool(reader.transfer_syntax.is_encapsulated)
    if encapsulated:
        places[-1, 1] = _fragments_bytes(file, int(places[-1, 0]))
    return Frames(file, reader.frame_offset, places, encapsulated)


def _fragments_bytes(file: FileBytes, offset: int) -> int:
    """Return the bytes of the last frame, whose end no table tells."""
    at = offset - TAG_BYTES - LENGTH_BYTES
    while at + TAG_BYTES + LENGTH_BYTES <= file.size:
        head = file.read(at, TAG_BYTES + LENGTH_BYTES)
        if head[:TAG_BYTES] != ITEM:
            break
        at += len(head) + int.from_bytes(head[TAG_BYTES:], "little")
    return at - offset


def _joined(stored: bytes) -> bytes:
    """Return a frame of its fragments, the first without its tag."""
    parts, at = [], 0
    while at + LENGTH_BYTES <= len(stored):
        count = int.from_bytes(stored[at : at + LENGTH_BYTES], "little")
        at += LENGTH_BYTES
        parts.append(stored[at : at + count])
        at += count + TAG_BYTES
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _check_grid(reader: Any, name: str) -> None:
    """Raise SlideError where tiles do not lie edge to edge on one grid."""
    size = reader.dataset.tile_size
    if str(reader.dataset.tile_type.name) != "SPARSE":
        return
    places = reader.dataset.frame_positions
    off = (places.rows - 1) % size.height + (places.columns - 1) % size.width
    if off.any():
        raise SlideError(
            f"{name} has {np.count_nonzero(off)} tiles beside the grid of "
            f"{size.height} x {size.width} px, or overlapping ones, which are not "
            "read: tile it anew with a DICOM toolkit."
        )


def _place(image: Any) -> tuple[float, float, float] | None:
    """Return where on the glass the image lies: y and x mm, and degrees."""
    found = image.image_coordinate_system
    if found is None:
        return None
    return float(found.origin.y), float(found.origin.x), float(found.rotation)


def _spacing(image: Any) -> tuple[float, float] | None:
    spacing = image.pixel_spacing
    return None if spacing is None else (float(spacing.height), float(spacing.width))


def _decoder(reader: Any, image: Any, tile: tuple[int, int]) -> Decoder:
    """Return a function from the bytes of a frame to pixels, for any thread.

    wsidicom's own decoder is used but for uncompressed frames, for which it has one
    that may not be called from two threads at once.
    """
    decode: Decoder = image.decoder.decode
    if not reader.transfer_syntax.is_encapsulated:
        decode = _native_decoder(reader, image, tile)
    converts = str(reader.transfer_syntax) in JPEG_DCT
    if image.photometric_interpretation == "YBR_FULL" and not converts:
        return lambda stored: ycbcr_to_rgb(decode(stored))
    return decode


def _native_decoder(reader: Any, image: Any, tile: tuple[int, int]) -> Decoder:
    order = "<" if reader.transfer_syntax.is_little_endian else ">"
    dtype, samples = image.dtype.newbyteorder(order), image.samples_per_pixel

    def decode_native(stored: bytes) -> Pixels:
        flat = np.frombuffer(stored, dtype)
        return flat.reshape(*tile, samples).astype(image.dtype, copy=False)

    return decode_native
