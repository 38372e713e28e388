"""The selective scan: all forms are one sum, in value and gradient (spec B)."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from gimp_models import scan
from gimp_models.errors import BatchError
from gimp_models.scan import choose_form, selective_scan

LENGTHS = (1, 2, 3, 37, 64, 321)
FAST = ("chunked", "doubling")
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-8}
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def signals(length, *, batch=2, channels=64, states=16, dtype=torch.float64):
    """u, Delta, A, B, C, D as a fresh block makes them; the six want gradients."""
    rng = torch.Generator().manual_seed(length)

    def normal(*shape):
        return torch.randn(*shape, generator=rng, dtype=dtype)

    u, step = normal(batch, length, channels), normal(batch, length, channels)
    b, c = normal(batch, length, states), normal(batch, length, states)
    a = -torch.arange(1.0, states + 1, dtype=dtype).repeat(channels, 1)
    held = u, F.softplus(step - 3), a, b / 4, c / 4, normal(channels)
    return [x.requires_grad_() for x in held]


def value_and_gradients(form, held):
    y = selective_scan(*held, form=form)
    return y, *torch.autograd.grad(y.square().sum(), held)


def assert_same(found, right, tolerance):
    """Equal up to a share of the largest value."""
    for one, other in zip(found, right, strict=True):
        scale = other.abs().max().clamp_min(1)
        torch.testing.assert_close(one / scale, other / scale, atol=tolerance, rtol=0)


def in_chunks_of(tokens, monkeypatch):
    """Make chunks of so many tokens, whatever the sizes."""
    monkeypatch.setattr(scan, "_FEWEST", tokens)
    monkeypatch.setattr(scan, "_CHUNKED_ROOM", 0)
    monkeypatch.setattr(scan, "_DOUBLING_ROOM", 0)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("form", FAST)
@pytest.mark.parametrize("length", LENGTHS)
def test_every_form_equals_the_loop_in_value_and_gradient(form, length, dtype):
    held = signals(length, dtype=dtype)
    right = value_and_gradients("loop", held)
    assert_same(value_and_gradients(form, held), right, TOLERANCE[dtype])


@pytest.mark.parametrize("form", FAST)
@pytest.mark.parametrize("tokens", [1, 7, 37, 100])
def test_where_chunks_are_cut_changes_nothing(form, tokens, monkeypatch):
    held = signals(37, channels=5, states=3)
    right = value_and_gradients("loop", held)
    in_chunks_of(tokens, monkeypatch)
    assert_same(value_and_gradients(form, held), right, 1e-10)


@pytest.mark.parametrize("form", FAST)
def test_gradients_are_those_of_finite_differences(form, monkeypatch):
    in_chunks_of(3, monkeypatch)
    held = signals(8, batch=1, channels=2, states=2)
    assert torch.autograd.gradcheck(lambda *x: selective_scan(*x, form=form), held)


def test_the_loop_is_the_recurrence_written_out():
    u, delta, a, b, c, skip = (x.detach() for x in signals(3, batch=1, channels=1))
    h = torch.zeros(16, dtype=torch.float64)
    for t in range(3):
        h = torch.exp(delta[0, t, 0] * a[0]) * h + delta[0, t, 0] * b[0, t] * u[0, t, 0]
        right = c[0, t] @ h + skip[0] * u[0, t, 0]
        y = selective_scan(u, delta, a, b, c, skip, form="loop")
        torch.testing.assert_close(y[0, t, 0], right)


def test_states_equal_those_of_mambapy():
    pscan = pytest.importorskip("mambapy.pscan", reason="mambapy is not installed")
    held = signals(37, channels=8, dtype=torch.float32)
    u, delta, a, b, c, skip = held
    decay = torch.exp(delta[..., None] * a)
    states = pscan.pscan(decay, (delta * u)[..., None] * b[:, :, None])
    y = (states @ c[..., None]).squeeze(-1) + skip * u
    right = y, *torch.autograd.grad(y.square().sum(), held)
    assert_same(value_and_gradients("chunked", held), right, 1e-5)


@pytest.mark.parametrize("form", ["loop", *FAST])
def test_a_token_changes_no_output_before_it(form):
    held = [x.detach() for x in signals(37, channels=8)]
    other = [x.clone() for x in held]
    for changed in (other[0], other[1], other[3], other[4]):
        changed[:, 20] += 1
    before, after = (selective_scan(*x, form=form) for x in (held, other))
    assert before[:, :20].equal(after[:, :20])
    assert before[:, 20:].sub(after[:, 20:]).abs().amin((0, 2)).gt(0).all()


@pytest.mark.parametrize("form", ["loop", *FAST])
def test_a_token_of_step_zero_leaves_no_trace(form):
    u, delta, a, b, c, skip = (x.detach() for x in signals(37, channels=8))
    delta[:, 10:14] = 0
    whole = selective_scan(u, delta, a, b, c, skip, form=form)
    rest = [torch.cat([x[:, :10], x[:, 14:]], 1) for x in (u, delta, b, c)]
    short = selective_scan(*rest[:2], a, *rest[2:], skip, form=form)
    kept = torch.cat([whole[:, :10], whole[:, 14:]], 1)
    torch.testing.assert_close(kept, short, atol=1e-12, rtol=0)


@pytest.mark.parametrize("form", FAST)
def test_decays_that_vanish_overflow_nothing(form):
    u, delta, a, b, c, skip = signals(321, channels=8, dtype=torch.float32)
    steep = [u, delta * 100, a, b, c, skip]  # sum of Delta A: about -1e6
    right = value_and_gradients("loop", steep)
    assert all(x.isfinite().all() for x in right)
    assert_same(value_and_gradients(form, steep), right, 1e-5)


def test_half_precision_is_scanned_in_float32_and_comes_back():
    held = [x.detach().bfloat16() for x in signals(64, channels=8)]
    wide = [x.float() for x in held]
    y = selective_scan(*held)
    assert y.dtype == torch.bfloat16
    assert y.equal(selective_scan(*wide).bfloat16())


def test_autocast_leaves_the_scan_in_float32():
    held = signals(64, channels=8, dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = value_and_gradients("chunked", held)
    assert_same(found, value_and_gradients("chunked", held), 0)


def test_a_scan_saves_a_fraction_of_its_states():
    held = signals(321, batch=4, channels=128, dtype=torch.float32)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: saved.append(x.nbytes) or x, lambda x: x
    ):
        selective_scan(*held, form="chunked")
    assert sum(saved) < 4 * 321 * 128 * 16 * 4 / 2


def test_only_the_loop_can_be_differentiated_twice():
    held = signals(8, channels=2)
    for form in FAST:
        with pytest.raises(RuntimeError, match="form='loop'"):
            twice(form, held)
    assert twice("loop", held).abs().sum() > 0


def twice(form, held):
    loss = selective_scan(*held, form=form).square().sum()
    (first,) = torch.autograd.grad(loss, held[0], create_graph=True)
    return torch.autograd.grad(first.sum(), held[1])[0]


@pytest.fixture
def kernel(monkeypatch):
    """A stand-in for the CUDA kernel with the signature and layout it documents."""

    def selective_scan_fn(
        u,
        delta,
        A,  # noqa: N803 - its names
        B,  # noqa: N803
        C,  # noqa: N803
        D=None,  # noqa: N803
        z=None,
        delta_bias=None,
        delta_softplus=False,
        return_last_state=False,
    ):
        assert u.shape == delta.shape
        assert A.shape == (u.shape[1], B.shape[1])
        assert B.shape == C.shape == (len(u), A.shape[1], u.shape[2])
        assert all(x.stride(-1) == 1 for x in (u, delta, A, B, C))
        assert {x.dtype for x in (u, delta, A, B, C)} == {torch.float32}
        assert D is z is delta_bias is None
        assert not delta_softplus
        assert not return_last_state
        turned = (x.transpose(1, 2) for x in (u, delta, B, C))
        u, delta, b, c = turned
        y = selective_scan(u, delta, A, b, c, form="loop")
        return y.transpose(1, 2).contiguous()

    module = ModuleType("mamba_ssm.ops.selective_scan_interface")
    module.selective_scan_fn = selective_scan_fn
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for package in ("mamba_ssm", "mamba_ssm.ops"):
        monkeypatch.setitem(sys.modules, package, ModuleType(package))
    scan._kernel.cache_clear()
    yield module
    scan._kernel.cache_clear()


def test_the_kernel_of_mamba_ssm_gets_what_it_documents(kernel):
    held = signals(37, channels=8, dtype=torch.float32)
    right = value_and_gradients("loop", held)
    assert_same(value_and_gradients("mamba_ssm", held), right, 1e-6)


def test_the_kernel_is_chosen_on_cuda_where_it_takes_the_dtype(kernel):
    assert choose_form(321, CUDA, torch.float32) == "mamba_ssm"
    assert choose_form(321, CUDA, torch.bfloat16) == "mamba_ssm"
    assert choose_form(321, CUDA, torch.float64) == "doubling"
    assert choose_form(321, CPU, torch.float32) == "chunked"


def test_without_the_kernel_the_form_follows_length_and_device(monkeypatch):
    monkeypatch.setattr(scan, "_kernel", lambda: None)
    assert choose_form(1, CPU, torch.float32) == "loop"
    assert choose_form(321, CPU, torch.float32) == "chunked"
    assert choose_form(321, CUDA, torch.float32) == "doubling"
    with pytest.raises(BatchError, match="mamba_ssm"):
        selective_scan(*signals(8), form="mamba_ssm")


@pytest.mark.parametrize(
    ("index", "name"), [(1, "Delta"), (2, "A"), (3, "B"), (4, "C")]
)
def test_a_shape_that_does_not_fit_is_named(index, name):
    held = signals(8, channels=4, states=3)
    held[index] = held[index].repeat_interleave(2, dim=0)
    with pytest.raises(BatchError, match=f"^{name} of a selective scan"):
        selective_scan(*held)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("form", ["auto", *FAST])
def test_a_gpu_agrees_with_the_loop_on_the_processor(form):
    held = signals(321, dtype=torch.float32)
    right = value_and_gradients("loop", held)
    there = [x.detach().cuda().requires_grad_() for x in held]
    found = [x.cpu() for x in value_and_gradients(form, there)]
    assert_same(found, right, 1e-5)
