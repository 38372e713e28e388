"""Answers a user gave before: the um/px of slides whose files do not say.

One small JSON file in the user's config folder: fingerprint of the pixels and um/px,
no path and no name, so nothing about a patient. A broken or unwritable file loses
an answer, never a slide.
"""

from __future__ import annotations

import json
import logging
import math
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_gimp.geometry import YX
from napari_gimp.slide.resolution import is_plausible
from napari_gimp.slide.source import Resolution

REMEMBERED = "user, remembered"
"""Origin of a um/px that was answered in an earlier session."""
MPP_FILE = "um-per-px.json"
SRGB_END = "-srgb"
"""Ends the fingerprint of converted pixels, which are as large as before."""

_log = logging.getLogger(__name__)


def config_folder() -> Path:
    """Return where napari-gimp keeps what the user chose.

    The environment variable NAPARI_GIMP_CONFIG takes the place of the user's own.
    """
    from platformdirs import user_config_path

    named = os.environ.get("NAPARI_GIMP_CONFIG")
    return Path(named) if named else user_config_path("napari-gimp", appauthor=False)


def remembered_mpp(fingerprint: str) -> YX | None:
    """Return um per level-0 pixel (y, x) that a user gave for a slide, or None."""
    return _as_mpp(read_choices(MPP_FILE).get(_key(fingerprint)))


def remember_mpp(fingerprint: str, mpp: YX) -> None:
    """Keep a user's answer, um per level-0 pixel (y, x), for the next time."""
    answer = [float(side) for side in mpp]
    keep_choices(MPP_FILE, {_key(fingerprint): answer})


def with_memory(stated: Resolution, fingerprint: str) -> Resolution:
    """Return what a file states, or an earlier answer where it states nothing good.

    Parameters
    ----------
    stated
        What the file says; a plausible value or a user's word is left as it is.
    fingerprint
        Names the slide's pixels.
    """
    if stated.verified or stated.origin.startswith("user"):
        return stated
    mpp = remembered_mpp(fingerprint)
    return stated if mpp is None else Resolution(mpp, REMEMBERED, False)


def read_choices(name: str) -> dict[str, Any]:
    """Return what is kept in a file of the config folder; {} where there is none."""
    try:
        kept = json.loads((config_folder() / name).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        _log.warning("%s is not read: %s", config_folder() / name, error)
        return {}
    return kept if isinstance(kept, dict) else {}


def keep_choices(name: str, changed: Mapping[str, Any]) -> None:
    """Add to what is kept in a file of the config folder, in one move.

    Where the folder cannot be written to, the choice holds for this session only.
    """
    path = config_folder() / name
    text = json.dumps({**read_choices(name), **changed}, indent=1, sort_keys=True)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, text)
    except OSError as error:
        _log.warning("%s cannot be written, so it is not remembered: %s", path, error)


def _replace(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise


def _key(fingerprint: str) -> str:
    return fingerprint.removesuffix(SRGB_END)


def _as_mpp(kept: object) -> YX | None:
    """Return a kept answer, None where somebody spoilt it."""
    if not (isinstance(kept, list) and len(kept) == 2):
        return None
    if not all(isinstance(side, int | float) and math.isfinite(side) for side in kept):
        return None
    mpp = float(kept[0]), float(kept[1])
    return mpp if min(mpp) > 0 and is_plausible(mpp) else None
