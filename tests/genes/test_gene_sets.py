from __future__ import annotations

from pathlib import Path

import pytest

from napari_gimp.errors import GeneError
from napari_gimp.genes.sets import HALLMARKS, hallmarks, read_gmt


def test_the_fifty_hallmarks_are_shipped_with_their_notice() -> None:
    sets = hallmarks()

    assert len(sets) == 50
    assert all(name.startswith("HALLMARK_") for name in sets)
    assert "TFF1" in sets["HALLMARK_ESTROGEN_RESPONSE_LATE"]
    notice = HALLMARKS.with_name("NOTICE.md").read_text()
    assert "Creative Commons Attribution 4.0" in notice


@pytest.mark.real_data
def test_the_shipped_hallmarks_are_the_published_ones(shared_data: Path) -> None:
    published = read_gmt(shared_data / "genesets" / "h.all.v7.0.symbols.gmt")

    assert hallmarks() == published


def test_changing_what_is_returned_does_not_change_the_next_answer() -> None:
    hallmarks().clear()

    assert len(hallmarks()) == 50


def test_a_gene_repeated_in_a_set_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("A\t-\tTP53\tEGFR\tTP53\t\n\nB\t-\tMYC\n")

    assert read_gmt(path) == {"A": ("TP53", "EGFR"), "B": ("MYC",)}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no gene set"),
        ("A\t-\n", "line 1"),
        ("A\t-\tTP53\nA\t-\tMYC\n", "twice"),
    ],
)
def test_a_file_that_is_no_gmt_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text(text)

    with pytest.raises(GeneError, match=says):
        read_gmt(path)


def test_a_missing_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(GeneError, match=r"absent\.gmt"):
        read_gmt(tmp_path / "absent.gmt")
