"""Deformable attention against the recorded public code and the plain reference."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import gimp_models.position_bias
import numpy as np
import pytest
import torch
from gimp_models.deformable import DeformableAttention
from torch import Tensor, nn

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT.parent / "shared" / "golden" / "subspace" / "attention.npz"
RECORDED = {
    "to_q": "query.weight",
    "to_k": "key.weight",
    "to_v": "value.weight",
    "out_weight": "out.weight",
    "out_bias": "out.bias",
    "offset_depthwise_weight": "offsets.depthwise.weight",
    "offset_depthwise_bias": "offsets.depthwise.bias",
    "offset_pointwise_weight": "offsets.pointwise.weight",
    "bias0_weight": "bias.first.weight",
    "bias0_bias": "bias.first.bias",
    "bias1_weight": "bias.second.weight",
    "bias1_bias": "bias.second.bias",
    "bias2_weight": "bias.last.weight",  # bias2_bias has no effect: softmax
}
SMALL = {"heads": 3, "head_width": 5, "stride": 2, "kernel": 4, "bias_width": 8}
WIDTH = 12


def naive_class() -> Any:
    path = ROOT / "benchmarks" / "naive_deformable.py"
    spec = importlib.util.spec_from_file_location("naive_deformable", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.NaiveDeformableAttention


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    if not GOLDEN.is_file():
        pytest.skip(f"the recorded outputs of the public code are not at {GOLDEN}")
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays}


@pytest.fixture(scope="module")
def replayed(golden) -> tuple[nn.Module, Any, Tensor, Tensor]:
    """The recorded case, run forward and backward by ours."""
    net = DeformableAttention().eval()
    net.load_state_dict({ours: golden[f"param/{n}"] for n, ours in RECORDED.items()})
    query, context = (
        (golden[f"{n}_a"] @ golden[f"{n}_b"] / 2.5).view(1, 128, 50, 50)
        for n in ("query", "context")
    )
    found = net(query.requires_grad_(), context.requires_grad_())
    size = found.output.numel()
    ramp = torch.linspace(-1, 1, size).view(1, 128, 2500)
    (found.output.flatten(2) * ramp).sum().backward()
    return net, found, query, context


def test_output_and_keys_are_those_of_the_public_code(golden, replayed):
    _, found, _, _ = replayed
    near = {"atol": 1e-5, "rtol": 0}
    torch.testing.assert_close(found.output.flatten(2), golden["output"], **near)
    torch.testing.assert_close(found.vgrid, golden["vgrid"], **near)


def test_gradients_are_those_of_the_public_code(golden, replayed):
    net, _, query, context = replayed
    ours = {n: net.get_parameter(name).grad for n, name in RECORDED.items()}
    expected = {n: golden[f"grad/{n}"] for n in RECORDED}
    for name, x in (("query", query), ("context", context)):
        ours[name] = x.grad.mean(1).flatten(1)
        expected[name] = golden[f"grad_{name}_mean"]
    error = {n: (ours[n] - g).abs().max() / g.abs().max() for n, g in expected.items()}
    assert max(error.values()) < 1e-4, error


@pytest.mark.parametrize("masked", [False, True], ids=["all cells", "holes"])
@pytest.mark.parametrize(
    ("pairs", "kept"), [(1, 0), (64, 0), (700, 2000), (1 << 14, 1 << 20)]
)
def test_values_and_gradients_are_those_of_the_plain_reference(
    rng, monkeypatch, masked, pairs, kept
):
    """However small the blocks are, whether their weights are kept or made again."""
    for limits in (gimp_models.position_bias._BLOCK, gimp_models.position_bias._CHUNK):
        monkeypatch.setitem(limits, "cpu", pairs)
    monkeypatch.setattr(gimp_models.position_bias, "_KEPT", kept)
    found, expected = both(rng, masked)
    for ours, reference in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-10, rtol=1e-8)


def both(rng: torch.Generator, masked: bool) -> list[list[Tensor]]:
    """Output, keys, their weights and all gradients: ours and the reference's."""
    ours = DeformableAttention(WIDTH, **SMALL).double().eval()
    plain = naive_class()(WIDTH, **SMALL).double().eval()
    plain.load_state_dict(ours.state_dict())
    inputs = torch.randn(2, 3, WIDTH, 7, 10, dtype=torch.float64, generator=rng)
    mask = torch.rand(3, 7, 10, generator=rng) > 0.6 if masked else None
    if mask is not None:
        mask[2] = False
    return [outcome(net, inputs, mask) for net in (ours, plain)]


def outcome(net: nn.Module, inputs: Tensor, mask: Tensor | None) -> list[Tensor]:
    inputs = inputs.clone().requires_grad_()
    if isinstance(net, DeformableAttention):
        found = net(*inputs, mask, key_weights=True)
        output, vgrid, weights = found.output, found.vgrid, found.key_weights
    else:
        output, vgrid, attention = net(*inputs, mask)
        rows = torch.ones(3, 70) if mask is None else mask.flatten(1)
        rows = rows[:, None, :, None].to(attention)
        weights = (attention * rows).sum(2) / rows.sum(2).clamp_min(1)
    (output.sin().sum() + vgrid.cos().sum()).backward()
    grads = [p.grad for p in net.parameters()]
    return [output.detach(), vgrid.detach(), weights.detach(), inputs.grad, *grads]


def test_what_is_kept_for_the_backward_pass_grows_like_the_grid(rng, monkeypatch):
    """Beyond a fixed number, no weights (queries times keys) are kept."""
    monkeypatch.setattr(gimp_models.position_bias, "_KEPT", 0)
    kept = {side: bytes_kept(side, rng) for side in (10, 20, 40)}
    pairs = {side: 4 * 3 * 400 * (side // 2) ** 2 for side in kept}
    assert kept[40] / kept[20] == pytest.approx(4, rel=0.1)
    assert kept[20] / kept[10] == pytest.approx(4, rel=0.1)
    assert kept[40] < pairs[40]


def bytes_kept(side: int, rng: torch.Generator) -> int:
    """Bytes of distinct memory that autograd holds after the forward pass."""
    held: dict[int, int] = {}

    def hold(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return x

    net = DeformableAttention(WIDTH, **SMALL)
    inputs = torch.randn(2, 1, WIDTH, side, side, generator=rng)
    with torch.autograd.graph.saved_tensors_hooks(hold, lambda x: x):
        output = net(*inputs).output
    assert output.requires_grad
    return sum(held.values())


PEAK = """
import resource, sys, torch
sys.path.insert(0, {benchmarks!r})
from gimp_models.deformable import DeformableAttention
from naive_deformable import NaiveDeformableAttention
torch.set_num_threads(1)
net = {name}()
inputs = torch.randn(2, 1, 128, 50, 50)
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def step(inputs):
    found = net(*inputs)
    output = found[0] if isinstance(found, tuple) else found.output
    output.square().sum().backward()
step(inputs[..., :8, :8])  # what the first step loads is not the attention's
before = peak()
step(inputs)
print(peak() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="the module resource is missing")
def test_a_training_step_takes_a_third_of_the_references_memory():
    names = "DeformableAttention", "NaiveDeformableAttention"
    ours, plain = (peak_mb(name) for name in names)
    assert ours < plain / 3, (ours, plain)
    assert ours < 150


def peak_mb(name: str) -> float:
    code = PEAK.format(name=name, benchmarks=str(ROOT / "benchmarks"))
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return float(told.stdout)
