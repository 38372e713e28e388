"""Commands that exchange features with other tools: import-, export-features."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.commands.options import add_command, add_slide_options
from napari_gimp.errors import StoreError

if TYPE_CHECKING:
    import zarr

    from napari_gimp.patches.h5 import H5Features
    from napari_gimp.patches.h5_units import Interpretation

LAYOUTS = ("clam", "trident", "stamp")
Known = tuple[str, tuple[int, int] | None]
"""Name and size (height, width) in px of a slide."""
SLIDES = "folder of slides; a file goes with the slide of its name"


@dataclass(frozen=True, slots=True)
class Pending:
    """A file that was read and not yet imported."""

    file: H5Features
    slide: Path
    meaning: Interpretation


def add_commands(commands: Any) -> None:
    """Add import-features and export-features."""
    _add_import(commands)
    export = add_command(
        commands,
        "export-features",
        export_features_,
        "write stored features as .h5 files of CLAM, TRIDENT or STAMP",
    )
    export.add_argument("store", type=Path, help="folder that keeps features")
    export.add_argument("--layout", choices=LAYOUTS, required=True)
    export.add_argument("--out", type=Path, required=True, metavar="DIR")
    export.add_argument(
        "--slides", type=Path, metavar="DIR", help="folder of slides, for their names"
    )
    export.add_argument("--json", action="store_true")


def _add_import(commands: Any) -> None:
    sub = add_command(
        commands,
        "import-features",
        import_features_,
        "keep patch features of CLAM, TRIDENT or STAMP (.h5) in a store",
    )
    sub.add_argument("files", type=Path, nargs="+", metavar="FILE")
    where = sub.add_mutually_exclusive_group(required=True)
    where.add_argument("--slide", type=Path, help="the slide of the one FILE")
    where.add_argument("--slides", type=Path, metavar="DIR", help=SLIDES)
    sub.add_argument("--store", type=Path, required=True, metavar="DIR")
    sub.add_argument(
        "--patches", type=Path, metavar="DIR", help="CLAM's folder of patch files"
    )
    sub.add_argument("--unit", choices=("px", "um"), help="unit of the coordinates")
    sub.add_argument("--patch-um", type=float, help="side of a patch, um")
    sub.add_argument("--encoder", help="name of the encoder that made them")
    add_slide_options(sub)
    sub.add_argument("--yes", action="store_true", help="import without asking")
    sub.add_argument("--json", action="store_true")


def import_features_(arguments: argparse.Namespace) -> None:
    """Read all files, show what their numbers mean, ask, then import them.

    Nothing is written before every file could be read.

    Raises
    ------
    StoreError
        If a file or its slide cannot be used, or nobody confirmed.
    """
    from napari_gimp.patches.imported import import_features
    from napari_gimp.patches.store import FeatureStore
    from napari_gimp.slide.source import open_slide

    if arguments.slide and len(arguments.files) > 1:
        raise StoreError(
            f"--slide goes with one file, {len(arguments.files)} were given; put the "
            "slides into a folder and give --slides"
        )
    pending = [_pending(path, arguments) for path in arguments.files]
    _confirm(pending, arguments)
    store, done = FeatureStore(arguments.store), []
    for one in pending:
        opened = open_slide(one.slide, mpp=arguments.mpp, srgb=arguments.srgb)
        with closing(opened) as source:
            key = import_features(one.file, one.meaning, source, store)
        entry = {"entry": store.path(key).name, "encoder": key.encoder}
        done.append(_as_dict(one) | entry)
        if not arguments.json:
            print(f"{one.file.path.name}: {len(one.file)} patches in {store.path(key)}")
    if arguments.json:
        print(json.dumps(done, indent=1))
    else:
        names = ", ".join(sorted({str(entry["encoder"]) for entry in done}))
        print(f"Train on them with `encoder` in the run file: {names}")


def export_features_(arguments: argparse.Namespace) -> None:
    """Write every complete entry of a store as a file of another tool.

    Raises
    ------
    StoreError
        If the store has no complete entry or a file cannot be written; after all
        others if an entry is damaged.
    """
    from napari_gimp.patches.h5_export import export_entry

    known: dict[str, Known] = dict(_known_slides(arguments.slides))
    written: list[str] = []
    damaged: list[str] = []
    for group in _complete(arguments.store, damaged):
        name, size = known.get(_slide_of(group), (_name(group), None))
        path = arguments.out / _folder(group) / f"{name}.h5"
        if str(path) in written:  # the same slide with other patches
            path = path.with_name(f"{name}-{_digest(group)[:8]}.h5")
        export_entry(group, path, arguments.layout, slide_px=size)
        written.append(str(path))
        if not arguments.json:
            print(path)
    if arguments.json:
        print(json.dumps(written, indent=1))
    if damaged:
        raise StoreError(
            f"of {arguments.store} was left out what is damaged: {', '.join(damaged)}; "
            "extract or import that again"
        )
    if not written:
        raise StoreError(
            f"{arguments.store} holds no complete features; give the folder that --out "
            "of `napari-gimp features` or --store of import-features named"
        )


def _complete(folder: Path, damaged: list[str]) -> Iterator[zarr.Group]:
    """Yield the complete entries of a store.

    Those that are not are named on stderr, those that are damaged in `damaged`.
    """
    from napari_gimp.patches.imported import entry_folders, open_entry
    from napari_gimp.patches.store import FeatureStore, StoredFeatures

    for path in entry_folders(FeatureStore(folder)):
        try:
            group = open_entry(path)
        except StoreError:
            damaged.append(path.name)
            continue
        stored = StoredFeatures(group)
        if len(stored.lost()):
            damaged.append(path.name)
        elif stored.complete:
            yield group
        else:
            count = f"{stored.done} of {stored.shape[0]} patches"
            print(
                f"warning: left out {path.name}: it holds only {count}", file=sys.stderr
            )


def _digest(group: zarr.Group) -> str:
    return Path(str(group.store_path.store.root)).stem  # type: ignore[attr-defined]


def _pending(path: Path, arguments: argparse.Namespace) -> Pending:
    from napari_gimp.patches.h5 import read_h5
    from napari_gimp.patches.h5_units import interpret
    from napari_gimp.patches.imported import locate
    from napari_gimp.slide.source import open_slide

    beside = arguments.patches and arguments.patches / path.name
    file = read_h5(path, patch_file=beside)
    slide = arguments.slide or _slide_named(path, arguments.slides)
    with closing(open_slide(slide, mpp=arguments.mpp, srgb=arguments.srgb)) as source:
        meaning = interpret(
            file,
            source.mpp,
            unit=arguments.unit,
            patch_um=arguments.patch_um,
            encoder=arguments.encoder,
        )
        locate(file, meaning, source)
    return Pending(file, slide, meaning)


def _slide_named(path: Path, folder: Path) -> Path:
    """Return the one slide of a folder whose name begins as the file's."""
    slides = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [slide for slide in slides if _stem(slide) == _stem(path)]
    if len(found) != 1:
        names = ", ".join(slide.name for slide in found) or "none"
        raise StoreError(
            f"{path.name} needs one slide named {_stem(path)} in {folder}, found "
            f"{names}; name them alike, or give --slide"
        )
    return found[0]


def _stem(path: Path) -> str:
    """Return a name without its ending, ".ome.tif" being one."""
    name = path.stem
    return name[:-4] if name.lower().endswith(".ome") else name


def _confirm(pending: list[Pending], arguments: argparse.Namespace) -> None:
    """Show what was concluded on stderr and have it confirmed."""
    for one in pending:
        head = f"{one.file.path}: {one.file.layout.upper()}, {len(one.file)} patches x"
        print(f"{head} {one.file.width} features of {one.slide.name}", file=sys.stderr)
        for name, text in one.meaning.as_rows().items():
            print(f"  {name:8} {text}", file=sys.stderr)
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise StoreError(
            "nothing was imported: look at the lines above, then repeat the command "
            "with --yes, or say what is wrong with --unit, --patch-um, --encoder"
        )
    print("Import with these? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise StoreError(
            "nothing was imported; say what is wrong with --unit, --patch-um, --encoder"
        )


def _as_dict(one: Pending) -> dict[str, Any]:
    return {
        "file": str(one.file.path),
        "layout": one.file.layout,
        "slide": str(one.slide),
        "patches": len(one.file),
        "width": one.file.width,
        "meaning": one.meaning.as_dict(),
    }


def _known_slides(folder: Path | None) -> Iterator[tuple[str, Known]]:
    """Yield the fingerprint of each slide of a folder, and what is known of it."""
    from napari_gimp.errors import SlideError
    from napari_gimp.slide.source import open_slide

    for path in sorted(folder.iterdir()) if folder else []:
        try:
            with closing(open_slide(path)) as source:
                yield source.fingerprint, (_stem(path), source.levels[0].shape)
        except SlideError:  # a folder of slides has other files too
            continue


def _slide_of(group: zarr.Group) -> str:
    from napari_gimp.patches.store import StoredFeatures
    from napari_gimp.slide.remembered import SRGB_END

    return str(StoredFeatures(group).key["slide"]).removesuffix(SRGB_END)


def _name(group: zarr.Group) -> str:
    """Return an imported file's name, else the beginning of the fingerprint."""
    facts: Any = group.attrs.get("imported") or {}
    return Path(facts.get("file", _slide_of(group)[:16])).stem


def _folder(group: zarr.Group) -> str:
    """Return a folder's name for an encoder and its patches, over all slides.

    Whole um: patches of 256 px are 127.7 um on one scanner and 128.3 on another.
    """
    from napari_gimp.patches.h5_export import encoder_name
    from napari_gimp.patches.store import StoredFeatures

    key = StoredFeatures(group).key
    safe = "".join(c if c.isalnum() or c in "-_." else "-" for c in encoder_name(group))
    return f"{safe}_{key['patch_um']:.0f}um_every_{key['stride_um']:.0f}um"
