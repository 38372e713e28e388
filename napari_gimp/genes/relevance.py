"""What of a table's reading concerns a model: the genes of its panel, no others."""

from __future__ import annotations

from dataclasses import replace

from napari_gimp.genes.identifiers import identifiers
from napari_gimp.genes.mapping import MappingReport, sentences
from napari_gimp.genes.panel import Panel, columns_of
from napari_gimp.genes.table import GeneTable


def notes_for(table: GeneTable, panel: Panel) -> tuple[str, ...]:
    """Return a table's notes without those on genes that a panel does not use."""
    return (*sentences(mapping_for(table, panel)), *table.reading)


def mapping_for(table: GeneTable, panel: Panel) -> MappingReport:
    """Return the part of a table's mapping report that concerns a panel.

    A name without a known gene is of no concern where the panel uses it as it is
    written, or lacks nothing. Cells without a number are left to `align`, which
    knows the sample.
    """
    report, known = table.mapping, identifiers()
    found = list(zip(panel.genes, columns_of(panel.genes, table.genes), strict=True))
    used = {table.genes[k] for _, k in found if k >= 0}
    lacking = {known.current(gene) for gene, k in found if k < 0}
    return replace(
        report,
        changes=tuple(change for change in report.changes if change.used in used),
        ambiguous=tuple(
            (name, genes)
            for name, genes in report.ambiguous
            if name not in used and lacking.intersection(genes)
        ),
        unmapped=tuple(n for n in report.unmapped if lacking and n not in used),
        duplicates=tuple(gene for gene in report.duplicates if gene in used),
        constant=tuple(gene for gene in report.constant if gene in used),
        unmeasured=tuple(gene for gene in report.unmeasured if gene in used),
        missing_values=0,
    )
