"""The switch that shows a slide's colours as its scanner's profile means them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox

from napari_gimp._qt.parts import Dock, Notice, allow
from napari_gimp._qt.scene import Scene
from napari_gimp.jobs import Job, read_job

if TYPE_CHECKING:
    from napari_gimp.slide.source import SlideSource
    from napari_gimp.slide.view import SlideView

TIP = (
    "Shows the colours as the scanner's profile means them, and gives them to models "
    "alike. The results of an analysis are dropped, since they saw the other colours"
)
NO_PROFILE = "The file holds no colour profile, so there is nothing to convert from."
NO_COLOUR = "Channels of fluorescence have no colour profile."
WORKING = "The slide is being opened anew with its other colours."
RUNNING = "An analysis is running on these colours. Cancel it or wait for its end."


class ColourSwitch:
    """The colour row of the Slide dock.

    Parameters
    ----------
    scene
        The viewer's scene.
    dock
        The dock; the row is added to it.
    """

    def __init__(self, scene: Scene, dock: Dock) -> None:
        self._scene, self._dock = scene, dock
        self.box, self.notice = QCheckBox("Convert to sRGB (ICC)"), Notice()
        self.opening: Job[Any] | None = None
        dock.add(self.box, self.notice)
        self.box.clicked.connect(self._switch)
        dock.hear(scene.session.events.job, self.show)

    def show(self) -> None:
        """Show what holds for the chosen slide."""
        view = self._scene.view
        self.box.setVisible(view is not None)
        if view is not None:
            self.box.setChecked(view.source.srgb)
            allow(self.box, tip=TIP, obstacle=self._obstacle(view.source))

    def _obstacle(self, source: SlideSource) -> str:
        if self.opening is not None:
            return WORKING
        if not source.rgb:
            return NO_COLOUR
        if source.icc is None:
            return NO_PROFILE
        return "" if self._scene.session.job is None else RUNNING

    def _switch(self, on: bool) -> None:
        layer, view = self._scene.slide_layer, self._scene.view
        if layer is None or view is None:
            return
        self.notice.clear()
        self.opening = job = read_job(partial(reopened, view, srgb=on))
        taken, failed = partial(self._take, layer), self._fail
        self._dock.hear(job.event, taken, thread="main")
        self._dock.hear(job.failed, failed, thread="main")
        self.show()
        self.box.setChecked(on)
        job.start()

    def _take(self, layer: Any, view: SlideView) -> None:
        self.opening = None
        if layer in self._scene.viewer.layers:
            self._scene.show_instead(layer, view)
        else:
            view.close()
            view.source.close()
        self.show()

    def _fail(self, error: Exception) -> None:
        self.opening = None
        self.notice.say(str(error), "error")
        self.show()


def reopened(view: SlideView, *, srgb: bool) -> SlideView:
    """Return another view of the same file, with or without conversion to sRGB.

    Raises
    ------
    SlideError
        If the file can no longer be read, or its profile cannot be used.
    """
    from napari_gimp.slide.source import open_slide
    from napari_gimp.slide.view import SlideView

    source = open_slide(view.source.path, srgb=srgb)
    source.resolution = view.source.resolution
    return SlideView(source)
