"""Save a slide as a pyramid: in the background, with progress and cancel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtWidgets import QFileDialog, QProgressBar, QPushButton, QWidget

from napari_gimp._qt.pace import Pace, advance
from napari_gimp._qt.parts import Dock, Notice, allow, quiet, row
from napari_gimp.jobs import Job

if TYPE_CHECKING:
    from napari_gimp.slide.source import Resolution, SlideSource

THREAD = "gimp-read-convert"
PATTERNS = "Pyramidal OME-TIFF (*.ome.tif)"
SUFFIX = ".ome.tif"
TIP = (
    "Writes a tiled OME-TIFF with levels 2× apart, without label image, dates or "
    "names: it opens and zooms fast everywhere"
)
FLAT = "This picture has no smaller levels: saved as a pyramid it opens faster."
FLAT_PX = 4096
"""Side from which a picture without levels is slow to open."""
NO_SLIDE = "Open a slide first."
Step = tuple[int, int]


class Saving:
    """The rows of a dock that save the chosen slide as a pyramid.

    Parameters
    ----------
    dock
        The dock.
    """

    def __init__(self, dock: Dock) -> None:
        self._dock = dock
        self._source: SlideSource | None = None
        self._pace: Pace | None = None
        self.job: Job[Step] | None = None
        self.button = QPushButton("Save as pyramid…")
        self.cancel, self.bar = QPushButton("Cancel"), QProgressBar()
        self.bar.setTextVisible(False)
        self.stage, self.notice, self.advice = quiet(), Notice(), Notice()
        self.going = row(self.bar, self.cancel)
        self.button.clicked.connect(self._ask)
        self.cancel.clicked.connect(self.stop)
        dock.destroyed.connect(self.stop)
        self.offer(None)

    def offer(self, source: SlideSource | None) -> None:
        """Offer to save a slide; its file is opened anew for that."""
        self._source = source
        flat = source is not None and is_flat(source)
        self.advice.say(FLAT if flat else "")
        self._show()

    def save(self, out: Path) -> None:
        """Write the slide to a file, in the background; one at a time."""
        source = self._source
        if source is None or self.job is not None:
            return
        steps = partial(steps_of, source.path, source.resolution, out, srgb=source.srgb)
        self.job, self._pace = Job(steps, thread=THREAD), None
        hear = self._dock.hear
        hear(self.job.event, self._advance, thread="main")
        hear(self.job.finished, partial(self._end, f"Saved {out}"), thread="main")
        hear(self.job.cancelled, partial(self._end, "Cancelled."), thread="main")
        hear(self.job.failed, self._fail, thread="main")
        self.notice.clear()
        self.stage.setText("Saving…")
        self._show()
        self.job.start()

    def stop(self, *_: object) -> None:
        """Cancel the saving; nothing is left of it."""
        if self.job is not None:
            self.job.cancel()

    def _ask(self) -> None:
        if self._source is None:
            return
        proposed = self._source.path.with_name(pyramid_name(self._source.path))
        if chosen := ask_save(self.button, proposed):
            self.save(chosen)

    def _advance(self, step: Step) -> None:
        done, total = step
        now_s = time.monotonic()
        self._pace = advance(self._pace, "saving tiles", done, total, now_s=now_s)
        self.bar.setRange(0, total)
        self.bar.setValue(done)
        self.stage.setText(self._pace.text)

    def _end(self, text: str) -> None:
        self.job = None
        self.notice.say(text)
        self._show()

    def _fail(self, error: Exception) -> None:
        self.job = None
        self.notice.say(str(error), "error")
        self._show()

    def _show(self) -> None:
        busy = "A slide is being saved." if self.job else ""
        allow(self.button, tip=TIP, obstacle="" if self._source else NO_SLIDE)
        if busy:
            allow(self.button, tip="", obstacle=busy)
        for widget in (self.going, self.stage):
            widget.setVisible(bool(busy))


def is_flat(source: SlideSource) -> bool:
    """Whether a slide is a large picture without smaller levels."""
    return len(source.levels) == 1 and max(source.levels[0].shape) >= FLAT_PX


def pyramid_name(path: Path) -> str:
    """Return a name for the pyramid of a file, never the file's own."""
    stem = path.name.split(".")[0] if path.suffix else path.name
    name = f"{stem}{SUFFIX}"
    return name if name != path.name else f"{stem}-pyramid{SUFFIX}"


def ask_save(parent: QWidget, proposed: Path) -> Path | None:
    """Ask where to save; None if nowhere."""
    title = "Save as pyramid"
    chosen, _ = QFileDialog.getSaveFileName(parent, title, str(proposed), PATTERNS)
    return Path(chosen) if chosen else None


def steps_of(
    path: Path, stated: Resolution, out: Path, *, srgb: bool
) -> Iterator[Step]:
    """Convert a slide, opened anew, step by step; yields tiles done, and in all.

    Raises
    ------
    SlideError
        If it cannot be read or written.
    """
    import numpy as np

    from napari_gimp.slide.convert import conversion
    from napari_gimp.slide.source import open_slide

    with open_slide(path, srgb=srgb) as source:
        source.resolution = stated
        small = source.rgb and source.dtype == np.uint8
        compression = "jpeg" if small else "deflate"
        yield from conversion(source, out, compression=compression, overwrite=True)
