from __future__ import annotations

import gzip
import zipfile
from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import GeneError
from napari_gimp.genes.sets import hallmarks
from napari_gimp.genes.table import GeneTable, read_table

SYMBOLS = hallmarks()["HALLMARK_HYPOXIA"][:12]


def write(path: Path, values: np.ndarray, *, genes_in_rows: bool, mark: str) -> Path:
    """Write samples S0, S1, ... with the genes of `SYMBOLS`."""
    samples = [f"S{k}" for k in range(len(values))]
    rows, cols = (SYMBOLS, samples) if genes_in_rows else (samples, SYMBOLS)
    cells = values.T if genes_in_rows else values
    lines = [mark.join(["name", *cols])]
    lines += [
        mark.join([n, *map(repr, r.tolist())]) for n, r in zip(rows, cells, strict=True)
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def expression(samples: int = 5) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.gamma(2, 200, (samples, len(SYMBOLS))).round(3)


@pytest.mark.parametrize("mark", [",", "\t"])
@pytest.mark.parametrize("genes_in_rows", [False, True])
def test_genes_are_found_in_rows_and_in_columns(
    tmp_path: Path, genes_in_rows: bool, mark: str
) -> None:
    values = expression()
    path = write(tmp_path / "t.csv", values, genes_in_rows=genes_in_rows, mark=mark)

    table = read_table(path)

    assert table.genes == SYMBOLS
    assert table.samples == ("S0", "S1", "S2", "S3", "S4")
    np.testing.assert_allclose(table.values, values, rtol=1e-6)
    assert table.values.dtype == np.float32


def test_compressed_tables_read_the_same(tmp_path: Path) -> None:
    plain = write(tmp_path / "t.tsv", expression(), genes_in_rows=False, mark="\t")
    with gzip.open(tmp_path / "t.tsv.gz", "wb") as file:
        file.write(plain.read_bytes())
    with zipfile.ZipFile(tmp_path / "t.tsv.zip", "w") as archive:
        archive.write(plain, "./t.tsv")
        archive.writestr("__MACOSX/._t.tsv", b"beside it on a Mac")

    tables = [read_table(tmp_path / f"t.tsv{end}") for end in ("", ".gz", ".zip")]

    for table in tables[1:]:
        assert table.genes == tables[0].genes
        np.testing.assert_array_equal(table.values, tables[0].values)


def test_a_table_as_r_writes_it_has_no_name_above_the_row_names(tmp_path: Path) -> None:
    path = tmp_path / "r.tsv"
    path.write_text("TP53\tEGFR\nS0\t1.5\t2.5\nS1\t40.25\t4.5\n")

    table = read_table(path)

    assert table.samples == ("S0", "S1")
    assert table.genes == ("TP53", "EGFR")


def test_blanks_separate_what_r_writes_unless_it_is_told_otherwise(
    tmp_path: Path,
) -> None:
    path = tmp_path / "r.txt"
    path.write_text('"TP53" "EGFR"\n"S 0" 1.5 2.5\n"S 1" 4.25 4.5\n')

    table = read_table(path)

    assert table.samples == ("S 0", "S 1")
    np.testing.assert_allclose(table.values, [[1.5, 2.5], [4.25, 4.5]])


def test_semicolons_bring_decimal_commas(tmp_path: Path) -> None:
    path = tmp_path / "de.csv"
    path.write_text("sample;TP53;EGFR\nS0;1,5;2,5\nS1;3,5;4,5\n")

    np.testing.assert_allclose(read_table(path).values, [[1.5, 2.5], [3.5, 4.5]])


def test_semicolons_may_come_with_decimal_points(tmp_path: Path) -> None:
    path = tmp_path / "mixed.csv"
    path.write_text("sample;TP53;EGFR\nS0;1.5;2.5\nS1;3.5;4.5\n")

    np.testing.assert_allclose(read_table(path).values, [[1.5, 2.5], [3.5, 4.5]])


def test_a_quoted_name_may_hold_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "quoted.csv"
    path.write_text('"sample","TP53","EGFR","note, free"\n"A",1.5,2.5,"ok, good"\n')

    assert read_table(path).genes == ("TP53", "EGFR")


@pytest.mark.parametrize("first", ["sample", ""])
@pytest.mark.parametrize("samples", [["C2"], ["C2", "C3"], ["MET"]])
def test_samples_called_like_genes_stay_samples(
    tmp_path: Path, samples: list[str], first: str
) -> None:
    path = tmp_path / "t.csv"
    unknown = [f"LOC{k}" for k in range(40)]
    lines = [",".join([first, *SYMBOLS, *unknown])]
    numbers = ",".join(f"{k}.5" for k in range(len(SYMBOLS) + len(unknown)))
    path.write_text("\n".join([*lines, *(f"{name},{numbers}" for name in samples)]))

    table = read_table(path)

    assert table.samples == tuple(samples)
    assert table.genes[: len(SYMBOLS)] == SYMBOLS


def test_sample_names_are_kept_as_written_without_blanks_around(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("patient,TP53,EGFR\n007,1.5,2.5\n 008 ,3.5,4.5\n1 0,3,4\n")

    assert read_table(path).samples == ("007", "008", "1 0")


def test_symbols_are_preferred_to_ensembl_numbers_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "gdc.tsv"
    rows = [f"ENSG{k:011d}.3\t{gene}\t{k}.5" for k, gene in enumerate(SYMBOLS)]
    rows += [f"ENSG{k:011d}.3\tAC{k}.1\t1.5" for k in range(100, 200)]
    path.write_text("\n".join(["gene_id\tgene_name\tP1", *rows]))

    assert read_table(path).genes[: len(SYMBOLS)] == SYMBOLS


def test_a_column_that_is_no_gene_does_not_decide_the_scale(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sample,follow up (days),TP53,EGFR\nA,4000,1.5,2\nB,3,7.5,8\n")

    assert read_table(path).scale == "log2"


def test_summary_rows_of_counting_programs_are_no_genes(tmp_path: Path) -> None:
    path = tmp_path / "star.tsv"
    path.write_text(
        "gene\tP1\nN_unmapped\t999999\nN_noFeature\t5\nTP53\t3\nEGFR\t4\n"
        "__not_aligned\t9\n"
    )

    assert read_table(path).genes == ("TP53", "EGFR")


def test_clinical_columns_and_other_kinds_of_data_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "case_id,age,TP53_rnaseq,EGFR_rnaseq,TP53_mut,EGFR_cnv\n"
        "A,61,1.5,-0.5,1,2\nB,50,0.5,0.25,0,0\n"
    )

    table = read_table(path)

    assert table.genes == ("TP53", "EGFR")
    assert any("TP53_mut" in note for note in table.notes)


def test_annotation_beside_genes_in_rows_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "cbio.txt"
    path.write_text(
        "Hugo_Symbol\tEntrez_Gene_Id\tP1\tP2\n"
        "TP53\t7157\t8.5\t7.25\nVEGFA\t7422\t3.5\t2.5\nCA9\t768\t1.5\t0.5\n"
    )

    table = read_table(path)

    assert table.samples == ("P1", "P2")
    assert table.genes == ("TP53", "VEGFA", "CA9")


def test_ensembl_versions_are_dropped_and_known_numbers_become_symbols(
    tmp_path: Path,
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("s,ENSG00000141510.18,ENSG99999999999.2\nA,1,2\n")

    table = read_table(path)

    assert table.genes == ("TP53", "ENSG99999999999")
    assert any("ENSG00000141510 as TP53" in note for note in table.notes)


def test_the_copy_on_y_of_a_gene_is_told_as_a_repeated_gene(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv"
    path.write_text(
        "gene\tA\nENSG00000002586.20\t7\nENSG00000002586.20_PAR_Y\t0\n"
        "ENSG00000141510.18\t9\n"
    )

    table = read_table(path)

    assert (table.genes, table.duplicates) == (("CD99", "TP53"), ("CD99",))
    np.testing.assert_array_equal(table.values, [[7, 9]])


def test_repeated_genes_are_told_and_never_averaged(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sample,TP53,EGFR,TP53\nA,1.5,2.5,100.5\nB,3.5,4.5,6.5\n")

    table = read_table(path)

    assert table.duplicates == ("TP53",)
    assert table.genes == ("TP53", "EGFR")
    np.testing.assert_array_equal(table.values[:, 0], np.float32([1.5, 3.5]))
    assert any("TP53" in note and "first" in note for note in table.notes)


def test_gene_names_a_spreadsheet_spoiled_are_told(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sample,TP53,2-Sep,1-Mar\nA,1.5,2.5,1\nB,3.5,4.5,2\n")

    assert any("2-Sep" in note for note in read_table(path).notes)


def test_a_profile_is_one_row() -> None:
    table = GeneTable(("A", "B"), ("G", "H"), np.float32([[1, 2], [3, 4]]), "log2")

    profile = table.profile("B")

    assert table.profile(" B ").sample == "B", "blanks around a name do not count"
    assert (profile.sample, profile.genes, profile.scale) == ("B", ("G", "H"), "log2")
    np.testing.assert_array_equal(profile.values, [3, 4])


def test_an_absent_sample_names_near_ones() -> None:
    names = ("TCGA-02-0047", "TCGA-02-0048", "X")
    table = GeneTable(names, ("G",), np.ones((3, 1), "f4"), "log2")

    with pytest.raises(GeneError, match="near: TCGA-02-0047"):
        table.profile("TCGA-02-0047-01Z")
    with pytest.raises(GeneError, match="it holds TCGA-02-0047"):
        table.profile("patient 9")


def test_a_repeated_sample_is_taken_only_if_its_rows_agree() -> None:
    values = np.float32([[1, np.nan], [1, np.nan], [2, 1], [3, 1]])
    table = GeneTable(("A", "A", "B", "B"), ("G", "H"), values, "log2")

    assert table.profile("A").values[0] == 1
    with pytest.raises(GeneError, match="2 rows with different values"):
        table.profile("B")


def test_a_pseudobulk_sums_counts_and_nothing_else() -> None:
    counts = GeneTable(("a", "b"), ("G", "H"), np.float32([[1, 2], [3, 4]]), "counts")
    logged = GeneTable(("a", "b"), ("G", "H"), np.float32([[1, 2], [3, 4]]), "log2")

    np.testing.assert_array_equal(counts.pseudobulk().values, [4, 6])
    with pytest.raises(GeneError, match="raw counts"):
        logged.pseudobulk()


def test_a_missing_file_and_a_broken_zip_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"no zip")

    for name in ("absent.csv", "bad.zip"):
        with pytest.raises(GeneError, match=name):
            read_table(tmp_path / name)


def test_a_wide_table_is_read_whole(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 999, (50, 20_000), dtype=np.int16)
    path = tmp_path / "wide.csv"
    header = ",".join(["sample", *(f"ENSG{k:011d}" for k in range(20_000))])
    rows = [f"P{i}," + ",".join(map(str, row)) for i, row in enumerate(values.tolist())]
    path.write_text("\n".join([header, *rows]))

    table = read_table(path)

    assert table.samples == tuple(f"P{i}" for i in range(50))
    np.testing.assert_array_equal(table.values, values)


@pytest.mark.real_data
def test_real_spot_counts_become_a_pseudobulk(shared_data: Path) -> None:
    table = read_table(shared_data / "st_her2st" / "cnts" / "C2.tsv.gz")

    assert table.scale == "counts"
    assert len(table.genes) > 15_000
    assert table.samples[0] == "10x21"
    assert table.pseudobulk().values.sum() == table.values.sum(dtype=np.float64)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "genes"),
    [
        ("tcga_gbmlgg_dev.csv.gz", 1544),
        ("tcga_kirc_all_clean.csv.zip", 1556),
        ("tcga_luad_all_clean.csv.zip", 1555),
    ],
)
def test_real_tcga_tables_give_z_scores_by_case(
    shared_data: Path, name: str, genes: int
) -> None:
    table = read_table(shared_data / "omics" / name)

    assert table.scale == "zscore"
    assert len(table.genes) == genes
    assert all(sample.startswith("TCGA-") for sample in table.samples)
    assert np.isfinite(table.profile(table.samples[0]).values).all()
