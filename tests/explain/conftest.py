"""A painted slide, an untrained model and their analysis, made once per session."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from gimp_models.bag import Bag, Batch, collate
from gimp_models.checkpoint import Card, save
from gimp_models.gimp import Gimp, GimpConfig

from napari_gimp.explain.inference import Event, Finished, Request, analyse
from napari_gimp.explain.result import Result
from napari_gimp.patches.encoders import Encoder, load_encoder

MPP = 0.8
SIDE_PX = (1000, 1300)  # 6 x 8 patches of 128 um and a rest
PLANTED_UM = (4.5 * 128, 5.5 * 128)
GENES = tuple(f"GENE{k}" for k in range(70))
CLASSES = ("benign", "luminal-like", "basal-like")


def paint(seed: int) -> np.ndarray:
    """Pink tissue with nuclei; one patch of 128 um is dark and dense."""
    rng = np.random.default_rng(seed)
    pixels = np.full((*SIDE_PX, 3), (226, 150, 190), dtype=np.float32)
    pixels += rng.normal(0, 9, SIDE_PX)[..., None]
    for y, x in rng.integers(6, np.array(SIDE_PX) - 6, (500, 2)):
        pixels[y - 4 : y + 5, x - 4 : x + 5] = (110, 70, 150)
    y, x = (round((centre - 64) / MPP) for centre in PLANTED_UM)
    side = round(128 / MPP)
    dense = rng.random((side, side, 1)) < 0.6
    pixels[y : y + side, x : x + side] = np.where(dense, (60, 30, 100), (150, 90, 160))
    return pixels.clip(0, 255).astype(np.uint8)


def write_slide(path: Path, pixels: np.ndarray) -> Path:
    per_cm = 1e4 / MPP
    tifffile.imwrite(
        path,
        pixels,
        tile=(256, 256),
        photometric="rgb",
        resolution=(per_cm, per_cm),
        resolutionunit="CENTIMETER",
    )
    return path


def make_model(encoder: Encoder, seed: int = 0) -> Gimp:
    torch.manual_seed(seed)
    config = GimpConfig.preset(
        "tiny", patch_features=encoder.width, genes=len(GENES), classes=len(CLASSES)
    )
    model = Gimp(config).eval()
    with torch.no_grad():
        for head in (model.pair_head, model.image_head):
            head[-1].weight.mul_(8)  # untrained logits hardly move otherwise
    return model


def make_card(encoder: Encoder, **changes: object) -> Card:
    fields = {
        "stage": "finetune",
        "classes": CLASSES,
        "genes": GENES,
        "gene_mean": (5.0,) * len(GENES),
        "gene_sd": (1.5,) * len(GENES),
        "encoder": {
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "width": encoder.width,
        },
        "patch_um": encoder.patch_um,
        "mpp": encoder.mpp,
        "cohort": {"name": "nobody"},
        "metrics": {"balanced_accuracy": [0.5, 0.4, 0.6]},
        "description": "Untrained weights.",
    }
    return Card(**{**fields, **changes})


@dataclass(frozen=True)
class Case:
    """Files of one patient and a model that fits them."""

    slide: Path
    genes: Path
    model: Path


@pytest.fixture(scope="session")
def encoder() -> Encoder:
    return load_encoder()


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Case:
    folder = tmp_path_factory.mktemp("case")
    write_slide(folder / "painted.tif", paint(seed=3))
    _write_genes(folder / "genes.csv")
    save(folder / "model", make_model(encoder), make_card(encoder))
    return Case(folder / "painted.tif", folder / "genes.csv", folder / "model")


def _write_genes(path: Path) -> None:
    """Three samples; the last two genes are missing, one is far out of range."""
    values = np.abs(np.random.default_rng(5).normal(5, 1.5, (3, len(GENES) - 2)))
    values[0, 0] = 29.5
    rows = [
        ",".join([f"PATIENT-{k}", *(f"{v:.4f}" for v in row)])
        for k, row in enumerate(values, start=1)
    ]
    path.write_text("\n".join([",".join(["sample", *GENES[:-2]]), *rows]) + "\n")


@pytest.fixture
def one_patch(tmp_path: Path) -> Path:
    """A slide whose only tissue fills one patch of 128 um."""
    side, glass = round(128 / MPP), np.full((700, 700, 3), 243, np.uint8)
    glass[side : 2 * side, side : 2 * side] = paint(seed=1)[:side, :side]
    return write_slide(tmp_path / "one.tif", glass)


@pytest.fixture(scope="session")
def events(case: Case) -> list[Event]:
    request = Request(
        case.slide, case.model, case.genes, sample="PATIENT-1", batch_size=8
    )
    return list(analyse(request))


@pytest.fixture(scope="session")
def result(events: list[Event]) -> Result:
    last = events[-1]
    assert isinstance(last, Finished)
    return last.result


@pytest.fixture(scope="session")
def slide_only(case: Case) -> Result:
    last = list(analyse(Request(case.slide, case.model)))[-1]
    assert isinstance(last, Finished)
    return last.result


@pytest.fixture
def model(encoder: Encoder) -> Gimp:
    """The untrained model of `case`, with a reference that is not zero."""
    model = make_model(encoder)
    generator = torch.Generator().manual_seed(8)
    for mean in (model.feature_mean, model.image_token_mean, model.gene_token_mean):
        mean.copy_(0.3 * torch.randn(mean.shape, generator=generator))
    return model


@pytest.fixture
def batch(encoder: Encoder) -> Batch:
    """One made-up patient of 60 patches with genes."""
    generator = torch.Generator().manual_seed(4)
    features = 2 * torch.randn(60, encoder.width, generator=generator)
    coords = torch.rand(60, 2, generator=generator) * 4000
    genes = 1.5 * torch.randn(len(GENES), generator=generator)
    return collate([Bag(features, coords, genes)])


@pytest.fixture
def without_genes(batch: Batch) -> Batch:
    return collate([Bag(batch.features[0], batch.coords_um[0])])


@pytest.fixture(scope="session")
def card(encoder: Encoder) -> Card:
    return make_card(encoder)


@pytest.fixture(scope="session")
def planted_um() -> tuple[float, float]:
    """Centre (y, x) of the one dense patch of the painted slide, um."""
    return PLANTED_UM


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
