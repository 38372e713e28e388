"""STAR files as GDC gives them: one per sample, in folders of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import GeneError
from napari_gimp.genes.table import read_table

GENES = ("TP53", "EGFR", "VEGFA", "CA9", "MYC")
COUNTS = np.random.default_rng(0).integers(0, 999, (3, 5))
ENDING = ".rna_seq.augmented_star_gene_counts.tsv"
HEADER = (
    *("gene_id", "gene_name", "gene_type", "unstranded", "stranded_first"),
    *("stranded_second", "tpm_unstranded", "fpkm_unstranded", "fpkm_uq_unstranded"),
)
SUMMARY = ("N_unmapped", "N_multimapping", "N_noFeature", "N_ambiguous")


def write_star(path: Path, counts: np.ndarray, genes: tuple[str, ...] = GENES) -> Path:
    lines = ["# gene-model: GENCODE v36", "\t".join(HEADER)]
    lines += [f"{name}\t\t\t999999\t99\t99\t\t\t" for name in SUMMARY]
    lines += [
        f"ENSG0000000000{k}.15\t{gene}\tprotein_coding\t{count}\t5\t5\t1.5\t2.5\t3"
        for k, (gene, count) in enumerate(zip(genes, counts, strict=True))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """A download of three files, with what GDC's client puts beside them."""
    for k, counts in enumerate(COUNTS):
        write_star(tmp_path / f"folder{k}" / f"file{k}{ENDING}", counts)
        (tmp_path / f"folder{k}" / "annotations.txt").write_text("id\n")
    (tmp_path / "clinical.tsv").write_text("case_id\tage\nA\t61\n")
    (tmp_path / "MANIFEST.txt").write_text("id\tfilename\n")
    return tmp_path


def write_sample_sheet(folder: Path, samples: list[str]) -> None:
    rows = [f"u{k}\tfile{k}{ENDING}\t{name}" for k, name in enumerate(samples)]
    text = "\n".join(["File ID\tFile Name\tSample ID", *rows])
    (folder / "gdc_sample_sheet.2024-01-01.tsv").write_text(text + "\n")


def test_one_file_gives_its_counts_without_its_summary(tmp_path: Path) -> None:
    table = read_table(write_star(tmp_path / f"0a1b{ENDING}", COUNTS[0]))

    assert (table.samples, table.genes, table.scale) == (("0a1b",), GENES, "counts")
    np.testing.assert_array_equal(table.values, COUNTS[:1])
    assert any("unstranded counts are used" in note for note in table.notes)


def test_a_download_is_one_table_by_its_sample_sheet(download: Path) -> None:
    write_sample_sheet(download, ["TCGA-A", "TCGA-B", "TCGA-C"])

    table = read_table(download)

    assert table.samples == ("TCGA-A", "TCGA-B", "TCGA-C")
    assert (table.genes, table.scale) == (GENES, "counts")
    np.testing.assert_array_equal(table.values, COUNTS)
    assert not any("sample sheet" in note for note in table.notes)


def test_without_a_sample_sheet_files_give_their_names(download: Path) -> None:
    table = read_table(download)

    assert table.samples == ("file0", "file1", "file2")
    assert any(
        note.startswith("3 samples are called by their files (file0, file1")
        for note in table.notes
    )


def test_a_file_that_the_sample_sheet_lacks_keeps_its_name(download: Path) -> None:
    write_sample_sheet(download, ["TCGA-A", "TCGA-B"])

    table = read_table(download)

    assert table.samples == ("TCGA-A", "TCGA-B", "file2")
    assert any(
        n.startswith("1 sample is called by its file (file2)") for n in table.notes
    )


def test_two_files_of_one_sample_stay_two(download: Path) -> None:
    write_sample_sheet(download, ["TCGA-A", "TCGA-A", "TCGA-C"])

    table = read_table(download)

    assert table.samples == ("TCGA-A", "TCGA-A", "TCGA-C")
    with pytest.raises(GeneError, match="2 rows with different values"):
        table.profile("TCGA-A")


def test_a_list_of_files_is_one_table(download: Path) -> None:
    files = [download / f"folder{k}" / f"file{k}{ENDING}" for k in (2, 0)]

    table = read_table(files)

    assert table.samples == ("file2", "file0")
    np.testing.assert_array_equal(table.values, COUNTS[[2, 0]])


def test_files_of_another_release_are_refused(download: Path) -> None:
    write_star(download / "x" / f"other{ENDING}", COUNTS[0, :4], GENES[:4])

    with pytest.raises(GeneError, match=r"other.*has other genes than .*file0"):
        read_table(download)


def test_a_list_with_another_table_is_refused(download: Path) -> None:
    star = download / "folder0" / f"file0{ENDING}"

    with pytest.raises(GeneError, match=r"clinical\.tsv is no STAR file of GDC"):
        read_table([star, download / "clinical.tsv"])


def test_a_damaged_file_is_named(download: Path) -> None:
    path = download / "folder1" / f"file1{ENDING}"
    path.write_text(path.read_text()[:-30] + "\t1\t2\t3\t4\t5\t6\t7\n")

    with pytest.raises(GeneError, match=path.name):
        read_table(download)


def test_a_folder_without_star_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "note.tsv").write_bytes(b"\xff\x00")

    with pytest.raises(GeneError, match=r"holds no STAR file of GDC .* or one gene"):
        read_table(tmp_path)
