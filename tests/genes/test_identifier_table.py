"""The shipped identifiers are made from NCBI's and HGNC's tables."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from napari_gimp.genes.identifier_table import build_rows, write_rows
from napari_gimp.genes.identifiers import read_identifiers

NCBI = """#tax_id\tGeneID\tdbXrefs\tSymbol_from_nomenclature_authority
9606\t4735\tHGNC:HGNC:7729|Ensembl:ENSG00000168385\tSEPTIN2
9606\t672\tMIM:113705|HGNC:HGNC:1100|Ensembl:ENSG00000012048\tBRCA1
9606\t9\tHGNC:HGNC:99\tNEW1
9606\t10\tMIM:1\t-
"""
HGNC = """hgnc_id\tsymbol\talias_symbol\tprev_symbol
HGNC:7729\tSEPT2\thNedd5|SEPTIN2\tDIFF6|NEDD5
HGNC:1100\tBRCA1\tRNF53\t
HGNC:5\tGONE1\t\t
"""


@pytest.fixture
def made(tmp_path: Path) -> Path:
    (tmp_path / "ncbi.gz").write_bytes(gzip.compress(NCBI.encode()))
    (tmp_path / "hgnc.txt").write_text(HGNC)
    out = tmp_path / "identifiers.tsv.gz"
    write_rows(build_rows(tmp_path / "ncbi.gz", tmp_path / "hgnc.txt"), out)
    return out


def test_a_symbol_that_changed_since_is_an_earlier_one(made: Path) -> None:
    known = read_identifiers(made)
    assert known.candidates("SEPT2") == ("SEPTIN2",)
    assert known.candidates("NEDD5") == ("SEPTIN2",)
    assert "SEPTIN2" not in known.aliases


def test_genes_are_those_with_an_official_symbol_today(made: Path) -> None:
    known = read_identifiers(made)
    assert known.symbols == {"BRCA1", "NEW1", "SEPTIN2"}
    assert known.ensembl == {
        "ENSG00000012048": "BRCA1",
        "ENSG00000168385": "SEPTIN2",
    }
    assert known.entrez["9"] == "NEW1"


def test_equal_rows_give_equal_bytes(made: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.tsv.gz"
    write_rows(build_rows(tmp_path / "ncbi.gz", tmp_path / "hgnc.txt"), again)
    assert again.read_bytes() == made.read_bytes()
