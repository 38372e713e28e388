"""What the Train dock draws and says, from a run's events. No Qt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from napari_gimp._qt.wording import duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from napari_gimp.training.events import Event

INK, PAPER = "#d0d4da", "#262930"
# Okabe-Ito, without the black
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00")


def curves(events: Sequence[Event]) -> dict[str, tuple[list[int], list[float]]]:
    """Return epochs and values by name: loss parts, and validation metrics."""
    found: dict[str, tuple[list[int], list[float]]] = {}
    for event in events:
        if event.kind != "epoch":
            continue
        losses = {f"train {name}": x for name, x in event.parts.items()}
        for name, number in (losses | _losses(event)).items():
            epochs, numbers = found.setdefault(name, ([], []))
            epochs.append(event.epoch)
            numbers.append(number)
    return found


def draw_curves(events: Sequence[Event]) -> Figure:
    """Return the loss curves as a figure for a dark dock."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2, 2.8), facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot(facecolor=PAPER)
    for (name, (epochs, values)), colour in zip(
        curves(events).items(), COLOURS, strict=False
    ):
        axes.plot(epochs, values, "o-", ms=3, lw=1.4, color=colour, label=name)
    axes.set_xlabel("epoch", color=INK)
    axes.set_ylabel("loss", color=INK)
    axes.tick_params(colors=INK)
    axes.spines[:].set_color(INK)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    return figure


def status(events: Sequence[Event], running: bool) -> str:
    """Return one sentence about the run."""
    if not events:
        return "Starting; the first slides are read…" if running else ""
    last = events[-1]
    if last.kind == "features":
        return f"Preparing slides: {last.step:,} of {last.total:,} patients."
    if last.kind == "epoch":
        return _epoch_line(events, running)
    text = "" if last.kind == "failed" else last.text  # told as an error instead
    return f"{last.kind.capitalize()} after {last.epoch} epochs. {text}".strip()


def _epoch_line(events: Sequence[Event], running: bool) -> str:
    last = events[-1]
    if not running:
        return (
            f"The process ended after epoch {last.epoch} without a word; its output "
            "is in log.txt of the run folder. Start it again with Resume."
        )
    metrics = " · ".join(
        f"{name} {x:.3g}" for name, x in last.metrics.items() if name != "seconds"
    )
    took = duration(last.metrics.get("seconds", 0))
    return f"Epoch {last.epoch} done in {took}. {metrics}"


def _losses(event: Event) -> dict[str, float]:
    return {f"val {k}": v for k, v in event.metrics.items() if "loss" in k}
