"""What people really meet with gene tables, through the command line.

What cannot be meant is refused before a pixel is read; what can be is used and told,
once, in a warning. `genes/test_bad_tables.py` has every sentence of the reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_gimp.cli import main
from napari_gimp.genes.identifiers import identifiers
from napari_gimp.sample_data import sample_genes

Change = Callable[[pd.DataFrame], pd.DataFrame]
PATIENT = "P1"


@pytest.fixture(scope="module")
def expression() -> pd.DataFrame:
    """Three patients, log2, of the genes that the shipped model knows."""
    table = pd.read_csv(sample_genes(), index_col=0)
    three = pd.concat([table, table + 0.5, table + 1.0])
    return three.set_axis(pd.Index([PATIENT, "P2", "P3"], name="sample"))


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four patches of tissue at 1 um/px."""
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    rng = np.random.default_rng(0)
    pixels = rng.normal((170, 100, 170), 25, (256, 256, 3)).clip(0, 255)
    per_cm = {"resolution": (10000, 10000), "resolutionunit": "CENTIMETER"}
    how = {"photometric": "rgb", "tile": (256, 256), **per_cm}
    tifffile.imwrite(path, pixels.astype(np.uint8), **how)
    return path


@pytest.fixture
def run(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run the shipped model with a table; return exit code and stderr."""

    def command(table: Path, *more: str) -> tuple[int, str]:
        words = ["run", str(slide), "--genes", str(table), "--out", str(tmp_path / "o")]
        code = main([*words, *(more or ("--sample", PATIENT))])
        return code, capsys.readouterr().err

    return command


def to_counts(table: pd.DataFrame) -> pd.DataFrame:
    return (2**table - 1).round().astype(int)


def to_z_scores(table: pd.DataFrame) -> pd.DataFrame:
    return (table - table.mean()) / table.std()


def as_mouse(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(columns=str.capitalize)


def as_ensembl(table: pd.DataFrame) -> pd.DataFrame:
    known = {symbol: number for number, symbol in identifiers().ensembl.items()}
    return table.rename(columns=lambda name: f"{known.get(name, name)}.7")


def with_a_gene_twice(table: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([table, table[["TP53"]] + 1], axis=1)


def with_a_word(table: pd.DataFrame) -> pd.DataFrame:
    changed = table.astype(object)
    changed.iloc[0, 5] = "high"
    return changed


def with_a_patient_twice(table: pd.DataFrame) -> pd.DataFrame:
    return table.rename(index={"P2": PATIENT})


def few(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[:, :1400]


def of_other_genes(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[:, :50].set_axis([f"PROBE{k}" for k in range(50)], axis=1)


REFUSED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "wrong species": (
        as_mouse,
        ("is of a mouse or another species", "Aaas, Abat", "human orthologs first"),
    ),
    "z-scores for a model of log2": (
        to_z_scores,
        ("z-scores", "trained on log2", "give counts, TPM/FPKM or log2 values"),
    ),
    "under 80 % of the panel": (
        few,
        (r"1,400 of the model's 2,000 genes \(70 %\)", "--allow-missing"),
    ),
    "no gene of the panel": (
        of_other_genes,
        (r"none of the model's 2,?000 genes \(A2M", "PROBE0, PROBE1", "same kind of"),
    ),
    "a word for a number": (with_a_word, (r"1 cell of \w+ .* is no number \(high\)",)),
    "a patient twice": (with_a_patient_twice, ("P1 has 2 rows with different values",)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_table_that_cannot_be_meant_is_refused_before_anything_runs(
    name: str, run, expression: pd.DataFrame, tmp_path: Path
) -> None:
    change, patterns = REFUSED[name]
    change(expression).to_csv(tmp_path / "genes.csv")

    code, said = run(tmp_path / "genes.csv")

    assert code == 2, said
    assert "Traceback" not in said
    for pattern in patterns:
        assert re.search(pattern, said), f"{pattern!r} is not in: {said}"
    assert not (tmp_path / "o").exists()


FILES: dict[str, tuple[str, bytes, str]] = {
    "nothing": ("genes.csv", b"", r"genes\.csv cannot be read as a gene table"),
    "no sample": ("genes.csv", b"sample,TP53,EGFR\n", "only names of columns"),
    "no text": ("genes.csv", bytes(range(256)), r"genes\.csv is no text in UTF-8"),
    "a spreadsheet": ("genes.xlsx", b"PK\3\4" + bytes(50), "turns gene names .* dates"),
    "a pickle": ("genes.pkl", b"\x80\x04", "may run code when opened"),
    "no h5ad": ("genes.h5ad", b"text", r"genes\.h5ad"),
    "no parquet": ("genes.parquet", b"text", r"genes\.parquet"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_no_table_is_refused(name: str, run, tmp_path: Path) -> None:
    path, content, pattern = FILES[name]
    (tmp_path / path).write_bytes(content)

    code, said = run(tmp_path / path)

    assert code == 2, said
    assert re.search(pattern, said), said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--sample", "P4"), "no sample 'P4' among 3; it holds P1, P2, P3"),
        (("--pseudobulk",), "a pseudobulk is a sum of counts"),
    ],
)
def test_a_patient_who_is_not_there_is_told_with_who_is(
    words: tuple[str, ...], said: str, run, expression: pd.DataFrame, tmp_path: Path
) -> None:
    expression.to_csv(tmp_path / "genes.csv")

    code, text = run(tmp_path / "genes.csv", *words)

    assert code == 2
    assert said in text


def test_a_table_that_is_not_there_is_said(run, tmp_path: Path) -> None:
    code, said = run(tmp_path / "absent.csv")

    assert code == 2
    assert re.search(r"there is no file .*absent\.csv", said), said


TOLD: dict[str, tuple[Change, str, float]] = {
    "transposed": (
        lambda table: table.T,
        "Genes were read from the rows of the table",
        0,
    ),
    "Ensembl numbers": (as_ensembl, r"1,9\d\d .*numbers were read as symbols", 0.02),
    "a gene twice": (
        with_a_gene_twice,
        r"1 gene comes more than once \(TP53\); the first of each is used, nothing is",
        0,
    ),
    "counts": (to_counts, r"The table holds counts .* converted to log2", 1),
}
"""The last is how far probabilities may move: a few genes have no Ensembl number, and
counts in millions are not what they were before."""


@pytest.fixture(scope="module")
def usual(
    slide: Path, expression: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, float]:
    """What the table as it is gives."""
    folder = tmp_path_factory.mktemp("usual")
    expression.to_csv(folder / "genes.csv")
    words = (
        "--genes",
        folder / "genes.csv",
        "--sample",
        PATIENT,
        "--out",
        folder / "o",
    )
    assert main(["run", str(slide), *map(str, words)]) == 0
    return probabilities(folder / "o")


def probabilities(result: Path) -> dict[str, float]:
    return json.loads((result / "result.json").read_text())["probabilities"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TOLD)
def test_a_table_that_can_be_meant_is_used_and_told(
    name: str, run, expression: pd.DataFrame, usual: dict[str, float], tmp_path: Path
) -> None:
    change, pattern, moved = TOLD[name]
    change(expression).to_csv(tmp_path / "genes.csv")

    code, said = run(tmp_path / "genes.csv")

    warnings = json.loads((tmp_path / "o" / "result.json").read_text())["warnings"]
    assert code == 0, said
    assert len(re.findall(pattern, said)) == 1, said
    assert any(re.search(pattern, warning) for warning in warnings)
    assert probabilities(tmp_path / "o") == pytest.approx(usual, abs=moved + 1e-6)


@pytest.mark.slow
def test_a_table_of_few_genes_is_used_where_it_was_asked_for(
    run, expression: pd.DataFrame, tmp_path: Path
) -> None:
    few(expression).to_csv(tmp_path / "genes.csv")

    code, said = run(tmp_path / "genes.csv", "--sample", PATIENT, "--allow-missing")

    assert code == 0, said
    assert "Only 1,400 of the model's 2,000 genes are in the table" in said
