"""The keys: one table for what they do, where napari remaps them, and the list.

They are actions of napari, so Preferences > Shortcuts shows and changes them, and
the list (`?`) tells the keys that are really bound.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from napari.settings import get_settings
from napari.utils.action_manager import action_manager
from napari.utils.interactions import Shortcut
from napari.utils.key_bindings import coerce_keybinding
from napari.viewer import Viewer

if TYPE_CHECKING:
    from napari_gimp._qt.scene import Scene

ACTION = "napari-gimp:{}"
OPACITY_STEP = 0.1
STEPS = (1.25, 2.5, 5, 10, 20, 40)
"""Magnifications of the keys Alt+1 to Alt+6."""
LIST_KEY = "?"
"""Besides a remappable one: napari knows no key of this name, so Qt listens."""

Act = Callable[["Scene"], Any]
SceneOf = Callable[[Any], "Scene | None"]


@dataclass(frozen=True, slots=True)
class Key:
    """A key and what it does.

    Parameters
    ----------
    name
        Of napari's action.
    default
        The key until the user changes it.
    group, what
        Heading and line in the list.
    act
        What happens; an iterator goes on when the key is let go.
    repeats
        Whether it acts again while it is held.
    """

    name: str
    default: str
    group: str
    what: str
    act: Act
    repeats: bool = False


def _magnify(magnification: float, scene: Scene) -> None:
    if scene.navigation is not None:
        scene.navigation.magnify(magnification)


def _fit(scene: Scene) -> None:
    if scene.navigation is not None:
        scene.navigation.fit()


def _toggle_overview(scene: Scene) -> None:
    if scene.navigation is not None:
        scene.navigation.toggle_overview()


def _look_under(scene: Scene) -> Iterator[None]:
    yield from scene.look_under()


KEYS = (
    *(
        Key(
            f"magnify_{number}",
            f"Alt-{number}",
            "Slide",
            f"Magnify {step:g}×",
            partial(_magnify, step),
        )
        for number, step in enumerate(STEPS, start=1)
    ),
    Key("fit", "Alt-0", "Slide", "Show the whole slide", _fit),
    Key("overview", "Q", "Slide", "Show or hide the overview", _toggle_overview),
    Key(
        "look_under",
        "H",
        "Map",
        "Hold: look under the map; tap: hide or show it",
        _look_under,
    ),
    Key(
        "fainter",
        ",",
        "Map",
        "Make the map more transparent",
        lambda scene: scene.change_opacity(-OPACITY_STEP),
        repeats=True,
    ),
    Key(
        "stronger",
        ".",
        "Map",
        "Make the map more opaque",
        lambda scene: scene.change_opacity(OPACITY_STEP),
        repeats=True,
    ),
    Key(
        "run",
        "Control-Shift-R",
        "Analysis",
        "Run what is chosen",
        lambda scene: scene.ask_to_run(),
    ),
    Key(
        "cancel", "Escape", "Analysis", "Cancel what runs", lambda scene: scene.cancel()
    ),
    Key(
        "keys",
        "Alt-K",
        "Help",
        "Show this list of keys",
        lambda scene: scene.show_keys(),
    ),
)


@cache
def register_keys(scene_of: SceneOf) -> None:
    """Make the keys known to napari, once.

    Parameters
    ----------
    scene_of
        Finds the scene of a viewer; None where there is none, and nothing happens.
    """
    chosen = get_settings().shortcuts.shortcuts
    for key in KEYS:
        name = ACTION.format(key.name)
        command = _command(key, scene_of)
        action_manager.register_action(name, command, _title(key), Viewer, key.repeats)
        if name not in chosen:
            action_manager.bind_shortcut(name, key.default)


def _title(key: Key) -> str:
    """Return what Preferences show: there the group must be in the line."""
    return f"GIMP: {key.what[:1].lower()}{key.what[1:]}"


def _command(key: Key, scene_of: SceneOf) -> Callable[..., Any]:
    """Return what napari calls with its viewer."""

    def once(viewer: Viewer) -> None:
        if (scene := scene_of(viewer)) is not None:
            key.act(scene)

    def held(viewer: Viewer) -> Iterator[None]:
        if (scene := scene_of(viewer)) is not None:
            yield from key.act(scene)

    command = held if inspect.isgeneratorfunction(key.act) else once
    command.__name__ = f"gimp_{key.name}"  # napari tells repeating actions by it
    return command


def bound_keys(key: Key) -> str:
    """Return the keys bound to an action now, as this platform writes them."""
    bound = action_manager._shortcuts.get(ACTION.format(key.name), ())
    texts = [_written(one) for one in bound]
    if key.name == "keys":
        texts.insert(0, LIST_KEY)
    return " or ".join(texts)


def _written(shortcut: Any) -> str:
    """Return "Ctrl+Shift+R"; on a Mac with the signs that stand on its keys."""
    if sys.platform == "darwin":
        return str(Shortcut(shortcut).platform)
    return str(coerce_keybinding(shortcut))


def listed_keys() -> list[tuple[str, str, str]]:
    """Return group, keys and what they do; what no key is bound to is left out."""
    rows = [(key.group, bound_keys(key), key.what) for key in KEYS]
    return [row for row in rows if row[1]]
