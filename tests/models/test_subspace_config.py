"""Subspace's config: sizes, tasks, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from gimp_models.deformable import key_side
from gimp_models.errors import ConfigError
from gimp_models.subspace import TASKS, Subspace, SubspaceConfig, Task


@pytest.fixture
def config() -> SubspaceConfig:
    return SubspaceConfig.preset(
        "base",
        patch_features=1024,
        genes=420,
        classes=4,
        tumour_genes=range(59),
        micro_genes=range(59, 420),
    )


def test_base_is_the_size_of_the_public_code(config):
    assert (config.cells, config.width, config.heads, config.head_width) == (
        *(2500, 128),
        *(8, 64),
    )
    assert key_side(config.grid, config.kernel, config.stride) == 12
    assert (config.dropout, config.gene_dropout) == (0.1, 0.1)
    with torch.device("meta"):
        assert Subspace(config).tumour.attention.query.weight.shape == (512, 16, 1, 1)


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_every_size_builds_and_smaller_sizes_have_fewer_parameters(config, size):
    smaller = SubspaceConfig.preset(
        size,
        patch_features=1024,
        genes=420,
        classes=4,
        tumour_genes=config.tumour_genes,
        micro_genes=config.micro_genes,
    )
    with torch.device("meta"):
        count = sum(p.numel() for p in Subspace(smaller).parameters())
        base = sum(p.numel() for p in Subspace(config).parameters())
    assert (count < base) == (size != "base")


def test_config_comes_back_equal_from_json(config):
    survival = config.with_task(TASKS["survival"])
    plain = json.loads(json.dumps(survival.as_dict()))
    assert SubspaceConfig.from_dict(plain) == survival


def test_tasks_of_the_specification_are_ready(config):
    classes = {name: len(task.classes) for name, task in TASKS.items()}
    assert classes == {"diagnosis": 4, "grade": 3, "survival": 4, "subtype": 3}
    assert TASKS["survival"].edges_days == (233.5, 511, 929)
    for name, task in TASKS.items():
        found = config.with_task(task)
        assert (found.endpoint, found.classes) == (name, classes[name])


def test_any_other_endpoint_is_a_config_too(config):
    relapse = Task("relapse", "survival", ("first year", "later"), (365.0,))
    assert config.with_task(relapse).edges_days == (365.0,)
    response = Task("response", "classification", ("none", "partial", "full"))
    assert config.with_task(relapse).with_task(response).edges_days == ()


REFUSED = [
    ({"layout": "round"}, "layout is 'round', it must be one of spatial, list"),
    ({"task": "regression"}, "one of classification, survival"),
    ({"classes": 1}, "classes is 1, it must be at least 2"),
    ({"width": 100}, "width is 100, it must be a multiple of heads"),
    ({"kernel": 7}, "kernel is 7, it must be the stride 4 plus 0, 2, 4"),
    ({"kernel": 2}, "kernel is 2, it must be the stride 4 plus 0, 2, 4"),
    ({"stride": 0}, "stride is 0, it must be at least 1"),
    ({"grid": 7}, "grid is 7, it must be at least 8 for two keys"),
    ({"dropout": 1.0}, "dropout is 1.0, it must be from 0 to below 1"),
    ({"tumour_genes": ()}, "at least one gene, each named once"),
    ({"micro_genes": (3, 3)}, "at least one gene, each named once"),
    ({"micro_genes": (3, 420)}, "indices from 0 to 419"),
    ({"tumour_genes": (-1,)}, "indices from 0 to 419"),
    ({"edges_days": (5.0,)}, "empty for a classification"),
    ({"task": "survival"}, "3 increasing numbers of days"),
    ({"task": "survival", "edges_days": (2.0, 1.0, 3.0)}, "3 increasing numbers"),
    ({"task": "survival", "edges_days": (-1.0, 1.0, 3.0)}, "3 increasing numbers"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED)
def test_a_contradiction_is_refused_with_what_would_be_right(config, change, message):
    with pytest.raises(ConfigError) as error:
        replace(config, **change)
    assert message in str(error.value)


def test_the_smallest_grid_that_is_accepted_has_two_keys(config):
    assert replace(config, grid=8)
    assert key_side(8, config.kernel, config.stride) == 2
