"""Gene lists of Subspace by name, and the labels of glioma (spec subspace 1, 2)."""

from __future__ import annotations

import pytest
from gimp_models.errors import BatchError, ConfigError
from gimp_models.gene_lists import GeneLists, default_gene_lists, read_gene_lists
from gimp_models.glioma import diagnosis_label, grade_label
from gimp_models.subspace import TASKS, SubspaceConfig

LIST = "# mine-2\n# a comment\nsymbol,subspace\nEGFR,tumour\nCD4,microenvironment\n"


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "list.csv"
        path.write_text(text)
        return path

    return write


def test_a_gene_of_both_goes_to_both_branches(written):
    lists = read_gene_lists(written(LIST + "MYC,both\n"))
    assert lists == GeneLists("mine-2", ("EGFR", "MYC"), ("CD4", "MYC"))


def test_genes_are_found_by_name_whatever_their_order(written):
    lists = read_gene_lists(written(LIST + "MYC,both\nNONE,tumour\n"))
    for panel in (["MYC", "CD4", "A", "EGFR"], ["EGFR", "A", "CD4", "MYC"]):
        tumour, micro = lists.indices(panel)
        assert [panel[i] for i in tumour] == ["EGFR", "MYC"]
        assert [panel[i] for i in micro] == ["CD4", "MYC"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "its first line must be symbol,subspace"),
        ("gene,where\nA,tumour\n", "its first line must be symbol,subspace"),
        (LIST + "CD8A,stroma\n", "'CD8A,stroma'.*tumour, microenvironment, both"),
        (LIST + "CD8A\n", "it must be a symbol, a comma"),
        (LIST + "EGFR,both\n", "2 tumour genes, 1 of them distinct"),
        ("symbol,subspace\nA,tumour\n", "'list.csv' has 0 micro genes"),
    ],
)
def test_a_damaged_list_is_refused_with_what_would_be_right(written, text, message):
    with pytest.raises(ConfigError, match=message):
        read_gene_lists(written(text))


def test_a_missing_list_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.csv cannot be read"):
        read_gene_lists(tmp_path / "none.csv")


def test_a_panel_of_other_names_is_refused(written):
    lists = read_gene_lists(written(LIST))
    with pytest.raises(ConfigError, match="of the list 'mine-2' is among"):
        lists.indices(["ENSG00000146648"])


def test_the_shipped_list_makes_a_model_and_says_that_it_is_a_substitute():
    lists = default_gene_lists()
    assert lists.version.startswith("substitute")
    assert {"OLIG2", "MKI67", "EGFR"} <= set(lists.tumour)
    assert {"CD4", "COL1A1", "STAT1"} <= set(lists.micro)
    assert set(lists.tumour) & set(lists.micro)
    panel = sorted({*lists.tumour, *lists.micro})
    tumour, micro = lists.indices(panel)
    config = SubspaceConfig.preset(
        "base",
        patch_features=1024,
        genes=len(panel),
        classes=4,
        tumour_genes=tumour,
        micro_genes=micro,
    )
    assert len(config.tumour_genes) == len(lists.tumour)


@pytest.mark.parametrize(
    ("findings", "label"),
    [
        ((False, False, False, 2), "glioblastoma"),
        ((False, True, True, 4), "glioblastoma"),
        ((True, True, True, 4), "oligodendroglioma"),
        ((True, False, True, 2), "astrocytoma, grade 4"),
        ((True, False, False, 4), "astrocytoma, grade 4"),
        ((True, False, False, 3), "astrocytoma, grade 2 or 3"),
    ],
)
def test_diagnosis_follows_the_classification_of_2021(findings, label):
    names = ("idh_mutant", "codeleted", "cdkn2a_lost", "grade")
    found = diagnosis_label(**dict(zip(names, findings, strict=True)))
    assert TASKS["diagnosis"].classes[found] == label


def test_grades_are_classes_and_others_are_refused():
    assert [TASKS["grade"].classes[grade_label(g)] for g in (2, 3, 4)] == [
        *("G2", "G3", "G4")
    ]
    with pytest.raises(BatchError, match="grade is 1, it must be 2, 3 or 4"):
        grade_label(1)
