"""Gene groupings: what is read together."""

from __future__ import annotations

import pytest
import torch
from gimp_models.errors import ConfigError
from gimp_models.grouping import correlated, pathways
from hypothesis import given
from hypothesis import strategies as st

SYMBOLS = ["TP53", "ESR1", "PGR", "MKI67", "CD3E", "CD8A", "ACTB"]
SETS = {
    "ESTROGEN": ["ESR1", "PGR", "NOT_THERE"],
    "G2M": ["MKI67", "TP53"],
    "P53": ["TP53"],
    "ELSEWHERE": ["ABC"],
}


def test_pathways_hold_the_panels_genes_of_each_set():
    groups, names = pathways(SYMBOLS, SETS, size=2)
    assert names == ("ESTROGEN", "G2M", "P53", "other 1", "other 2")
    assert groups == ((1, 2), (0, 3), (0,), (4, 5), (6,))


def test_sets_of_other_symbols_are_refused():
    with pytest.raises(ConfigError, match="same gene symbols"):
        pathways(["ENSG0001"], SETS, size=2)


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99))
def test_correlated_groups_are_a_partition_into_equal_sizes(genes, size, seed):
    values = torch.randn(6, genes, generator=torch.Generator().manual_seed(seed))
    groups = correlated(values, size=size)
    assert sorted(g for group in groups for g in group) == list(range(genes))
    full = [len(group) for group in groups if len(group) == size]
    assert len(full) >= genes // size
    assert len(groups) == -(-genes // size)


def test_correlated_groups_find_planted_modules(rng):
    factors = torch.randn(60, 4, generator=rng)
    module = torch.arange(4).repeat(10)[torch.randperm(40, generator=rng)]
    values = factors[:, module] + 0.3 * torch.randn(60, 40, generator=rng)
    found = correlated(values, size=10)
    assert all(len({int(module[g]) for g in group}) == 1 for group in found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_finds_the_same_groups(rng):
    values = torch.randn(30, 25, generator=rng)
    assert correlated(values.cuda(), size=6) == correlated(values, size=6)
