"""Every format there is a writer for: how to write it, and who reads it as reference.

One table for the contract, the alignment, the fuzz and the leak tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import dicom_files
import tiff_files
from napari_gimp.slide.openslide import OpenSlideSource
from napari_gimp.slide.source import SlideSource, open_slide
from picture_files import write_picture
from planted_slides import MPP, averaged, smooth_noise
from reference_readers import (
    by_openslide,
    by_pillow,
    by_tifffile,
    by_wsidicom,
    by_zarr,
    composited,
)
from slide_file import SlideFile
from vendor_bif import write_bif
from vendor_czi import write_czi
from vendor_mrxs import write_mrxs
from vendor_ndpi import write_ndpi
from vendor_philips import write_philips
from vendor_scn import write_scn
from vendor_svs import J2K_RGB, J2K_YCBCR, write_svs
from vendor_vms import write_vms
from vendor_vmu import write_vmu
from zarr_files import RGB, write_ome_zarr

Levels = list[np.ndarray]
SHAPE = (611, 733)
EVEN = (608, 736)
"""For OpenSlide, which resamples levels that are no whole part of the first."""
ANY = ("2", "4", "5/2")
WHOLE = ("2", "4")
SVS_IMAGES = ("thumbnail", "label", "macro")


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Parameters
    ----------
    name
        For the test's name.
    write
        Writes levels (h, w, C) into an empty folder; returns what a reader is given.
    read
        The library's own reading of a level, (h, w, C).
    reader
        The name of the reader that takes it.
    open
        Opens it; `open_slide` but where another reader would be faster.
    kind
        A key of `KINDS`: which pixels it holds.
    loss
        Largest mean difference from what was written.
    apart
        Largest difference from the library's own reading.
    factors
        Between neighbouring levels; () where it has one level only.
    associated
        Names of further images in it; None where they do not matter.
    shape
        Height and width of its sample, px.
    padded
        Whether the canvas may be larger than the picture, and have more levels.
    kept
        Numbers of the levels that it stores; None for all.
    left
        Level-0 px between the canvas' left edge and the picture.
    """

    name: str
    write: Callable[[Path, Levels], Path]
    read: Callable[[Path, int], np.ndarray]
    reader: str
    open: Callable[[Path], SlideSource] = open_slide
    kind: str = "rgb"
    loss: float = 0.0
    apart: int = 0
    factors: tuple[str, ...] = ANY
    associated: tuple[str, ...] | None = ()
    shape: tuple[int, int] = SHAPE
    padded: bool = False
    kept: tuple[int, ...] | None = None
    left: int = 0

    def written(self, folder: Path, levels: Levels) -> SlideFile:
        """Write levels into a folder, and say what reading them must give."""
        path = self.write(folder, levels)
        kept = levels if self.kept is None else [levels[n] for n in self.kept]
        return SlideFile(
            path=path,
            open=self.open,
            reader=self.reader,
            read=partial(self.read, path),
            written={factor_of(levels[0], v): composited(v) for v in kept},
            padded=self.padded,
            left=self.left,
            loss=self.loss,
            apart=self.apart,
            mpp=MPP,
            rgb=KINDS[self.kind].colour,
            associated=self.associated,
        )

    def sample(self, folder: Path, shape: tuple[int, int] | None = None) -> SlideFile:
        """Write a small pyramid by two, or one level where it can hold no more."""
        levels = KINDS[self.kind].levels(shape or self.shape, bool(self.factors))
        return self.written(folder, levels)


def factor_of(finest: np.ndarray, level: np.ndarray) -> float:
    """Return the factor by which a level was made: a multiple of a half or quarter."""
    quotient = finest.shape[0] / level.shape[0]
    return round(quotient * 2) / 2 if quotient < 4 else round(quotient * 4) / 4


@dataclass(frozen=True)
class Kind:
    """Pixels of a kind: number of channels, dtype, and whether they are a colour."""

    channels: int
    dtype: type[np.generic]
    colour: bool

    def levels(self, shape: tuple[int, int], pyramid: bool) -> Levels:
        """Return (h, w, C) at factors 1, 2, 4, or only the first."""
        finest = smooth_noise(shape, self.channels).astype(self.dtype)
        if np.dtype(self.dtype).itemsize == 2:
            finest = finest * np.array(257, self.dtype) - np.array(11, self.dtype)
        factors = (2, 4) if pyramid else ()
        return [finest, *(averaged(finest, Fraction(f)) for f in factors)]


KINDS = {
    "rgb": Kind(3, np.uint8, True),
    "rgb16": Kind(3, np.uint16, True),
    "rgba": Kind(4, np.uint8, True),
    "grey": Kind(1, np.uint8, False),
    "grey16": Kind(1, np.uint16, False),
    "five16": Kind(5, np.uint16, False),
}


def _in(name: str, write: Callable[..., Path], **options: Any) -> Any:
    """Return a function that writes levels under `name` into a folder."""

    def write_here(folder: Path, levels: Levels) -> Path:
        return write(folder / name, levels, **options)

    return write_here


def _tiff(name: str, kind: str = "rgb", loss: float = 0, **options: Any) -> Format:
    writer = options.pop("writer", tiff_files.write_tiled)
    write = _in(f"{name}.tif", writer, **options)
    return Format(f"tiff-{name}", write, by_tifffile, "tifffile", kind=kind, loss=loss)


def _reversible(codec: str, **options: Any) -> dict[str, Any]:
    return {"compression": codec, "compressionargs": options}


CODECS = (
    _tiff("plain"),
    _tiff("deflate", compression="deflate"),
    _tiff("deflate-differences", compression="deflate", predictor=True),
    _tiff("lzw", compression="lzw"),
    _tiff("zstd", compression="zstd"),
    _tiff("packbits", compression="packbits"),
    _tiff("webp", **_reversible("webp", lossless=True)),
    _tiff("jpeg2000", **_reversible("jpeg2000", reversible=True)),
    _tiff("jpegxl", **_reversible("jpegxl", lossless=True)),
    _tiff("jpeg", loss=5, compression="jpeg"),
    _tiff("jpeg-420", loss=5, compression="jpeg", subsampling=(2, 2)),
    _tiff("big-bigendian", byteorder=">", bigtiff=True, compression="lzw"),
)
LAYOUTS = (
    _tiff("planar", writer=tiff_files.write_planar, compression="deflate"),
    _tiff("rgba", "rgba", writer=tiff_files.write_rgba, compression="deflate"),
    _tiff("rgb16", "rgb16", compression="deflate"),
    _tiff("grey", "grey", compression="lzw"),
    _tiff("grey16", "grey16", compression="deflate", predictor=True),
    Format(
        "ome-rgb",
        _in("a.ome.tif", tiff_files.write_ome_rgb),
        by_tifffile,
        "tifffile",
    ),
    Format(
        "ome-five-channels",
        _in("a.ome.tif", tiff_files.write_ome_multichannel),
        by_tifffile,
        "tifffile",
        kind="five16",
    ),
    Format(
        "svs-deflate",
        _in("a.svs", tiff_files.write_aperio),
        by_openslide,
        "tifffile",
        associated=("thumbnail",),
    ),
    Format(
        "svs-jpeg",
        _in("a.svs", write_svs),
        by_openslide,
        "tifffile",
        loss=5,
        associated=SVS_IMAGES,
    ),
    Format(
        "svs-jpeg2000",
        _in("a.svs", write_svs, compression=J2K_RGB),
        by_openslide,
        "tifffile",
        associated=SVS_IMAGES,
    ),
    Format(
        "svs-jpeg2000-ycbcr",
        _in("a.svs", write_svs, compression=J2K_YCBCR),
        by_openslide,
        "tifffile",
        loss=1,
        apart=1,
        associated=SVS_IMAGES,
    ),
)
TIFFS = CODECS + LAYOUTS

BY_OPENSLIDE = (
    Format(
        "openslide-deflate",
        _in("a.tif", tiff_files.write_tiled, compression="deflate"),
        by_openslide,
        "openslide",
        OpenSlideSource,
        shape=EVEN,
    ),
    Format(
        "openslide-svs",
        _in("a.svs", write_svs),
        by_openslide,
        "openslide",
        OpenSlideSource,
        shape=EVEN,
        loss=5,
        associated=SVS_IMAGES,
    ),
)


def _vendor(name: str, write: Callable[[Path, Levels], Path], **how: Any) -> Format:
    how = {"loss": 5, "factors": WHOLE, "shape": EVEN, "padded": True, **how}
    return Format(name, write, by_openslide, "openslide", associated=None, **how)


VENDORS = (
    _vendor("philips", _in("a.tiff", write_philips)),
    _vendor("scn", _in("a.scn", write_scn), factors=ANY),
    _vendor("scn-with-margin", _in("a.scn", write_scn, margin_px=(0, 64)), left=64),
    _vendor("bif", _in("a.bif", write_bif)),
    _vendor("bif-overlapping", _in("a.bif", write_bif, overlap_px=16)),
    _vendor("mrxs", _in("a.mrxs", write_mrxs)),
    _vendor("mrxs-overlapping", _in("a.mrxs", write_mrxs, overlap_px=16)),
    _vendor("mrxs-png", _in("a.mrxs", write_mrxs, image_format="PNG"), loss=0),
    _vendor("ndpi", _in("a.ndpi", write_ndpi)),
    _vendor("vms", _in("a.vms", write_vms), kept=(0, -1)),
    _vendor("vmu", _in("a.vmu", write_vmu), loss=0, kept=(0, -1)),
    _vendor("czi", _in("a.czi", write_czi), loss=0),
)


def _picture(name: str, kind: str = "rgb", loss: float = 0, **options: Any) -> Format:
    write = _in(name, write_picture, **options)
    deep = "imagecodecs" if kind.endswith("16") else "pillow"
    reader = "tifffile" if name.endswith(".tif") else deep
    return Format(f"flat-{name}", write, by_pillow, reader, kind=kind, loss=loss,
                  factors=())  # fmt: skip


PICTURES = (
    _picture("a.png"),
    _picture("rgba.png", "rgba"),
    _picture("a.jpg", loss=5, quality=95),
    _picture("strips.tif"),
    _picture("grey.png", "grey"),
    _picture("grey16.png", "grey16"),
    _picture("grey16.tif", "grey16"),
    _picture("rgb16.png", "rgb16"),
)


def _dicom(
    syntax: str, kind: str = "rgb", loss: float = 0, *, file: str = "", **how: Any
) -> Format:
    def write(folder: Path, levels: Levels) -> Path:
        step = factor_of(*levels[:2]) if len(levels) > 1 else 2
        pixels = [v[:, :, 0] if v.shape[2] == 1 else v for v in levels]
        factor = Fraction(step)
        return (
            dicom_files.write_dicom(
                folder / "slide", pixels, factor=factor, syntax=syntax, **how
            )
            / file
        )

    words = ("dicom", syntax, "" if kind == "rgb" else kind, "file" if file else "")
    name = "-".join(filter(None, words))
    return Format(name, write, by_wsidicom, "wsidicom", kind=kind, loss=loss)


DICOM = (
    _dicom("raw"),
    _dicom("raw", file="level-1.dcm"),
    _dicom("jpeg", loss=5),
    _dicom("jpeg2000"),
    _dicom("rle"),
    _dicom("raw", "grey"),
    _dicom("raw", "grey16"),
)


def _zarr(
    name: str, version: str, kind: str = "rgb", *, axes: str = "cyx", **how: Any
) -> Format:
    def write(folder: Path, levels: Levels) -> Path:
        factor = Fraction(factor_of(*levels[:2]) if len(levels) > 1 else 2)
        return write_ome_zarr(
            folder / "slide.zarr", levels, version=version, factor=factor, axes=axes,
            **how,
        )  # fmt: skip

    return Format(
        f"zarr-{version}{name}", write, partial(by_zarr, axes=axes), "zarr", kind=kind
    )


ZARR = (
    _zarr("", "0.4"),
    _zarr("", "0.5", channels=RGB),
    _zarr("-pixelwise", "0.4", axes="yxc"),
    _zarr("-five-axes", "0.5", axes="tczyx"),
    _zarr("-shards", "0.5", shards=(1, 512, 512)),
    _zarr("-five-channels", "0.4", "five16"),
    _zarr("-one-channel", "0.5", "grey16", axes="yx"),
)
EVERY = (*TIFFS, *VENDORS, *PICTURES, *DICOM, *ZARR)
"""All but the TIFFs that are read by OpenSlide, where another would be faster."""
