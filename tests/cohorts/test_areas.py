"""Areas of the slides of a cohort: options, folders of files, columns of a manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from napari_gimp.cli import main
from napari_gimp.cohorts.manifest import Entry
from napari_gimp.cohorts.plans import plan_for
from napari_gimp.errors import CohortError
from napari_gimp.patches.plan import PatchPlan
from small_slides import write_slide


@pytest.fixture
def slides(tmp_path: Path) -> Path:
    """A folder of two slides of 4 x 4 patches."""
    for k in range(2):
        write_slide(tmp_path / "slides" / f"S{k}.tif", seed=k)
    return tmp_path / "slides"


def draw(path: Path, *, right_px: int, label: str = "Tumor") -> Path:
    """Write annotations: all that is left of a line, and a sliver of another class."""
    path.parent.mkdir(exist_ok=True)
    features = [_box(0, right_px, label), _box(1023, 1024, "Other")]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _box(left: int, right: int, label: str) -> dict[str, Any]:
    ring = [[left, 0], [right, 0], [right, 1024], [left, 1024], [left, 0]]
    return {
        "type": "Feature",
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {"classification": {"name": label}},
    }


def features(tmp_path: Path, *words: object) -> tuple[int, str]:
    store = ["--out", str(tmp_path / "store"), "--device", "cpu", "--json"]
    return main(["features", *map(str, words), *store]), str(tmp_path / "store")


def told(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return found


def test_a_folder_has_the_areas_of_each_slide_by_its_name(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "areas" / "S0.geojson", right_px=512)
    draw(tmp_path / "areas" / "S1.tif.geojson", right_px=256)
    words = (slides, "--include", tmp_path / "areas", "--include-class", "Tumor")
    assert features(tmp_path, *words)[0] == 0
    slides_told = told(capsys)
    assert [one["total"] for one in slides_told] == [8, 4]
    files = [one["plan"]["include"][0]["file"] for one in slides_told]
    assert files == ["S0.geojson", "S1.tif.geojson"]


def test_a_manifest_says_the_same_in_columns_and_the_features_are_found_again(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in range(2):
        draw(tmp_path / "areas" / f"S{k}.geojson", right_px=512, label="Ink")
    words = ("--exclude", tmp_path / "areas", "--exclude-class", "Ink")
    assert features(tmp_path, slides, *words)[0] == 0
    by_folder = [one["key"] for one in told(capsys)]

    rows = [f"P{k},slides/S{k}.tif,areas/S{k}.geojson" for k in range(2)]
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["patient,slide,exclude", *rows]) + "\n")
    assert features(tmp_path, manifest, "--exclude-class", "Ink")[0] == 0
    by_column = told(capsys)
    assert [one["key"] for one in by_column] == by_folder
    assert {one["state"] for one in by_column} == {"stored"}


def test_stride_and_least_tissue_are_those_asked_for(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (slides / "S0.tif", "--stride", "64", "--min-tissue", "0.9")
    assert features(tmp_path, *words)[0] == 0
    assert [one["total"] for one in told(capsys)] == [49]


def test_a_slide_without_its_areas_fails_alone_and_says_what_is_missing(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "areas" / "S0.geojson", right_px=512)
    assert features(tmp_path, slides, "--include", tmp_path / "areas")[0] == 2
    said = capsys.readouterr()
    assert [one["state"] for one in json.loads(said.out)] == ["done", "failed"]
    assert "areas has no file for this slide. Put one there" in said.err
    assert "S1.geojson" in said.err


def test_a_folder_to_exclude_may_lack_a_slide(tmp_path: Path) -> None:
    plan = PatchPlan(exclude=(tmp_path,), exclude_labels=("Ink",))
    assert plan_for(Entry(Path("/s/S0.tif")), plan) == PatchPlan()


def test_a_class_to_exclude_may_be_in_some_files_only_but_not_in_none(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "areas" / "S0.geojson", right_px=512, label="Fold")
    draw(tmp_path / "areas" / "S1.geojson", right_px=512, label="Tumor")
    words = (slides, "--exclude", tmp_path / "areas", "--exclude-class")
    assert features(tmp_path, *words, "Fold")[0] == 0
    assert [one["total"] for one in told(capsys)] == [8, 16]

    assert features(tmp_path, *words, "Folds")[0] == 2
    said = capsys.readouterr().err
    assert "the class Folds; there are Fold, Other, Tumor" in said


@pytest.mark.parametrize(
    ("which", "says"),
    [
        ("include", "classes Tumor to include need a file of this slide"),
        ("exclude", "No area to exclude has the class Tumor; no slide has any"),
    ],
)
def test_classes_without_a_file_are_refused(
    which: str,
    says: str,
    slides: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert features(tmp_path, slides, f"--{which}-class", "Tumor")[0] == 2
    assert says in capsys.readouterr().err
    assert not list((tmp_path / "store").glob("*.zarr"))


def test_two_files_for_a_slide_are_refused(tmp_path: Path) -> None:
    for name in ("S0.geojson", "S0.png"):
        (tmp_path / name).touch()
    with pytest.raises(CohortError, match=r"2 files .*: S0\.geojson, S0\.png"):
        plan_for(Entry(Path("/s/S0.ome.tif")), PatchPlan(include=(tmp_path,)))


def test_a_slide_is_no_file_of_its_own_areas(tmp_path: Path) -> None:
    for name in ("S0.tif", "S0.geojson"):
        (tmp_path / name).touch()
    plan = plan_for(Entry(tmp_path / "S0.tif"), PatchPlan(include=(tmp_path,)))
    assert plan.include == (tmp_path / "S0.geojson",)


def test_one_file_for_many_slides_is_refused(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    area = draw(tmp_path / "one.geojson", right_px=512)
    code, store = features(tmp_path, slides, "--include", area)
    assert code == 2
    assert (
        "is one file for 2 slides, and areas belong to one" in capsys.readouterr().err
    )
    assert not Path(store).exists()


def test_areas_that_are_not_there_are_refused(
    slides: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert features(tmp_path, slides, "--tissue", tmp_path / "nowhere")[0] == 2
    assert "nowhere does not exist" in capsys.readouterr().err
