"""Subspace against outputs recorded from the public reference (spec subspace 8)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from gimp_models.bag import Batch
from gimp_models.subspace import TASKS, Subspace, SubspaceConfig
from torch import Tensor

TUMOUR, MICRO = range(59), range(59, 420)
SQUARE = {  # names of our modules by the names in the golden file
    "patch": "patch",
    "fuse": "fuse",
    "norm1": "norm_in",
    "norm2": "norm_out",
    "pool": "pool",
    "project": "project",
    **{f"genes{layer}": f"genes.layers.{layer}" for layer in range(4)},
    "attention_to_q": "attention.query",
    "attention_to_k": "attention.key",
    "attention_to_v": "attention.value",
    "attention_out": "attention.out",
    "attention_offset_depthwise": "attention.offsets.depthwise",
    "attention_offset_pointwise": "attention.offsets.pointwise",
    "attention_bias0": "attention.bias.first",
    "attention_bias1": "attention.bias.second",
    "attention_bias2": "attention.bias.last",
}
# Added to every key's score alike, which softmax does not notice: we have none.
WITHOUT_EFFECT = {"attention_bias2_bias"}
both_tasks = pytest.mark.parametrize(
    ("name", "task"), [("survival", "survival"), ("diag2021", "diagnosis")]
)


@pytest.fixture
def golden(shared_data, name) -> Mapping[str, Tensor]:
    numpy = pytest.importorskip("numpy")
    path = Path(shared_data).parent / "golden" / "subspace" / f"model_{name}.npz"
    if not path.is_file():
        pytest.skip(f"the recorded outputs are not at {path}")
    with numpy.load(path) as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays.files}


@pytest.fixture
def model(golden, task) -> Subspace:
    """The base model with the recorded weights, every one of them used."""
    config = SubspaceConfig(
        patch_features=1024,
        genes=420,
        classes=4,
        tumour_genes=tuple(TUMOUR),
        micro_genes=tuple(MICRO),
        layout="list",
    ).with_task(TASKS[task])
    model = Subspace(config).eval()
    model.load_state_dict(recorded_weights(golden))  # strict: none left over
    return model


@pytest.fixture
def batch(golden) -> Batch:
    """Two patients of 2,500 patches, the genes of both branches side by side."""
    features = golden["patches_a"] @ golden["patches_b"] / 2
    return Batch(
        features=features,
        coords_um=torch.zeros(*features.shape[:2], 2),
        mask=torch.ones(features.shape[:2], dtype=torch.bool),
        genes=torch.cat([golden["genes_tumour"], golden["genes_micro"]], dim=1),
        has_genes=torch.ones(2, dtype=torch.bool),
        labels=torch.full((2,), -1),
    )


def recorded_weights(golden):
    weights = {
        "head.weight": golden["classifier_weight"],
        "head.bias": golden["classifier_bias"],
    }
    for key, value in golden.items():
        side, _, rest = key.partition("/")
        if rest and rest not in WITHOUT_EFFECT:
            weights[our_name(side, rest)] = value
    return weights


def our_name(side, recorded):
    head, _, kind = recorded.rpartition("_")
    if head in SQUARE:
        return f"{side}.{SQUARE[head]}.{kind}"
    return f"{side}.{SQUARE[recorded]}.weight"  # to_q, to_k, to_v have no bias


@pytest.mark.slow
@both_tasks
def test_whole_model_gives_the_recorded_outputs(golden, model, batch, name):
    with torch.no_grad():
        output = model(batch)
    features = torch.cat([output.tumour.feature, output.micro.feature], dim=1)
    found = {
        "features": features,
        "head": output.hazards if name == "survival" else output.logits,
        "vgrid_tumour": output.tumour.vgrid,
        "vgrid_micro": output.micro.vgrid,
        "gene_tumour": output.tumour.genes,
        "gene_micro": output.micro.genes,
    }
    for key, value in found.items():
        torch.testing.assert_close(value, golden[key], atol=1e-5, rtol=0, msg=key)


@pytest.mark.parametrize("name", ["survival"])
def test_recorded_key_grids_tell_rows_heads_and_axes_apart(golden):
    """The comparison above notices another order of any of them."""
    vgrid = golden["vgrid_tumour"]
    swapped = vgrid.unflatten(0, (2, 8)).transpose(0, 1).flatten(0, 1)
    for other in (swapped, vgrid.flip(1), vgrid.mT):
        assert (other - vgrid).abs().max() > 1e-2
