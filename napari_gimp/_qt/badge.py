"""The magnification, written in a corner of the canvas."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

RGB = tuple[int, int, int]
OPAQUE = 190
"""Of 255: as napari's box under the scale bar."""
TIP = (
    "Magnification on this screen: 10 µm per screen pixel is 1×, 0.25 is 40×.\n"
    "Alt+1 … Alt+6 go to 1.25×, 2.5×, 5×, 10×, 20×, 40×; Alt+0 shows all."
)
TIP_PX = "The slide's µm/px is unknown, so there is no magnification to tell."
DIGITAL_TIP = "Digital zoom: a pixel of the scan covers more than one of the screen."


class Badge(QLabel):
    """One line on a box in the colours of the canvas, like napari's scale bar.

    Parameters
    ----------
    canvas
        The widget in whose corner it lies.
    """

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.hide()

    def say(self, text: str, *, known: bool) -> None:
        """Write a line; `known` tells whether the slide's um/px is."""
        if text != self.text():
            self.setText(text)
            self.adjustSize()
        tip = TIP if known else TIP_PX
        self.setToolTip(f"{tip}\n{DIGITAL_TIP}" if "digital" in text else tip)

    def set_colours(self, *, ground: RGB, text: str) -> None:
        """Take the colours of the canvas; the ground lets the slide shine through."""
        red, green, blue = ground
        self.setStyleSheet(
            f"Badge {{ background-color: rgba({red}, {green}, {blue}, {OPAQUE});"
            f" color: {text}; padding: 5px 9px; font-size: 11pt; }}"
        )
        self.adjustSize()
