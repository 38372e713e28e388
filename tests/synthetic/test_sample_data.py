"""The built-in sample: made once, in the cache, and never a training patient."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_gimp import sample_data
from napari_gimp.synthetic.cohort import read_truth
from napari_gimp.synthetic.layout import Tissue


@pytest.fixture
def _small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAPARI_GIMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sample_data, "SAMPLE_SIDE_PX", 1024)
    monkeypatch.setattr(sample_data, "SAMPLE_MPP", 1.0)


@pytest.mark.usefixtures("_small")
def test_the_sample_is_made_once(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    slide = sample_data.sample_slide(lambda done, total: seen.append((done, total)))
    made = slide.stat().st_mtime_ns
    assert seen == [(1, 1)]
    assert slide.is_relative_to(tmp_path / "cache")
    assert sample_data.sample_slide().stat().st_mtime_ns == made
    genes = sample_data.sample_genes().read_text().splitlines()
    assert [line.split(",")[0] for line in genes] == ["sample", "SAMPLE"]


@pytest.mark.usefixtures("_small")
def test_the_sample_has_its_truth() -> None:
    codes, _ = read_truth(sample_data.sample_folder(), sample_data.SAMPLE_ID)
    assert {Tissue.GLASS, Tissue.STROMA, Tissue.TUMOUR} <= set(codes.ravel().tolist())


def test_the_whole_sample_shows_every_tissue() -> None:
    from napari_gimp.synthetic.layout import Layout, truth_codes

    side = sample_data.SAMPLE_SIDE_PX * sample_data.SAMPLE_MPP
    layout = Layout(sample_data.sample_patient(), (side, side))
    codes, _ = truth_codes(layout)
    assert set(codes.ravel().tolist()) == {int(tissue) for tissue in Tissue}


@pytest.mark.usefixtures("_small")
def test_napari_opens_the_sample_as_layers() -> None:
    layers = sample_data.open_sample()
    assert layers
    assert layers[0][1]["units"] == ("um", "um")
