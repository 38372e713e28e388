"""What a model must beat: one modality alone, and plain linear models.

The branches alone are really trained: the same start, patients, plan and choice of
the epoch as the model beside them, with the other modality withheld from the loss
and from the prediction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from gimp_models.bag import Bag, Batch
from gimp_models.gimp import Gimp
from gimp_models.masking import sample_patches
from gimp_models.objective import LossParts
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_gimp.training.data import CohortBags
from napari_gimp.training.fit import Trainer, labels_of, rate_groups
from napari_gimp.training.judge import finetune_judge, softmax
from napari_gimp.training.metrics import Probabilities
from napari_gimp.training.plan import Plan
from napari_gimp.training.predict import predict

__all__ = [
    "Branch",
    "BranchAlone",
    "predict_from_branch",
    "predict_from_genes",
    "predict_from_mean_features",
]

Branch = Literal["slide", "genes"]
Table = NDArray[np.float64]

PENALTIES = tuple(10.0**k for k in range(-5, 2))
"""Inverse ridge penalties tried; the validation patients choose."""


def predict_from_genes(bags: CohortBags) -> Probabilities:
    """Return test probabilities (n, C) of a logistic regression on gene z-scores."""
    return _regress(bags, _gene_rows)


def predict_from_mean_features(bags: CohortBags) -> Probabilities:
    """Return test probabilities (n, C) of one on each slide's mean patch feature."""
    return _regress(bags, _mean_features)


def predict_from_branch(
    model: Gimp, bags: CohortBags, plan: Plan, branch: Branch, *, pretrained: bool
) -> Probabilities:
    """Train one branch alone and return its test probabilities (n, C).

    Parameters
    ----------
    model
        The model as the run began with it; it is trained in place.
    bags
        The run's patients.
    plan
        The run's plan.
    branch
        Which modality is kept.
    pretrained
        Whether its encoders learn slowly, as in the run.
    """
    objective = BranchAlone(model, branch, max_patches=plan.max_patches)
    trainer = Trainer(
        objective,
        rate_groups(model, plan, slow_encoders=pretrained),
        plan,
        judge=finetune_judge(objective.logits),
    )
    best: dict[str, Tensor] = {}
    for done in trainer.epochs(bags.train, bags.validation):
        if done.better:
            best = {k: v.detach().clone() for k, v in model.state_dict().items()}
    model.load_state_dict(best)
    objective.eval()
    return softmax(predict(objective.logits, bags.test, trainer.device))


class BranchAlone(nn.Module):
    """Cross-entropy of one branch; the other modality is never looked at.

    Parameters
    ----------
    model
        The model whose branch and head are trained.
    branch
        Which one.
    max_patches
        Random subsample of each bag in training.
    """

    def __init__(self, model: Gimp, branch: Branch, *, max_patches: int) -> None:
        super().__init__()
        self.model = model
        self.branch = branch
        self.max_patches = max_patches

    def forward(self, batch: Batch, generator: torch.Generator) -> LossParts:
        """Measure the loss on one batch."""
        seen = sample_patches(batch, self.max_patches, generator=generator)
        loss = F.cross_entropy(self.logits(seen).float(), seen.labels)
        return LossParts(loss, {})

    def logits(self, batch: Batch) -> Tensor:
        """Return logits (B, C) of the branch."""
        head = self.model.image_head if self.branch == "slide" else self.model.gene_head
        token = (
            self.model.encode_image(batch).cls
            if self.branch == "slide"
            else self.model.encode_genes(batch)[0]
        )
        out: Tensor = head(token)
        return out


def _regress(bags: CohortBags, rows: Callable[[Sequence[Bag]], Table]) -> Probabilities:
    """Fit on the training patients; the validation patients choose the penalty."""
    from sklearn.metrics import log_loss

    known, held = rows(bags.train), rows(bags.validation)
    labels, judges = labels_of(bags.train), labels_of(bags.validation)
    fitted = [_regression(c).fit(known, labels) for c in PENALTIES]
    losses = [log_loss(judges, model.predict_proba(held)) for model in fitted]
    best = fitted[int(np.argmin(losses))]
    return np.asarray(best.predict_proba(rows(bags.test)), dtype=np.float64)


def _regression(inverse_penalty: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(
        StandardScaler(), LogisticRegression(C=inverse_penalty, max_iter=2000)
    )


def _gene_rows(bags: Sequence[Bag]) -> Table:
    """Return z-scores (n, G); the training mean, 0, for patients without genes."""
    size = next(len(bag.genes) for bag in bags if bag.genes is not None)
    absent = torch.zeros(size)
    rows = [absent if bag.genes is None else bag.genes for bag in bags]
    return np.asarray(torch.stack(rows).numpy(), dtype=np.float64)


def _mean_features(bags: Sequence[Bag]) -> Table:
    """Return the mean patch feature of each slide, (n, P)."""
    rows = [bag.features.mean(0) for bag in bags]
    return np.asarray(torch.stack(rows).numpy(), dtype=np.float64)
