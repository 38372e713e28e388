"""Slides that OpenSlide reads: MRXS, NDPI, SCN, BIF, VMS, CZI, Philips and others.

Coordinates are those of OpenSlide's whole canvas, as in CLAM, TRIDENT and other
Python programs, although scanners of MIRAX and Leica leave most of it empty (white).
QuPath cuts such slides to the scanned part, unless told `--no-crop`: there, positions
are smaller by `corner_px`.

OpenSlide takes a level's position in whole level-0 pixels, so that coarser levels
whose factor is no whole number are read up to half a level-0 pixel off; level 0 is
exact.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from napari_gimp.errors import SlideError
from napari_gimp.slide.companions import companions
from napari_gimp.slide.factors import level_factors
from napari_gimp.slide.fingerprint import fingerprint
from napari_gimp.slide.leica import Axis, Span, assumed_axes, axes, between
from napari_gimp.slide.refusals import UnknownFormatError
from napari_gimp.slide.resolution import from_file
from napari_gimp.slide.source import Level, Pixels, Resolution
from napari_gimp.slide.tiff_sizes import check_tiles
from napari_gimp.slide.tiled import SlideFacts, TiledSource, lost

T = TypeVar("T")

NEAR_TILE = 512
"""px. A read costs a fixed overhead, so smaller native tiles are read in blocks of
about this side; where OpenSlide does not tell their size, in just this."""
PROPERTIES = {
    "vendor": ("openslide.vendor",),
    "objective": ("openslide.objective-power",),
    "scanner": (
        "aperio.ScanScope ID",
        "leica.device-model",
        "hamamatsu.Product",
        "tiff.Model",
        "ventana.UnitNumber",
        "philips.DICOM_MANUFACTURERS_MODEL_NAME",
        "dicom.ManufacturerModelName",
        "zeiss.Information.Instrument.Microscopes.Microscope:1.Name",
    ),
}
"""The only properties that are passed on: others hold names, dates and barcodes."""
BOUNDS = tuple(f"openslide.bounds-{side}" for side in ("width", "height", "x", "y"))


class OpenSlideSource(TiledSource):
    """A slide read by OpenSlide, from several threads at once.

    Parameters
    ----------
    path
        The file; companions (the folder of an .mrxs) lie beside it.

    Raises
    ------
    SlideError
        If OpenSlide cannot open it, or can decode no level of it.
    """

    def __init__(self, path: Path) -> None:
        import openslide

        check_tiles(path)  # OpenSlide would end the program
        self._broken = openslide.OpenSlideError
        self._handle = _Handle(path)
        icc = _sample(self._handle, path).info.get("icc_profile")
        super().__init__(self._handle.use(lambda slide: _facts(slide, path, icc)))
        self._factors = self._handle.use(lambda slide: slide.level_downsamples)
        self._axes = self._leica_axes()

    def decode_tile(self, level: int, row: int, col: int) -> Pixels:
        """Return one tile (h, w, 3), cut off at the edge of the level.

        Raises
        ------
        TileError
            If it cannot be decoded; the others still can.
        OSError
            If the file is gone.
        """
        height, width, _ = self._tile_shape(level, row, col)
        ys, xs = self._spans(level, row, col)
        corner, size = (xs.corner, ys.corner), (width + xs.more, height + ys.more)
        try:
            image = self._handle.use(
                lambda slide: slide.read_region(corner, level, size)
            )
        except self._broken as error:
            raise self._damaged(level, row, col, error) from error
        return between(_on_white(image), ys.share, xs.share)

    def decode_associated(self, name: str) -> Pixels:
        """Return an associated image (height, width, 3).

        Raises
        ------
        SlideError
            If it is damaged.
        """
        try:
            image = self._handle.use(lambda slide: slide.associated_images[name])
        except OSError as error:
            raise lost(self.path, error) from error
        except (self._broken, MemoryError) as error:
            raise SlideError(
                f"The {name} image of {self.path.name} cannot be decoded ({error}); "
                "copy the file again from its source."
            ) from error
        return _on_white(image)

    def close(self) -> None:
        """Release the file, once reads under way have ended, and cached tiles."""
        super().close()
        self._handle.close()

    def _spans(self, level: int, row: int, col: int) -> tuple[Span, Span]:
        """Return what to read along y and x for a tile."""
        tile, factor = self.levels[level].tile, self._factors[level]
        y, x = row * tile[0], col * tile[1]
        if not self._axes:
            return Span(round(y * factor)), Span(round(x * factor))
        axis_y, axis_x = self._axes[level]
        return axis_y.span(y), axis_x.span(x)

    def _leica_axes(self) -> tuple[tuple[Axis, Axis], ...]:
        """Return how the levels of a Leica slide lie; of others they need no care."""
        if self.properties.get("vendor") != "leica":
            return ()
        return tuple(self._level_axes(n, level) for n, level in enumerate(self.levels))

    def _level_axes(self, number: int, level: Level) -> tuple[Axis, Axis]:
        try:
            return self._handle.use(partial(axes, number=number, level=level))
        except self._broken:  # the corner is damaged, the rest need not be
            return self._handle.use(partial(assumed_axes, number=number, level=level))


class _Handle:
    """One OpenSlide handle for all threads, replaced when it breaks.

    After a failure OpenSlide refuses every further call on the handle, also those of
    other threads. So what failed is tried once more on a fresh handle that nobody
    else uses: if it fails there, the failure is its own.

    Handles are not closed but let go: another thread may still read from one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._slide: Any = _open(path)

    def use(self, work: Callable[[Any], T]) -> T:
        """Return what `work` makes of the handle.

        Raises
        ------
        openslide.OpenSlideError
            If it fails by itself.
        OSError
            If the file is gone.
        SlideError
            If the handle is closed.
        """
        import openslide

        slide = self._slide
        if slide is None:
            raise SlideError(f"{self._path.name} is closed: open it again to read.")
        try:
            return work(slide)
        except openslide.OpenSlideError:
            return self._again(slide, work)

    def close(self) -> None:
        """Let the handle go."""
        with self._lock:
            self._slide = None

    def _again(self, broken: Any, work: Callable[[Any], T]) -> T:
        with self._lock:
            self._path.stat()  # OSError if it is gone
            if self._slide is broken:
                self._slide = self._reopened()
            return work(self._reopened())

    def _reopened(self) -> Any:
        try:
            return _open(self._path)
        except SlideError as error:
            raise SlideError(
                f"{self._path.name} can no longer be read ({error.__cause__}): check "
                "that its drive or network share is connected and that none of its "
                "files is missing, then open it again."
            ) from error


def _open(path: Path) -> Any:
    import openslide

    try:
        return openslide.OpenSlide(path)
    except openslide.OpenSlideUnsupportedFormatError as error:
        raise UnknownFormatError(
            f"{path.name} is of none of the formats it knows."
        ) from error
    except (openslide.OpenSlideError, OSError) as error:
        raise SlideError(f"{path.name} cannot be opened ({error}).") from error


def _sample(handle: _Handle, path: Path) -> Any:
    """Return a few pixels of the coarsest level that can be decoded, as an image."""
    import openslide

    count = handle.use(lambda slide: slide.level_count)
    for level in reversed(range(count)):
        try:
            return handle.use(partial(_middle, level=level))
        except openslide.OpenSlideError as error:
            last = error
    raise SlideError(
        f"{path.name} opens, but none of its levels can be decoded ({last})."
    ) from last


def _middle(slide: Any, level: int) -> Any:
    width, height = slide.dimensions
    return slide.read_region((width // 2, height // 2), level, (1, 1))


def _facts(slide: Any, path: Path, icc: bytes | None) -> SlideFacts:
    shapes = [(height, width) for width, height in slide.level_dimensions]
    tiles = [_tile(slide.properties, level) for level in range(len(shapes))]
    return SlideFacts(
        path=path,
        reader="openslide",
        levels=tuple(map(Level, shapes, tiles, level_factors(shapes))),
        resolution=_resolution(slide.properties),
        fingerprint=_fingerprint(path, slide.properties),
        properties=_properties(slide, path),
        associated=tuple(slide.associated_images),
        icc=icc,
        corner_px=_corner(slide.properties),
    )


def _fingerprint(path: Path, stated: Mapping[str, str]) -> str:
    """Return the digest of the file and its companions; of DICOM, OpenSlide's own.

    Each level of a DICOM slide is a file; any of them opens all, so that the digest
    must not depend on which: OpenSlide's is made from the series' identifier.
    """
    if stated.get("openslide.vendor") == "dicom":
        return stated["openslide.quickhash-1"][:32]
    return fingerprint(path, companions(path))


def _tile(stated: Mapping[str, str], level: int) -> tuple[int, int]:
    """Return height and width of the blocks to read: one native tile, or several."""
    height, width = (
        _block(int(stated.get(f"openslide.level[{level}].tile-{side}", 0)))
        for side in ("height", "width")
    )
    return height, width


def _block(native: int) -> int:
    if not 0 < native <= 4 * NEAR_TILE:
        return NEAR_TILE
    return native * max(1, NEAR_TILE // native) if native < NEAR_TILE // 2 else native


def _resolution(stated: Mapping[str, str]) -> Resolution:
    try:
        mpp = float(stated["openslide.mpp-y"]), float(stated["openslide.mpp-x"])
    except (KeyError, ValueError):
        return Resolution(None, "none", False)
    return from_file(mpp, "openslide.mpp")


def _properties(slide: Any, path: Path) -> dict[str, str]:
    stated = slide.properties
    found = {
        name: next(stated[key] for key in keys if stated.get(key))
        for name, keys in PROPERTIES.items()
        if any(stated.get(key) for key in keys)
    }
    more = {"compression": _compression(stated, path), "bounds": _bounds(slide)}
    return found | {name: value for name, value in more.items() if value}


def _bounds(slide: Any) -> str | None:
    """Return where the scanned part lies, None where it is the whole canvas."""
    width, height, x, y = (slide.properties.get(key, "") for key in BOUNDS)
    if (width, height) in (("", ""), tuple(map(str, slide.dimensions))):
        return None
    return f"{width} x {height} px at x {x}, y {y}"


def _corner(stated: Mapping[str, str]) -> tuple[int, int]:
    """Return the level-0 row and column where the scanned part begins."""
    try:
        return int(stated["openslide.bounds-y"]), int(stated["openslide.bounds-x"])
    except (KeyError, ValueError):
        return 0, 0


def _compression(stated: Mapping[str, str], path: Path) -> str | None:
    """Return how pixels are compressed, where the format or OpenSlide tells."""
    if stated.get("openslide.vendor") == "hamamatsu":
        return "none" if path.suffix.lower() == ".vmu" else "JPEG"
    layers = (k for k in stated if re.fullmatch(r"mirax\..*\.IMAGE_FORMAT", k))
    return next((stated[key] for key in layers), None)


def _on_white(image: Any) -> Pixels:
    """Return RGB (h, w, 3) of an RGBA image over white glass."""
    from PIL import Image

    if image.getchannel("A").getextrema()[0] < 255:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image)
    return np.array(image.convert("RGB"))
