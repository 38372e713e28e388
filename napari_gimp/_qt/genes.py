"""The Genes dock: which genes moved the prediction, and which sets are active."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QSpinBox

from napari_gimp._qt.chart import Chart
from napari_gimp._qt.dark import darken
from napari_gimp._qt.parts import Dock, Notice, allow, quiet
from napari_gimp._qt.scene import scene_of
from napari_gimp._qt.signatures import SignatureRows
from napari_gimp.jobs import Job, read_job

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from napari_gimp.explain.result import GeneAttribution

NO_GENES = "No genes yet. Run an analysis with a gene table in the Analyse dock."


WIDTH_IN = 3.5
"""Width for which the chart is laid out, inches; a dock stretches it."""


class GenesDock(Dock):
    """Signed bars of the genes with the largest attribution; scores of gene sets.

    Parameters
    ----------
    napari_viewer
        The viewer, or napari's proxy of it.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.session = scene_of(napari_viewer).session
        self.order: Job[Figure] | None = None
        self._build()
        self.hear(self.session.events.attribution, self._draw)
        self.count.valueChanged.connect(self._draw)
        self._draw()

    def _build(self) -> None:
        form = self.section("Gene attribution")
        self.count = QSpinBox()
        self.count.setRange(5, 60)
        self.count.setValue(20)
        form.add("Genes shown", self.count)
        self.summary, self.hint = quiet(), Notice()
        self.chart = Chart()
        self.add(self.hint, self.chart, self.summary)
        self.signatures = SignatureRows(self.session, self)
        self.fill()

    def _draw(self) -> None:
        genes = self.session.attribution
        tip = "Those with the largest attribution, of either sign"
        allow(self.count, tip=tip, obstacle="" if genes else NO_GENES)
        self.hint.say("" if genes else NO_GENES)
        self.summary.setText(summary(genes) if genes else "")
        self.summary.setVisible(genes is not None)
        self.chart.clear()
        if genes is not None:
            self._order_chart(genes, self.count.value())

    def _order_chart(self, genes: GeneAttribution, count: int) -> None:
        """Have the figure made in the background; the newest order wins."""
        self.order = job = read_job(lambda: chart_of(genes, count))
        self.hear(job.event, partial(self._take_chart, job.number), thread="main")
        job.start()

    def _take_chart(self, number: int, figure: Figure) -> None:
        wanted = self.order is not None and self.order.number == number
        if wanted and self.session.attribution is not None:
            self.chart.show_figure(figure)


def chart_of(genes: GeneAttribution, count: int) -> Figure:
    """Return the chart in the width and the colours of a dock."""
    from matplotlib.ticker import MaxNLocator

    from napari_gimp.plots import gene_bars

    figure = gene_bars(genes, count, width=WIDTH_IN)
    bars, scores = figure.axes
    for axes, left, width in ((bars, 0.28, 0.42), (scores, 0.76, 0.21)):
        box = axes.get_position()
        axes.set_position((left, box.y0, width, box.height))
        axes.xaxis.set_major_locator(MaxNLocator(3))
        axes.title.set_fontsize(8.5)
    scores.set_xlabel("z-score\n○ not measured", fontsize=8)
    return darken(figure)


def summary(genes: GeneAttribution) -> str:
    """Return how many genes were measured and what is not accounted for."""
    present, count = int(genes.present.sum()), len(genes.genes)
    return (
        f"{present:,} of the model's {count:,} genes are in the table. Bars explain "
        f"the logit of “{genes.class_name}”; {genes.gap:.2g} of its change "
        "is not accounted for (completeness gap)."
    )
