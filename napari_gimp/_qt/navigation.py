"""Where one is on the slide and how close: overview, magnification, going there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import ref

from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_gimp._qt import field
from napari_gimp._qt.badge import Badge
from napari_gimp._qt.field import Lens, Place
from napari_gimp._qt.overview import Overview
from napari_gimp._qt.overview_picture import Tone, pictures
from napari_gimp._qt.slide_layers import CHANNEL_KEY, mpp_of, path_of, view_of
from napari_gimp._qt.viewed import DWELL_MS, Viewed
from napari_gimp.jobs import Job
from napari_gimp.slide.remembered import keep_choices, read_choices

if TYPE_CHECKING:
    from napari_gimp._qt.scene import Scene
    from napari_gimp.slide.view import SlideView

GAP_PX = 10
"""Distance from the canvas' edge, px: napari's own for its scale bar."""
SCALE_BAR_PX = (60, 180)
"""Height and width at the lower right that napari's scale bar may take, px."""
CHOICES_FILE = "viewer.json"
CHOICE = "overview"
PICTURE_THREAD = "gimp-read-overview"
"""Its own: the picture of one slide must not wait until another is opened."""
LATER = "The overview is shown wherever a part of the slide is in view."
HIDDEN = "The overview is hidden; the same key brings it back."
NO_MPP = "How large a pixel is, is not known: answer in the Slide dock first."


class Navigation:
    """Keeps overview and magnification in step with the camera.

    Parameters
    ----------
    scene
        The viewer's scene; its chosen slide is shown.
    canvas
        napari's canvas widget.
    """

    def __init__(self, scene: Scene, canvas: QWidget) -> None:
        self._scene = ref(scene)
        self._viewer = scene.viewer
        self.overview, self.badge = Overview(canvas), Badge(canvas)
        self.wanted = bool(read_choices(CHOICES_FILE).get(CHOICE, True))
        self.viewed: dict[Path, Viewed] = {}
        self.drawing: Job[Any] | None = None
        self._drawn: tuple[SlideView, tuple[Tone, ...] | None] | None = None
        self._gone = False
        self._timer = QTimer(self.overview)
        self._timer.setInterval(DWELL_MS)
        self._timer.timeout.connect(self._look)
        self._repaint = QTimer(self.overview)
        self._repaint.setSingleShot(True)
        self._repaint.setInterval(DWELL_MS)
        self._repaint.timeout.connect(self._draw)
        self.overview.moved.connect(self.go_to)
        self.overview.destroyed.connect(partial(_forget, ref(self)))
        self._listen(scene)
        self._take_theme()
        self.follow()

    def _listen(self, scene: Scene) -> None:
        viewer, camera = self._viewer, self._viewer.scene.camera
        for event in (camera.events.zoom, camera.events.center):
            event.connect(self._moved)
        viewer.canvas.events.size.connect(self.follow)
        viewer.dims.events.ndisplay.connect(self._moved)
        viewer.events.theme.connect(self._take_theme)
        for signal in (scene.session.events.slide, scene.session.events.mpp):
            signal.connect(self.follow)
        for signal in (scene.slides.changed, scene.slides.swapped):
            signal.connect(self.follow)

    @property
    def lens(self) -> Lens:
        """How napari looks at its world now."""
        camera, (height, width) = self._viewer.scene.camera, self._viewer.canvas.size
        y, x = camera.center[-2:]
        return Lens((float(y), float(x)), float(camera.zoom), (height, width))

    @property
    def place(self) -> Place | None:
        """Where the chosen slide lies, None without one."""
        layer = self._layer
        return None if layer is None or self._gone else place_of(layer)

    @property
    def _layer(self) -> Any | None:
        scene = self._scene()
        layer = None if scene is None else scene.slide_layer
        return None if layer is None or view_of(layer) is None else layer

    def toggle_overview(self) -> None:
        """Show or hide the overview, from now on and the next time."""
        self.wanted = not self.wanted
        keep_choices(CHOICES_FILE, {CHOICE: self.wanted})
        self._viewer.status = LATER if self.wanted else HIDDEN
        self.follow()

    def go_to(self, y: float, x: float) -> None:
        """Centre a place of the slide, in shares (y, x) of its sides."""
        if (place := self.place) is not None:
            camera = self._viewer.scene.camera
            camera.center = (*camera.center[:-2], *field.world_of((y, x), place))

    def magnify(self, magnification: float) -> None:
        """Show the slide at a magnification; what is in the middle stays there."""
        place = self.place
        zoom = None if place is None else field.zoom_for(magnification, place)
        if zoom is not None:
            self._viewer.scene.camera.zoom = zoom
        elif place is not None:
            self._viewer.status = NO_MPP

    def fit(self) -> None:
        """Show the whole slide."""
        if (layer := self._layer) is not None:
            self._viewer.reset_view(layers=[layer])

    def follow(self) -> None:
        """Show what belongs to the slide that is chosen now."""
        if self._gone:
            return
        place = self.place
        self.badge.setVisible(place is not None)
        if place is None:
            self.overview.hide()
            self._forget_slide()
            return
        self.overview.fit(place.shape, self._viewer.canvas.size)
        self._draw()
        self._put()
        self._moved()

    def _forget_slide(self) -> None:
        """Hold on to no pixel of a slide that was closed."""
        if self.drawing is not None:
            self.drawing.cancel()
        self._drawn = self.drawing = None
        self.overview.show_picture(None)

    def _moved(self) -> None:
        """Show the field of view; note where the eye rests."""
        place = self.place
        if place is None:
            return
        lens, flat = self.lens, self._viewer.dims.ndisplay == 2
        shown = field.field_of(lens, place) if flat else None
        self.overview.show_field(shown)
        # with all of the slide on the canvas it would only cover tissue
        self.overview.setVisible(
            self.wanted and not (shown and shown.covers(field.WHOLE))
        )
        text = field.magnification_text(lens, place)
        if text != self.badge.text():
            self.badge.say(text, known=place.mpp is not None)
            self._put()
        if not self._timer.isActive():
            self._timer.start()

    def _look(self) -> None:
        """Note what stood on the screen; at rest there is nothing more to note."""
        place, layer = self.place, self._layer
        if place is None or layer is None or self.overview.field is None:
            self._timer.stop()
            return
        viewed, shown = self._viewed_of(layer, place), self.overview.field
        if shown == viewed.last_shown:
            self._timer.stop()
        um = field.um_per_screen_px(self.lens, place)
        if viewed.look(shown, um):
            self.overview.show_viewed(viewed.mask)

    def _viewed_of(self, layer: Any, place: Place) -> Viewed:
        return self.viewed.setdefault(path_of(layer), Viewed(place.shape))

    def _put(self) -> None:
        """Lay the overview at the upper left, the magnification at the lower left."""
        height, width = self._viewer.canvas.size
        narrow = self.badge.width() + SCALE_BAR_PX[1] > width
        self.overview.move(GAP_PX, GAP_PX)
        lift = SCALE_BAR_PX[0] if narrow else GAP_PX
        self.badge.move(GAP_PX, height - lift - self.badge.height())

    def _draw(self) -> None:
        """Have the picture made in the background; the newest order wins."""
        layer, place = self._layer, self.place
        view = None if layer is None else view_of(layer)
        if layer is None or place is None or view is None:
            return
        tones = None if view.source.rgb else self._tones(view)
        if self._drawn == (view, tones):
            return
        if self._drawn is None or self._drawn[0] is not view:
            self.overview.show_picture(None)
            self.overview.show_viewed(self._viewed_of(layer, place).mask)
        self._drawn = view, tones
        if self.drawing is not None:
            self.drawing.cancel()
        make = partial(pictures, view, tones, self.overview.devicePixelRatioF())
        self.drawing = job = Job(make, thread=PICTURE_THREAD)
        job.event.connect(_taker(ref(self), job.number), thread="main")
        job.start()

    def _tones(self, view: SlideView) -> tuple[Tone, ...]:
        """Return how the channels are shown now; ask again when that changes."""
        scene = self._scene()
        layers = [] if scene is None else scene.slides.layers_of(view)
        for layer in layers:
            for event in (
                layer.events.contrast_limits,
                layer.events.colormap,
                layer.events.visible,
            ):
                event.connect(self._look_changed)  # once, however often it is asked
        return tuple(tone_of(layer) for layer in layers if layer.visible)

    def _look_changed(self) -> None:
        """Draw channels anew once a slider has come to rest."""
        if not self._gone:
            self._repaint.start()

    def take_picture(self, number: int, picture: Any) -> None:
        """Show the picture of an order unless there was a newer one."""
        current = self.drawing is not None and self.drawing.number == number
        if current and not self._gone and picture is not None:
            self.overview.show_picture(picture)

    def leave(self) -> None:
        """Touch no widget any more and end what is being made for them."""
        self._gone = True
        if self.drawing is not None:
            self.drawing.cancel()

    def _take_theme(self) -> None:
        if self._gone:
            return
        from napari.utils.theme import get_theme

        theme = get_theme(self._viewer.theme)
        text = theme.text.as_hex()
        self.overview.set_frame(theme.canvas.as_hex())
        self.badge.set_colours(ground=theme.canvas.as_rgb_tuple()[:3], text=text)
        self._put()


def place_of(layer: Any) -> Place:
    """Return where a slide layer lies."""
    view = view_of(layer)
    assert view is not None, "only a slide layer has a place"
    (sy, sx), (ty, tx) = layer.scale[-2:], layer.translate[-2:]
    return Place(
        view.source.levels[0].shape,
        (float(sy), float(sx)),
        (float(ty), float(tx)),
        mpp_of(layer),
    )


def tone_of(layer: Any) -> Tone:
    """Return how the layer of one channel is shown."""
    low, high = map(float, layer.contrast_limits)
    red, green, blue = map(float, layer.colormap.map(1.0).ravel()[:3])
    channel = layer.metadata.get(CHANNEL_KEY) or 0
    return Tone(channel, (red, green, blue), low, high)


def _taker(reference: ref[Navigation], number: int) -> Callable[[Any], None]:
    """Return what takes a picture, which may arrive when the viewer is gone."""

    def take(picture: Any) -> None:
        if (navigation := reference()) is not None:
            navigation.take_picture(number, picture)

    return take


def _forget(reference: ref[Navigation], *_: object) -> None:
    """Touch no widget any more once napari has deleted them."""
    if (navigation := reference()) is not None:
        navigation.leave()
