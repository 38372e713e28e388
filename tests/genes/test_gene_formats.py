from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_matrix

from napari_gimp.errors import GeneError
from napari_gimp.genes.table import GeneTable, read_table

GENES = ("TP53", "EGFR", "VEGFA", "CA9", "MYC")
SAMPLES = ("P1", "P2", "P3")
VALUES = np.random.default_rng(0).gamma(2, 3, (3, 5)).round(3).astype(np.float32)
FRAME = pd.DataFrame(VALUES, index=list(SAMPLES), columns=list(GENES))


def write_h5ad(path: Path, x: object, feature_name: pd.Series | None = None) -> Path:
    """Write an h5ad file; given names, the genes are otherwise called a to e."""
    anndata = pytest.importorskip("anndata", reason="h5ad needs anndata")
    # anndata 0.12 cannot write the strings that pandas 3 keeps in pyarrow
    with pd.option_context("future.infer_string", False):
        genes = GENES if feature_name is None else feature_name.index
        table = anndata.AnnData(
            x,
            obs=pd.DataFrame(index=pd.Index(list(SAMPLES), dtype=object)),
            var=pd.DataFrame(index=pd.Index(list(genes), dtype=object)),
        )
        if feature_name is not None:
            table.var["feature_name"] = feature_name.to_numpy()
        table.layers["counts"] = VALUES
        table.write_h5ad(path)
    return path


def check(table: GeneTable) -> None:
    assert table.samples == SAMPLES
    assert table.genes == GENES
    np.testing.assert_array_equal(table.values, VALUES)


@pytest.mark.parametrize("genes_in_rows", [False, True])
@pytest.mark.parametrize("named", [False, True])
def test_parquet_tables_are_read(
    tmp_path: Path, genes_in_rows: bool, named: bool
) -> None:
    pytest.importorskip("pyarrow", reason="parquet needs pyarrow")
    frame = FRAME.T if genes_in_rows else FRAME
    path = tmp_path / "t.parquet"
    (frame.reset_index(names="name") if named else frame).to_parquet(path)

    check(read_table(path))


@pytest.mark.parametrize("sparse", [False, True])
def test_h5ad_tables_are_read(tmp_path: Path, sparse: bool) -> None:
    path = write_h5ad(tmp_path / "t.h5ad", csr_matrix(VALUES) if sparse else VALUES)

    check(read_table(path))


def test_the_symbols_of_an_h5ad_file_may_be_a_column(tmp_path: Path) -> None:
    names = pd.Series(GENES, index=list("abcde"), dtype="category")
    path = write_h5ad(tmp_path / "t.h5ad", VALUES, feature_name=names)

    found = read_table(path)

    check(found)
    assert any("feature_name" in note for note in found.notes)
    assert any("layers (counts)" in note for note in found.notes)


def test_an_h5ad_file_with_genes_as_observations_is_turned(tmp_path: Path) -> None:
    anndata = pytest.importorskip("anndata", reason="h5ad needs anndata")
    with pd.option_context("future.infer_string", False):
        obs = pd.DataFrame(index=pd.Index(list(GENES), dtype=object))
        var = pd.DataFrame(index=pd.Index(list(SAMPLES), dtype=object))
        anndata.AnnData(VALUES.T, obs=obs, var=var).write_h5ad(tmp_path / "t.h5ad")

    table = read_table(tmp_path / "t.h5ad")

    check(table)
    assert any("from the rows (obs)" in note for note in table.notes)


def test_an_h5ad_file_too_large_for_a_table_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("napari_gimp.genes.h5ad.LARGEST_BYTES", 59)
    path = write_h5ad(tmp_path / "t.h5ad", VALUES)

    with pytest.raises(GeneError, match="Sum the cells of each sample first"):
        read_table(path)


def test_an_h5ad_file_without_expression_is_refused(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "t.h5ad", None)

    with pytest.raises(GeneError, match="no X; put the expression"):
        read_table(path)


def test_gct_1_2_tables_are_read(tmp_path: Path) -> None:
    rows = FRAME.T.reset_index(names="Name")
    rows.insert(1, "Description", "na")
    text = rows.to_csv(sep="\t", index=False, lineterminator="\n")
    (tmp_path / "t.gct").write_text(f"#1.2\n5\t3\n{text}")

    check(read_table(tmp_path / "t.gct"))


def test_a_gct_table_without_its_sizes_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.gct").write_text("#1.2\nName\tA\nTP53\t1\n")

    with pytest.raises(GeneError, match=r"its sizes are 'Name.*not rows and columns"):
        read_table(tmp_path / "t.gct")


def test_gct_1_3_tables_are_read_without_what_they_say_of_samples(
    tmp_path: Path,
) -> None:
    lines = ["#1.3", "5\t3\t2\t1", "id\tpr_gene_symbol\tlength\t" + "\t".join(SAMPLES)]
    lines.append("tissue\tna\tna\tlung\tskin\tbrain")
    for k, gene in enumerate(GENES):
        numbers = "\t".join(map(str, VALUES[:, k].tolist()))
        lines.append(f"probe{k}\t{gene}\t12\t{numbers}")
    (tmp_path / "t.gct").write_text("\n".join(lines) + "\n")

    np.testing.assert_allclose(read_table(tmp_path / "t.gct").values, VALUES, rtol=1e-6)
    assert read_table(tmp_path / "t.gct").genes == GENES


def test_a_matrix_of_ucsc_xena_is_read(tmp_path: Path) -> None:
    text = FRAME.T.to_csv(sep="\t", index_label="sample", lineterminator="\n")
    path = tmp_path / "HiSeqV2.gz"
    path.write_bytes(gzip.compress(text.encode()))

    table = read_table(path)

    check(table)
    assert table.scale == "log2"


@pytest.mark.parametrize("name", ["entrez_id", "Entrez_Gene_Id", "GeneID"])
def test_entrez_numbers_in_rows_become_symbols(tmp_path: Path, name: str) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(f"{name}\tP1\tP2\n7157\t1.5\t2.5\n1956\t3.5\t4.5\n")

    table = read_table(path)

    assert (table.genes, table.samples) == (("TP53", "EGFR"), ("P1", "P2"))


def test_entrez_numbers_in_columns_become_symbols(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text("sample\t7157\t1956\nP1\t1.5\t2.5\nP2\t3.5\t4.5\n")

    assert read_table(path).genes == ("TP53", "EGFR")


def test_symbols_with_entrez_numbers_as_in_tcga_are_read(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(
        "gene_id\tP1\n?|100130426\t1.5\nTP53|7157\t2.5\nEGFR|1956\t3.5\nMYC|4609\t1\n"
    )

    assert read_table(path).genes == ("?|100130426", "TP53", "EGFR", "MYC")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("t.xlsx", "SEPT2 into dates"),
        ("t.pkl", "may run code when opened"),
        ("t.rds", "write it with write.table"),
        ("t.parquet", "cannot be read as a gene table"),
        ("t.h5ad", "cannot be read as an h5ad file"),
        ("t.gct", "is no text in UTF-8"),
        ("t.csv", "is no text in UTF-8"),
    ],
)
def test_a_file_of_another_kind_or_damaged_is_refused(
    tmp_path: Path, name: str, says: str
) -> None:
    for suffix, library in ((".parquet", "pyarrow"), (".h5ad", "anndata")):
        if name.endswith(suffix):
            pytest.importorskip(library, reason=f"{suffix} needs {library}")
    path = tmp_path / name
    path.write_bytes(b"#1.2\nfour\xff\x00 rows\n")

    with pytest.raises(GeneError, match=says) as caught:
        read_table(path)

    assert str(path) in str(caught.value)
