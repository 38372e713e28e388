"""The Maps dock: which map is shown and how. Every change acts at once."""

from __future__ import annotations

from dataclasses import replace
from math import floor, log10
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox
from superqt import QLabeledDoubleRangeSlider, QLabeledSlider

from napari_gimp._qt.parts import Dock, Notice, allow, quiet
from napari_gimp._qt.scene import scene_of
from napari_gimp.layers import Scale, colormaps, value_range

SCALES: dict[str, Scale] = {"Percentile of patches": "percentile", "Raw value": "raw"}
NO_MAP = "There is no map yet. Run an analysis in the Analyse dock."


class MapsDock(Dock):
    """Choose a map, its colours, opacity, scale and threshold.

    Parameters
    ----------
    napari_viewer
        The viewer, or napari's proxy of it.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self._scene = scene_of(napari_viewer)
        self.session = self._scene.session
        self._build()
        self._listen()
        self._fill_maps()

    def _build(self) -> None:
        form = self.section("Map")
        self.map, self.colours, self.scale = QComboBox(), QComboBox(), QComboBox()
        self.scale.addItems(list(SCALES))
        self.opacity = QLabeledSlider(Qt.Orientation.Horizontal)
        self.opacity.setRange(0, 100)
        self.threshold = QLabeledDoubleRangeSlider(Qt.Orientation.Horizontal)
        self.threshold.setDecimals(0)
        self.threshold.setRange(0, 100)
        self.threshold.setValue((0, 100))
        for label, field in (
            ("Map", self.map),
            ("Scale", self.scale),
            ("Colours", self.colours),
            ("Opacity, %", self.opacity),
            ("Range shown", self.threshold),
        ):
            form.add(label, field)
        self.caption, self.hint = quiet(), Notice()
        self.add(self.caption, self.hint)
        self.fill()

    def _listen(self) -> None:
        events = self.session.events
        self.hear(events.maps, self._fill_maps)
        self.hear(events.shown, self._fill_choice)
        self.hear(events.display, self._show_opacity)
        self.map.activated.connect(self._choose_map)
        self.colours.textActivated.connect(self._choose_colours)
        self.scale.textActivated.connect(self._choose_scale)
        self.opacity.valueChanged.connect(self._choose_opacity)
        self.threshold.valueChanged.connect(self._choose_threshold)

    def _fill_maps(self) -> None:
        names = list(self.session.maps)
        if [self.map.itemData(i) for i in range(self.map.count())] != names:
            self.map.clear()
            for name, patch_map in self.session.maps.items():
                self.map.addItem(patch_map.title, name)
        self._fill_choice()

    def _fill_choice(self) -> None:
        shown = self.session.shown_map
        for field, tip in self._tips():
            allow(field, tip=tip, obstacle="" if shown else NO_MAP)
        self.hint.say("" if shown else NO_MAP)
        self.caption.setText(shown.caption if shown else "")
        self._show_opacity()
        if shown is not None:
            self.map.setCurrentIndex(self.map.findData(shown.name))
            self._fill_colours()
            self._fill_range()

    def _show_opacity(self) -> None:
        self.opacity.setValue(round(self.session.display.opacity * 100))

    def _tips(self) -> tuple[tuple[Any, str], ...]:
        return (
            (self.map, "Which map lies on the slide"),
            (self.scale, "Percentile: rank among this slide's patches, 0 to 100"),
            (self.colours, "All of them can be told apart with colour blindness"),
            (
                self.opacity,
                "How much of the tissue the map covers. H hides it, , and . change it",
            ),
            (self.threshold, "Patches outside this range are transparent"),
        )

    def _fill_colours(self) -> None:
        shown, display = self.session.shown_map, self.session.display
        assert shown is not None
        names = colormaps(shown)
        self.colours.clear()
        self.colours.addItems(names)
        self.colours.setCurrentText(display.colormap or names[0])

    def _fill_range(self) -> None:
        shown, display = self.session.shown_map, self.session.display
        assert shown is not None
        low, high = value_range(shown, display.scale)
        self.threshold.blockSignals(True)
        self.threshold.setDecimals(decimals(low, high))
        self.threshold.setRange(low, max(high, low + 1e-6))
        self.threshold.setValue(display.threshold or (low, high))
        self.threshold.blockSignals(False)

    def _choose_map(self, index: int) -> None:
        self.session.display = replace(
            self.session.display, threshold=None, colormap=None
        )
        self.session.shown = self.map.itemData(index)

    def _choose_colours(self, name: str) -> None:
        self._change(colormap=name)

    def _choose_scale(self, text: str) -> None:
        self._change(scale=SCALES[text], threshold=None)
        self._fill_choice()

    def _choose_opacity(self, percent: int) -> None:
        self._change(opacity=percent / 100)

    def _choose_threshold(self, values: tuple[float, float]) -> None:
        whole = (self.threshold.minimum(), self.threshold.maximum())
        self._change(threshold=None if tuple(values) == whole else tuple(values))

    def _change(self, **parts: Any) -> None:
        self.session.display = replace(self.session.display, **parts)


def decimals(low: float, high: float) -> int:
    """Return the digits after the point that tell about 1,000 values apart."""
    span = max(high - low, 1e-9)
    return int(min(9, max(0, 2 - floor(log10(span)))))
