"""Every shared gene table, gene set and gene list goes through, and they agree."""

from __future__ import annotations

import numpy as np
import pytest

from napari_gimp.genes.panel import Panel
from napari_gimp.genes.sets import hallmarks, read_gmt
from napari_gimp.genes.signatures import mean_z, ssgsea
from napari_gimp.genes.table import GeneTable, read_table

pytestmark = pytest.mark.real_data

COHORTS = {
    "glioma": "tcga_gbmlgg_dev.csv.gz",
    "kidney": "tcga_kirc_all_clean.csv.zip",
    "lung": "tcga_luad_all_clean.csv.zip",
}


@pytest.fixture(scope="module", params=COHORTS)
def cohort(request, shared_data) -> tuple[str, GeneTable]:
    return request.param, read_table(shared_data / "omics" / COHORTS[request.param])


def test_every_cohort_table_is_aligned_and_scored(cohort) -> None:
    name, table = cohort
    panel = Panel.fit(table.values, table.genes, scale="zscore")

    found = mean_z(table, panel, hallmarks())

    scored = np.isfinite(found.scores).all(axis=0)
    assert scored.sum() > 40, name
    # Against its own panel a cohort is 0 on average; clipping takes a little.
    assert np.abs(found.scores[:, scored].mean(axis=0)).max() < 0.05


def test_immune_lists_of_two_origins_agree_in_every_cohort(shared_data, cohort) -> None:
    import pandas as pd

    _, table = cohort
    lists = pd.read_csv(shared_data / "genesets" / "estimate_stromal_immune.csv")
    sets = {name: lists[name].dropna().tolist() for name in lists}
    sets["T_CELL"] = hallmarks()["HALLMARK_ALLOGRAFT_REJECTION"]
    panel = Panel.fit(table.values, table.genes, scale="zscore")

    scores = dict(zip(sets, mean_z(table, panel, sets).scores.T, strict=True))

    agree = np.corrcoef(scores["immune_signature"], scores["T_CELL"])[0, 1]
    assert agree > 0.6
    assert np.isfinite(scores["stromal_signature"]).all()


def test_gene_families_are_scored_beside_hallmarks(shared_data, cohort) -> None:
    import pandas as pd

    _, table = cohort
    families = pd.read_csv(shared_data / "genesets" / "signatures.csv")
    sets = {name: families[name].dropna().tolist() for name in families}

    found = ssgsea(table, sets)

    assert np.isfinite(found.scores).all()
    assert min(len(c.found) for c in found.coverage) > 20


def test_the_gene_by_hallmark_matrix_agrees_with_the_gene_sets(shared_data) -> None:
    import pandas as pd

    folder = shared_data / "genesets"
    matrix = pd.read_csv(folder / "hallmarks_comps.csv", index_col=0)
    sets = read_gmt(folder / "h.all.v7.0.symbols.gmt")

    named = {name: set(matrix.index[matrix[name] == 1]) for name in matrix}

    assert set(named) == set(sets)
    shared = sum(len(named[name] & set(sets[name])) for name in sets)
    assert shared > 0.9 * sum(map(len, named.values()))


def test_the_subspace_lists_find_their_genes_in_every_cohort(cohort) -> None:
    from gimp_models.gene_lists import default_gene_lists
    from gimp_models.subspace import SubspaceConfig

    _, table = cohort
    tumour, micro = default_gene_lists().indices(table.genes)

    config = SubspaceConfig.preset(
        "base",
        patch_features=192,
        genes=len(table.genes),
        classes=3,
        tumour_genes=tumour,
        micro_genes=micro,
    )

    assert len(config.tumour_genes) > 100
    assert len(config.micro_genes) > 100
    assert "EGFR" in {table.genes[k] for k in config.tumour_genes}
