"""napari's reader: a slide becomes a multi-scale layer in um, or one per channel.

Importing this module is cheap; libraries load when a file is opened.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_gimp.slide.source import SlideSource
    from napari_gimp.slide.view import SlideView

LayerData = tuple[Any, dict[str, Any], str]
Reader = Callable[[str | Sequence[str]], list[LayerData]]
ENDINGS = (
    *(".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".mrxs", ".vms", ".vmu"),
    *(".svslide", ".czi", ".dcm", ".zarr", ".zarr.zip", ".ozx"),
    *(".png", ".jpg", ".jpeg"),
)
DICOM_SLIDE = b"1.2.840.10008.5.1.4.1.1.77.1.6"
"""What a DICOM file's head holds if it is a whole-slide image."""
DICOM_HEAD = 1024
ZARR_METADATA = (".zattrs", "zarr.json", "0/.zattrs", "0/zarr.json")
ZARR_HEAD = 1 << 18
FILES_TRIED = 16
"""Files of a folder that are looked at, on the main thread and maybe over a network."""


def get_reader(path: str | Sequence[str]) -> Reader | None:
    """Return the reader of slides, or None where a name says it is none.

    Parameters
    ----------
    path
        One path or several. Names are looked at, of folders and DICOM files also
        the first bytes; no slide is opened yet.
    """
    paths = [Path(one) for one in _paths(path)]
    return read_slides if paths and all(map(_may_be_slide, paths)) else None


def read_slides(
    path: str | Sequence[str],
    *,
    mpp: float | tuple[float, float] | None = None,
    srgb: bool = False,
) -> list[LayerData]:
    """Open slides and return their layers; see `slide_layers`.

    Raises
    ------
    SlideError
        If a file is no slide.
    """
    opened = [slide_layers(Path(one), mpp=mpp, srgb=srgb) for one in _paths(path)]
    _sharpen_in_viewer()
    return [layer for layers in opened for layer in layers]


def slide_layers(
    path: Path,
    *,
    mpp: float | tuple[float, float] | None = None,
    srgb: bool = False,
) -> list[LayerData]:
    """Open a slide and return its layers: progressive levels, in um.

    A colour picture is one layer; separate channels are one each, added up in their
    colours. Where the file states no plausible um/px and `mpp` gives none, what the
    user said of this slide before counts; if nothing, the layers are in pixels and a
    warning says what to do. The metadata of each hold the path ("gimp_slide"), the
    channel ("gimp_channel", None for colour) and the `SlideView` ("gimp_view") that
    all of a slide share, whose `updated` asks for a refresh of them.

    Parameters
    ----------
    path
        The slide.
    mpp
        um per level-0 pixel, one number or (y, x), if the file does not say.
    srgb
        Convert colours from the slide's ICC profile to sRGB, if it has one.

    Raises
    ------
    SlideError
        If it is no slide.
    """
    from napari_gimp.slide.remembered import with_memory
    from napari_gimp.slide.source import open_slide
    from napari_gimp.slide.view import SlideView

    source = open_slide(path, mpp=mpp, srgb=srgb)
    source.resolution = with_memory(source.resolution, source.fingerprint)
    view = SlideView(source)
    common = _common_kwargs(source, view)
    if source.rgb:
        return [(view.levels, common, "image")]
    channels = range(source.channels)
    return [_channel_layer(source, view, channel, common) for channel in channels]


def _may_be_slide(path: Path) -> bool:
    if path.is_dir():
        return _is_zarr(path) or _holds_dicom_slide(path)
    if path.suffix.lower() == ".dcm":
        return _is_dicom_slide(path)
    return path.name.lower().endswith(ENDINGS)


def _is_zarr(folder: Path) -> bool:
    """Whether a folder, or the first image in it, says that it is OME-Zarr."""
    texts = (_head(folder / at, ZARR_HEAD) for at in ZARR_METADATA)
    return any(b'"multiscales"' in text for text in texts)


def _holds_dicom_slide(folder: Path) -> bool:
    try:
        names = sorted(folder.iterdir(), key=lambda path: path.suffix != ".dcm")
    except OSError:
        return False
    return any(map(_is_dicom_slide, names[:FILES_TRIED]))


def _is_dicom_slide(path: Path) -> bool:
    """Whether a file's first kilobyte says that it is a DICOM whole-slide image."""
    head = _head(path, DICOM_HEAD)
    return head[128:132] == b"DICM" and DICOM_SLIDE in head


def _head(path: Path, count: int) -> bytes:
    """Return a file's first bytes, none where there is no file to read."""
    try:
        with path.open("rb") as file:
            return file.read(count)
    except OSError:
        return b""


def _sharpen_in_viewer() -> None:
    """Have the open viewer refresh slide layers as tiles arrive, docks or none."""
    if "qtpy" not in sys.modules:  # no window, and asking for it would import Qt
        return
    from napari import current_viewer

    viewer = current_viewer()
    if viewer is not None:
        from napari_gimp._qt.scene import scene_of

        scene_of(viewer)


def _common_kwargs(source: SlideSource, view: SlideView) -> dict[str, Any]:
    return {
        "name": source.path.stem.removesuffix(".ome"),
        "rgb": source.rgb,
        "multiscale": True,
        "interpolation2d": "linear",  # nearest speckles where pixels are small
        "cache": False,  # ours is enough; dask's would take a quarter of memory
        "metadata": {
            "gimp_slide": str(source.path),
            "gimp_view": view,
            "gimp_channel": None,
        },
        **_place(source),
    }


def _channel_layer(
    source: SlideSource, view: SlideView, channel: int, common: dict[str, Any]
) -> LayerData:
    look = view.channel_look(channel)
    kwargs = {
        **common,
        **look.layer_kwargs,
        "name": common["name"] if look.alone else f"{common['name']} {look.name}",
        "metadata": {**common["metadata"], "gimp_channel": channel},
    }
    return view.channel_levels(channel), kwargs, "image"


def _place(source: SlideSource) -> dict[str, Any]:
    """Return scale, translate and units; pixels where um/px is unknown."""
    from napari_gimp.errors import ResolutionError
    from napari_gimp.slide.source import level_grid

    try:
        return level_grid(source, 0).layer_kwargs(source.mpp)
    except ResolutionError as error:
        import warnings

        warnings.warn(f"Shown in pixels. {error}", UserWarning, stacklevel=2)
        return {"scale": (1.0, 1.0), "units": ("pixel", "pixel")}


def _paths(path: str | Sequence[str]) -> list[str]:
    return [path] if isinstance(path, str | Path) else list(path)
