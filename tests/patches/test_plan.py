"""What a plan lets through, and what it leaves on record."""

from __future__ import annotations

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from napari_gimp.errors import PatchError
from napari_gimp.geometry import Grid
from napari_gimp.patches.annotations import read_geojson
from napari_gimp.patches.grid import lay_patches
from napari_gimp.patches.plan import PatchPlan, write_mask
from napari_gimp.patches.regions import INSIDE, OUTSIDE
from napari_gimp.patches.tissue import find_tissue, tissue_grid
from napari_gimp.slide.source import Level

PURPLE = (150, 90, 150)


@pytest.fixture
def slide(make_slide) -> Any:
    """A slide of 1004 x 1206 um, no whole number of cells, half of it tissue."""
    image = np.full((502, 603, 3), 243, np.uint8)
    image[100:400, 80:500] = PURPLE
    slide = make_slide(image, mpp=2.0)
    slide.corner_px = (0, 0)
    return slide


def square(y: int, x: int, side: int, label: str | None = None) -> dict[str, Any]:
    ring = [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]
    properties = {"classification": {"name": label}} if label else {}
    geometry = {"type": "Polygon", "coordinates": [ring]}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def drawn(path: Path, *objects: dict[str, Any]) -> Path:
    path.write_text(json.dumps(list(objects)), encoding="utf-8")
    return path


def test_a_plain_plan_is_what_was_always_done(slide) -> None:
    plan = PatchPlan()

    tissue = plan.find_tissue(slide)
    patches = plan.lay(tissue, 64.0)

    plain = find_tissue(slide)
    expected = lay_patches(plain, patch_um=64.0)
    np.testing.assert_array_equal(tissue.mask, plain.mask)
    assert tissue.excluded == plain.excluded
    assert patches.grid == expected.grid
    np.testing.assert_array_equal(patches.index, expected.index)
    assert plan.record() == {}


def test_stride_and_least_tissue_are_those_of_the_plan(slide) -> None:
    plan = PatchPlan(stride_um=32.0, min_tissue=0.9)

    patches = plan.lay(plan.find_tissue(slide), 64.0)

    assert patches.stride_um == 32.0
    assert patches.tissue.min() >= 0.9
    assert plan.record() == {"stride_um": 32.0, "min_tissue": 0.9}


def test_a_stride_far_below_a_patch_is_refused(slide) -> None:
    plan = PatchPlan(stride_um=2.0)

    with pytest.raises(PatchError, match="2 um is too small for patches of 64 um: giv"):
        plan.lay(plan.find_tissue(slide), 64.0)


def test_a_plan_travels_and_is_a_key(tmp_path) -> None:
    plan = PatchPlan(16.0, include=(tmp_path / "a.geojson",), include_labels=("Tumor",))

    again = pickle.loads(pickle.dumps(plan))

    assert again == plan
    assert {plan: 1}[again] == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_written_mask_is_read_back_to_the_cell(slide, tmp_path, seed: int) -> None:
    grid = tissue_grid(slide)
    mask = np.random.default_rng(seed).random(grid.shape) < 0.4

    write_mask(mask, grid, tmp_path / "brush.png")
    tissue = PatchPlan(tissue=tmp_path / "brush.png").find_tissue(slide)

    np.testing.assert_array_equal(tissue.mask, mask)
    assert tissue.grid == grid
    assert list(tmp_path.iterdir()) == [tmp_path / "brush.png"]


def test_a_written_mask_is_a_picture_for_everyone(slide, tmp_path) -> None:
    tissue = find_tissue(slide)

    write_mask(tissue.mask, tissue.grid, tmp_path / "a.png")

    seen = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(seen, tissue.mask * np.uint8(255))


def test_a_mask_written_for_another_slide_is_refused(
    slide, make_slide, tmp_path
) -> None:
    other = make_slide(np.full((600, 603, 3), 243, np.uint8), mpp=2.0)
    grid = tissue_grid(other)
    write_mask(np.ones(grid.shape, bool), grid, tmp_path / "a.png")

    with pytest.raises(PatchError, match=r"lies over 1\.21 x 1\.20 mm, the slide meas"):
        PatchPlan(tissue=tmp_path / "a.png").find_tissue(slide)


@pytest.mark.parametrize(
    ("shape", "name"), [((3, 4), "a.png"), ((4, 4), "a.jpg")], ids=["shape", "name"]
)
def test_what_cannot_be_a_mask_is_not_written(tmp_path, shape, name: str) -> None:
    with pytest.raises(PatchError, match=r"a name that ends in \.png"):
        write_mask(np.ones(shape, bool), Grid((4, 4), (8.0, 8.0)), tmp_path / name)

    assert not list(tmp_path.iterdir())


def test_a_mask_that_cannot_be_written_leaves_the_old_one(slide, tmp_path) -> None:
    grid = tissue_grid(slide)

    with pytest.raises(PatchError, match=r"cannot be written to .*Choose a folder"):
        write_mask(np.ones(grid.shape, bool), grid, tmp_path / "no folder" / "a.png")


def test_a_mask_with_a_damaged_place_says_so(slide, tmp_path) -> None:
    from PIL.PngImagePlugin import PngInfo

    text = PngInfo()
    text.add_text("napari-gimp grid", '{"cell_um": [0, 8], "origin_um": [0, 0]}')
    Image.new("L", (151, 126), 255).save(tmp_path / "a.png", pnginfo=text)

    with pytest.raises(PatchError, match="does not say rightly where it lies"):
        PatchPlan(tissue=tmp_path / "a.png").find_tissue(slide)


def test_a_given_tissue_keeps_the_slides_colours(make_slide, tmp_path) -> None:
    brown = np.full((400, 400, 3), (130, 90, 40), np.uint8)
    brown[:40] = 243
    slide = make_slide(brown, mpp=2.0)
    grid = tissue_grid(slide)
    write_mask(np.ones(grid.shape, bool), grid, tmp_path / "a.png")

    tissue = PatchPlan(tissue=tmp_path / "a.png").find_tissue(slide)

    assert tissue.brown == pytest.approx(0.9, abs=0.01)


def test_patches_lie_inside_one_file_and_outside_the_other(slide, tmp_path) -> None:
    inside = drawn(tmp_path / "in.geojson", square(120, 100, 160))
    outside = drawn(tmp_path / "out.geojson", square(120, 100, 80))
    plan = PatchPlan(include=(inside,), exclude=(outside,))

    tissue = plan.find_tissue(slide)
    patches = plan.lay(tissue, 32.0)

    assert tissue.area_mm2 == pytest.approx((0.32**2 - 0.16**2), rel=0.01)
    assert tissue.excluded[INSIDE] == pytest.approx(0.16**2, rel=0.01)
    assert tissue.excluded[OUTSIDE] > 0.3
    y, x = patches.coords_um.T
    assert ((y >= 240) & (y <= 560) & (x >= 200) & (x <= 520)).all()
    assert not ((y < 400) & (x < 360)).any()


def test_several_files_are_one_region_and_a_class_may_be_in_one(
    slide, tmp_path
) -> None:
    one = drawn(tmp_path / "1.geojson", square(120, 100, 40, "Tumor"))
    two = drawn(tmp_path / "2.geojson", square(300, 300, 40, "Stroma"))
    both, tumour = (
        PatchPlan(include=(one, two), include_labels=labels).find_tissue(slide)
        for labels in ((), ("Tumor",))
    )

    assert both.area_mm2 == pytest.approx(2 * tumour.area_mm2, rel=0.05)
    assert tumour.area_mm2 == pytest.approx(0.08**2, rel=0.1)
    with pytest.raises(PatchError, match="no class 'Fat'; it has 'Stroma', 'Tumor'"):
        PatchPlan(include=(one, two), include_labels=("Fat",)).find_tissue(slide)


def test_files_are_recorded_by_what_they_hold(tmp_path) -> None:
    path = drawn(tmp_path / "a.geojson", square(0, 0, 9, "Tumor"))
    plan = PatchPlan(include=(path,), include_labels=("Tumor",))

    record = plan.record()

    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads(json.dumps(record)) == {
        "include": [{"file": "a.geojson", "sha256": digest}],
        "include_labels": ["Tumor"],
    }


def test_a_region_that_is_gone_is_said() -> None:
    with pytest.raises(PatchError, match=r"'gone\.png' cannot be read: No such file"):
        PatchPlan(tissue=Path("gone.png")).record()


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"stride_um": 0.0}, "1 um or more, got 0: it counts in um"),
        ({"stride_um": 0.256}, "1 um or more, got 0.256: it counts in um"),
        ({"stride_um": float("inf")}, "1 um or more, got inf"),
        ({"stride_um": float("nan")}, "1 um or more, got nan"),
        ({"min_tissue": 1.5}, "0 to 1, got 1.5"),
    ],
)
def test_a_plan_that_cannot_be_is_refused(plan: dict[str, Any], says: str) -> None:
    with pytest.raises(PatchError, match=says):
        PatchPlan(**plan)


@pytest.mark.real_data
def test_real_qupath_exports_say_where_to_look_and_where_not(
    wide_slide, shared_data
) -> None:
    folder = shared_data / "annotations"
    names = ("brush", "ellipse", "polygon", "rectangle", "wand")
    plain = tuple(folder / "qupath_geojson" / f"qupath-{name}.json" for name in names)
    cells = folder / "qupath_geojson_advanced" / "qupath-polygon-cell-classified.json"
    plan = PatchPlan(
        include=(*plain, cells), exclude=(cells,), exclude_labels=("Cell",)
    )

    tissue = plan.find_tissue(wide_slide)

    expected = np.zeros(tissue.grid.shape, bool)
    for path in (*plain, cells):
        expected |= read_geojson(path).inside(wide_slide, tissue.grid)
    cell = read_geojson(cells).inside(wide_slide, tissue.grid, ["Cell"])
    assert cell.any()
    np.testing.assert_array_equal(tissue.mask, expected & ~cell)
    assert tissue.excluded[INSIDE] == pytest.approx(cell.sum() * 64 / 1e6)


@pytest.fixture
def wide_slide(make_slide) -> Any:
    """The part of a slide of 1 um/px where the exports were drawn, all tissue."""
    slide = make_slide(np.full((690, 1312, 3), PURPLE, np.uint8), mpp=1.0)
    slide.corner_px = (-15_000, -17_000)
    slide.levels = tuple(
        Level((5520 // f, 10_496 // f), (64, 64), (f, f)) for f in (1, 8)
    )
    return slide


def test_a_stride_in_whole_um_names_the_same_features() -> None:
    assert repr(PatchPlan(stride_um=64)) == repr(PatchPlan(stride_um=64.0))
