"""What a run starts from: a fresh model, or a checkpoint's weights and panel."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from gimp_models.card import Card
from gimp_models.checkpoint import Checkpoint, load_as
from gimp_models.gimp import Gimp
from gimp_models.gimp_config import GimpConfig

from napari_gimp.errors import RunError
from napari_gimp.genes.panel import Panel, PanelScale
from napari_gimp.training.data import CohortBags
from napari_gimp.training.run import RunConfig, RunFolder

if TYPE_CHECKING:
    from napari_gimp.patches.encoders import Encoder

HEADS = ("pair_head", "image_head", "gene_head")


def load_start(path: Path) -> Checkpoint[Gimp]:
    """Load a checkpoint folder; a run folder stands for its best checkpoint."""
    best = RunFolder(path).best
    return load_as(best if best.is_dir() else path, Gimp)


def check_encoder(card: Card, encoder: Encoder) -> None:
    """Raise a RunError if the checkpoint was made with other features."""
    expected, given = card.encoder.get("fingerprint"), encoder.fingerprint
    if expected != given:
        raise RunError(
            f"The checkpoint was made with the encoder {card.encoder.get('name')} "
            f"({str(expected)[:12]}), this run uses {encoder.name} ({given[:12]}). "
            "Choose that encoder, or another checkpoint."
        )


def check_no_leak(start: Card, bags: CohortBags) -> None:
    """Raise a RunError if the checkpoint has learned from patients to be tested on.

    Slides are known again by content, whatever patient, file or manifest is called.
    """
    seen = set(start.cohort.get("slides", ()))
    leaked = [p for p in bags.split.test if seen & set(_names(bags, p))]
    if leaked:
        raise RunError(
            f"{len(leaked)} of {len(bags.split.test)} test patients were in the "
            f"training of the starting checkpoint ({', '.join(leaked[:5])}). Pre-train "
            "inside the training split: same manifest, folds, fold and seed."
        )


def panel_of(card: Card) -> Panel:
    """Return the gene panel a checkpoint's card carries.

    Raises
    ------
    RunError
        If the card's scale is not one a panel can have.
    """
    scales: dict[str, PanelScale] = {"log2": "log2", "zscore": "zscore"}
    if card.gene_scale not in scales:
        raise RunError(
            f"The checkpoint's genes are on the scale {card.gene_scale!r}; it must be "
            f"one of {', '.join(scales)}. Choose another start."
        )
    mean = np.asarray(card.gene_mean, dtype=np.float32)
    sd = np.asarray(card.gene_sd, dtype=np.float32)
    return Panel(tuple(card.genes), mean, sd, scales[card.gene_scale])


def fresh_model(run: RunConfig, bags: CohortBags) -> Gimp:
    """Return an untrained model for the run; its weights follow from the seed."""
    with torch.random.fork_rng():
        torch.manual_seed(run.plan.seed)
        return Gimp(fresh_config(run, bags))


def fresh_config(run: RunConfig, bags: CohortBags) -> GimpConfig:
    """Return sizes and options of an untrained model."""
    config = GimpConfig.preset(
        run.size,
        patch_features=bags.train[0].features.shape[1],
        genes=len(bags.panel.genes),
        classes=len(bags.classes),
    )
    return _group_genes(_with_plan(config, run), run.grouping, bags)


def started_model(run: RunConfig, start: Checkpoint[Gimp], bags: CohortBags) -> Gimp:
    """Return the checkpoint's model; new heads where the classes are others."""
    if tuple(start.card.classes) == bags.classes:
        return start.model.requires_grad_(True)
    config = replace(start.model.config, classes=len(bags.classes))
    with torch.random.fork_rng():
        torch.manual_seed(run.plan.seed)
        model = Gimp(config)
    kept = {
        name: tensor
        for name, tensor in start.model.state_dict().items()
        if not name.startswith(HEADS)
    }
    model.load_state_dict(kept, strict=False)
    return model


def seen_slides(bags: CohortBags, before: Iterable[str] = ()) -> list[str]:
    """Return the slides a model has learned from, those of its start included."""
    patients = (*bags.split.train, *bags.split.validation)
    return sorted({name for p in patients for name in _names(bags, p)} | set(before))


def _names(bags: CohortBags, patient: str) -> list[str]:
    return [part.fingerprint for part in bags.slides[patient]]


def _with_plan(config: GimpConfig, run: RunConfig) -> GimpConfig:
    plan = run.plan
    return replace(config, window=plan.window, mask_ratio=plan.mask_ratio)


def _group_genes(config: GimpConfig, grouping: str, bags: CohortBags) -> GimpConfig:
    from gimp_models.grouping import correlated, pathways

    from napari_gimp.genes.sets import hallmarks

    size = config.fragment * config.fragments_per_group
    if grouping == "pathway":
        groups, names = pathways(bags.panel.genes, hallmarks(), size=size)
        return config.with_groups("pathway", groups, names)
    if grouping == "correlation":
        profiles = [bag.genes for bag in bags.train if bag.genes is not None]
        groups = correlated(torch.stack(profiles), size=size)
        return config.with_groups("correlation", groups)
    return config
