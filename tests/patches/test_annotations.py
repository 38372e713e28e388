"""Areas drawn in QuPath, as cells: against Matplotlib's own point-in-polygon."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline

from napari_gimp.errors import PatchError
from napari_gimp.geometry import Grid
from napari_gimp.patches.annotations import UNCLASSIFIED, fill, read_geojson

PLAIN = ("polygon", "rectangle", "ellipse", "brush", "wand")
SQUARE = [[8, 8], [40, 8], [40, 40], [8, 40], [8, 8]]
HOLE = [[16, 16], [24, 16], [24, 24], [16, 24], [16, 16]]
FAR = [[48, 8], [56, 8], [56, 16], [48, 16], [48, 8]]


def drawn_on(shape: tuple[int, int], *, corner_px: tuple[int, int] = (0, 0)) -> Any:
    """A slide of 0.5 um/px, of which only the frame matters."""
    return SimpleNamespace(
        path=Path("slide.svs"),
        levels=(SimpleNamespace(shape=shape),),
        mpp=(0.5, 0.5),
        corner_px=corner_px,
    )


def polygon(*rings: Any, **properties: Any) -> dict[str, Any]:
    geometry = {"type": "Polygon", "coordinates": list(rings)}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def saved(folder: Path, document: Any) -> Path:
    path = folder / "a.geojson"
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def place(cell_um: float = 4.0) -> Grid:
    """The whole of a slide of 64 x 64 px."""
    count = int(32 / cell_um)
    return Grid((count, count), (cell_um, cell_um))


@settings(deadline=None, max_examples=60)
@given(
    corners=st.lists(
        st.tuples(st.floats(-10, 40), st.floats(-10, 40)), min_size=3, max_size=9
    )
)
def test_a_cell_is_inside_where_its_centre_is(corners):
    ring = np.add(corners, (0.0123, 0.0271))  # no centre lies on an edge
    mask = np.zeros((25, 31), bool)

    fill(mask, [ring])

    centres = np.argwhere(np.ones_like(mask)) + 0.5
    turns = winding(ring, centres).reshape(mask.shape)
    np.testing.assert_array_equal(mask, turns % 2 == 1)


def winding(ring: np.ndarray, points: np.ndarray) -> np.ndarray:
    """How many edges a ray to the right of each point crosses, one by one."""
    crossed = np.zeros(len(points), int)
    for (y0, x0), (y1, x1) in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        for k, (y, x) in enumerate(points):
            if (y0 <= y) != (y1 <= y):
                crossed[k] += x0 + (y - y0) * (x1 - x0) / (y1 - y0) > x
    return crossed


def test_areas_that_touch_share_no_cell_and_leave_no_gap():
    rng = np.random.default_rng(0)
    cut = np.c_[np.linspace(0, 40, 30), rng.uniform(10, 30, 30)]
    left = np.vstack([cut, [[40, 0], [0, 0]]])
    right = np.vstack([cut, [[40, 40], [0, 40]]])
    masks = [np.zeros((40, 40), bool) for _ in range(2)]

    for mask, ring in zip(masks, (left, right), strict=True):
        fill(mask, [ring])

    np.testing.assert_array_equal(masks[0], ~masks[1])


def test_holes_stay_holes(tmp_path):
    found = read_geojson(saved(tmp_path, polygon(SQUARE, HOLE)))

    mask = found.inside(drawn_on((64, 64)), place())

    expected = np.zeros((8, 8), bool)
    expected[1:5, 1:5] = True
    expected[2, 2] = False
    np.testing.assert_array_equal(mask, expected)


def test_a_multipolygon_is_all_of_its_parts_even_where_they_overlap(tmp_path):
    geometry = {"type": "MultiPolygon", "coordinates": [[SQUARE], [SQUARE], [FAR]]}
    document = {"type": "FeatureCollection", "features": [{"geometry": geometry}]}

    mask = read_geojson(saved(tmp_path, document)).inside(drawn_on((64, 64)), place())

    assert mask[1:5, 1:5].all()
    assert mask[1, 6]
    assert mask.sum() == 17


def test_classes_are_chosen_by_name_with_those_derived_from_them(tmp_path):
    document = [
        polygon(SQUARE, classification={"name": "Tumor"}),
        polygon(HOLE, classification={"names": ["Tumor", "CD3"]}),
        polygon(FAR, classification={"name": "Stroma"}),
        polygon(FAR),
    ]
    found = read_geojson(saved(tmp_path, document))
    slide, grid = drawn_on((64, 64)), place()

    assert dict(found.labels) == {
        "Tumor": 1,
        "Tumor: CD3": 1,
        "Stroma": 1,
        UNCLASSIFIED: 1,
    }
    assert found.inside(slide, grid, ["Tumor"]).sum() == 16
    assert found.inside(slide, grid, ["Tumor: CD3"]).sum() == 1
    assert found.inside(slide, grid, ["Stroma", "Tumor"]).sum() == 17
    with pytest.raises(PatchError, match="no class 'tumour'; it has 'Stroma', 'Tumor'"):
        found.inside(slide, grid, ["tumour"])


def test_coordinates_count_from_the_scanned_part_as_in_qupath(tmp_path):
    found = read_geojson(saved(tmp_path, polygon(FAR)))

    mask = found.inside(drawn_on((64, 64), corner_px=(16, 0)), place())

    np.testing.assert_array_equal(np.argwhere(mask), [[3, 6]])


def test_areas_are_found_on_a_grid_that_begins_elsewhere(tmp_path):
    found = read_geojson(saved(tmp_path, polygon(SQUARE)))
    grid = Grid((2, 3), (2.0, 4.0), (16.0, 12.0))

    mask = found.inside(drawn_on((64, 64)), grid)

    np.testing.assert_array_equal(mask, [[True, True, False]] * 2)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "no GeoJSON: it is no JSON"),
        ("3", "no GeoJSON: its features are int"),
        ('[{"type": "Feature"}]', "its object 1 has no geometry"),
        (json.dumps(polygon([["a", 1]] * 3)), "object 1 are no rings of numbers"),
        (json.dumps(polygon(SQUARE[:2])), "object 1 are no rings of numbers"),
        (json.dumps(polygon()), "object 1 are no rings of numbers"),
        ("[]", "enclose no area: they hold no object. Draw polygons"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong(tmp_path, text: str, says: str):
    path = tmp_path / "a.geojson"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(PatchError, match=says):
        read_geojson(path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(PatchError, match="cannot be read: No such file"):
        read_geojson(tmp_path / "no.geojson")


def test_annotations_of_another_slide_are_refused(tmp_path):
    far = np.add(SQUARE, 5000).tolist()
    found = read_geojson(saved(tmp_path, polygon(far)))

    with pytest.raises(PatchError, match=r"reach over x 5008 to 5040.* is 64 x 64 px"):
        found.inside(drawn_on((64, 64)), place())


@pytest.mark.real_data
@pytest.mark.parametrize("name", PLAIN)
def test_a_real_qupath_annotation_is_exact_within_a_cell(shared_data, name: str):
    path = shared_data / "annotations" / "qupath_geojson" / f"qupath-{name}.json"
    found = read_geojson(path)
    slide = drawn_on((20_000, 30_000))
    grid = Grid((500, 900), (1.0, 1.0), (7500.303, 13000.407))  # no centre on an edge

    mask = found.inside(slide, grid)

    xy = np.asarray(json.loads(path.read_text())["geometry"]["coordinates"][0])
    centres = grid.centers_um(np.argwhere(np.ones_like(mask)))[:, ::-1]
    expected = Outline(xy / 2).contains_points(centres).reshape(mask.shape)
    np.testing.assert_array_equal(mask, expected)
    assert mask.sum() == pytest.approx(area(xy / 2), rel=0.02)


def area(xy: np.ndarray) -> float:
    (x, y), (x1, y1) = xy.T, np.roll(xy, -1, axis=0).T
    return abs(float((x * y1 - x1 * y).sum())) / 2


@pytest.mark.real_data
def test_real_classified_objects_are_told_apart(shared_data):
    folder = shared_data / "annotations" / "qupath_geojson_advanced"
    found = read_geojson(folder / "qupath-polygon-cell-classified.json")
    y, x = np.vstack([area.rings[0] for area in found.areas]).min(0) / 2 - 1
    slide, grid = drawn_on((60_000, 60_000)), Grid((1200, 1200), (0.25, 0.25), (y, x))

    cells, nuclei, both = (
        found.inside(slide, grid, labels) for labels in (["Cell"], ["Nucleus"], [])
    )

    assert dict(found.labels) == {"Cell": 2, "Nucleus": 2}
    assert cells.any()
    assert nuclei.any()
    np.testing.assert_array_equal(cells | nuclei, both)


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["point", "multipoint", "line", "polyline"])
def test_real_points_and_lines_enclose_no_area(shared_data, name: str):
    path = shared_data / "annotations" / "qupath_geojson" / f"qupath-{name}.json"

    with pytest.raises(PatchError, match=r"enclose no area: they hold 1 x \w+"):
        read_geojson(path)
