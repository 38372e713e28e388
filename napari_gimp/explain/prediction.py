"""The model's answer for one patient, with and without the genes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from napari_gimp.explain.maps import Floats
from napari_gimp.explain.result import ModalityShare

if TYPE_CHECKING:
    from gimp_models.bag import Bag, Batch
    from gimp_models.evidence import PathSum
    from gimp_models.gimp import Gimp
    from torch import Tensor

    from napari_gimp.explain.setting import Setting


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What the model says.

    Parameters
    ----------
    probabilities
        (C,) from all that was given: the pair head with genes, else the image head,
        which was trained for slides alone.
    slide_only
        (C,) from the image head.
    target
        The predicted class, which maps and genes explain.
    attention
        (N,) class attention, sums to 1.
    share
        Shapley shares of the modalities; None for "slide only".
    """

    probabilities: Floats
    slide_only: Floats
    target: int
    attention: Floats
    share: ModalityShare | None


def make_bag(setting: Setting, coords_um: Floats, features: Floats) -> Bag:
    """Return the patient as the model takes one, on its device.

    Parameters
    ----------
    setting
        Has the genes, if any.
    coords_um, features
        (N, 2) and (N, P) of the patches.
    """
    import torch
    from gimp_models.bag import Bag

    def tensor(array: Floats) -> Tensor:
        return torch.from_numpy(array).to(setting.device)

    genes = None if setting.aligned is None else tensor(setting.aligned.z)
    return Bag(tensor(features), tensor(coords_um), genes)


def predict(model: Gimp, batch: Batch) -> Answer:
    """Ask the model about one patient.

    Parameters
    ----------
    model
        In evaluation mode.
    batch
        One patient.
    """
    import torch

    with torch.no_grad():
        output = model(batch, attention=True)
    slide_only = output.image_logits[0].softmax(0)
    together = output.logits[0].softmax(0) if has_genes(batch) else slide_only
    target = int(together.argmax())
    return Answer(
        probabilities=_array(together),
        slide_only=_array(slide_only),
        target=target,
        attention=_array(output.patch_attention[0]),
        share=_share(model, batch, target) if has_genes(batch) else None,
    )


def has_genes(batch: Batch) -> bool:
    """Return whether the one patient of a batch has a profile."""
    return bool(batch.has_genes[0])


def attention_so_far(model: Gimp, batch: Batch) -> Floats:
    """Return the class attention (N,) over the patches of a part of the slide."""
    from gimp_models.evidence import class_attention

    return _array(class_attention(model, batch)[0])


def contributions(model: Gimp, batch: Batch, target: int) -> Iterator[PathSum]:
    """Integrate the logit that `predict` used, from average patches to the slide."""
    import torch
    from gimp_models.evidence import patch_contributions

    with torch.no_grad():
        gene_token = model.encode_genes(batch)[0]

    def with_genes(image_token: Tensor) -> Tensor:
        genes = gene_token.expand(len(image_token), -1)
        return model.classify(image_token, genes)

    classify = with_genes if has_genes(batch) else model.image_head
    return patch_contributions(model, batch, classify, target)


def attributions(model: Gimp, batch: Batch, target: int) -> Iterator[PathSum]:
    """Integrate the logit from the average profile to the patient's."""
    from gimp_models.evidence import gene_attributions

    return gene_attributions(model, batch, target)


def _share(model: Gimp, batch: Batch, target: int) -> ModalityShare:
    import torch
    from gimp_models.evidence import modality_share

    wanted = torch.tensor([target], device=batch.features.device)
    share = modality_share(model, batch, wanted)
    total = share.logit - share.baseline
    return ModalityShare(float(share.image), float(share.genes), float(total))


def _array(tensor: Tensor) -> Floats:
    array: Floats = tensor.float().cpu().numpy()
    return array
