import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from napari_gimp import export
from napari_gimp.errors import ResultError
from napari_gimp.explain.inference import Finished, Request, analyse
from napari_gimp.explain.result import Result


@pytest.fixture(scope="session")
def written(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.write_result(result, tmp_path_factory.mktemp("out") / "patient")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_all_files_are_there_and_nothing_else(written: Path) -> None:
    assert names(written) == {
        "result.json",
        "report.html",
        "maps",
        "maps.zarr",
        "genes.csv",
        "patches.csv",
        "patches.geojson",
    }
    assert len(names(written / "maps")) == 6
    assert names(written.parent) == {"patient"}


def test_the_numbers_are_those_of_the_result(written: Path, result: Result) -> None:
    said = json.loads((written / "result.json").read_text())

    assert list(said["probabilities"]) == list(result.classes)
    assert list(said["probabilities"].values()) == pytest.approx(
        result.probabilities.tolist()
    )
    assert said["prediction"] == result.class_name
    assert said["maps"]["attention"]["sum"] == pytest.approx(1, abs=1e-4)
    assert said["warnings"] == list(result.warnings)


def test_how_the_slide_was_read_is_recorded(written: Path) -> None:
    said = json.loads((written / "result.json").read_text())["slide"]

    assert (said["reader"], said["icc"], said["damaged_tiles"]) == (
        "tifffile",
        "none",
        0,
    )
    assert (said["mpp"], said["mpp_verified"]) == (pytest.approx([0.8, 0.8]), True)


def test_the_patch_table_gives_every_patch_with_its_place(
    written: Path, result: Result
) -> None:
    rows = rows_of(written / "patches.csv")

    assert len(rows) == len(result.patches)
    for row, (y, x) in zip(rows, result.patches.coords_um.tolist(), strict=True):
        cell = result.patches.grid.cell_at(float(row["y_um"]), float(row["x_um"]))
        assert cell == (int(row["row"]), int(row["col"]))
        assert (float(row["y_um"]), float(row["x_um"])) == pytest.approx((y, x))
        value = result.maps["contribution"].values[cell]
        assert float(row["contribution"]) == pytest.approx(float(value), rel=1e-4)


def test_genes_are_listed_from_the_largest_attribution(
    written: Path, result: Result
) -> None:
    rows = rows_of(written / "genes.csv")
    sizes = [abs(float(row["attribution_logit"])) for row in rows]

    assert sizes == sorted(sizes, reverse=True)
    assert len(rows) == 70
    assert sum(row["measured"] == "False" for row in rows) == 2


def test_geojson_tiles_lie_on_the_patches_in_level_0_pixels(
    written: Path, result: Result
) -> None:
    collection = json.loads((written / "patches.geojson").read_text())

    assert collection["type"] == "FeatureCollection"
    for tile, centre in zip(
        collection["features"], result.patches.coords_um, strict=True
    ):
        ring = np.array(tile["geometry"]["coordinates"][0])
        assert ring.shape == (5, 2)
        assert (ring[0] == ring[-1]).all()
        middle_yx = ring[:4].mean(axis=0)[::-1] * result.mpp
        np.testing.assert_allclose(middle_yx, centre, atol=0.01)
        np.testing.assert_allclose(np.ptp(ring, axis=0) * result.mpp, 128, atol=0.01)
        assert tile["properties"]["objectType"] == "tile"
        assert "attention" in tile["properties"]["measurements"]


def test_geojson_counts_from_the_scanned_part_as_qupath_does(result: Result) -> None:
    whole = export.qupath_tiles(result)["features"]
    cropped = export.qupath_tiles(replace(result, corner_px=(64, 128)))["features"]
    for there, here in zip(whole, cropped, strict=True):
        moved = np.subtract(
            there["geometry"]["coordinates"], here["geometry"]["coordinates"]
        )
        np.testing.assert_allclose(moved, np.broadcast_to((128, 64), moved.shape))


def test_maps_open_as_ome_zarr_where_napari_shows_them(
    written: Path, result: Result
) -> None:
    group = zarr.open_group(written / "maps.zarr", mode="r")
    said: Any = group.attrs["ome"]
    axes = [axis["name"] for axis in said["multiscales"][0]["axes"]]
    scale, move = said["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    place = result.patches.grid.layer_kwargs(result.mpp)

    assert said["version"] == "0.5"
    assert axes == ["c", "y", "x"]
    assert tuple(scale["scale"]) == (1, *place["scale"])
    assert tuple(move["translation"]) == (0, *place["translate"])
    for number, patch_map in enumerate(result.maps.values()):
        np.testing.assert_array_equal(group["0"][number], patch_map.values)


def test_raw_maps_have_one_pixel_per_patch(written: Path, result: Result) -> None:
    from matplotlib.image import imread

    pixels = imread(written / "maps" / "attention_raw.png")

    known = np.isfinite(result.maps["attention"].values)
    assert pixels.shape == (*result.patches.grid.shape, 4)
    np.testing.assert_array_equal(pixels[..., 3] > 0, known)


def test_a_slide_alone_has_no_gene_file(slide_only: Result, tmp_path: Path) -> None:
    out = export.write_result(slide_only, tmp_path / "out")

    assert "genes.csv" not in names(out)
    assert json.loads((out / "result.json").read_text())["modality_share"] is None


def test_a_former_result_is_replaced_whole(
    written: Path, result: Result, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(written, out)
    (out / "maps" / "old.png").write_bytes(b"")

    export.write_result(replace(result, genes=None), out)

    assert "genes.csv" not in names(out)
    assert "old.png" not in names(out / "maps")
    assert names(tmp_path) == {"out"}


def test_a_folder_with_other_files_is_refused_and_untouched(
    result: Result, tmp_path: Path
) -> None:
    (tmp_path / ".thesis").write_text("mine")

    with pytest.raises(ResultError, match="holds other files"):
        export.write_result(result, tmp_path)
    assert names(tmp_path) == {".thesis"}


def test_a_former_result_with_someones_notes_in_it_is_kept(
    written: Path, result: Result, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(written, out)
    (out / "notes.txt").write_text("mine")

    with pytest.raises(ResultError, match=r"notes\.txt"):
        export.write_result(result, out)
    assert (out / "notes.txt").read_text() == "mine"


def test_a_file_is_refused(result: Result, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(ResultError, match="is a file"):
        export.write_result(result, tmp_path / "out")


def test_a_place_below_a_file_is_refused_before_the_analysis(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="is a file"):
        export.check_out(tmp_path / "file" / "a" / "b")


def test_an_interruption_while_renaming_keeps_the_former_result(
    written: Path, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(written, out)
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        if path.name == "fresh":
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        export.write_result(result, out)

    assert (out / "result.json").is_file()
    assert names(tmp_path) == {"out"}


def test_a_full_disk_keeps_the_former_result(
    written: Path, result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    shutil.copytree(written, out)
    before = (out / "result.json").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export, "_write_patches", full)
    with pytest.raises(ResultError, match="No space left"):
        export.write_result(replace(result, warnings=()), out)

    assert (out / "result.json").read_bytes() == before
    assert names(tmp_path) == {"out"}


def test_a_slide_of_one_patch_goes_all_the_way(
    case: Any, one_patch: Path, tmp_path: Path
) -> None:
    """Scales of no width, ranks of one and a bag without neighbours."""
    *_, last = analyse(Request(one_patch, case.model, case.genes, sample="PATIENT-2"))
    assert isinstance(last, Finished)

    out = export.write_result(last.result, tmp_path / "out")

    (row,) = rows_of(out / "patches.csv")
    assert float(row["attention"]) == pytest.approx(1)
    assert any("Only 1 patch " in text for text in last.result.warnings)
