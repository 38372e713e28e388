"""Synthetic slides: pixels follow the truth, files are read by others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from napari_gimp.synthetic.layout import Layout, Tissue, truth_codes
from napari_gimp.synthetic.paint import Painter
from napari_gimp.synthetic.patient import Patient, draw_patient
from napari_gimp.synthetic.slide import shrink, write_slide

SIDE = 1024


def _patient(label: str = "basal-like", *, pen: bool = False) -> Patient:
    return replace(draw_patient("T", 4, label, "north"), pen=pen)


def _full() -> Patient:
    """Return a patient whose slide shows every tissue."""
    patient = _patient(pen=True)
    habit = replace(
        patient.habit, tumour=0.5, necrosis=0.15, lymphocytes=0.7, glands=0.6, fat=0.1
    )
    return replace(patient, habit=habit)


@pytest.fixture(scope="module")
def painted() -> tuple[np.ndarray, np.ndarray]:
    """Pixels (192, 192, 3) of a whole slide at 8 um, and its truth."""
    layout = Layout(_full(), (1536.0, 1536.0))
    painter = Painter(layout, 1.0)
    pixels = painter.block(0, 0, 1536)
    return shrink(pixels, 8), truth_codes(layout)[0]


def _density(pixels: np.ndarray) -> np.ndarray:
    """Return optical density (h, w, 3)."""
    return -np.log((pixels.astype(float) + 1) / 245)


def test_every_tissue_is_on_a_slide_that_should_show_them(
    painted: tuple[np.ndarray, np.ndarray],
) -> None:
    _, codes = painted
    assert set(np.unique(codes)) == {int(tissue) for tissue in Tissue}


def test_glass_is_white_and_tissue_is_not(
    painted: tuple[np.ndarray, np.ndarray],
) -> None:
    pixels, codes = painted
    from scipy.ndimage import binary_erosion

    glass = pixels[binary_erosion(codes == Tissue.GLASS, iterations=2)]
    assert glass.min() > 225
    assert np.ptp(glass.mean(0)) < 12
    for tissue in (Tissue.TUMOUR, Tissue.LYMPHOCYTES, Tissue.NECROSIS):
        assert pixels[codes == tissue].mean() < 200


def test_tumour_and_lymphocytes_hold_more_haematoxylin_than_stroma(
    painted: tuple[np.ndarray, np.ndarray],
) -> None:
    pixels, codes = painted
    red = _density(pixels)[..., 0]  # haematoxylin absorbs red, eosin hardly
    stroma = np.median(red[codes == Tissue.STROMA])
    assert np.median(red[codes == Tissue.TUMOUR]) > 1.6 * stroma
    assert np.median(red[codes == Tissue.LYMPHOCYTES]) > 2 * stroma


def test_necrosis_is_pinker_than_tumour(
    painted: tuple[np.ndarray, np.ndarray],
) -> None:
    pixels, codes = painted
    density = _density(pixels)
    pink = density[..., 1] / density[..., 0].clip(0.02)
    dead, alive = (np.median(pink[codes == t]) for t in (4, 2))
    assert dead > 1.2 * alive


def test_pen_is_blue(painted: tuple[np.ndarray, np.ndarray]) -> None:
    pixels, codes = painted
    red, _, blue = np.median(pixels[codes == Tissue.PEN], axis=0)
    assert blue > red + 60


def test_benign_tissue_has_no_tumour_and_no_necrosis() -> None:
    codes, grid = truth_codes(Layout(_patient("benign"), (1200.0, 1000.0)))
    assert codes.shape == grid.shape == (150, 125)
    assert not np.isin(codes, (Tissue.TUMOUR, Tissue.NECROSIS)).any()
    assert (codes == Tissue.GLAND).any()


def test_blocks_meet_without_a_seam() -> None:
    painter = Painter(Layout(_full(), (512.0, 512.0)), 0.5)
    whole = painter.block(0, 0, 1024)
    for top, left in ((0, 512), (512, 512), (512, 0)):
        part = painter.block(top, left, 512)
        np.testing.assert_array_equal(
            part, whole[top : top + 512, left : left + 512], f"block {top}, {left}"
        )


def test_equal_patients_give_equal_bytes_whatever_the_workers(tmp_path: Path) -> None:
    one, two = tmp_path / "a.tif", tmp_path / "b.tif"
    write_slide(one, _patient(), side_px=(1100, 600), workers=1)
    write_slide(two, _patient(), side_px=(1100, 600), workers=3)
    assert one.read_bytes() == two.read_bytes()


def test_other_seeds_give_other_slides(tmp_path: Path) -> None:
    one, two = tmp_path / "a.tif", tmp_path / "b.tif"
    write_slide(one, draw_patient("T", 1, "benign", "north"), side_px=512)
    write_slide(two, draw_patient("T", 2, "benign", "north"), side_px=512)
    assert one.read_bytes() != two.read_bytes()


@pytest.mark.parametrize("mpp", [0.5, pytest.param(0.25, marks=pytest.mark.slow)])
def test_openslide_reads_levels_and_resolution(tmp_path: Path, mpp: float) -> None:
    import openslide

    path = tmp_path / "s.tif"
    write_slide(path, _patient(), side_px=(1100, 900), mpp=mpp)
    with openslide.OpenSlide(path) as slide:
        assert slide.properties["openslide.vendor"] == "generic-tiff"
        assert slide.level_dimensions == ((900, 1100), (225, 275), (57, 69))
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(mpp)
        assert float(slide.properties["openslide.mpp-y"]) == pytest.approx(mpp)
        assert "Synthetic" in slide.properties["openslide.comment"]
        fine = np.asarray(slide.read_region((400, 400), 0, (256, 256)))[..., :3]
        coarse = np.asarray(slide.read_region((400, 400), 1, (64, 64)))[..., :3]
    gap = np.abs(shrink(fine, 4).astype(int) - coarse).mean()
    assert gap < 6


def test_tifffile_marks_the_coarser_pages_as_reduced(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "s.tif"
    write_slide(path, _patient(), side_px=SIDE)
    with tifffile.TiffFile(path) as tif:
        assert [page.is_reduced for page in tif.pages] == [False, True]
        assert all(page.is_tiled for page in tif.pages)
        assert tif.pages.first.compression == tifffile.COMPRESSION.JPEG


def test_nothing_is_left_of_a_slide_that_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("out of paint")

    monkeypatch.setattr(Painter, "block", broken)
    with pytest.raises(RuntimeError, match="out of paint"):
        write_slide(tmp_path / "s.tif", _patient(), side_px=512)
    assert not list(tmp_path.iterdir())


def test_progress_counts_every_block(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    write_slide(
        tmp_path / "s.tif",
        _patient(),
        side_px=(1100, 600),
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 2), (2, 2)]


def test_nuclei_of_the_basal_end_are_larger_and_less_even() -> None:
    draws = {
        label: [draw_patient(f"P{k}", 9, label, "north").habit for k in range(200)]
        for label in ("luminal-like", "basal-like")
    }
    for trait in ("nucleus_um", "pleomorphism", "mitoses", "solid", "necrosis"):
        luminal, basal = (
            np.array([getattr(habit, trait) for habit in draws[label]])
            for label in ("luminal-like", "basal-like")
        )
        assert basal.mean() > luminal.mean(), trait
        assert np.quantile(luminal, 0.9) > np.quantile(basal, 0.1), "no overlap"
