"""What is refused before an analysis, and what a reader must be told after it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import CheckpointError

if TYPE_CHECKING:
    from gimp_models.checkpoint import Card

    from napari_gimp.genes.panel import Aligned
    from napari_gimp.patches.encoders import Encoder
    from napari_gimp.patches.tissue import Tissue
    from napari_gimp.slide.source import SlideSource

FEW_PATCHES = 20
BROWN_PART = 0.1
"""More brown than that is not H&E; see `tissue.BROWN_RATIO` for what was measured."""
COARSER = 1.1
"""A slide this much coarser than the training's um/px lacks detail the model uses."""
DARK_PART = 0.5
"""A bright-field slide shows glass around and between the tissue."""
FAR_FEATURES = 2.0
"""A slide further off than this is unlike the training slides (`feature_shift`).
Measured with the default encoder: 8 slides of a synthetic cohort against the rest of
it 0.5 to 1.3, real slides of two laboratories against that cohort 1.2 and 3.1."""


def check_fit(card: Card, encoder: Encoder) -> None:
    """Refuse an encoder the model was not trained with.

    Raises
    ------
    CheckpointError
        If fingerprint, width, patch size or um/px differ; the text gives both.
    """
    from gimp_models.expectation import Expectation, differences

    features = {"fingerprint": encoder.fingerprint, "width": encoder.width}
    made_here = Expectation(
        encoder=features, patch_um=encoder.patch_um, mpp=encoder.mpp
    )
    wrong = differences(card, made_here)
    if wrong:
        raise CheckpointError(
            f"The model was trained with another patch encoder than "
            f"'{encoder.name}' ({'; '.join(wrong)}). Its features would mean "
            "something else. Use the version of napari-gimp the model was made with, "
            "or train the model again with this encoder."
        )


def check_finished(card: Card) -> None:
    """Refuse a model that cannot classify.

    Raises
    ------
    CheckpointError
        If the card names fewer than two classes.
    """
    if len(card.classes) < 2:
        raise CheckpointError(
            f"The model tells {len(card.classes)} classes apart; a prediction needs at "
            "least two. Fine-tune it on a cohort with labels first."
        )


def warnings(
    card: Card,
    source: SlideSource,
    tissue: Tissue,
    aligned: Aligned | None,
    features: NDArray[np.float32],
    feature_mean: NDArray[np.float32],
) -> tuple[str, ...]:
    """Return what a reader must know before trusting the result, as sentences.

    Parameters
    ----------
    card
        Of the model.
    source
        The slide, with all that was read of it.
    tissue
        Its tissue.
    aligned
        The patient's genes; None for "slide only".
    features
        (N, P) of the slide.
    feature_mean
        (P,) of the training cohort.
    """
    return (
        *_about_model(card),
        *_about_resolution(source),
        *about_colours(card, source, tissue),
        *_about_damage(source),
        *_about_patches(features, feature_mean),
        *(() if aligned is None else _about_genes(aligned)),
    )


def segmentation_warnings(
    card: Card, source: SlideSource, tissue: Tissue, aligned: Aligned | None
) -> tuple[str, ...]:
    """Return what a reader of a segmented slide must know, as sentences.

    Parameters
    ----------
    card
        Of the model, which sees pixels at the card's um/px.
    source, tissue, aligned
        As in `warnings`.
    """
    return (
        *_about_model(card),
        *_about_resolution(source),
        *about_sharpness(card, source),
        *about_colours(card, source, tissue),
        *_about_damage(source),
        *(() if aligned is None else _about_genes(aligned)),
    )


def about_sharpness(card: Card, source: SlideSource) -> Iterator[str]:
    """Yield that the slide shows less than the model was trained on."""
    coarsest = max(source.mpp)
    if coarsest > COARSER * card.mpp:
        yield (
            f"The slide has {coarsest:.4g} um/px, the model was trained at "
            f"{card.mpp:g}: what it needs to see is interpolated, not there. Give a "
            "slide scanned at a higher magnification."
        )


def about_colours(card: Card, source: SlideSource, tissue: Tissue) -> Iterator[str]:
    """Yield what is known before any patch is read: a foreign stain, other colours."""
    if tissue.brown > BROWN_PART:
        yield (
            f"{tissue.brown:.0%} of the tissue is brown, as after immunohistochemistry "
            "with DAB; the model knows H&E only, so its answer means little here. Give "
            "the H&E slide."
        )
    if tissue.dark > DARK_PART:
        yield (
            f"{tissue.dark:.0%} of the picture is black where a bright-field slide "
            "shows glass: is it fluorescence saved as a colour picture? Give the H&E "
            "slide."
        )
    converted = card.cohort.get("srgb")  # older cards do not say
    if source.icc is not None and converted not in (None, source.srgb):
        yield (
            "The model was trained on slides "
            + ("converted" if converted else "as scanned, not converted")
            + " to sRGB and this one was "
            + ("not: ask for sRGB (--srgb)." if converted else "converted (--srgb).")
        )


def _about_damage(source: SlideSource) -> Iterator[str]:
    if source.damage:
        yield source.damage.report


def _about_model(card: Card) -> Iterator[str]:
    if is_synthetic(card):
        yield (
            "The model was trained on synthetic slides and genes: it shows how the "
            "tool works, and its answers mean nothing for a real patient."
        )
    if card.stage == "pretrain":
        yield (
            "The model is pre-trained only: its classification head is untrained, so "
            "the probabilities mean nothing."
        )
    if not card.metrics:
        yield "The model's card records no results on held-out patients."


def is_synthetic(card: Card) -> bool:
    """Return whether the card says that the training cohort was made up."""
    said = json.dumps(dict(card.cohort), default=str) + card.description
    return "synthetic" in said.lower()


def _about_resolution(source: SlideSource) -> Iterator[str]:
    resolution = source.resolution
    if resolution.verified or resolution.mpp is None:
        return
    y, x = resolution.mpp
    value = f"{x:.4g}" if x == y else f"{x:.4g} × {y:.4g}"
    yield (
        f"The slide's resolution, {value} µm/px ({resolution.origin}), could not be "
        "verified; if it is wrong, patches have the wrong size and the result is void."
    )


def _about_patches(
    features: NDArray[np.float32], feature_mean: NDArray[np.float32]
) -> Iterator[str]:
    if len(features) < FEW_PATCHES:
        count = "1 patch" if len(features) == 1 else f"{len(features)} patches"
        yield (
            f"Only {count} of tissue found; with fewer than {FEW_PATCHES} a prediction "
            "rests on little."
        )
    shift = feature_shift(features, feature_mean)
    if shift > FAR_FEATURES:
        yield (
            "The slide looks unlike the training slides: its mean patch lies "
            f"{shift:.1f} of its own standard deviations from theirs (usual: below "
            f"{FAR_FEATURES:g}). Another stain, scanner or tissue makes the result "
            "unreliable."
        )


def feature_shift(
    features: NDArray[np.float32], feature_mean: NDArray[np.float32]
) -> float:
    """Return how far the slide's mean feature is from the cohort's.

    Root mean square over features of the difference, each in units of this slide's
    standard deviation; features that do not vary here are left out.
    """
    spread = features.std(axis=0)
    varies = spread > 1e-6 * max(float(spread.max()), 1e-12)
    if not varies.any():
        return 0.0
    off = (features.mean(axis=0) - feature_mean)[varies] / spread[varies]
    return float(np.sqrt(np.mean(off**2)))


def _about_genes(aligned: Aligned) -> Iterator[str]:
    report, total = aligned.report, len(aligned.present)
    if aligned.question:
        yield (
            f"Only {len(report.matched):,} of the model's {total:,} genes are in the "
            "table; the rest counts as average, so the genes say less than they could."
        )
    if len(report.out_of_range) > 0.05 * total:
        yield (
            f"{len(report.out_of_range):,} of {total:,} genes lie outside the range of "
            "the training cohort: is the table on the scale it seems to be?"
        )
    for note in report.notes:
        yield f"{note[0].upper()}{note[1:]}."
