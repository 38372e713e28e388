"""Subspace's lists are what their head says: hallmark sets, united by side."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from gimp_models.gene_lists import default_gene_lists, read_gene_lists

from napari_gimp.genes.sets import hallmarks
from napari_gimp.genes.table import read_table


def head() -> dict[str, list[str]]:
    """Return what each side was made of, by the start of its line."""
    text = (files("gimp_models") / "gene_lists.csv").read_text(encoding="utf-8")
    lines = re.findall(r"^# (.*): (.*)$", text, flags=re.MULTILINE)
    return {about: made_of.split(", ") for about, made_of in lines}


def derived(side: str) -> set[str]:
    sets, sources = hallmarks(), head()
    genes = {g for name in sources[side] for g in sets[f"HALLMARK_{name}"]}
    lineage = next(v for k, v in sources.items() if "lineage" in k)
    return genes | set(lineage) if side == "tumour" else genes


def test_the_shipped_lists_follow_from_the_shipped_hallmarks() -> None:
    lists = default_gene_lists()

    assert set(lists.tumour) == derived("tumour")
    assert set(lists.micro) == derived("microenvironment")


def test_the_lists_name_their_origin_and_that_they_are_a_substitute() -> None:
    text = (files("gimp_models") / "gene_lists.csv").read_text(encoding="utf-8")

    assert "substitute" in text.splitlines()[0]
    assert "MSigDB v7.0" in text
    assert "CC BY 4.0" in text


@pytest.mark.parametrize("transposed", [False, True])
def test_a_user_s_own_list_finds_its_genes_in_a_table_by_name(
    tmp_path, transposed
) -> None:
    own, table = tmp_path / "own.csv", tmp_path / "genes.csv"
    own.write_text("# own-1\nsymbol,subspace\nEGFR,tumour\nCD4,microenvironment\n")
    rows = [["sample", "CD4", "TP53", "EGFR"], ["A", "1.5", "2.5", "3.5"]]
    rows.append(["B", "4.5", "5.5", "6.5"])
    written = zip(*rows, strict=True) if transposed else rows
    table.write_text("\n".join(",".join(row) for row in written) + "\n")

    genes = read_table(table).genes
    tumour, micro = read_gene_lists(own).indices(genes)

    assert [genes[k] for k in tumour] == ["EGFR"]
    assert [genes[k] for k in micro] == ["CD4"]
