"""Where signals of other threads reach the main thread: psygnal's queue, in Qt."""

from __future__ import annotations

from functools import cache
from typing import Any

from napari_gimp.jobs import cancel_all

INTERVAL_MS = 30
"""How often queued signals are delivered; psygnal's default of 0 burns a core."""


def start_queue() -> None:
    """Deliver queued signals on this thread, and end all jobs with the application.

    Safe to call again; needs a QApplication.
    """
    from psygnal.qt import start_emitting_from_queue
    from qtpy.QtCore import Qt
    from qtpy.QtWidgets import QApplication

    start_emitting_from_queue(msec=INTERVAL_MS, timer_type=Qt.TimerType.CoarseTimer)
    _end_jobs_with(QApplication.instance())


@cache
def _end_jobs_with(application: Any) -> None:
    application.aboutToQuit.connect(cancel_all)
