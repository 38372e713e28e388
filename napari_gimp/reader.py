"""napari's reader: a slide becomes one multi-scale layer in um.

Importing this module is cheap; libraries load when a file is opened.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_gimp.slide.source import SlideSource
    from napari_gimp.slide.view import SlideView

LayerData = tuple[Any, dict[str, Any], str]
Reader = Callable[[str | Sequence[str]], list[LayerData]]
SUFFIXES = {
    *(".svs", ".tif", ".tiff", ".ndpi", ".scn", ".bif", ".mrxs", ".vms", ".vmu"),
    *(".svslide", ".czi", ".dcm", ".zarr", ".png", ".jpg", ".jpeg"),
}
DICOM_SLIDE = b"1.2.840.10008.5.1.4.1.1.77.1.6"
"""What a DICOM file's head holds if it is a whole-slide image."""
DICOM_HEAD = 1024
FILES_TRIED = 64
"""Files of a folder that are looked at; a DICOM slide has about a dozen."""


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
    """Open slides and return a layer for each; see `slide_layer`.

    Raises
    ------
    SlideError
        If a file is no slide.
    """
    drawings = [slide_layer(Path(one), mpp=mpp, srgb=srgb) for one in _paths(path)]
    _sharpen_in_viewer()
    return drawings


def slide_layer(
    path: Path,
    *,
    mpp: float | tuple[float, float] | None = None,
    srgb: bool = False,
) -> LayerData:
    """Open a slide and return its layer: progressive levels, in um.

    Where the file states no plausible um/px and `mpp` gives none, what the user
    said of this slide before counts; if nothing, the layer is in pixels and a
    warning says what to do. The layer's metadata hold the path
    ("gimp_slide") and the `SlideView` ("gimp_view"), whose `updated` asks for a
    refresh of the layer.

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
    return view.levels, _layer_kwargs(source, view), "image"


def _may_be_slide(path: Path) -> bool:
    if path.is_dir():
        return _is_zarr(path) or _holds_dicom_slide(path)
    if path.suffix.lower() == ".dcm":
        return _is_dicom_slide(path)
    return path.suffix.lower() in SUFFIXES


def _is_zarr(folder: Path) -> bool:
    return (folder / ".zattrs").is_file() or (folder / "zarr.json").is_file()


def _holds_dicom_slide(folder: Path) -> bool:
    files = (path for path in folder.iterdir() if path.is_file())
    return any(map(_is_dicom_slide, islice(files, FILES_TRIED)))


def _is_dicom_slide(path: Path) -> bool:
    """Whether a file's first kilobyte says that it is a DICOM whole-slide image."""
    try:
        with path.open("rb") as file:
            head = file.read(DICOM_HEAD)
    except OSError:
        return False
    return head[128:132] == b"DICM" and DICOM_SLIDE in head


def _sharpen_in_viewer() -> None:
    """Have the open viewer refresh slide layers as tiles arrive, docks or none."""
    from napari import current_viewer

    viewer = current_viewer()
    if viewer is not None:
        from napari_gimp._qt.scene import scene_of

        scene_of(viewer)


def _layer_kwargs(source: SlideSource, view: SlideView) -> dict[str, Any]:
    return {
        "name": source.path.stem,
        "rgb": source.rgb,
        "multiscale": True,
        "cache": False,  # ours is enough; dask's would take a quarter of memory
        "metadata": {"gimp_slide": str(source.path), "gimp_view": view},
        **_place(source),
    }


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
