"""Mask images and annotations laid over the tissue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from napari_gimp.errors import PatchError
from napari_gimp.geometry import Grid
from napari_gimp.patches.regions import INSIDE, OUTSIDE, read_region, restrict
from napari_gimp.patches.tissue import Tissue

SHAPE = (300, 400)
GRID = Grid((38, 50), (8.0, 8.0))
"""Of a slide of 300 x 400 px at 1 um/px: the last row reaches over the edge."""


@pytest.fixture
def slide(make_slide) -> Any:
    slide = make_slide(np.full((*SHAPE, 3), 200, np.uint8))
    slide.corner_px = (0, 0)
    return slide


def painting() -> np.ndarray:
    """Two classes, drawn at the slide's own scale."""
    values = np.zeros(SHAPE, np.uint8)
    values[80:160, 160:240] = 1
    values[200:240, 40:80] = 2
    return values


def truth(*, values: tuple[int, ...] = (1, 2)) -> np.ndarray:
    mask = np.zeros(GRID.shape, bool)
    if 1 in values:
        mask[10:20, 20:30] = True
    if 2 in values:
        mask[25:30, 5:10] = True
    return mask


def png(path: Path, image: Image.Image) -> Path:
    image.save(path)
    return path


def pyramid(path: Path) -> Path:
    plain: dict[str, Any] = {"tile": (64, 64), "photometric": "minisblack"}
    big = painting().repeat(2, 0).repeat(2, 1)
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(big, subifds=2, metadata={"axes": "YX"}, **plain)
        writer.write(big[::2, ::2], subfiletype=1, **plain)
        writer.write(big[::4, ::4], subfiletype=1, **plain)
    return path


def written(folder: Path, kind: str) -> Path:
    values = painting()
    if kind == "pyramid":
        return pyramid(folder / "a.ome.tif")
    if kind == "tiled":
        tifffile.imwrite(folder / "a.tif", values, tile=(64, 64))
        return folder / "a.tif"
    if kind == "32 bits":
        tifffile.imwrite(folder / "a.tif", values.astype(np.uint32) * 70_000)
        return folder / "a.tif"
    images = {
        "grey": Image.fromarray(values),
        "one bit": Image.fromarray(values > 0),
        "coloured": Image.fromarray(np.stack([values * 120, 0 * values, values], -1)),
        "a quarter": Image.fromarray(values[2::4, 2::4]),
        "twice": Image.fromarray(values.repeat(2, 0).repeat(2, 1)),
    }
    return png(folder / "a.png", images[kind])


@pytest.mark.parametrize(
    "kind",
    [
        *("grey", "one bit", "coloured", "a quarter", "twice"),
        *("tiled", "pyramid", "32 bits"),
    ],
)
def test_a_mask_of_any_kind_and_scale_lies_where_it_was_drawn(slide, tmp_path, kind):
    region = read_region(written(tmp_path, kind))

    np.testing.assert_array_equal(region.inside(slide, GRID), truth())


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("grey", ("1", "2")),
        ("coloured", ("#780001", "#f00002")),
        ("pyramid", ("1", "2")),
    ],
)
def test_values_and_colours_are_classes(slide, tmp_path, kind, names):
    region = read_region(written(tmp_path, kind))

    assert tuple(region.labels) == names
    for number, name in enumerate(names, 1):
        mask = region.inside(slide, GRID, [name])
        np.testing.assert_array_equal(mask, truth(values=(number,)))
    with pytest.raises(PatchError, match=f"no class '9'; it has '{names[0]}'"):
        region.inside(slide, GRID, ["9"])


def test_a_mask_read_in_strips_is_the_same(slide, tmp_path, monkeypatch):
    region = read_region(written(tmp_path, "twice"))
    monkeypatch.setattr("napari_gimp.patches.mask_image.STRIP_PX", 20_000)

    np.testing.assert_array_equal(region.inside(slide, GRID), truth())
    assert read_region(region.path).labels == region.labels


@pytest.mark.parametrize("share", [0.45, 0.5, 0.55])
def test_a_cell_is_in_a_finer_mask_where_half_of_it_is(slide, tmp_path, share):
    fine = np.zeros((3000, 4000), np.uint8)
    fine[: round(800 + 80 * share)] = 255
    region = read_region(png(tmp_path / "a.png", Image.fromarray(fine)))

    mask = region.inside(slide, GRID)

    assert mask[:10].all()
    assert mask[10].all() == (share >= 0.5)
    assert not mask[11:].any()


@pytest.mark.parametrize("shape", [(75, 100), (19, 25), (299, 400), (301, 401)])
def test_rounding_of_the_masks_sides_is_no_other_aspect(slide, tmp_path, shape):
    image = Image.fromarray(np.full(shape, 1, np.uint8))

    assert read_region(png(tmp_path / "a.png", image)).inside(slide, GRID)[:37].all()


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((100, 100), "100 x 100 px, the slide 400 x 300 px.*would be 100 x 75"),
        ((400, 300), "turned by 90 degrees"),
    ],
)
def test_a_mask_of_another_aspect_is_refused(slide, tmp_path, shape, says):
    region = read_region(png(tmp_path / "a.png", Image.fromarray(np.ones(shape, "u1"))))

    with pytest.raises(PatchError, match=says):
        region.inside(slide, GRID)


def test_a_jpeg_is_no_mask(tmp_path):
    path = png(tmp_path / "a.jpg", Image.fromarray(painting()))

    with pytest.raises(PatchError, match=r"smears the edges.*PNG or TIFF"):
        read_region(path)


def test_instances_are_a_mask_without_classes(slide, tmp_path):
    values = np.arange(np.prod(SHAPE), dtype=np.uint32).reshape(SHAPE) % 1000
    tifffile.imwrite(tmp_path / "a.tif", values)

    region = read_region(tmp_path / "a.tif")

    assert not region.labels
    assert region.inside(slide, GRID)[:37].all()


def test_annotations_and_masks_are_opened_alike(slide, tmp_path):
    ring = [[160, 80], [240, 80], [240, 160], [160, 160], [160, 80]]
    path = tmp_path / "a.geojson"
    path.write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))

    mask = read_region(path).inside(slide, GRID)

    np.testing.assert_array_equal(mask, truth(values=(1,)))


def whole(**kwargs: Any) -> Tissue:
    mask = np.ones(GRID.shape, bool)
    mask[:, 40:] = False
    return Tissue(mask, GRID, {"specks": 0.5}, brown=0.25, **kwargs)


def test_tissue_is_kept_inside_what_is_included_and_outside_what_is_not():
    include, exclude = truth(), truth(values=(2,))

    tissue = restrict(whole(), include=include, exclude=exclude)

    np.testing.assert_array_equal(tissue.mask, truth(values=(1,)))
    cell_mm2 = 64 / 1e6
    assert tissue.grid == GRID
    assert tissue.brown == 0.25
    assert tissue.excluded == {
        "specks": 0.5,
        OUTSIDE: pytest.approx((38 * 40 - 125) * cell_mm2),
        INSIDE: pytest.approx(25 * cell_mm2),
    }


def test_what_was_no_tissue_does_not_become_tissue():
    tissue = restrict(whole(), include=np.ones(GRID.shape, bool))

    np.testing.assert_array_equal(tissue.mask, whole().mask)
    assert tissue.excluded[OUTSIDE] == 0


def test_without_regions_the_tissue_is_as_it_was():
    before = whole()

    tissue = restrict(before)

    np.testing.assert_array_equal(tissue.mask, before.mask)
    assert tissue.mask is not before.mask
    assert tissue.excluded == before.excluded


def test_a_region_of_another_grid_is_refused():
    with pytest.raises(PatchError, match=r"\(4, 4\) cells does not fit.*\(38, 50\)"):
        restrict(whole(), exclude=np.zeros((4, 4), bool))
