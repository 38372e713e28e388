"""The Genes dock: which genes moved the prediction, as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QSpinBox

from napari_gimp._qt.chart import Chart
from napari_gimp._qt.parts import Dock, Notice, allow, quiet
from napari_gimp._qt.scene import scene_of

if TYPE_CHECKING:
    from napari_gimp.explain.result import GeneAttribution

NO_GENES = "No genes yet. Run an analysis with a gene table in the Analyse dock."


class GenesDock(Dock):
    """Signed bars of the genes with the largest attribution.

    Parameters
    ----------
    napari_viewer
        The viewer, or napari's proxy of it.
    """

    def __init__(self, napari_viewer: Any) -> None:
        super().__init__()
        self.session = scene_of(napari_viewer).session
        self._build()
        self.session.events.attribution.connect(self._draw)
        self.count.valueChanged.connect(self._draw)
        self._draw()

    def _build(self) -> None:
        form = self.section("Gene attribution")
        self.count = QSpinBox()
        self.count.setRange(5, 60)
        self.count.setValue(20)
        form.addRow("Genes shown", self.count)
        self.summary, self.hint = quiet(), Notice()
        self.chart = Chart()
        self.add(self.hint, self.chart, self.summary)
        self.fill()

    def _draw(self) -> None:
        genes = self.session.attribution
        tip = "Those with the largest attribution, of either sign"
        allow(self.count, tip=tip, obstacle="" if genes else NO_GENES)
        self.hint.say("" if genes else NO_GENES)
        self.summary.setText(summary(genes) if genes else "")
        self.chart.clear()
        if genes is not None:
            self._show_chart(genes)

    def _show_chart(self, genes: GeneAttribution) -> None:
        from napari_gimp.plots import gene_bars

        self.chart.show_figure(gene_bars(genes, self.count.value(), width=4.2))


def summary(genes: GeneAttribution) -> str:
    """Return how many genes were measured and what is not accounted for."""
    present, count = int(genes.present.sum()), len(genes.genes)
    return (
        f"{present:,} of the model's {count:,} genes are in the table. Bars explain "
        f"the logit of “{genes.class_name}”; {genes.gap:.2g} of its change "
        "is not accounted for (completeness gap)."
    )
