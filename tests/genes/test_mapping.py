from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import GeneError
from napari_gimp.genes.identifiers import (
    Identifiers,
    identifiers,
    read_identifiers,
)
from napari_gimp.genes.mapping import MappingReport, map_names, sentences, with_values
from napari_gimp.genes.panel import Panel, align, columns_of
from napari_gimp.genes.table import Profile, read_table

HGNC = (
    "hgnc_id\tsymbol\tname\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\n"
    'HGNC:20\tAARS1\talanyl-tRNA\t"CMT2N|AlaRS"\tAARS\t16\tENSG00000090861\n'
    "HGNC:7\tA2M\talpha-2\t\t\t2\tENSG00000175899\n"
)


def test_a_file_of_hgnc_is_read_as_it_is_downloaded(tmp_path: Path) -> None:
    path = tmp_path / "hgnc_complete_set.txt"
    path.write_text(HGNC)

    known = read_identifiers(path)

    assert known.symbols == {"AARS1", "A2M"}
    assert known.current("AARS") == known.current("CMT2N") == "AARS1"
    assert known.current("ENSG00000175899") == "A2M"
    assert known.entrez["16"] == "AARS1"


def test_a_file_the_user_names_takes_the_place_of_the_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.txt"
    path.write_text(HGNC)
    monkeypatch.setenv("NAPARI_GIMP_HGNC", str(path))

    assert map_names(["ENSG00000175899"]).names == ("A2M",)


@pytest.mark.parametrize("text", [None, "gene\tid\nTP53\t1\n"])
def test_a_file_without_identifiers_is_refused(
    tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "wrong.txt"
    if text is not None:
        path.write_text(text)

    with pytest.raises(GeneError, match=r"wrong\.txt .*HGNC's complete set"):
        read_identifiers(path)


def test_the_shipped_identifiers_are_those_of_all_named_genes() -> None:
    known = identifiers()

    assert known.complete
    assert all(number.startswith("ENSG") for number in known.ensembl)
    assert set(known.entrez.values()) == known.symbols
    assert known.symbols.isdisjoint(known.ensembl)
    assert known.ensembl["ENSG00000012048"] == known.entrez["672"] == "BRCA1"


@pytest.mark.parametrize(
    ("written", "used", "why"),
    [
        ("ENSG00000141510", "TP53", "ensembl"),
        ("TP53|7157", "TP53", "entrez"),
        ("P53_LIKE|7157", "TP53", "entrez"),
        ("7-Sep", "SEPTIN7", "date"),
        ("Sep-07", "SEPTIN7", "date"),
        ("MAR-07", "MARCHF7", "date"),
        ("15-Sep", "SELENOF", "date"),
        ("2006-09-09", "SEPTIN9", "date"),
        ("2006-09-09 00:00:00", "SEPTIN9", "date"),
        ("tp53", "TP53", "case"),
    ],
)
def test_a_name_with_one_meaning_is_read_as_its_symbol(
    written: str, used: str, why: str
) -> None:
    naming = map_names([written, "EGFR"])

    assert naming.names == (used, "EGFR")
    (change,) = naming.report.changes
    assert (change.written, change.used, change.why) == (written, used, why)
    assert any(f"{written} as {used}" in note for note in sentences(naming.report))


def test_numbers_alone_are_entrez_and_unknown_ones_are_told() -> None:
    naming = map_names(["7157", "1956", "999999999"])

    assert naming.names == ("TP53", "EGFR", "999999999")
    assert naming.report.unmapped == ("999999999",)
    assert "HGNC's complete set" in " ".join(sentences(naming.report))


@pytest.mark.parametrize("written", ["1-Mar", "Mar-02", "2001-03-01", "1-Dec"])
def test_a_date_that_may_be_two_genes_is_left_and_told(written: str) -> None:
    naming = map_names([written, "TP53"])

    assert naming.names == (written, "TP53")
    ((name, genes),) = naming.report.ambiguous
    assert (name, len(genes)) == (written, 2)
    assert any(
        "turned into a date by a spreadsheet" in note
        for note in sentences(naming.report)
    )


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("SEPT1", "SEPTIN1", "previous"),
        ("MARCH1", "MARCHF1", "previous"),
        ("CTGF", "CCN2", "previous"),
        ("PDL1", "CD274", "alias"),
    ],
)
def test_an_earlier_symbol_stays_and_is_found_by_a_model_of_either(
    old: str, new: str, why: str
) -> None:
    naming = map_names([old, "TP53"])

    assert naming.names == (old, "TP53")
    (other,) = naming.report.other_names
    assert (other.used, other.why) == (new, why)
    assert columns_of((new, "EGFR", "TP53"), naming.names) == [0, -1, 1]
    assert columns_of((old,), (new, "TP53")) == [0]


def test_a_name_that_is_in_the_table_itself_is_preferred() -> None:
    assert columns_of(("SEPTIN1",), ("SEPT1", "SEPTIN1")) == [1]
    assert columns_of(("SEPTIN1", "SEPT1"), ("SEPT1",)) == [-1, 0]


def test_a_name_of_two_genes_matches_neither() -> None:
    naming = map_names(["MLL2", "TP53"])

    assert naming.report.ambiguous == (("MLL2", ("KMT2B", "KMT2D")),)
    assert columns_of(("KMT2D", "KMT2B"), naming.names) == [-1, -1]


def test_aligning_tells_what_was_found_under_another_name() -> None:
    panel = Panel(("CCN2", "TP53"), np.float32([1, 1]), np.float32([1, 2]))
    profile = Profile("S", ("TP53", "CTGF"), np.float32([5, 2]), "log2")

    aligned = align(profile, panel)

    np.testing.assert_array_equal(aligned.z, [1, 2])
    assert aligned.report.renamed == (("CCN2", "CTGF"),)
    assert any("CCN2 as CTGF" in note for note in aligned.report.notes)


def test_complete_identifiers_tell_names_that_are_no_genes() -> None:
    symbols = frozenset(f"G{k}" for k in range(20_000))
    known = Identifiers(symbols, {}, {}, {}, {}, "all.txt")

    report = map_names(["G1", "bogus", "AC004086.1"], known).report

    assert report.unmapped == ("bogus",), "a clone's name is that of a gene"


@pytest.mark.parametrize(
    "names",
    [
        ("Trp53", "Egfr", "Vegfa", "Car9", "Myc"),
        ("ENSMUSG00000059552", "ENSMUSG00000020122", "ENSG00000141510"),
    ],
)
def test_a_table_of_mice_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "mouse.tsv"
    rows = "".join(f"{name}\t1.5\t2.5\n" for name in names)
    path.write_text("gene\tM1\tM2\n" + rows)

    with pytest.raises(GeneError, match=r"mouse.*human orthologs first"):
        read_table(path)


def test_human_symbols_with_small_letters_are_no_mice() -> None:
    names = ["C10orf54", "C16orf45", "TP53", "EGFR", "VEGFA"]

    assert map_names(names).names == tuple(names)


def test_values_that_say_nothing_are_told_and_nothing_is_filled() -> None:
    values = np.float32([[1, np.nan, 7, 1], [2, np.nan, 7, np.nan], [3, np.nan, 7, 2]])

    report = with_values(MappingReport(4), ("A", "B", "C", "D"), values)

    assert report.constant == ("C",)
    assert report.unmeasured == ("B",)
    assert report.missing_values == 1
    told = " ".join(sentences(report))
    assert "1 cell holds no number" in told
    assert "nothing is filled in" in told
