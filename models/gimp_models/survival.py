"""Survival in discrete time: bins, likelihood, risk and concordance (subspace 1, 4).

Follow-up is cut into C bins at C - 1 edges in days. A model gives one logit per bin,
h_k = sigmoid(logit_k) is the probability to die in bin k if alive at its start.
Everything is written in logarithms, log(1 - h) = logsigmoid(-logit), so that nothing
underflows in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from gimp_models.errors import BatchError, ConfigError
from gimp_models.precision import at_least_float32

__all__ = [
    "concordance",
    "concordance_interval",
    "hazard_nll",
    "hazards",
    "intervals",
    "quantile_edges",
    "risk",
    "survival_curve",
]

_LOG_FLOOR = math.log(1e-7)  # spec 4: probabilities are clamped at 1e-7
_ROWS = 2048  # patients compared with all others at once: bounds the memory


def quantile_edges(days: Tensor, event: Tensor, *, bins: int = 4) -> tuple[float, ...]:
    """Place the edges of the bins at quantiles of the times of death (spec 1).

    Parameters
    ----------
    days
        (B,) days until death or last contact of the training patients, NaN where
        unknown.
    event
        (B,) bool, True where the patient died.
    bins
        C; 4 gives the quartiles of the paper.

    Returns
    -------
    tuple of float
        C - 1 rising edges in days.

    Raises
    ------
    BatchError
        If too few different times of death are known to tell the bins apart.
    """
    died = days[event & days.isfinite()].double()
    if len(died) >= bins:
        inner = torch.arange(1, bins, dtype=died.dtype, device=died.device) / bins
        edges = died.quantile(inner)
        if bool((edges.diff() > 0).all()):
            return tuple(edges.tolist())
    raise BatchError(
        f"{len(died)} times of death, {len(set(died.tolist()))} of them different, do "
        f"not make {bins} bins: give more patients who died, or ask for fewer bins."
    )


def intervals(days: Tensor, edges: Sequence[float]) -> Tensor:
    """Tell the bin Y of each patient: edges[Y - 1] <= days < edges[Y].

    Parameters
    ----------
    days
        (B,) days, NaN where unknown.
    edges
        C - 1 rising edges in days.

    Returns
    -------
    Tensor
        (B,) int64 from 0 to C - 1, -1 where the days are unknown.

    Raises
    ------
    ConfigError
        If the edges do not rise.
    """
    if any(low >= high for low, high in pairwise(edges)):
        raise ConfigError(
            f"The edges of the survival bins are {list(edges)} days, they must rise: "
            "take them from quantile_edges of the training patients."
        )
    cuts = torch.tensor(edges, dtype=torch.float64, device=days.device)
    found = torch.bucketize(days.double().contiguous(), cuts, right=True)
    return found.masked_fill(~days.isfinite(), -1)


def hazard_nll(logits: Tensor, interval: Tensor, censored: Tensor) -> Tensor:
    """Negative log-likelihood of discrete hazards (spec 4).

    A patient who died in bin Y was alive until Y - 1: -log S_{Y-1} - log h_Y. One
    last seen alive in bin Y adds -log S_Y. S_{-1} = 1; S and h are clamped at 1e-7.

    Parameters
    ----------
    logits
        (B,C).
    interval
        (B,) int64, Y from 0 to C - 1; -1 where unknown: such patients take no part.
    censored
        (B,) bool, True for patients alive at last contact.

    Returns
    -------
    Tensor
        Scalar mean over known patients; 0 with a live graph if there are none.
    """
    known = interval >= 0
    logits = at_least_float32(logits)
    log_alive = F.pad(F.logsigmoid(-logits).cumsum(1), (1, 0))  # log S_{-1}, S_0, ...
    log_hazard = F.logsigmoid(logits)
    here = interval.clamp_min(0)[:, None]
    dead = _picked(log_alive, here) + _picked(log_hazard, here)
    alive = _picked(log_alive, here + 1)
    likelihood = torch.where(censored.bool(), alive, dead) * known
    return -likelihood.sum() / known.sum().clamp_min(1)


def hazards(logits: Tensor) -> Tensor:
    """h_k = sigmoid(logit_k) (spec 3.6): logits (...,C) to hazards (...,C)."""
    return at_least_float32(logits).sigmoid()


def survival_curve(logits: Tensor) -> Tensor:
    """S_k = prod_{j<=k} (1 - h_j), alive at the end of bin k: (...,C) to (...,C)."""
    return F.logsigmoid(-at_least_float32(logits)).cumsum(-1).exp()


def risk(logits: Tensor) -> Tensor:
    """- sum_k S_k (spec 3.6): logits (...,C) to (...), higher for an earlier death."""
    return -survival_curve(logits).sum(-1)


def concordance(risk: Tensor, days: Tensor, event: Tensor) -> Tensor:
    """Harrell's C-index: how often of two patients the one at more risk dies first.

    Two patients are compared where it is known who died first: the earlier time is a
    death, or both times are equal and only one is a death. Equal risks count half.

    Parameters
    ----------
    risk
        (B,) higher for an earlier death.
    days
        (B,) days until death or last contact; patients with NaN take no part.
    event
        (B,) bool, True where the patient died.

    Returns
    -------
    Tensor
        Scalar float64 from 0 to 1, 0.5 by chance; NaN if no two patients compare.
    """
    known = days.isfinite()
    risk, days, event = risk.detach()[known], days[known], event[known].bool()
    right = compared = torch.zeros((), dtype=torch.float64, device=days.device)
    for start in range(0, len(days), _ROWS):
        rows = slice(start, start + _ROWS)
        later = days > days[rows, None]
        outlived = (days == days[rows, None]) & ~event
        pairs = (later | outlived) & event[rows, None]
        ahead = (risk[rows, None] - risk).sign() * 0.5 + 0.5
        right = right + (ahead * pairs).sum(dtype=torch.float64)
        compared = compared + pairs.sum()
    return right / compared


def concordance_interval(
    risk: Tensor,
    days: Tensor,
    event: Tensor,
    *,
    generator: torch.Generator,
    draws: int = 1000,
    level: float = 0.95,
) -> tuple[float, float]:
    """Percentile bootstrap over patients of the C-index (spec 6).

    Parameters
    ----------
    risk, days, event
        (B,) as in `concordance`, one row per patient, not per slide.
    generator
        Draws the patients, on the tensors' device.
    draws
        Number of cohorts drawn; those without a pair to compare are left out.
    level
        Share of the drawn C-indices inside the interval.

    Returns
    -------
    tuple of float
        Low and high end; NaN if no draw has a pair to compare.
    """
    size = (draws, len(days))
    chosen = torch.randint(
        len(days), size, generator=generator, device=generator.device
    )
    values = torch.stack([concordance(risk[i], days[i], event[i]) for i in chosen])
    tails = torch.tensor([1 - level, 1 + level], dtype=values.dtype) / 2
    low, high = values.nanquantile(tails.to(values.device)).tolist()
    return low, high


def _picked(log_probability: Tensor, column: Tensor) -> Tensor:
    return log_probability.gather(1, column).squeeze(1).clamp_min(_LOG_FLOOR)
