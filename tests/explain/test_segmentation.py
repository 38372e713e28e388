"""From slide and genes to a map, contours and areas; whole or not at all."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from gimp_models.card import Card
from gimp_models.checkpoint import save
from gimp_models.mgi import Mgi, MgiConfig

from napari_gimp.cli import main
from napari_gimp.errors import CheckpointError, GimpError, PatchError, ResultError
from napari_gimp.explain import segmentation
from napari_gimp.explain.inference import Progress, Request, Warned
from napari_gimp.explain.segmentation import MapBegun, Segmentation
from napari_gimp.segmented import read_level, segment_into
from napari_gimp.slide.source import open_slide

MPP, SIDE_PX, GENES = 0.5, (900, 1100), 130
DARK_PX = (slice(300, 500), slice(400, 700))  # of the slide
FILES = {"result.json", "probability.zarr", "contours.geojson", "mask.png"}


def write_slide(path: Path, pixels: np.ndarray, mpp: float = MPP) -> Path:
    per_cm = {"resolution": (1e4 / mpp,) * 2, "resolutionunit": "CENTIMETER"}
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(256, 256), **per_cm)
    return path


def paint() -> np.ndarray:
    """Pink tissue on glass with one darker rectangle in it."""
    pixels = np.full((*SIDE_PX, 3), 243, np.float32)
    pixels[150:750, 150:950] = (215, 140, 190)
    pixels[DARK_PX] = (120, 50, 120)
    noise = np.random.default_rng(0).normal(0, 6, SIDE_PX)[..., None]
    return (pixels + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slide(tmp_path_factory.mktemp("slide") / "slide.tif", paint())


def write_model(folder: Path, **card: object) -> Path:
    fields = {
        "stage": "finetune",
        "classes": ("tumour",),
        "genes": tuple(f"GENE{k}" for k in range(GENES)),
        "gene_mean": (5.0,) * GENES,
        "gene_sd": (1.5,) * GENES,
        "metrics": {"dice": 0.5},
        "description": "Untrained weights.",
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Mgi(MgiConfig.preset("tiny", genes=GENES, classes=1))
        save(folder, model, Card(**{**fields, **card}))
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("mgi") / "mgi")


@pytest.fixture(scope="module")
def genes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = np.random.default_rng(1).normal(6, 2, GENES).clip(0, 12)
    rows = [
        ",".join(["sample", *(f"GENE{k}" for k in range(GENES))]),
        ",".join(["P1", *(f"{v:.3f}" for v in values)]),
    ]
    path = tmp_path_factory.mktemp("genes") / "genes.csv"
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture
def darkness(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the model by one that calls dark pixels tumour."""

    def network(images: torch.Tensor) -> torch.Tensor:
        return (images.mean(1, keepdim=True) < 0.5).float() * 0.9

    monkeypatch.setattr(segmentation, "_network", lambda _: network)


def run(out: Path, request: Request, threshold: float = 0.5) -> list[object]:
    return list(segment_into(out, request, threshold=threshold))


@pytest.mark.slow
def test_everything_is_written_and_agrees(
    slide: Path, model: Path, genes: Path, tmp_path: Path
) -> None:
    events = run(tmp_path / "out", Request(slide, model, genes, batch_size=4))

    found = events[-1]
    assert isinstance(found, Segmentation)
    assert {p.name for p in (tmp_path / "out").iterdir()} == FILES
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["format"] == "napari-gimp-segmentation"
    assert told["model"]["architecture"] == "mgi"
    assert told["genes_matched"] == GENES
    assert told["sample"] == "P1"
    values, grid = read_level(
        tmp_path / "out" / "probability.zarr", found.grid, 0, 10**9
    )
    counted = (values >= 0.5).sum() * grid.cell_um[0] ** 2 / 1e6
    assert told["area_mm2"]["tumour"] == pytest.approx(counted)
    progress = [e for e in events if isinstance(e, Progress)]
    assert [p.done for p in progress] == sorted(p.done for p in progress)
    assert progress[-1].done == progress[-1].total == found.tiles


@pytest.mark.usefixtures("darkness")
def test_contours_lie_where_the_planted_mask_lies_within_a_pixel(
    slide: Path, model: Path, tmp_path: Path
) -> None:
    run(tmp_path / "out", Request(slide, model))

    text = (tmp_path / "out" / "contours.geojson").read_text()
    (feature,) = json.loads(text)["features"]
    x, y = np.array(feature["geometry"]["coordinates"][0]).T
    pixel = 1.0 / MPP  # of the map, in px of the slide
    rows, cols = DARK_PX
    for found, true in (
        (y.min(), rows.start),
        (y.max(), rows.stop),
        (x.min(), cols.start),
        (x.max(), cols.stop),
    ):
        assert abs(found - true) <= pixel
    area = feature["properties"]["measurements"]["area mm2"]
    assert area == pytest.approx(100 * 150 / 1e6, rel=0.02)


@pytest.mark.usefixtures("darkness")
def test_the_map_opens_as_a_slide_and_covers_it(
    slide: Path, model: Path, tmp_path: Path
) -> None:
    run(tmp_path / "out", Request(slide, model))

    with open_slide(tmp_path / "out" / "probability.zarr") as source:
        assert source.mpp == (1.0, 1.0)
        assert source.levels[0].shape == (450, 550)
        values = source.read_region(0, 0, 0, 450, 550)[..., 0]
    assert values[150:250, 200:350].min() > 0.5
    assert (values > 0.5).sum() == pytest.approx(100 * 150, rel=0.02)


@pytest.mark.usefixtures("darkness")
def test_the_map_can_be_opened_while_it_fills_and_goes_with_a_cancel(
    slide: Path, model: Path, tmp_path: Path
) -> None:
    events = segment_into(tmp_path / "out", Request(slide, model), threshold=0.5)
    with closing(events):
        begun = next(e for e in events if isinstance(e, MapBegun))
        next(e for e in events if isinstance(e, Progress))
        with open_slide(begun.path) as source:
            assert source.levels[0].shape == begun.grid.shape
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_command_exits_with_130_and_leaves_nothing(
    slide: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(images: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    monkeypatch.setattr(segmentation, "_network", lambda _: interrupted)
    out = str(tmp_path / "out")
    assert main(["segment", str(slide), "--model", str(model), "--out", out]) == 130
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_genes_change_the_map_and_are_not_needed(
    slide: Path, model: Path, genes: Path, tmp_path: Path
) -> None:
    def values(name: str, table: Path | None) -> np.ndarray:
        *_, found = run(tmp_path / name, Request(slide, model, table))
        assert isinstance(found, Segmentation)
        return read_level(tmp_path / name / "probability.zarr", found.grid, 0, 10**9)[0]

    alone, together = values("alone", None), values("together", genes)
    covered = alone > 0
    assert np.array_equal(covered, together > 0)
    assert not np.array_equal(alone, together)


@pytest.mark.slow
def test_a_model_of_several_classes_makes_a_channel_of_each(
    slide: Path, tmp_path: Path
) -> None:
    classes = ("background", "tumour", "stroma")
    config = MgiConfig.preset("tiny", genes=GENES, classes=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        card = Card(
            stage="finetune",
            classes=classes,
            genes=tuple(f"GENE{k}" for k in range(GENES)),
            gene_mean=(0.0,) * GENES,
            gene_sd=(1.0,) * GENES,
        )
        save(tmp_path / "model", Mgi(config), card)

    run(tmp_path / "out", Request(slide, tmp_path / "model"), threshold=0.2)

    with open_slide(tmp_path / "out" / "probability.zarr") as source:
        total = source.read_region(0, 150, 200, 64, 64).sum(axis=2)
        assert source.channel_names == classes
    np.testing.assert_allclose(total, 1, atol=1e-5)
    drawn = json.loads((tmp_path / "out" / "contours.geojson").read_text())["features"]
    names = {feature["properties"]["classification"]["name"] for feature in drawn}
    assert names <= {"tumour", "stroma"}
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert tuple(told["area_mm2"]) == classes


def test_the_area_of_a_background_is_not_printed(
    slide: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.random.fork_rng(devices=[]):
        card = Card(stage="finetune", classes=("background", "tumour"))
        config = MgiConfig.preset("tiny", genes=GENES, classes=2)
        panel = tuple(f"GENE{k}" for k in range(GENES))
        spread = {"gene_mean": (0.0,) * GENES, "gene_sd": (1.0,) * GENES}
        save(tmp_path / "model", Mgi(config), replace(card, genes=panel, **spread))
    out = str(tmp_path / "out")

    assert (
        main(["segment", str(slide), "--model", str(tmp_path / "model"), "--out", out])
        == 0
    )

    named = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert named == ["tissue", "tumour", "Map:"]


@pytest.mark.usefixtures("darkness")
def test_a_former_segmentation_is_replaced_and_nothing_else(
    slide: Path, model: Path, tmp_path: Path
) -> None:
    run(tmp_path / "out", Request(slide, model))
    run(tmp_path / "out", Request(slide, model), threshold=0.95)
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["area_mm2"] == {"tumour": 0.0}
    assert told["contours"]["count"] == 0

    (tmp_path / "out" / "notes.txt").write_text("precious")
    with pytest.raises(ResultError, match=r"notes\.txt"):
        run(tmp_path / "out", Request(slide, model))


def test_a_model_that_is_only_pretrained_is_refused(
    slide: Path, tmp_path: Path
) -> None:
    folder = write_model(tmp_path / "mgi", stage="pretrain")
    with pytest.raises(CheckpointError, match="pre-trained only"):
        run(tmp_path / "out", Request(slide, folder))
    assert not (tmp_path / "out").exists()


def test_a_slide_without_tissue_is_said(model: Path, tmp_path: Path) -> None:
    glass = write_slide(tmp_path / "glass.tif", np.full((600, 600, 3), 243, np.uint8))
    with pytest.raises(PatchError, match=r"No tissue was found on glass\.tif"):
        run(tmp_path / "out", Request(glass, model))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("threshold", [0.0, -1.0, 1.5])
def test_a_threshold_that_is_no_probability_is_refused(
    slide: Path, model: Path, tmp_path: Path, threshold: float
) -> None:
    with pytest.raises(GimpError, match="must be above 0"):
        run(tmp_path / "out", Request(slide, model), threshold)


def test_a_batch_of_no_tile_is_refused(
    slide: Path, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(GimpError, match="batch size is 0"):
        run(tmp_path / "out", Request(slide, model, batch_size=0))


@pytest.mark.usefixtures("darkness")
def test_a_slide_coarser_than_the_model_saw_is_warned_of_early(
    slide: Path, model: Path, tmp_path: Path
) -> None:
    events = run(tmp_path / "out", Request(slide, model, mpp=2.0))

    texts = [event.text for event in events if isinstance(event, Warned)]
    begun = next(k for k, event in enumerate(events) if isinstance(event, MapBegun))
    assert any("2 um/px, the model was trained at 1" in text for text in texts)
    assert isinstance(events[begun - 1], Warned)
    last = events[-1]
    assert isinstance(last, Segmentation)
    assert set(texts) <= set(last.warnings)


@pytest.mark.usefixtures("darkness")
def test_the_command_looks_only_where_an_annotation_says(
    slide: Path, model: Path, tmp_path: Path
) -> None:
    ring = [[150, 150], [350, 150], [350, 750], [150, 750], [150, 150]]
    area = {"type": "Polygon", "coordinates": [ring]}  # left of most that is dark
    only = tmp_path / "left.geojson"
    only.write_text(json.dumps({"type": "Feature", "geometry": area}))
    out, all_of_it = tmp_path / "out", tmp_path / "all"
    run(all_of_it, Request(slide, model))

    command = ["segment", slide, "--model", model, "--out", out, "--include", only]
    assert main([str(word) for word in command]) == 0

    told = json.loads((out / "result.json").read_text())
    before = json.loads((all_of_it / "result.json").read_text())
    assert told["plan"]["include"][0]["file"] == "left.geojson"
    assert before["plan"] == {}
    assert told["tissue_mm2"] < 0.4 * before["tissue_mm2"]
    assert told["tiles"] < before["tiles"]


@pytest.fixture
def told(
    slide: Path,
    model: Path,
    genes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> str:
    where = ("--genes", genes, "--sample", "P1", "--out", tmp_path / "out")
    command = ("segment", slide, "--model", model, *where, "--batch-size", "4")
    assert main([str(word) for word in command]) == 0
    return capsys.readouterr().out


def test_the_command_tells_areas_and_where_the_map_is(
    told: str, tmp_path: Path
) -> None:
    assert "tissue" in told
    assert "tumour" in told
    assert "mm2 from 0.5 on" in told
    assert str(tmp_path / "out" / "probability.zarr") in told
