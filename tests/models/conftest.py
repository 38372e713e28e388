"""Small models and bags for the tests of gimp_models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.gimp import Gimp, GimpConfig

FEATURES, GENES, CLASSES, PATCH_UM = 12, 150, 3, 128.0


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(7)


@pytest.fixture
def make_bag(rng: torch.Generator) -> Callable[..., Bag]:
    """Bag of n patches on a 7 wide grid, with random features and genes."""

    def make(patches: int, *, label: int | None = 0, genes: int = GENES) -> Bag:
        index = torch.arange(patches)
        cells = torch.stack([index // 7, index % 7], dim=1)
        return Bag(
            features=torch.randn(patches, FEATURES, generator=rng),
            coords_um=(cells + 0.5) * PATCH_UM,
            genes=torch.randn(genes, generator=rng) if genes else None,
            label=label,
        )

    return make


@pytest.fixture
def make_model() -> Callable[..., Gimp]:
    """Seeded model in evaluation mode, its reference values not zero."""

    def make(**options: Any) -> Gimp:
        config = GimpConfig.preset(
            "tiny", patch_features=FEATURES, genes=GENES, classes=CLASSES
        )
        smaller = {"width": 32, "gene_width": 16, "fragment": 8}
        config = replace(config, **{**smaller, "fragments_per_group": 4, **options})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Gimp(config).eval()
            for mean in (model.image_token_mean, model.gene_token_mean):
                mean.normal_()
        return model

    return make


@pytest.fixture
def three_bags(make_bag: Callable[..., Bag]) -> list[Bag]:
    """Bags of 40, 23 and 1 patches; the second has no genes."""
    return [make_bag(40), make_bag(23, label=1, genes=0), make_bag(1, label=2)]


@pytest.fixture
def three(three_bags: list[Bag]) -> Any:
    return collate(three_bags)
