"""The overview: the whole slide small in a corner, and where one is on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QImage, QMouseEvent, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QWidget

from napari_gimp._qt.field import Field
from napari_gimp._qt.overview_picture import LONGEST_PX
from napari_gimp._qt.viewed import RULE

if TYPE_CHECKING:
    from qtpy.QtGui import QPaintEvent, QResizeEvent, QWheelEvent

FRAME_PX = 3
"""Width of the frame around the picture, px."""
MOST_OF_CANVAS = 0.33
"""Most of a side of the canvas that the overview may take."""
SMALLEST_FIELD_PX = 7.0
"""Side of the rectangle at least, so that it is found at any magnification."""
FIELD = QColor("#ffd23f")
HALO = QColor(0, 0, 0, 200)
TINT, EDGE = (38, 132, 255, 36), (38, 132, 255, 190)
"""Red, green, blue, alpha of the viewed area and its edge: blue, as tissue is not."""
LINE = QColor(140, 140, 140)
"""Around the frame: tells it from white glass and from black around fluorescence."""
WAITING = QColor(128, 128, 128)
"""Where the picture will be."""
TIP = f"Click or drag to go there; Q hides the overview.\n{RULE}"


class Overview(QWidget):
    """Shows a slide, the field of view and the viewed area; a click moves.

    Parameters
    ----------
    canvas
        The widget in whose corner it lies.
    """

    moved = Signal(float, float)
    """The user asked for a place: shares (y, x) of the slide."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.field: Field | None = None
        self._picture, self._tint, self._ground = QPixmap(), QImage(), QPixmap()
        self._frame = QColor("black")
        self.setCursor(Qt.CursorShape.CrossCursor)
        self.setToolTip(TIP)
        self.hide()

    def fit(self, shape: tuple[int, int], canvas: tuple[int, int]) -> None:
        """Take the size for a slide's shape (rows, cols) on a canvas (h, w), px."""
        height, width = overview_size(shape, canvas)
        self.setFixedSize(width + 2 * FRAME_PX, height + 2 * FRAME_PX)

    def show_picture(self, picture: NDArray[np.uint8] | None) -> None:
        """Show a slide (h, w, 3), or None while there is no picture yet."""
        self._picture = QPixmap()
        if picture is not None:
            self._picture = QPixmap.fromImage(as_image(picture))
        self._paint_ground()

    def show_field(self, field: Field | None) -> None:
        """Draw the field of view; None for none, as in 3D."""
        if field != self.field:
            self.field = field
            self.update()

    def show_viewed(self, mask: NDArray[np.bool_]) -> None:
        """Tint the cells (rows, cols) of the slide that were viewed."""
        self._tint = as_image(tint_of(mask))
        self._paint_ground()

    def set_frame(self, colour: str) -> None:
        """Take the colour of the canvas for the frame."""
        self._frame = QColor(colour)
        self._paint_ground()

    @property
    def picture_rect(self) -> QRectF:
        """Where the picture lies in this widget."""
        inner = self.rect().adjusted(FRAME_PX, FRAME_PX, -FRAME_PX, -FRAME_PX)
        return QRectF(inner)

    def paintEvent(self, event: QPaintEvent | None) -> None:  # noqa: N802 # Qt's name
        """Draw what stays, and the field on it: at every move of the camera."""
        painter = QPainter(self)
        painter.drawPixmap(0, 0, self._ground)
        if self.field is not None:
            painter.setClipRect(self.picture_rect)
            _draw_field(painter, field_rect(self.field, self.picture_rect))
        painter.end()

    def resizeEvent(self, event: QResizeEvent | None) -> None:  # noqa: N802 # Qt's
        """Draw what stays anew."""
        self._paint_ground()

    def _paint_ground(self) -> None:
        """Draw what stays while the camera moves: frame, picture, tint."""
        ratio = self.devicePixelRatioF()
        self._ground = QPixmap(self.size() * ratio)
        self._ground.setDevicePixelRatio(ratio)
        painter, inside = QPainter(self._ground), self.picture_rect
        painter.fillRect(self.rect(), LINE)
        painter.fillRect(self.rect().adjusted(1, 1, -1, -1), self._frame)
        painter.fillRect(inside, WAITING)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        painter.drawPixmap(inside, self._picture, QRectF(self._picture.rect()))
        painter.drawImage(inside, self._tint)
        painter.end()
        self.update()

    def mousePressEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 # Qt's
        """Move to where it is clicked."""
        self._go(event)

    def mouseMoveEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 # Qt's
        """Follow a drag."""
        self._go(event)

    def mouseReleaseEvent(self, event: QMouseEvent | None) -> None:  # noqa: N802 # Qt's
        """Keep the click from the canvas below."""
        if event is not None:
            event.accept()

    def wheelEvent(self, event: QWheelEvent | None) -> None:  # noqa: N802 # Qt's name
        """Keep the wheel from the canvas below: it would zoom about another place."""
        if event is not None:
            event.accept()

    def _go(self, event: QMouseEvent | None) -> None:
        if event is None or not event.buttons() & Qt.MouseButton.LeftButton:
            return
        event.accept()
        self.moved.emit(*share_at(event.position(), self.picture_rect))


def overview_size(shape: tuple[int, int], canvas: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the picture, px, for a slide's shape (rows, cols)."""
    room = min(
        MOST_OF_CANVAS * side / of for side, of in zip(canvas, shape, strict=True)
    )
    scale = min(LONGEST_PX / max(shape), room)
    height, width = (max(1, round(side * scale)) for side in shape)
    return height, width


def share_at(point: QPointF, inside: QRectF) -> tuple[float, float]:
    """Return the share (y, x) of the slide under a point, 0 to 1."""
    y = (point.y() - inside.top()) / inside.height()
    x = (point.x() - inside.left()) / inside.width()
    return min(max(y, 0.0), 1.0), min(max(x, 0.0), 1.0)


def field_rect(field: Field, inside: QRectF) -> QRectF:
    """Return where a field is drawn; never too small to be seen."""
    height = max((field.y1 - field.y0) * inside.height(), SMALLEST_FIELD_PX)
    width = max((field.x1 - field.x0) * inside.width(), SMALLEST_FIELD_PX)
    y, x = field.center
    top = inside.top() + y * inside.height() - height / 2
    return QRectF(inside.left() + x * inside.width() - width / 2, top, width, height)


def tint_of(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return RGBA (rows, cols, 4): a light tint on a mask, stronger at its edge."""
    around = np.pad(mask, 1)
    inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
    tint = np.zeros((*mask.shape, 4), dtype=np.uint8)
    tint[mask] = TINT
    tint[mask & ~inner] = EDGE
    return tint


def as_image(pixels: NDArray[np.uint8]) -> QImage:
    """Return RGB or RGBA pixels (h, w, 3 or 4) as Qt's image."""
    height, width, channels = pixels.shape
    formats = {3: QImage.Format.Format_RGB888, 4: QImage.Format.Format_RGBA8888}
    tight = np.ascontiguousarray(pixels)
    stride = channels * width
    return QImage(tight.data, width, height, stride, formats[channels]).copy()


def _draw_field(painter: QPainter, rect: QRectF) -> None:
    """Draw a rectangle that stands out on white, on tissue and on black."""
    for colour, width in ((HALO, 4.0), (FIELD, 2.0)):
        pen = QPen(colour, width)
        pen.setJoinStyle(Qt.PenJoinStyle.MiterJoin)
        painter.setPen(pen)
        painter.drawRect(rect)
