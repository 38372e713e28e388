"""The selective scan of Mamba in plain PyTorch, exact in value and gradient (spec B).

    h_t = exp(Delta_t A) h_{t-1} + Delta_t B_t u_t,    y_t = C_t . h_t + D u_t

Four forms of the same sum. `loop` is the definition, differentiated by autograd. The
others cut time into chunks and keep only the state that enters each chunk: gradients
run the chunk again. Inside a chunk, `chunked` works on all steps at once except for
the recurrence itself, one fused operation per step in place; `doubling` replaces that
recurrence by log2(L) operations on all L steps, which suits a GPU. Both multiply
nothing but decays, which are at most 1: exp(-cumsum(Delta A)) would overflow.
`mamba_ssm` is the CUDA kernel of the authors of Mamba, where it is installed.

Letters: B patients, T tokens, E channels, N states, L tokens of a chunk.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from gimp_models.errors import BatchError

__all__ = ["ScanForm", "choose_form", "selective_scan"]

ScanForm = Literal["auto", "loop", "doubling", "chunked", "mamba_ssm"]


def selective_scan(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    skip: Tensor | None = None,
    *,
    form: ScanForm = "auto",
) -> Tensor:
    """Scan a sequence: y_t = C_t . h_t + D u_t (spec B).

    Parameters
    ----------
    u, delta
        (B,T,E) input and step Delta >= 0; a token of Delta = 0 leaves no trace.
    a
        (E,N) A, negative.
    b, c
        (B,T,N) B and C.
    skip
        (E,) D, or None for none.
    form
        How to compute it; all forms agree. "auto" asks `choose_form`.

    Returns
    -------
    Tensor
        (B,T,E) in the dtype of `u`. Computed in float32 at least, since a state is a
        sum over hundreds of tokens. Differentiable once; "loop" without limit.

    Raises
    ------
    BatchError
        If shapes do not fit each other.
    RuntimeError
        In the backward pass, where second derivatives are asked for, but of "loop".
    """
    _check(u, delta, a, b, c)
    if form == "auto":
        form = choose_form(u.shape[1], u.device, u.dtype)
    dtype = torch.promote_types(u.dtype, torch.float32)
    with torch.autocast(u.device.type, enabled=False):
        y = _FORMS[form](*(x.to(dtype) for x in (u, delta, a, b, c)))
        if skip is not None:
            y = y + skip.to(dtype) * u.to(dtype)
    return y.to(u.dtype)


def choose_form(length: int, device: torch.device, dtype: torch.dtype) -> ScanForm:
    """Return the fastest form for T tokens, as `benchmarks/bench_scan.py` measures it.

    A loop for a few tokens; else `chunked`, or on CUDA the kernel of mamba_ssm where
    it is installed and takes the dtype, else `doubling`.
    """
    if length < _SHORT:
        return "loop"
    if device.type != "cuda":
        return "chunked"
    kernel = dtype != torch.float64 and _kernel() is not None
    return "mamba_ssm" if kernel else "doubling"


_SHORT = 4
"""Tokens from which on the custom gradient pays for what it sets up."""


def _check(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> None:
    batch, length, channels = u.shape
    right = {
        "Delta": (delta, (batch, length, channels)),
        "A": (a, (channels, a.shape[-1])),
        "B": (b, (batch, length, a.shape[-1])),
        "C": (c, (batch, length, a.shape[-1])),
    }
    for name, (tensor, shape) in right.items():
        if tensor.shape != shape:
            raise BatchError(
                f"{name} of a selective scan is {tuple(tensor.shape)}, it must be "
                f"{shape} for u of {tuple(u.shape)} and A of {tuple(a.shape)}: give "
                "u and Delta as (B,T,E), A as (E,N), B and C as (B,T,N)."
            )


def _loop(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Follow the definition, one token after the other."""
    state, y = u.new_zeros(len(u), *a.shape), []
    steps = (x.unbind(1) for x in (u, delta, b, c))
    for u_t, delta_t, b_t, c_t in zip(*steps, strict=True):
        decay = torch.exp(delta_t[..., None] * a)
        state = decay * state + (delta_t * u_t)[..., None] * b_t[:, None]
        y.append((state * c_t[:, None]).sum(-1))
    return torch.stack(y, dim=1)


_CHUNKED_ROOM = 1 << 17
"""Values of h in a chunk per thread: 0.5 MB of float32 stay in a core's cache."""

_DOUBLING_ROOM = 1 << 24
"""Values of h in a chunk on GPUs, where few large operations win."""

_FEWEST = 4
"""Tokens of a chunk at least, so that entering states are few beside all states."""


def _chunked(*signal: Tensor) -> Tensor:
    room = _CHUNKED_ROOM * torch.get_num_threads()
    return _in_chunks(*signal, recurrence=_STEPPING, room=room)


def _doubling(*signal: Tensor) -> Tensor:
    return _in_chunks(*signal, recurrence=_DOUBLING, room=_DOUBLING_ROOM)


def _in_chunks(
    u: Tensor,
    delta: Tensor,
    a: Tensor,
    b: Tensor,
    c: Tensor,
    *,
    recurrence: _Recurrence,
    room: int,
) -> Tensor:
    span = min(u.shape[1], max(_FEWEST, room // (len(u) * a.numel())))
    rows = (v.transpose(0, 1).unsqueeze(2).contiguous() for v in (u, delta, b, c))
    u, delta, b, c = rows
    y: Tensor = _Scan.apply(  # type: ignore[no-untyped-call]  # of torch
        delta * u, delta, a.T.contiguous(), b, c, recurrence, span
    )
    return y.squeeze(2).transpose(0, 1)


class _Recurrence(NamedTuple):
    """How h_t = k_t h_{t-1} + x_t is solved over a chunk, and its mirror image.

    Both change x (L,...) in place to h and take the L - 1 decays between its steps.
    """

    forth: Callable[[Tensor, Tensor], None]
    back: Callable[[Tensor, Tensor], None]


def _step_forth(decay: Tensor, x: Tensor) -> None:
    steps = x.unbind()
    for keep, before, now in zip(decay.unbind(), steps[:-1], steps[1:], strict=True):
        now.addcmul_(keep, before)


def _step_back(decay: Tensor, x: Tensor) -> None:
    keeps, steps = decay.unbind()[::-1], x.unbind()[::-1]
    for keep, after, now in zip(keeps, steps[:-1], steps[1:], strict=True):
        now.addcmul_(keep, after)


def _double_forth(decay: Tensor, x: Tensor) -> None:
    """Sum the last 1, 2, 4, ... steps; `decay` is the product of as many decays."""
    reach = 1
    while reach < len(x):
        x[reach:] = torch.addcmul(x[reach:], decay, x[:-reach])
        decay = decay[:-reach] * decay[reach:]
        reach *= 2


def _double_back(decay: Tensor, x: Tensor) -> None:
    reach = 1
    while reach < len(x):
        x[:-reach] = torch.addcmul(x[:-reach], decay, x[reach:])
        decay = decay[:-reach] * decay[reach:]
        reach *= 2


_STEPPING = _Recurrence(_step_forth, _step_back)
_DOUBLING = _Recurrence(_double_forth, _double_back)


class _Room(NamedTuple):
    """Memory for the states of one chunk, filled again for each.

    States lie as (L,B,N,E): with the long channel axis last, products with a row over
    channels are fast, and sums over states or channels are matrix products.
    """

    decay: Tensor  # (L,B,N,E) exp(Delta_t A)
    before: Tensor  # (L,B,N,E) h_{t-1}
    after: Tensor  # (L,B,N,E) h_t, the same memory one step on
    pull: Tensor  # (L,B,N,E) dL/dh_t

    @classmethod
    def of(cls, x: Tensor, a: Tensor, span: int) -> _Room:
        decay, h, pull = (
            x.new_empty(span + i, x.shape[1], *a.shape) for i in (0, 1, 0)
        )
        return cls(decay, h[:-1], h[1:], pull)

    def cut(self, length: int) -> _Room:
        """Leave out what the last, shorter chunk does not need."""
        if length == len(self.pull):
            return self
        return _Room(*(part[:length] for part in self))


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Some tokens of a scan as rows, or their gradients, time first; x = Delta u."""

    x: Tensor  # (L,B,1,E)
    delta: Tensor  # (L,B,1,E)
    a: Tensor  # (N,E)
    b: Tensor  # (L,B,1,N)
    c: Tensor  # (L,B,1,N)

    def split(self, span: int) -> list[_Tokens]:
        parts = (torch.split(v, span) for v in (self.x, self.delta, self.b, self.c))
        rows = zip(*parts, strict=True)
        return [_Tokens(x, delta, self.a, b, c) for x, delta, b, c in rows]

    def gradient(self) -> _Tokens:
        """Room for the gradients; that of A is a sum over chunks."""
        x, delta, b, c = map(torch.empty_like, (self.x, self.delta, self.b, self.c))
        return _Tokens(x, delta, torch.zeros_like(self.a), b, c)


def _states(
    tokens: _Tokens, room: _Room, entering: Tensor, recurrence: _Recurrence
) -> None:
    """Fill in decays and states from the one (B,N,E) that enters."""
    torch.mul(tokens.delta, tokens.a, out=room.decay).exp_()
    torch.mul(tokens.b.mT, tokens.x, out=room.after)
    room.before[0] = entering
    room.after[0].addcmul_(room.decay[0], entering)
    recurrence.forth(room.decay[1:], room.after)


def _pulls(
    tokens: _Tokens, room: _Room, dy: Tensor, later: Tensor, recurrence: _Recurrence
) -> None:
    """Fill in dL/dh_t; `later` (B,N,E) is what tokens behind the chunk pull."""
    torch.mul(tokens.c.mT, dy, out=room.pull)
    room.pull[-1] += later
    recurrence.back(room.decay[1:], room.pull)
    torch.mul(room.decay[0], room.pull[0], out=later)


def _gradients(tokens: _Tokens, room: _Room, dy: Tensor, into: _Tokens) -> None:
    """Read the gradients off; the exponent Delta_t A gets dL/dh_t decay_t h_{t-1}."""
    torch.matmul(tokens.b, room.pull, out=into.x)
    torch.matmul(tokens.x, room.pull.mT, out=into.b)
    torch.matmul(dy, room.after.mT, out=into.c)
    exponent = room.pull.mul_(room.decay).mul_(room.before)
    torch.mul(exponent, tokens.delta, out=room.decay)
    into.a.add_(room.decay.sum((0, 1)))
    torch.sum(exponent.mul_(tokens.a), 2, keepdim=True, out=into.delta)


class _Scan(torch.autograd.Function):
    """C_t . h_t over chunks; saves one state per chunk instead of one per token."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        delta: Tensor,
        a: Tensor,
        b: Tensor,
        c: Tensor,
        recurrence: _Recurrence,
        span: int,
    ) -> Tensor:
        chunks = _Tokens(x, delta, a, b, c).split(span)
        room, y = _Room.of(x, a, span), torch.empty_like(x)
        entering = x.new_empty(1 + len(chunks), x.shape[1], *a.shape)
        entering[0] = 0
        states = entering[:-1], entering[1:]
        rows = zip(chunks, torch.split(y, span), *states, strict=True)
        for chunk, y_chunk, state, leaving in rows:
            here = room.cut(len(y_chunk))
            _states(chunk, here, state, recurrence)
            torch.matmul(chunk.c, here.after, out=y_chunk)
            leaving.copy_(here.after[-1])
        ctx.save_for_backward(x, delta, a, b, c, entering)
        ctx.recurrence, ctx.span = recurrence, span
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        _refuse_second_derivative()
        *signal, entering = ctx.saved_tensors
        span, recurrence, whole = ctx.span, ctx.recurrence, _Tokens(*signal)
        room, found = _Room.of(whole.x, whole.a, span), whole.gradient()
        later = torch.zeros_like(entering[0])
        dys = torch.split(dy.contiguous(), span)
        parts = whole.split(span), found.split(span), dys, entering[:-1]
        rows = list(zip(*parts, strict=True))
        for chunk, gradient, dy_chunk, state in reversed(rows):
            here = room.cut(len(dy_chunk))
            _states(chunk, here, state, recurrence)
            _pulls(chunk, here, dy_chunk, later, recurrence)
            _gradients(chunk, here, dy_chunk, gradient)
        return found.x, found.delta, found.a, found.b, found.c, None, None


def _refuse_second_derivative() -> None:
    # torch's `once_differentiable` stays silent where autograd.grad asks for inputs
    # that the lost part of the graph does not lead to, and leaves that part out.
    if torch.is_grad_enabled():
        raise RuntimeError(
            "A selective scan in chunks is differentiable once, got create_graph=True: "
            "take form='loop' for second derivatives."
        )


@cache
def _kernel() -> Callable[..., Tensor] | None:
    """`selective_scan_fn` of the package mamba_ssm; None where it does not load."""
    try:
        module = import_module("mamba_ssm.ops.selective_scan_interface")
    except ImportError:
        return None
    return cast("Callable[..., Tensor]", module.selective_scan_fn)


def _by_kernel(u: Tensor, delta: Tensor, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """Hand over to the kernel, which wants time last: (B,E,T), (E,N), (B,N,T)."""
    kernel = _kernel()
    if kernel is None:
        raise BatchError(
            "Form 'mamba_ssm' of the selective scan needs the package mamba_ssm, which "
            "does not load here: choose 'auto', or install mamba-ssm beside CUDA."
        )
    u, delta, b, c = (v.transpose(1, 2).contiguous() for v in (u, delta, b, c))
    return kernel(u, delta, a.contiguous(), b, c).transpose(1, 2)


_FORMS: dict[str, Callable[..., Tensor]] = {
    "loop": _loop,
    "doubling": _doubling,
    "chunked": _chunked,
    "mamba_ssm": _by_kernel,
}
