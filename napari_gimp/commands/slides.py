"""Commands about slides alone: info, convert, view."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.commands.options import add_command, add_slide_options
from napari_gimp.commands.progress import silence_damage_log, watch
from napari_gimp.errors import SlideError

if TYPE_CHECKING:
    from napari_gimp.slide.source import SlideSource


def add_commands(commands: Any) -> None:
    """Add info, convert and view."""
    info = add_command(commands, "info", info_, "describe a slide")
    info.add_argument("slide", type=Path, help="a file, or a DICOM or OME-Zarr folder")
    add_slide_options(info)
    info.add_argument("--check", action="store_true", help="decode every tile")
    info.add_argument("--json", action="store_true")
    _add_convert(commands)
    view = add_command(commands, "view", view_, "open a slide in napari")
    view.add_argument("slide", type=Path)
    add_slide_options(view)


def _add_convert(commands: Any) -> None:
    convert = add_command(
        commands, "convert", convert_, "write a slide as a pyramidal OME-TIFF"
    )
    convert.add_argument("slide", type=Path)
    convert.add_argument("out", type=Path, metavar="OUT.ome.tif")
    convert.add_argument(
        "--compression",
        default="jpeg",
        help="jpeg (8 bits, with losses; the default), deflate or none",
    )
    convert.add_argument("--quality", type=int, default=90, help="of JPEG, 1 to 100")
    convert.add_argument("--tile", type=int, default=512, help="side of a tile, px")
    convert.add_argument("--overwrite", action="store_true", help="replace OUT")
    add_slide_options(convert)


def info_(arguments: argparse.Namespace) -> None:
    """Describe a slide: `Facts` as lines, or as JSON with the fields as keys.

    With `--check` all tiles are decoded; JSON then has "check" with the counts
    "tiles" and "damaged" and the "places" (level, row, column) of the damaged
    ones, else null.

    Raises
    ------
    SlideError
        If the slide cannot be opened, or tiles were found damaged.
    """
    from napari_gimp.slide.describe import as_rows, describe

    with _opened(arguments.slide, arguments) as source:
        facts = describe(source)
        check = _check(source) if arguments.check else None
    if arguments.json:
        print(json.dumps({**facts.as_dict(), "check": check}, indent=1))
    else:
        _print_rows({**as_rows(facts), **_check_row(source, check)})
    if source.damage:
        raise SlideError(source.damage.report)


def _check(source: SlideSource) -> dict[str, Any]:
    from napari_gimp.slide.inspection import inspect, tile_count

    silence_damage_log()
    watch(inspect(source), f"tiles of {source.path.name}")
    places = [list(place) for place in source.damage.places]
    return {"tiles": tile_count(source), "damaged": len(places), "places": places}


def _check_row(source: SlideSource, check: dict[str, Any] | None) -> dict[str, str]:
    from napari_gimp.slide.inspection import first_places

    if check is None:
        return {}
    where = f": {first_places(source)}" if source.damage else ""
    return {"check": f"{check['damaged']:,} of {check['tiles']:,} tiles damaged{where}"}


def _print_rows(rows: dict[str, str]) -> None:
    """Print a name and its text, which may have several lines, to each row."""
    for name, text in rows.items():
        first, *rest = text.splitlines()
        print("\n".join([f"{name:>12}  {first}", *(f"{'':14}{line}" for line in rest)]))


def convert_(arguments: argparse.Namespace) -> None:
    """Write a slide as a pyramidal OME-TIFF, whole or not at all.

    Raises
    ------
    SlideError
        If the slide cannot be read, or the file not be written.
    """
    from napari_gimp.slide.convert import conversion

    silence_damage_log()
    names = ("compression", "quality", "tile", "overwrite")
    chosen = {name: getattr(arguments, name) for name in names}
    with closing(_opened(arguments.slide, arguments)) as source:
        with closing(conversion(source, arguments.out, **chosen)) as steps:
            watch(steps, f"tiles of {source.path.name}")
        _warn_of_damage(source)
    print(arguments.out)


def view_(arguments: argparse.Namespace) -> None:
    """Open a slide in napari, with the docks."""
    from napari_gimp.desktop import check_display, open_desktop

    _opened(arguments.slide, arguments).close()  # refuse before napari starts
    check_display()
    open_desktop(arguments.slide, mpp=arguments.mpp, srgb=arguments.srgb)


def _opened(path: Path, arguments: argparse.Namespace) -> SlideSource:
    from napari_gimp.slide.source import open_slide

    return open_slide(path, mpp=arguments.mpp, srgb=arguments.srgb)


def _warn_of_damage(source: SlideSource) -> None:
    if source.damage:
        print(f"warning: {source.damage.report}", file=sys.stderr)
