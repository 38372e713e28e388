"""Manifests: patterns, several slides for a patient, and everything that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_gimp.cohorts.listing import list_slides
from napari_gimp.cohorts.manifest import read_manifest
from napari_gimp.errors import CohortError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/1.svs", "a/2.svs", "b/1.tif", "b/notes.txt", "b/deep/2.tif"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def manifest(folder: Path, *lines: str, name: str = "m.csv") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(CohortError) as caught:
        read_manifest(path)
    return str(caught.value)


def test_a_pattern_gives_a_patient_several_slides(folder: Path) -> None:
    path = manifest(folder, "patient,slide,site", "P1,a/*.svs,north", "P2,b/1.tif,")
    found = read_manifest(path)
    slides = [folder / "a/1.svs", folder / "a/2.svs", folder / "b/1.tif"]
    assert [entry.slide for entry in found] == slides
    assert [entry.patient for entry in found] == ["P1", "P1", "P2"]
    assert found[1].site == "north"


def test_outcomes_are_read_from_tabs_with_days_and_event(folder: Path) -> None:
    lines = ("Patient\tslide\tdays\tevent", "P1\ta/1.svs\t365.5\t1", "P2\tb/1.tif\t\t")
    first, second = read_manifest(manifest(folder, *lines, name="m.tsv"))
    assert (first.days, first.event) == (365.5, True)
    assert (second.days, second.event) == (None, None)


def test_a_spreadsheets_byte_order_mark_is_no_part_of_a_column(folder: Path) -> None:
    path = folder / "m.csv"
    path.write_text("patient,slide\nP1,a/1.svs\n", encoding="utf-8-sig")
    assert read_manifest(path)[0].patient == "P1"


def test_a_file_whose_name_has_brackets_is_no_pattern(folder: Path) -> None:
    (folder / "S[1].svs").touch()
    (entry,) = read_manifest(manifest(folder, "patient,slide", "P1,S[1].svs"))
    assert entry.slide == folder / "S[1].svs"


def test_everything_that_is_wrong_is_listed_at_once(folder: Path) -> None:
    text = refusal(
        manifest(
            folder,
            "patient,slide,sample,label,days,event",
            "P1,a/1.svs,S1,x,10,1",
            "P1,a/2.svs,S1,y,10,1",
            "P2,a/1.svs,S1,x,-3,1",
            "P3,c/*.svs,,x,5,maybe",
            ",b/1.tif,,x,,",
            "P4,,,x,7,",
        )
    )
    for line in (
        "rows without a patient (1): row 6",
        "rows without a slide (1): row 7",
        "patterns that match no file (1): row 5 'c/*.svs'",
        "days that are no number of 0 or more (1): row 4 '-3'",
        "events that are neither 1 nor 0 (1): row 5 'maybe'",
        "rows with only one of days and event (1): row 7",
        "a/1.svs (P1, P2; rows 2, 4)",
        "samples used by two patients (1): S1 (P1, P2; rows 2, 3, 4)",
        "patients with more than one label (1): P1 (x, y; rows 2, 3)",
        "Mend the manifest.",
    ):
        assert line in text


def test_a_slide_may_have_its_own_um_per_px_and_areas(folder: Path) -> None:
    (folder / "a/1.geojson").touch()
    lines = ("patient,slide,mpp,tissue,include,exclude",)
    path = manifest(folder, *lines, "P1,a/1.svs,0.25,,a/1.geojson,b", "P2,b/1.tif,,b,,")
    first, second = read_manifest(path)
    assert (first.mpp, first.tissue) == (0.25, None)
    assert first.include == (folder / "a/1.geojson",)
    assert first.exclude == (folder / "b",)
    assert (second.mpp, second.tissue, second.include) == (None, folder / "b", ())


def test_um_per_px_and_areas_that_cannot_be_are_told_with_their_rows(
    folder: Path,
) -> None:
    path = manifest(
        folder, "patient,slide,mpp,include", "P1,a/1.svs,0,", "P2,b/1.tif,0.5,x.json"
    )
    text = refusal(path)
    assert "um/px that are no number above 0 (1): row 2 '0'" in text
    assert "areas that do not exist (1): row 3 'x.json'" in text


def test_a_slide_that_two_patterns_match_is_named_twice(folder: Path) -> None:
    path = manifest(folder, "patient,slide", "P1,a/*.svs", "P1,a/1.*")
    assert "slides named twice (1): " in refusal(path)


def test_a_missing_column_is_named_with_those_there_are(folder: Path) -> None:
    text = refusal(manifest(folder, "patient,picture", "P1,a/1.svs"))
    assert "lacks the columns slide; it has patient, picture" in text


def test_folders_patterns_and_manifests_make_one_list(folder: Path) -> None:
    path = manifest(folder, "patient,slide", "P1,a/1.svs")
    found = list_slides([folder / "b", folder / "a" / "*.svs", path])
    names = [str(e.slide.relative_to(folder)) for e in found]
    assert names == ["b/1.tif", "b/deep/2.tif", "a/1.svs", "a/2.svs"]
    assert [e.patient for e in found] == ["", "", "P1", ""]


@pytest.mark.parametrize("manifest_first", [True, False])
def test_what_a_manifest_says_of_a_slide_holds_beside_a_folder(
    folder: Path, manifest_first: bool
) -> None:
    path = manifest(folder, "patient,slide,mpp", "P1,a/1.svs,0.25")
    named = [path, folder / "a"] if manifest_first else [folder / "a", path]
    said = {e.slide.name: (e.patient, e.mpp) for e in list_slides(named)}
    assert said == {"1.svs": ("P1", 0.25), "2.svs": ("", None)}


def test_a_folder_that_is_a_slide_is_not_looked_into(folder: Path) -> None:
    (folder / "s.zarr").mkdir()
    (folder / "s.zarr" / "zarr.json").write_text('{"node_type": "group"}')
    (found,) = list_slides([folder / "s.zarr"])
    assert found.slide == folder / "s.zarr"
    assert folder / "s.zarr" in [e.slide for e in list_slides([folder])]


def test_a_folder_without_slides_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="names no slide"):
        list_slides([tmp_path])
