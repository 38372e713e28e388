"""What napari's reader takes: slides by name, folders and DICOM by a first look."""

from __future__ import annotations

from pathlib import Path

import npe2
import numpy as np
import pytest

from dicom_files import write_dicom
from napari_gimp.reader import FILES_TRIED, get_reader
from zarr_files import write_ome_zarr


@pytest.fixture
def dicom(tmp_path: Path) -> Path:
    """A folder with a DICOM slide."""
    picture = np.full((256, 256, 3), 200, np.uint8)
    return write_dicom(tmp_path / "dicom", [picture])


@pytest.mark.parametrize(
    "name",
    [
        "a.svs",
        "b.NDPI",
        "c.ome.tif",
        "d.czi",
        "e.mrxs",
        "f.jpeg",
        "absent/g.tiff",
        "h.ZARR.zip",
    ],
)
def test_a_slides_name_is_enough(name: str) -> None:
    assert get_reader(name) is not None
    assert get_reader([name, "other.svs"]) is not None


@pytest.mark.parametrize("name", ["a.txt", "b.csv", "c", "d.npy", "e.zip", ""])
def test_other_names_are_left_to_other_readers(name: str) -> None:
    assert get_reader(name) is None
    assert get_reader(["a.svs", name]) is None


def test_nothing_is_no_slide() -> None:
    assert get_reader([]) is None


def test_a_dicom_slide_is_taken_as_folder_and_as_file(dicom: Path) -> None:
    assert get_reader(str(dicom)) is not None
    files = sorted(dicom.iterdir())
    assert files
    assert get_reader(str(files[0])) is not None


def test_a_dicom_file_of_another_kind_is_left_to_others(
    dicom: Path, tmp_path: Path
) -> None:
    slide = next(iter(dicom.iterdir())).read_bytes()
    ct = slide.replace(
        b"1.2.840.10008.5.1.4.1.1.77.1.6", b"1.2.840.10008.5.1.4.1.1.2\0"
    )
    (tmp_path / "ct.dcm").write_bytes(ct)
    (tmp_path / "text.dcm").write_text("no DICOM at all")
    assert get_reader(str(tmp_path / "ct.dcm")) is None
    assert get_reader(str(tmp_path / "text.dcm")) is None
    assert get_reader(str(tmp_path / "absent.dcm")) is None


def test_an_ome_zarr_folder_is_taken_whatever_its_name(tmp_path: Path) -> None:
    picture = np.full((64, 64, 3), 200, np.uint8)
    path = write_ome_zarr(tmp_path / "slide.zarr", [picture])
    plain = path.rename(tmp_path / "slide")
    assert get_reader(str(plain)) is not None


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_zarr_without_an_image_is_left_to_others(tmp_path: Path, version: str) -> None:
    picture = np.full((64, 64, 3), 200, np.uint8)
    path = write_ome_zarr(tmp_path / "slide.zarr", [picture], version=version)
    assert get_reader(str(path)) is not None
    for name in (".zattrs", "zarr.json"):
        metadata = path / name
        if metadata.exists():
            metadata.write_text(metadata.read_text().replace("multiscales", "other"))
    assert get_reader(str(path)) is None


def test_other_folders_are_left_to_other_readers(tmp_path: Path) -> None:
    assert get_reader(str(tmp_path)) is None
    (tmp_path / "notes.txt").write_text("nothing here")
    (tmp_path / "slide.svs").write_bytes(b"II*\0")
    assert get_reader(str(tmp_path)) is None


def test_of_a_large_folder_only_some_files_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(FILES_TRIED + 20):
        (tmp_path / f"{number}.txt").touch()
    looked: list[Path] = []

    def look(path: Path) -> bool:
        looked.append(path)
        return False

    monkeypatch.setattr("napari_gimp.reader._is_dicom_slide", look)
    assert get_reader(str(tmp_path)) is None
    assert len(looked) == FILES_TRIED


def test_a_slide_among_many_other_files_is_found_by_its_suffix(dicom: Path) -> None:
    for number in range(FILES_TRIED + 20):
        (dicom / f"0-{number}.txt").touch()
    (dicom / "0-folder").mkdir()
    assert get_reader(str(dicom)) is not None


def test_a_folder_that_may_not_be_listed_is_left_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert get_reader(str(tmp_path)) is None


def test_napari_offers_us_for_folders_too(dicom: Path) -> None:
    manager = npe2.PluginManager()
    manager.discover(include_npe1=False)
    offered = manager.iter_compatible_readers([str(dicom)])
    assert "napari-gimp" in {reader.plugin_name for reader in offered}


@pytest.mark.real_data
def test_the_real_dicom_slide_is_taken(shared_data: Path) -> None:
    assert get_reader(str(shared_data / "slides" / "CMU-1-dicom")) is not None
