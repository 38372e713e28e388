"""A scripted tour of a slide in a real napari viewer: what blocks, what one sees when.

Fit, five zooms, eight jumps, sixty pan steps at full resolution, on a 1600 x 1000
canvas. Each way of showing the slide gets a fresh process: our progressive levels, the
same with 20 ms more for every tile (a slide on a network share), and, as a control,
napari's own handling of a Dask pyramid over tifffile's zarr store, which is what
plugins commonly give it. Run it on a screen, real or virtual:

    xvfb-run -a -s '-screen 0 1700x1100x24' python benchmarks/bench_tour.py

block
    Time between two beats of a 2 ms timer, less 2 ms: how long the main thread was
    deaf to the user. A bare frame is the block of drawing the same picture again.
ours, drawing
    Its share that is spent in this plugin (slicing and refreshing, with what napari
    does for it), and in napari's and vispy's drawing; the rest is Qt's. "cpu" is the
    processor time of it, which other work on the machine hardly lengthens.
first
    From moving the camera to the end of the first frame that shows the whole field.
open
    From asking for the slide to the end of the first frame with its pixels; "first"
    in a new viewer, where napari loads what it needs, which is the most of it.
sharp
    From moving the camera to the end of the first frame in true pixels.
blank
    Longest time that a frame was on the screen that did not cover the field.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tour_beats import BEAT_MS, Beats, watch_draws, watch_ours, watch_sharpness

CANVAS = 1600, 1000
LATENCY_S = 0.02
CASES = {
    "ours": "ours",
    "ours-slow": "ours, 20 ms more per tile",
    "ours-async": "ours, napari's async slicing",
    "dask": "Dask over tifffile's zarr store",
    "dask-async": "the same, async slicing",
    "dask-slow": "the same, 20 ms more per tile",
}
QUICK = "ours", "ours-slow", "dask"
Place = tuple[float, float, float]
"""Centre (y, x) in level-0 px, zoom in canvas px per level-0 px."""


class Tour:
    """A viewer with one slide, moved about and watched."""

    def __init__(self, viewer: Any, beats: Beats) -> None:
        from qtpy.QtCore import Qt, QTimer

        self.viewer, self.beats = viewer, beats
        self.camera = viewer.scene.camera
        self.is_sharp: Callable[[Any], bool] = lambda raw: True
        self.canvas = viewer.window._qt_viewer.canvas
        self.frame: tuple[bool, bool] | None = None
        self.frames: list[tuple[float, bool, bool]] = []
        self._draw = self.canvas._scene_canvas._draw_scene
        self.canvas._scene_canvas._draw_scene = self._drawing
        self.timer = QTimer()
        self.timer.setTimerType(Qt.TimerType.PreciseTimer)
        self.timer.timeout.connect(self._beat)
        self.timer.start(BEAT_MS)

    def _drawing(self, *args: Any) -> None:
        """Note what the frame shows that is being drawn; its end is the next beat."""
        self._draw(*args)
        if self.viewer.layers and not self.layer._slice.empty:
            covers = self._covers()
            self.frame = covers, covers and self.is_sharp(self.layer._slice.image.raw)

    @property
    def layer(self) -> Any:
        """The slide's layer."""
        return self.viewer.layers[0]

    def _beat(self) -> None:
        self.beats.beat()
        if self.frame is not None:
            self.frames.append((time.perf_counter(), *self.frame))
            self.frame = None

    def _covers(self) -> bool:
        """Whether the texture covers the slide's part of the field."""
        y0, x0, y1, x1 = self._field()
        shown = self.layer._slice
        scale, start = shown.tile_to_data.scale, shown.tile_to_data.translate
        stop = start + scale * np.array(shown.image.raw.shape[:2])
        slack = scale.max()
        return bool(
            start[0] <= y0 + slack
            and start[1] <= x0 + slack
            and stop[0] >= y1 - slack
            and stop[1] >= x1 - slack
        )

    def _field(self) -> tuple[float, float, float, float]:
        """Return y0, x0, y1, x1 of the slide's part of the canvas, level-0 px."""
        camera, scale = self.camera, np.asarray(self.layer.scale)
        half = np.array([CANVAS[1], CANVAS[0]]) / 2 / camera.zoom / scale
        middle = np.array(camera.center[-2:]) / scale
        sides = np.array(self.layer.data[0].shape[:2])
        low, high = np.clip([middle - half, middle + half], 0, sides)
        return (*low, *high)

    def go(self, place: Place) -> None:
        """Move the camera; the clock of this step starts now."""
        scale = self.layer.scale[0]
        self.frames.clear()
        self.camera.center = (place[0] * scale, place[1] * scale)
        self.camera.zoom = place[2] / scale

    def run(self, done: Callable[[], bool], at_most_s: float) -> None:
        """Let the viewer live until something is true."""
        from qtpy.QtCore import QEventLoop
        from qtpy.QtWidgets import QApplication

        end = time.perf_counter() + at_most_s
        while not done() and time.perf_counter() < end:
            QApplication.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)

    def visit(self, place: Place, at_most_s: float = 6.0) -> dict[str, float]:
        """Go somewhere and wait until it is sharp; times in ms."""
        start = time.perf_counter()
        self.go(place)
        self.run(lambda: any(sharp for _, _, sharp in self.frames), at_most_s)
        return {
            "first": _first_ms(self.frames, 1, start),
            "sharp": _first_ms(self.frames, 2, start),
            "blank": _blank_ms(self.frames),
        }

    def redraw(self, times: int = 15) -> list[float]:
        """Draw the same picture again; returns the blocks, ms.

        Nothing is sliced or uploaded: that is what a frame costs on this machine.
        """
        self.beats.forget()
        for _ in range(times):
            self.frames.clear()
            self.canvas.native.update()
            self.run(lambda: bool(self.frames), 2.0)
        return [gap for gap in self.beats.gaps if gap > 1]

    def pan(self, places: list[Place], every_s: float = 1 / 30) -> list[float]:
        """Drag along; returns the blank times, ms."""
        blanks = []
        for place in places:
            end = time.perf_counter() + every_s
            self.go(place)
            self.run(lambda end=end: time.perf_counter() >= end, 1.0)
            blanks.append(_blank_ms(self.frames))
        return blanks


def _first_ms(frames: list[tuple[float, bool, bool]], what: int, start: float) -> float:
    """Return when a frame first covered the field (1) or was sharp (2), ms."""
    return next(((f[0] - start) * 1e3 for f in frames if f[what]), float("nan"))


def _blank_ms(frames: list[tuple[float, bool, bool]]) -> float:
    """Return how long frames were on the screen that did not cover the field, ms."""
    shown = 0.0
    for this, following in itertools.pairwise(frames):
        if not this[1]:
            shown = max(shown, (following[0] - this[0]) * 1e3)
    return shown


def places_of(side: int) -> dict[str, list[Place]]:
    """Return the stops of the tour over a square slide of `side` px."""
    fit = CANVAS[1] / side * 0.95
    zooms = np.geomspace(fit, 1, 6)[1:]
    rng = np.random.default_rng(3)
    spots = rng.uniform(0.08, 0.92, (8, 2)) * side
    sizes = [1.0, 1.0, 0.3, 1.0, 0.1, 0.6, 1.0, 1.0]
    start = np.array([0.31, 0.27]) * side
    return {
        "fit": [(side / 2, side / 2, fit)],
        "zoom": [(0.47 * side, 0.55 * side, float(z)) for z in zooms],
        "jump": [(y, x, z) for (y, x), z in zip(spots, sizes, strict=True)],
        "pan": [(start[0] + 37.0 * i, start[1] + 61.0 * i, 1.0) for i in range(61)],
    }


def make_slow() -> None:
    """Add latency to every tile our reader decodes."""
    from napari_gimp.slide.tiff import TiffSource

    decode = TiffSource.decode_tile

    def slow(self: Any, level: int, row: int, col: int) -> Any:
        time.sleep(LATENCY_S)
        return decode(self, level, row, col)

    TiffSource.decode_tile = slow  # type: ignore[method-assign]


def open_ours(tour: Tour, path: Path) -> None:
    """Open the slide as a user does."""
    tour.is_sharp = watch_sharpness()
    tour.viewer.open(str(path), plugin="napari-gimp")


def open_dask(tour: Tour, path: Path, slow: bool) -> None:
    """Add the slide as plugins commonly do."""
    import dask.array as da
    import tifffile
    import zarr

    store = tifffile.imread(path, aszarr=True)
    group = zarr.open(store, mode="r")
    levels = [da.from_zarr(group[name]) for name in sorted(group.keys(), key=int)]
    if slow:
        levels = [level.map_blocks(_late, dtype=level.dtype) for level in levels]
    tour.viewer.add_image(levels, rgb=True, multiscale=True, contrast_limits=(0, 255))


def _late(block: Any) -> Any:
    time.sleep(LATENCY_S)
    return block


def tour_of(case: str, path: Path, side: int) -> dict[str, Any]:
    """Take the tour one way; return what was measured, ms."""
    import napari
    from napari.settings import get_settings

    get_settings().experimental.async_ = "async" in case
    beats = Beats()
    if case == "ours-slow":
        make_slow()
    if case.startswith("ours"):
        watch_ours(beats)
    viewer = napari.Viewer(show=True)
    for dock in ("dockLayerList", "dockLayerControls"):
        getattr(viewer.window._qt_viewer, dock).hide()
    viewer.window._qt_viewer.canvas.native.setFixedSize(*CANVAS)
    watch_draws(viewer, beats)
    tour = Tour(viewer, beats)
    tour.run(lambda: False, 1.5)
    found: dict[str, Any] = {"open": _opened(tour, case, path)}
    tour.run(lambda: False, 1.0)
    viewer.layers.clear()
    tour.run(lambda: False, 0.3)
    found["open again"] = _opened(tour, case, path)
    tour.run(lambda: False, 1.0)
    found["frame"] = tour.redraw()
    beats.forget()
    for name, places in places_of(side).items():
        if name != "pan":
            found[name] = [tour.visit(place) for place in places]
    found["blocks"] = _blocks(beats)
    tour.visit(places_of(side)["pan"][0])
    beats.forget()
    found["pan"] = tour.pan(places_of(side)["pan"][1:])
    found["pan blocks"] = _blocks(beats)
    tour.timer.stop()
    viewer.close()
    return found


def _blocks(beats: Beats) -> dict[str, list[float]]:
    kinds = {"all": beats.gaps, "ours": beats.ours, "cpu": beats.cpu}
    return {name: many[:] for name, many in (*kinds.items(), ("draw", beats.draws))}


def _opened(tour: Tour, case: str, path: Path) -> tuple[float, float]:
    """Open the slide; return time and processor time to its first pixels, ms."""
    start, cpu = time.perf_counter(), time.thread_time()
    tour.frames.clear()
    if case.startswith("ours"):
        open_ours(tour, path)
    else:
        open_dask(tour, path, "slow" in case)
    tour.run(lambda: bool(tour.frames), 10)
    end = tour.frames[0][0] if tour.frames else float("nan")
    return (end - start) * 1e3, (time.thread_time() - cpu) * 1e3


def summary_of(found: dict[str, Any]) -> dict[str, float]:
    """Return the numbers of the table, ms."""
    stops = [*found["fit"], *found["zoom"], *found["jump"]]
    both = {
        who: [*found["blocks"][who], *found["pan blocks"][who]]
        for who in ("all", "ours", "cpu", "draw")
    }
    busy = [gap for gap in both["all"] if gap > 1]
    return {
        "first open": found["open"][0],
        "open": found["open again"][0],
        "open, cpu": found["open again"][1],
        "first, median": float(np.nanmedian([s["first"] for s in stops])),
        "first, worst": float(np.max([s["first"] for s in stops])),
        "sharp, median": float(np.nanmedian([s["sharp"] for s in stops])),
        "sharp, worst": float(np.max([s["sharp"] for s in stops])),
        "blank, worst": max([*(s["blank"] for s in stops), *found["pan"]]),
        "bare frame, median": float(np.median(found["frame"] or [0])),
        "block, longest": max(both["all"]),
        "block, 95 %": float(np.percentile(busy or [0.0], 95)),
        "ours, longest": max(both["ours"]),
        "ours, 95 %": float(np.percentile([o for o in both["ours"] if o] or [0], 95)),
        "ours, cpu, longest": max(both["cpu"]),
        "ours, cpu, 95 %": float(
            np.percentile([o for o in both["cpu"] if o] or [0], 95)
        ),
        "drawing, longest": max(both["draw"]),
        "drawing, median": float(np.median([d for d in both["draw"] if d] or [0])),
        "pan block, 95 %": float(
            np.percentile([g for g in found["pan blocks"]["all"] if g > 1] or [0], 95)
        ),
    }


def in_own_process(case: str, side: int) -> dict[str, float]:
    """Take one tour in a fresh interpreter."""
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        command = [sys.executable, __file__, "--case", case, "--out", str(answer)]
        subprocess.run([*command, "--side", str(side)], check=True, timeout=200)
        return summary_of(json.loads(answer.read_text()))


def best_rows(cases: Sequence[str], side: int, rounds: int) -> dict[str, dict]:
    """Return each way's numbers from the round in which bare frames were fastest.

    Other work on the machine slows whoever's turn it is; the ways take turns, and a
    bare frame tells how much.
    """
    runs = [(case, in_own_process(case, side)) for _ in range(rounds) for case in cases]
    return {
        case: min(
            (row for name, row in runs if name == case),
            key=lambda row: row["bare frame, median"],
        )
        for case in cases
    }


def table_of(rows: dict[str, dict[str, float]]) -> str:
    """Return the report: ways from left to right, and our time against Dask's."""
    names = list(next(iter(rows.values())))
    compared = "ours" in rows and "dask" in rows
    head = f"{'ms':20}" + "".join(f"{case:>12}" for case in rows)
    lines = [head + "   ours/dask" * compared]
    for name in names:
        line = f"{name:20}" + "".join(f"{row[name]:12.0f}" for row in rows.values())
        if compared and rows["dask"][name]:
            line += f"{rows['ours'][name] / rows['dask'][name]:12.2f}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--side", type=int, default=40_000, help="px of the slide")
    parser.add_argument("--quick", action="store_true", help="fewer ways, 20,000 px")
    parser.add_argument("--rounds", type=int, default=1, help="best of so many")
    parser.add_argument("--case", choices=CASES, help="one way only, in this process")
    parser.add_argument("--out", type=Path, help="where to write what one way gave")
    args = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    from bench_tiles import slide_of

    side = 20_000 if args.quick else args.side
    path = slide_of(side)
    if args.case:
        found = tour_of(args.case, path, side)
        if args.out:
            args.out.write_text(json.dumps(found))
        else:
            print(table_of({args.case: summary_of(found)}))
        return
    cases = QUICK if args.quick else tuple(CASES)
    rows = best_rows(cases, side, args.rounds)
    print(f"{path.name}: fit, 5 zooms, 8 jumps, 60 pan steps, canvas {CANVAS}")
    print(table_of(rows))


if __name__ == "__main__":
    main()
