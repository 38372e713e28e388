"""What people meet with gene tables: each bad input, and the sentence it gets.

A table that cannot be used is refused; one that can be is read, and what was found
is told. Nothing is averaged, filled in or left out without a word.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import GeneError
from napari_gimp.genes.panel import Panel, align
from napari_gimp.genes.relevance import notes_for
from napari_gimp.genes.table import read_table

GENES = ("TP53", "EGFR", "VEGFA", "CA9", "MYC")
MICE = "gene,M1,M2\nTrp53,1.5,2\nEgfr,2.5,3\nVegfa,3.5,4\nMyc,1,2.5\n"
ENSEMBL_MICE = "gene\tM1\nENSMUSG00000059552\t1.5\nENSMUSG00000020122\t2.5\n"

REFUSED = {
    "wrong species": (
        MICE,
        "the gene table is of a mouse or another species: 3 of its genes are written "
        "like Egfr, Vegfa, Myc, while human symbols are in capitals. The models know "
        "human genes; give a human table, or replace the names by those of the human "
        "orthologs first",
    ),
    "wrong species by number": (
        ENSEMBL_MICE,
        "2 of its genes are written like ENSMUSG00000059552, ENSMUSG00000020122, while "
        "human Ensembl numbers start with ENSG",
    ),
    "decimal commas": (
        "sample\tTP53\tEGFR\nA\t1,5\t2,5\n",
        "the gene table has numbers with a comma, such as 1,5 in TP53; these may be "
        "decimals or thousands: export it with decimal points and nothing between "
        "thousands",
    ),
    "a word among the numbers of a gene": (
        "sample,TP53,EGFR\nA,1.5,2.5\nB,low,3.5\nC,4.5,2.5\n",
        "1 cell of TP53 in the gene table is no number (low); leave a cell without a "
        "value empty",
    ),
    "words among the numbers of a sample": (
        "gene,A,B\nTP53,1.5,2\nEGFR,<1,3\nVEGFA,2.5,1\nCA9,<1,3\nMYC,2.5,1\n",
        "2 cells of A in the gene table are no number (<1); leave a cell without a "
        "value empty",
    ),
    "no expression": (
        ",note\nA,good\n",
        "no column of the table holds expression; its columns are (unnamed), note; "
        "give one column (or row) of numbers per gene",
    ),
    "no number": (
        "sample,TP53,EGFR\nA,NA,NA\nB,NA,NA\n",
        "the gene table of 2 samples x 2 genes holds no number; export it again, with "
        "one number per cell",
    ),
    "nothing": ("", "cannot be read as a gene table (it holds nothing); give a csv"),
    "no samples": (
        "sample,TP53,EGFR\n",
        "cannot be read as a gene table (it holds only names of columns: sample, TP53, "
        "EGFR); give a csv, tsv, GCT, parquet or h5ad file with a header line",
    ),
    "no names above the columns": (
        "ENSG00000141510.18\t7\nENSG00000146648.3\t9\n",
        "has no names above its columns: its first line is ENSG00000141510.18, 7; put "
        "a line with the names of samples (or of genes, if they are in columns) first",
    ),
    "cells without a name": (
        "sample,TP53\nA,1,2,3\n",
        "has 2 column names but 4 columns; export the table again",
    ),
}

TOLD = {
    "transposed": (
        "gene,A,B\nTP53,1.5,2\nEGFR,2.5,3\nVEGFA,3.5,4\n",
        "genes were read from the rows of the table and samples from its columns: 3 of "
        "the rows' names and none of the columns' are genes'",
    ),
    "transposed, with Entrez numbers": (
        "GeneID,A,B\n7157,1.5,2\n1956,2.5,3\n",
        "genes were read from the rows of the table and samples from its columns: 2 of "
        "the rows' names and none of the columns' are genes'",
    ),
    "samples called like genes": (
        "sample,TP53,EGFR\nMET,1.5,2\nC2,2.5,3\n",
        "genes were read from the columns of the table and samples from its rows: 2 of "
        "the columns' names are genes', but 2 of the rows' too",
    ),
    "no known gene": (
        "sample,probe1,probe2\nA,1.5,2\nB,2.5,3\n",
        "no name in the table is that of a known gene, so its columns were taken for "
        "genes (probe1, probe2) and its rows for samples (A, B); if it is the other "
        "way round, turn the table",
    ),
    "Ensembl numbers": (
        "s,ENSG00000141510.18,ENSG00000146648\nA,1.5,2\n",
        "2 Ensembl or Entrez numbers were read as symbols (ENSG00000141510 as TP53, "
        "ENSG00000146648 as EGFR)",
    ),
    "one Ensembl number": (
        "s,ENSG00000141510,EGFR\nA,1.5,2\n",
        "1 Ensembl or Entrez number was read as a symbol (ENSG00000141510 as TP53)",
    ),
    "a gene twice": (
        "sample,TP53,EGFR,TP53\nA,1.5,2.5,100.5\n",
        "1 gene comes more than once (TP53); the first of each is used, nothing is "
        "averaged",
    ),
    "two names of a number": (
        "sample,ENSG00000141510.1,TP53,EGFR,EGFR\nA,1.5,2.5,100.5,3\n",
        "2 genes come more than once (TP53, EGFR); the first of each is used, nothing "
        "is averaged",
    ),
    "symbols turned into dates": (
        "sample,TP53,7-Sep,1-Mar\nA,1.5,2.5,1\n",
        "2 gene names were turned into dates by a spreadsheet; restored: 7-Sep as "
        "SEPTIN7; not: 1-Mar",
    ),
    "a symbol turned into a date": (
        "sample,TP53,7-Sep\nA,1.5,2.5\n",
        "1 gene name was turned into a date by a spreadsheet; restored: 7-Sep as "
        "SEPTIN7; not: none",
    ),
    "another case": (
        "sample,TP53,egfr\nA,1.5,2.5\n",
        "1 gene name was written in another case (egfr as EGFR)",
    ),
    "a name of two genes": (
        "sample,TP53,MLL2\nA,1.5,2.5\n",
        "1 gene name is that of several genes, left as written (MLL2 (KMT2B or KMT2D))",
    ),
    "no gene's name": (
        "sample,TP53,bogus\nA,1.5,2.5\n",
        "1 name is no gene's in identifiers.tsv.gz (bogus), left as written; HGNC's "
        "complete set knows more: save it and set NAPARI_GIMP_HGNC to its path",
    ),
    "missing values": (
        "sample,TP53,EGFR\nA,1.5,\nB,2.5,NA\nC,1,3\n",
        "2 cells hold no number and count as missing; nothing is filled in",
    ),
    "a gene without values": (
        "sample,TP53,EGFR\nA,1.5,\nB,2.5,\n",
        "1 gene has no value in any sample, which is taken as missing (EGFR)",
    ),
    "constant genes": (
        "sample,TP53,EGFR,MYC\nA,1.5,0,1\nB,2.5,0,1\nC,3.5,0,1\n",
        "2 genes have the same value in all samples (EGFR, MYC)",
    ),
    "columns that are no genes": (
        "sample,TP53,TP53_mut,age\nA,1.5,1,61\nB,2.5,0,50\n",
        "columns not used as genes: TP53_mut, age",
    ),
}


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_used_is_refused_with_its_reason(
    tmp_path: Path, name: str
) -> None:
    text, sentence = REFUSED[name]

    with pytest.raises(GeneError) as caught:
        read_table(write(tmp_path, text))

    assert sentence in str(caught.value)


@pytest.mark.parametrize("name", TOLD)
def test_what_was_found_in_a_table_is_told(tmp_path: Path, name: str) -> None:
    text, sentence = TOLD[name]

    assert sentence in read_table(write(tmp_path, text)).notes


def test_an_infinite_number_is_none_and_spoils_no_other(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "sample,TP53,EGFR,MYC\nA,inf,3,60\n"))
    panel = Panel(("TP53", "EGFR"), np.full(2, 15, "f4"), np.ones(2, "f4"))

    aligned = align(table.profile("A"), panel)

    assert "1 gene has no value in any sample, which is taken as missing (TP53)" in (
        table.notes
    )
    assert aligned.present.tolist() == [False, True]
    assert aligned.z[1] == pytest.approx(np.log2(3 / 63 * 1e6 + 1) - 15, abs=1e-5)


def test_text_in_another_encoding_is_said_so(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes("sample,TP53\nA,1.5\n".encode("utf-16"))

    with pytest.raises(GeneError, match=r"is no text in UTF-8; save it as csv or tsv"):
        read_table(path)


def test_the_rows_a_program_counted_are_no_gene(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "Unnamed: 0,TP53,EGFR\n0,1.5,2\n1,2.5,3\n"))

    assert table.genes == ("TP53", "EGFR")


def test_a_table_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    for name in ("absent.csv", "absent.parquet", "absent.h5ad"):
        with pytest.raises(GeneError, match=rf"there is no file .*{name}: check"):
            read_table(tmp_path / name)


def test_a_table_without_fault_says_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, "sample,TP53,EGFR\nA,1.5,2\nB,2.5,3\n")

    assert read_table(path).notes == ()


def test_a_turned_table_is_the_same_whatever_its_samples_are_called(
    tmp_path: Path,
) -> None:
    straight = read_table(write(tmp_path, "id,TP53,EGFR,MYC\nsample,1.5,2,3\n"))

    turned = read_table(write(tmp_path, ",sample\nTP53,1.5\nEGFR,2\nMYC,3\n"))

    assert turned.samples == straight.samples == ("sample",)
    assert turned.genes == straight.genes
    np.testing.assert_array_equal(turned.values, straight.values)


LOGGED = Panel(GENES, np.full(5, 8, np.float32), np.full(5, 2, np.float32))
SCORED = Panel(GENES, np.zeros(5, np.float32), np.ones(5, np.float32), "zscore")


def row(numbers: str) -> str:
    return f"sample,{','.join(GENES)}\nA,{numbers}\n"


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        (
            "10,0,40,12345,7",
            "the table holds counts (whole numbers from 0 to 12,345), converted to "
            "log2(CPM + 1) as the model was trained",
        ),
        (
            "10.5,0,400,12345,7",
            "the table holds TPM, FPKM or the like (numbers from 0 to 12,345, where "
            "logarithms stay below 30), converted to log2(x + 1) as the model was "
            "trained",
        ),
        (
            "1.5,2,3.25,2.5,2",
            "half of the genes lie more than 3.0 sd below the training mean: the "
            "table, read as log2 expression (numbers from 1.50 to 3.25, none above "
            "30), may be on another scale, such as a logarithm of another base or of "
            "raw counts",
        ),
    ],
    ids=["counts", "TPM", "a logarithm of another base"],
)
def test_numbers_on_another_scale_than_the_model_s_are_told(
    tmp_path: Path, numbers: str, sentence: str
) -> None:
    profile = read_table(write(tmp_path, row(numbers))).profile("A")

    assert sentence in align(profile, LOGGED).report.notes


def test_logarithms_for_a_model_of_logarithms_need_no_word(tmp_path: Path) -> None:
    profile = read_table(write(tmp_path, row("8.5,7,9.25,6.5,8"))).profile("A")

    assert align(profile, LOGGED).report.notes == ()


@pytest.mark.parametrize(
    ("numbers", "panel", "sentence"),
    [
        (
            "-1.5,0.5,1,-0.5,0.25",
            LOGGED,
            "the gene table holds z-scores of its own cohort (numbers from -1.50 to 1, "
            "centred on 0 with unit spread (mean -0.05, standard deviation 0.87)), "
            "which mean nothing to a model trained on log2 expression; give counts, "
            "TPM/FPKM or log2 values",
        ),
        (
            "10,0,40,12345,7",
            SCORED,
            "the gene table holds counts (whole numbers from 0 to 12,345), but the "
            "model was trained on z-scores of its cohort; give the same kind of "
            "z-scores",
        ),
        (
            "8.5,7,9.25,6.5,8",
            SCORED,
            "the gene table holds log2 expression (numbers from 6.50 to 9.25, none "
            "above 30), but the model was trained on z-scores of its cohort; give the "
            "same kind of z-scores",
        ),
    ],
    ids=["z-scores for logs", "counts for z-scores", "logs for z-scores"],
)
def test_a_scale_the_model_cannot_take_is_refused(
    tmp_path: Path, numbers: str, panel: Panel, sentence: str
) -> None:
    profile = read_table(write(tmp_path, row(numbers))).profile("A")

    with pytest.raises(GeneError) as caught:
        align(profile, panel)

    assert str(caught.value) == sentence


def test_a_table_of_other_genes_is_refused_by_name(tmp_path: Path) -> None:
    profile = read_table(write(tmp_path, "sample,CD4,CD8A\nA,1.5,2\n")).profile("A")

    with pytest.raises(GeneError) as caught:
        align(profile, LOGGED)

    assert str(caught.value) == (
        "none of the model's 5 genes (TP53, EGFR, VEGFA, ...) is in the table, whose "
        "genes are CD4, CD8A, ...; give a table with the same kind of gene names"
    )


def test_what_does_not_concern_the_model_is_not_told(tmp_path: Path) -> None:
    text = "sample,TP53,EGFR,VEGFA,CA9,MYC,MLL2,bogus,CD4,CD4\nA,8,9,8,7,6.5,1,2,3,4\n"
    table = read_table(write(tmp_path, text))

    assert len(table.notes) == 3
    assert notes_for(table, LOGGED) == ()


def test_what_concerns_the_model_is_told(tmp_path: Path) -> None:
    table = read_table(
        write(tmp_path, "sample,TP53,TP53,EGFR,MLL2,bogus\nA,8,9,8,7,6.5\n")
    )
    panel = Panel(("TP53", "EGFR", "KMT2D"), np.zeros(3, "f4"), np.ones(3, "f4"))

    told = " ".join(notes_for(table, panel))

    assert "TP53); the first of each" in told
    assert "KMT2B or KMT2D" in told
    assert "bogus" in told


def test_a_name_the_model_uses_as_it_is_written_is_not_told(tmp_path: Path) -> None:
    table = read_table(write(tmp_path, "sample,TP53,bogus\nA,8,9\n"))
    panel = Panel(("TP53", "bogus", "MYC"), np.zeros(3, "f4"), np.ones(3, "f4"))

    assert "bogus" in " ".join(table.notes)
    assert notes_for(table, panel) == ()
