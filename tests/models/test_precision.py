"""Every model and stage loses little under bfloat16, on any device."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from gimp_models.bag import collate
from gimp_models.region import collate_regions
from torch import nn

Sample = tuple[nn.Module, Any]


def gimp(stage: Callable[..., nn.Module], **options: Any) -> Sample:
    from gimp_models.gimp import Gimp, GimpConfig
    from gimp_models.planted.gimp import PlantedStripes

    config = GimpConfig.preset("tiny", patch_features=16, genes=500, classes=3)
    config = replace(config, dropout=0.0, **options)
    bags = PlantedStripes.make().cohort(6, seed=1)
    return stage(Gimp(config)), collate([*bags, replace(bags[0], genes=None)])


def gimp_by_labels() -> Sample:
    from gimp_models.objective import GimpPretrain

    return gimp(GimpPretrain)


def gimp_by_pairs() -> Sample:
    from gimp_models.objective import GimpPretrain

    return gimp(lambda model: GimpPretrain(model, triplets="pairs"))


def gimp_finetuned() -> Sample:
    from gimp_models.objective import GimpFinetune

    return gimp(GimpFinetune)


def gimp_with_nystrom() -> Sample:
    from gimp_models.objective import GimpFinetune

    return gimp(GimpFinetune, attention="nystrom", landmarks=16)


def mgi(stage: Callable[..., nn.Module]) -> Sample:
    from gimp_models.mgi import Mgi, MgiConfig
    from gimp_models.planted.mgi import planted_regions

    config = MgiConfig.preset("tiny", genes=500, classes=1)
    config = replace(config, image_px=64, depth=2, width=64, gene_width=64)
    regions = planted_regions(genes=500, side_px=64).cohort(6, seed=1)
    return stage(Mgi(config)), collate_regions(regions)


def mgi_pretrained() -> Sample:
    from gimp_models.objective.mgi import MgiPretrain

    return mgi(MgiPretrain)


def mgi_finetuned() -> Sample:
    from gimp_models.objective.mgi import MgiFinetune

    return mgi(MgiFinetune)


def subspace(**options: Any) -> Sample:
    from gimp_models.objective import SubspaceFinetune
    from gimp_models.planted.subspace import PlantedGlioma
    from gimp_models.subspace import Subspace, SubspaceConfig

    planted = PlantedGlioma.make()
    config = SubspaceConfig.preset(
        "tiny",
        patch_features=16,
        genes=planted.loadings.shape[1],
        classes=4,
        tumour_genes=planted.tumour_genes,
        micro_genes=planted.micro_genes,
    )
    config = replace(config, dropout=0.0, gene_dropout=0.0, **options)
    bags = [patient.bag for patient in planted.cohort(8, seed=1)]
    return SubspaceFinetune(Subspace(config)), collate(bags)


def subspace_survival() -> Sample:
    edges = (300.0, 600.0, 1200.0)
    return subspace(task="survival", endpoint="survival", edges_days=edges)


STAGES = pytest.mark.parametrize(
    "stage",
    [
        *(gimp_by_labels, gimp_by_pairs, gimp_finetuned, gimp_with_nystrom),
        *(mgi_pretrained, mgi_finetuned, subspace, subspace_survival),
    ],
)


def loss_and_gradients(
    objective: nn.Module, batch: Any, *, half: bool
) -> tuple[float, list[torch.Tensor]]:
    """One training step's loss, with the draws of a fixed seed."""
    objective.zero_grad()
    device = next(objective.parameters()).device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
        total = objective(batch, torch.Generator().manual_seed(3)).total
    total.backward()
    kept = [p.grad.clone() for p in objective.parameters() if p.grad is not None]
    return total.item(), kept


def require_close(stage: Callable[[], Sample], device: str) -> None:
    """bfloat16 within 1e-2 of float32, relative for losses above 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective, batch = stage()
    objective, batch = objective.to(device).train(), batch.to(device)
    exact, exact_gradients = loss_and_gradients(objective, batch, half=False)
    half, gradients = loss_and_gradients(objective, batch, half=True)

    assert half == pytest.approx(exact, rel=1e-2, abs=1e-2)
    assert half != exact  # so autocast did take part
    assert all(g.dtype == torch.float32 and g.isfinite().all() for g in gradients)
    ours, theirs = (
        torch.cat([g.flatten() for g in every])
        for every in (gradients, exact_gradients)
    )
    assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.95


@STAGES
def test_the_loss_in_bfloat16_is_that_in_float32(stage):
    require_close(stage, "cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@STAGES
def test_the_loss_in_bfloat16_on_a_gpu_is_that_in_float32(stage):
    require_close(stage, "cuda")


@STAGES
def test_a_step_in_double_precision_is_that_in_float32(stage):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        objective, batch = stage()
    single, _ = loss_and_gradients(objective.train(), batch, half=False)
    double, gradients = loss_and_gradients(
        objective.double(), widened(batch), half=False
    )

    assert double == pytest.approx(single, rel=1e-4, abs=1e-4)
    assert all(g.dtype == torch.float64 for g in gradients)


def widened(batch: Any) -> Any:
    """The batch in double precision."""
    names = ("features", "coords_um", "images", "genes")
    held = {n: getattr(batch, n).double() for n in names if hasattr(batch, n)}
    return replace(batch, **held)
