"""How far a command is, on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterable


class Bar:
    """A tqdm bar that is told where it is; silent where stderr is no terminal.

    Parameters
    ----------
    text
        What is counted.
    """

    def __init__(self, text: str) -> None:
        from tqdm import tqdm

        self._bar = tqdm(desc=text, disable=None, file=sys.stderr, leave=False)
        self._text = text  # a silent bar keeps none

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.close()

    def to(self, done: int, total: int, text: str | None = None) -> None:
        """Show `done` of `total`; a new text begins a new stage."""
        if text and text != self._text:
            self._text = text
            self._bar.reset(total)
            self._bar.set_description_str(text, refresh=False)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def say(self, text: str) -> None:
        """Print a line on stderr, above the bar where there is one."""
        self._bar.write(text, file=sys.stderr)


def watch(steps: Iterable[tuple[int, int]], text: str) -> None:
    """Go through steps of (done, total) with a bar."""
    with Bar(text) as bar:
        for done, total in steps:
            bar.to(done, total)


def silence_damage_log() -> None:
    """Keep the log of damaged tiles off stderr: the command counts and tells them."""
    import logging

    for name in ("napari_gimp.slide.damage", "napari_gimp.training.features"):
        logging.getLogger(name).addHandler(logging.NullHandler())
