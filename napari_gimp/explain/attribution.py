"""Integrated gradients of one class's logit, complete within a stated gap.

The path from the baseline to the patient is cut into parts; captum integrates each
with two Gauss-Legendre points. A part that does not account for its own change of
the logit is halved, so points go where the logit bends, and every accepted part is
reported: maps can fill in, and a caller may stop between parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gimp_models.bag import Batch
    from gimp_models.gimp import Gimp
    from torch import Tensor

TOLERANCE = 0.02
"""Largest completeness gap aimed at, as a fraction of the logit's change."""
FLOOR = 0.05
"""Changes of the logit below this count as this: 2 % of nothing is no goal."""
PARTS, POINTS = 4, 2
"""Parts of the path at the start, and Gauss-Legendre points in each. Against 200
points no patch and no gene is off by more than 0.1 % of the largest (three models)."""
MOST_PARTS = 256
"""Parts in all; past it the gap is reported as it is."""
PATCHES_AT_ONCE = 16_384
"""Patches in one pass, all points together: bounds memory for large bags."""

Logit = Callable[["Tensor"], "Tensor"]
Classify = Callable[["Tensor"], "Tensor"]


@dataclass(frozen=True, slots=True, eq=False)
class PathSum:
    """What has been integrated so far.

    Parameters
    ----------
    attribution
        Shape of one input, logit.
    done
        Part of the path that is behind, 0 to 1.
    gap
        Completeness gap so far: the part of the logit's change (at least `FLOOR`)
        that the sum does not account for.
    """

    attribution: Tensor
    done: float
    gap: float


def patch_contributions(
    model: Gimp,
    batch: Batch,
    classify: Classify,
    target: int,
    *,
    tolerance: float = TOLERANCE,
) -> Iterator[PathSum]:
    """Integrate from the average patch, in place of every patch, to the bag.

    Parameters
    ----------
    model
        In evaluation mode; `feature_mean` is the baseline.
    batch
        One patient.
    classify
        Image tokens (K, D) to logits (K, C); it knows the genes, if any.
    target
        Class index.
    tolerance
        Largest completeness gap aimed at.

    Yields
    ------
    PathSum
        attribution (N,), summed over features.
    """

    def logit(features: Tensor) -> Tensor:
        several = _repeat(batch, len(features), features=features)
        return classify(model.encode_image(several).cls)[:, target]

    at_once = max(1, PATCHES_AT_ONCE // batch.features.shape[1])
    baseline = model.feature_mean.expand_as(batch.features)
    for part in along_path(logit, batch.features, baseline, tolerance, at_once):
        yield replace(part, attribution=part.attribution.sum(-1))


def gene_attributions(
    model: Gimp, batch: Batch, target: int, *, tolerance: float = TOLERANCE
) -> Iterator[PathSum]:
    """Integrate from the training mean (z = 0) to the patient's profile.

    Parameters
    ----------
    model
        In evaluation mode.
    batch
        One patient with genes; patches stay as they are.
    target
        Class index.
    tolerance
        Largest completeness gap aimed at.

    Yields
    ------
    PathSum
        attribution (G,).
    """
    import torch

    assert batch.genes is not None, "gene attributions need a profile"
    with torch.no_grad():
        image_token = model.encode_image(batch).cls
    alone = replace(
        batch,
        features=batch.features[:, :1],
        coords_um=batch.coords_um[:, :1],
        mask=batch.mask[:, :1],
    )

    def logit(genes: Tensor) -> Tensor:
        token, _ = model.encode_genes(_repeat(alone, len(genes), genes=genes))
        return model.classify(image_token.expand(len(genes), -1), token)[:, target]

    baseline = torch.zeros_like(batch.genes)
    yield from along_path(logit, batch.genes, baseline, tolerance)


def along_path(
    logit: Logit,
    inputs: Tensor,
    baseline: Tensor,
    tolerance: float = TOLERANCE,
    at_once: int = POINTS,
) -> Iterator[PathSum]:
    """Integrate gradients on the straight line from baseline to inputs.

    Parameters
    ----------
    logit
        Maps (K, ...) inputs to (K,) logits, differentiable.
    inputs, baseline
        (1, ...), the ends of the line.
    tolerance
        Largest completeness gap aimed at.
    at_once
        Points in one call of `logit`.

    Yields
    ------
    PathSum
        After each part, attribution of shape (...).
    """
    import torch

    line = _Line(logit, inputs, baseline, at_once)
    scale = max(abs(line.value(1.0) - line.value(0.0)), FLOOR)
    total = torch.zeros_like(inputs[0], dtype=torch.float64)
    waiting = [(k / PARTS, (k + 1) / PARTS) for k in reversed(range(PARTS))]
    tried = 0
    while waiting:
        start, stop = waiting.pop()
        piece, error = line.integrate(start, stop)
        tried += 1
        if error > tolerance / 2 * scale * (stop - start) and tried < MOST_PARTS:
            middle = (start + stop) / 2
            waiting += [(middle, stop), (start, middle)]
            continue
        total += piece
        change = line.value(stop) - line.value(0.0)
        yield PathSum(total.float(), stop, abs(float(total.sum()) - change) / scale)


class _Line:
    """The logit on a straight line; values at the ends of parts are kept."""

    def __init__(
        self, logit: Logit, inputs: Tensor, baseline: Tensor, at_once: int
    ) -> None:
        from captum.attr import IntegratedGradients

        self._logit, self._baseline = logit, baseline.detach().clone()
        self._step = inputs.detach() - self._baseline
        self._gradients = IntegratedGradients(logit, multiply_by_inputs=True)
        self._at_once = min(at_once, POINTS)
        self._values: dict[float, float] = {}

    def at(self, place: float) -> Tensor:
        """Return the point (1, ...) at 0 (baseline) to 1 (inputs)."""
        return self._baseline + place * self._step

    def value(self, place: float) -> float:
        """Return the logit at a place."""
        import torch

        if place not in self._values:
            with torch.no_grad():
                self._values[place] = float(self._logit(self.at(place)))
        return self._values[place]

    def integrate(self, start: float, stop: float) -> tuple[Tensor, float]:
        """Return the attribution (...) of a part, and what it fails to explain."""
        piece = self._gradients.attribute(
            self.at(stop),
            baselines=self.at(start),
            n_steps=POINTS,
            method="gausslegendre",
            internal_batch_size=self._at_once,
        )[0].double()
        change = self.value(stop) - self.value(start)
        return piece, abs(float(piece.sum()) - change)


def _repeat(
    batch: Batch,
    count: int,
    *,
    features: Tensor | None = None,
    genes: Tensor | None = None,
) -> Batch:
    """Return one patient `count` times, with other features or genes."""
    from gimp_models.bag import Batch as AnyBatch

    def several(tensor: Tensor) -> Tensor:
        return tensor.expand(count, *tensor.shape[1:])

    return AnyBatch(
        features=several(batch.features) if features is None else features,
        coords_um=several(batch.coords_um),
        mask=several(batch.mask),
        genes=genes,
        has_genes=several(batch.has_genes),
        labels=several(batch.labels),
    )
