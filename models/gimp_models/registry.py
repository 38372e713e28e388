"""The models by name: what each is, and how a checkpoint's card builds it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gimp_models import gimp, mgi, subspace
from gimp_models.config import Config
from gimp_models.errors import CheckpointError
from gimp_models.gimp_config import GimpConfig
from gimp_models.mgi_config import MgiConfig
from gimp_models.subspace_config import SubspaceConfig

__all__ = ["MODELS", "Architecture", "build", "find", "name_of"]

_LICENCE = "code BSD-3-Clause; no weights of the paper; a checkpoint's card has its own"
_TCGA = {"patch_features": 1024, "genes": 20_530}
"""Sizes that parameters are counted for: a usual patch encoder, a panel of TCGA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One registered model: its card, and what is needed to build it.

    Parameters
    ----------
    name
        What checkpoints, run files and the command line call it.
    title
        What people call it.
    summary
        What it does, in a sentence.
    source
        The paper it re-implements, and what of it was at hand.
    inputs, outputs
        What `forward` takes and returns, with shapes.
    licence
        Of code and weights.
    model
        Its class; built from a config, which it has as `config`.
    config
        Its config's class.
    preset
        A named size and what the data dictate, to a config.
    typical
        What the data dictate where sizes are compared.
    choices
        What the paper leaves open and how a config settles it, one sentence each.
    """

    name: str
    title: str
    summary: str
    source: str
    inputs: str
    outputs: str
    licence: str = _LICENCE
    model: Callable[[Any], nn.Module]
    config: type[Config]
    preset: Callable[..., Config]
    typical: Mapping[str, Any]
    choices: Callable[[Any], tuple[str, ...]]

    @property
    def sizes(self) -> tuple[str, ...]:
        """Names of its presets."""
        return tuple(self.config.SIZES)

    def parameters(self, size: str) -> int:
        """Count the parameters of a preset with `typical` data.

        Nothing is allocated: the model is built on the meta device.
        """
        with torch.device("meta"):
            model = self.model(self.preset(size, **self.typical))
        return sum(p.numel() for p in model.parameters())

    def as_dict(self) -> dict[str, Any]:
        """Return the card as plain values that JSON can hold."""
        told = ("name", "title", "summary", "source", "inputs", "outputs", "licence")
        return {
            **{field: getattr(self, field) for field in told},
            "sizes": {size: self.parameters(size) for size in self.sizes},
            "typical": {k: _plain(v) for k, v in self.typical.items()},
            "choices": list(self.choices(self.preset("base", **self.typical))),
        }


def _plain(value: Any) -> Any:
    """Return a list's length for a list: thousands of gene indices tell nothing."""
    return len(value) if isinstance(value, list | tuple) else value


_GIMP = Architecture(
    name="gimp",
    title="GiMP, gene-induced multimodal pre-training",
    summary=(
        "Classifies a patient from the patches of a slide and gene expression; "
        "pre-trained by masked patches and triplets across both."
    ),
    source=(
        "Jin et al., MICCAI 2023, doi:10.1007/978-3-031-43987-2_49 (re-implemented "
        "from the abstract)"
    ),
    inputs=(
        "Batch: patch features (B, N, P) with coordinates in um, gene z-scores "
        "(B, G) or none"
    ),
    outputs=(
        "GimpOutput: logits (B, C) of the pair and of each modality alone, tokens, "
        "attention of patches (B, N) and gene groups on request"
    ),
    model=gimp.Gimp,
    config=GimpConfig,
    preset=GimpConfig.preset,
    typical={**_TCGA, "classes": 3},
    choices=gimp.choices,
)

_MGI = Architecture(
    name="mgi",
    title="MGI, contrastive pre-training of images and gene expression",
    summary=(
        "Segments tumour in a region from its pixels and gene expression; pre-trained "
        "by contrasting images with the profiles of their patients."
    ),
    source=(
        "Zhou et al., arXiv 2406.00631, 2024 (re-implemented from the abstract; no "
        "code was found)"
    ),
    inputs=(
        "RegionBatch: RGB regions (B, 3, H, W) in [0, 1], gene z-scores (B, G) or none"
    ),
    outputs=(
        "MgiOutput: logits of the mask (B, K, H, W), embeddings of image and genes "
        "(B, E), tokens of both, cross-attention (B, N, T) on request"
    ),
    model=mgi.Mgi,
    config=MgiConfig,
    preset=MgiConfig.preset,
    typical={"genes": _TCGA["genes"], "classes": 1},
    choices=mgi.choices,
)

_SUBSPACE = Architecture(
    name="subspace",
    title="Subspace, knowledge-driven fusion with gradient coordination",
    summary=(
        "Classifies a patient, or tells the risk over time, from the patches of a "
        "slide and two gene lists; evidence per patch sums to the logit."
    ),
    source=(
        "Zhang et al., MICCAI 2024, arXiv 2406.13979 (re-implemented from a "
        "specification; the public code has no licence, nothing is copied)"
    ),
    inputs=(
        "Batch: patch features (B, N, P) with coordinates in um, gene z-scores "
        "(B, G) or none"
    ),
    outputs=(
        "SubspaceOutput: logits (B, C) of classes or time bins, tokens and key "
        "positions of both branches, attention to keys on request"
    ),
    model=subspace.Subspace,
    config=SubspaceConfig,
    preset=SubspaceConfig.preset,
    # The gene lists of the public code have 59 and 361 genes.
    typical={
        **_TCGA,
        "classes": 4,
        "tumour_genes": tuple(range(59)),
        "micro_genes": tuple(range(361)),
    },
    choices=subspace.choices,
)

MODELS: Mapping[str, Architecture] = {m.name: m for m in (_GIMP, _MGI, _SUBSPACE)}
"""Every model of this package by name."""


def find(name: str) -> Architecture:
    """Look an architecture up.

    Raises
    ------
    CheckpointError
        If there is none of that name.
    """
    if name not in MODELS:
        raise CheckpointError(
            f"There is no architecture {name!r}: it must be one of "
            f"{', '.join(MODELS)}; update napari-gimp or choose another model."
        )
    return MODELS[name]


def build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a model with fresh weights from its name and a config of plain values.

    Raises
    ------
    CheckpointError
        If the architecture is unknown.
    ConfigError
        If the config does not fit it.
    """
    architecture = find(name)
    return architecture.model(architecture.config.from_dict(config))


def name_of(model: nn.Module | type[nn.Module]) -> str:
    """Return the registered name of a model or of a model's class.

    Raises
    ------
    CheckpointError
        If the class is not registered.
    """
    kind = model if isinstance(model, type) else type(model)
    for name, architecture in MODELS.items():
        if kind is architecture.model:
            return name
    raise CheckpointError(
        f"{kind.__name__} is no registered architecture: it must be one of "
        f"{', '.join(MODELS)}; add it to the registry."
    )
