from dataclasses import replace

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from napari_gimp import plots
from napari_gimp.explain.maps import PatchMap, lay_on_grid
from napari_gimp.explain.result import GeneAttribution, Overview, Result
from napari_gimp.geometry import Grid

CELLS = Grid((3, 4), (100.0, 100.0), (50.0, 30.0))
WHITE = Overview(np.full((48, 64, 3), 255, np.uint8), Grid((48, 64), (10.0, 10.0)))


def one_strong_patch(row: int, col: int, *, name: str = "contribution") -> PatchMap:
    every = np.argwhere(np.ones(CELLS.shape, dtype=bool))
    values = np.full(len(every), 1e-4)
    values[row * CELLS.shape[1] + col] = 1.0
    return lay_on_grid(name, values, every, CELLS)


@pytest.mark.parametrize("name", ["attention", "contribution"])
@pytest.mark.parametrize(("row", "col"), [(0, 0), (1, 3), (2, 2)])
def test_the_strongest_colour_lies_exactly_on_its_patch(
    name: str, row: int, col: int
) -> None:
    picture = plots.compose(one_strong_patch(row, col, name=name), WHITE)

    far = np.abs(picture.astype(int) - picture[0, 0]).sum(axis=-1)
    rows, cols = np.nonzero(far == far.max())
    area = CELLS.rect_of(row, col)
    centres = np.stack([(rows + 0.5) * 10, (cols + 0.5) * 10], axis=1)
    assert len(centres) == 100
    assert all(area.contains(*centre) for centre in centres.tolist())


def test_glass_without_patches_is_only_paled() -> None:
    picture = plots.compose(one_strong_patch(1, 1), WHITE)

    assert (picture[-1] == 255).all()
    assert (picture[:, -1] == 255).all()


def test_histology_shows_through_the_strongest_patch() -> None:
    stripes = WHITE.pixels.copy()
    stripes[:, ::2] = 60
    picture = plots.compose(one_strong_patch(1, 1), replace(WHITE, pixels=stripes))

    inside = picture[16:24, 14:22].astype(int)
    assert (inside[:, 0::2].sum(-1) != inside[:, 1::2].sum(-1)).all()


def test_weak_patches_are_more_transparent_than_strong_ones() -> None:
    rgba = plots.colour(one_strong_patch(2, 0, name="attention"))

    assert rgba[2, 0, 3] == pytest.approx(plots.OPAQUE)
    assert rgba[0, 0, 3] < rgba[2, 0, 3]


def test_a_close_up_holds_all_patches_and_stays_in_place() -> None:
    index = np.array([[1, 1], [1, 2]])
    laid = lay_on_grid("attention", np.array([1.0, 2.0]), index, CELLS)

    near = plots.close_up(WHITE, laid)

    area, first, last = near.grid.rect, CELLS.rect_of(1, 1), CELLS.rect_of(1, 2)
    assert area.y0 <= first.y0
    assert area.x0 <= first.x0
    assert area.y1 >= last.y1
    assert area.x1 >= last.x1
    assert near.pixels.shape[:2] == near.grid.shape
    assert area.size_um < WHITE.grid.rect.size_um


def test_shrinking_keeps_brightness_and_place() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (400, 600, 3), dtype=np.uint8)
    large = Overview(pixels, Grid((400, 600), (2.0, 2.0), (6.0, 8.0)))

    small = plots.shrink(large, 200)

    assert small.grid == Grid((133, 200), (6.0, 6.0), (6.0, 8.0))
    expected = pixels[:3, :3].mean(axis=(0, 1))
    np.testing.assert_allclose(small.pixels[0, 0], expected, atol=0.51)


@pytest.mark.parametrize(
    ("um", "bar", "text"),
    [
        (1300, 1000, "1 mm"),
        (740, 500, "500 µm"),
        (21, 20, "20 µm"),
        (1e4, 1e4, "10 mm"),
    ],
)
def test_scale_bars_have_round_lengths(um: float, bar: float, text: str) -> None:
    assert plots.round_length(um) == bar
    assert plots.length_text(bar) == text


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    figure = plots.map_overlay(one_strong_patch(0, 0), WHITE)

    axes = figure.axes[0]
    (bar,) = axes.lines
    ends = np.asarray(bar.get_xdata(), dtype=float)
    assert axes.texts[0].get_text() == plots.length_text(ends[1] - ends[0])
    assert sorted(axes.get_xlim()) == [0, WHITE.grid.rect.x1]


def test_the_legend_names_both_ends_and_the_scale(result: Result) -> None:
    for patch_map in result.maps.values():
        figure = plots.map_overlay(patch_map, result.overview)
        words = " ".join(text.get_text() for text in figure.texts)

        assert patch_map.kind.low in words
        assert patch_map.kind.high in words
        assert ("percentile" in words) is not patch_map.signed


def attribution(values: list[float]) -> GeneAttribution:
    count = len(values)
    return GeneAttribution(
        genes=tuple(f"G{k}" for k in range(count)),
        attribution=np.array(values, dtype=np.float32),
        z=np.linspace(-2, 2, count, dtype=np.float32),
        present=np.arange(count) != 1,
        class_name="basal-like",
        gap=0.001,
    )


def test_gene_bars_show_the_largest_by_size_from_most_for_to_most_against() -> None:
    figure = plots.gene_bars(attribution([0.1, -0.5, 0.02, 0.3, -0.2]), k=4)

    bars = figure.axes[0]
    assert [t.get_text() for t in bars.get_yticklabels()] == ["G3", "G0", "G4", "G1"]
    assert [round(p.get_width(), 6) for p in bars.patches] == [0.3, 0.1, -0.2, -0.5]
    assert "basal-like" in bars.get_title()


def test_gene_bars_give_the_patients_z_and_mark_genes_not_measured() -> None:
    figure = plots.gene_bars(attribution([0.1, -0.5, 0.02, 0.3, -0.2]), k=5)

    _, measured, absent = figure.axes[1].lines
    assert sorted(measured.get_xdata()) == [-2, 0, 1, 2]
    assert absent.get_xdata().tolist() == [-1]
    assert absent.get_markerfacecolor() == "white"


@pytest.mark.parametrize("outside", [0.0, 0.9], ids=["part", "all"])
def test_a_class_is_tinted_exactly_where_it_is_at_or_above_the_threshold(
    outside: float,
) -> None:
    values = np.full((48, 64), outside, np.float32)
    values[12:36, 16:48] = 0.5
    figure = plots.contours_on(WHITE, {"tumour": (values, WHITE.grid)}, 0.5)

    canvas, axes = FigureCanvasAgg(figure), figure.axes[0]
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3]

    def at(x_um: float, y_um: float) -> int:
        x, y = axes.transData.transform((x_um, y_um))
        return int(pixels[len(pixels) - 1 - round(y), round(x)].min())

    assert at(320, 240) < 255
    assert (at(100, 240) < 255) == (outside >= 0.5)


def test_a_map_of_one_row_makes_a_picture_without_outline() -> None:
    line = np.ones((1, 64), np.float32)
    place = Grid((1, 64), (480.0, 10.0))
    assert plots.png_bytes(plots.contours_on(WHITE, {"tumour": (line, place)}, 0.5))
