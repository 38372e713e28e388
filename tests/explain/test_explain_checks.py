from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from gimp_models.checkpoint import Card

from napari_gimp.errors import CheckpointError
from napari_gimp.explain.checks import check_finished, feature_shift, warnings
from napari_gimp.genes.panel import Aligned, AlignReport
from napari_gimp.geometry import Grid
from napari_gimp.patches.tissue import Tissue
from napari_gimp.slide.damage import Damage
from napari_gimp.slide.source import Resolution

GOOD = Resolution((0.5, 0.5), "openslide.mpp-x", verified=True)
FEATURES = np.random.default_rng(0).normal(3, 1, (200, 16)).astype(np.float32)
MEAN = FEATURES.mean(axis=0)
TISSUE = Tissue(np.ones((4, 4), dtype=bool), Grid((4, 4), (8.0, 8.0)))


@dataclass
class Slide:
    """What the checks look at of an open slide."""

    resolution: Resolution = GOOD
    icc: bytes | None = None
    srgb: bool = False
    damage: Damage = field(default_factory=lambda: Damage("slide.svs"))


GOOD_SLIDE = Slide()


def test_nothing_is_said_when_nothing_is_wrong(card: Card) -> None:
    assert warnings(card, GOOD_SLIDE, TISSUE, None, FEATURES, MEAN) == ()


def test_an_unverified_resolution_is_said_with_its_value(card: Card) -> None:
    slide = Slide(Resolution((0.69, 0.69), "user", verified=False))

    (text,) = warnings(card, slide, TISSUE, None, FEATURES, MEAN)

    assert "0.69 µm/px (user)" in text


def test_a_synthetic_cohort_a_lone_pretraining_and_missing_results_are_said(
    card: Card,
) -> None:
    made_up = replace(
        card, cohort={"name": "synthetic, seed 1"}, stage="pretrain", metrics={}
    )

    texts = warnings(made_up, GOOD_SLIDE, TISSUE, None, FEATURES, MEAN)

    assert len(texts) == 3
    assert "mean nothing for a real patient" in texts[0]
    assert "pre-trained only" in texts[1]


def test_a_slide_unlike_the_training_slides_is_said(card: Card) -> None:
    (text,) = warnings(card, GOOD_SLIDE, TISSUE, None, FEATURES + 5, MEAN)

    assert "unlike the training slides" in text
    assert "5." in text


def test_few_patches_are_said(card: Card) -> None:
    (text,) = warnings(
        card, GOOD_SLIDE, TISSUE, None, FEATURES[:7], FEATURES[:7].mean(axis=0)
    )

    assert "Only 7 patches" in text


@pytest.mark.parametrize(("matched", "said"), [(75, True), (95, False)])
def test_a_panel_mostly_missing_is_said(card: Card, matched: int, said: bool) -> None:
    names = tuple(f"G{k}" for k in range(100))
    report = AlignReport(names[:matched], names[matched:], (), ())
    present = np.arange(100) < matched
    aligned = Aligned(np.zeros(100, np.float32), present, report)

    texts = warnings(card, GOOD_SLIDE, TISSUE, aligned, FEATURES, MEAN)

    assert any(f"{matched} of the model's 100 genes" in t for t in texts) is said


def test_features_that_do_not_vary_do_not_blow_the_shift_up() -> None:
    flat = FEATURES.copy()
    flat[:, 3] = 7.0

    assert feature_shift(flat, MEAN) < 0.1


def test_a_model_of_one_class_is_refused(card: Card) -> None:
    with pytest.raises(CheckpointError, match="at least two"):
        check_finished(replace(card, classes=("only",)))


@pytest.mark.parametrize(
    ("sign", "words"), [("brown", "immunohistochemistry"), ("dark", "fluorescence")]
)
@pytest.mark.parametrize(("part", "said"), [(0.6, True), (0.05, False)])
def test_another_stain_than_the_models_is_said(
    card: Card, sign: str, words: str, part: float, said: bool
) -> None:
    tissue = replace(TISSUE, **{sign: part})

    texts = warnings(card, GOOD_SLIDE, tissue, None, FEATURES, MEAN)

    assert [words in text for text in texts] == ([True] if said else [])


def test_damaged_tiles_are_said_once_with_their_number(card: Card) -> None:
    slide = Slide()
    for col in range(3):
        slide.damage.note((0, 7, col), "no JPEG")

    (text,) = warnings(card, slide, TISSUE, None, FEATURES, MEAN)

    assert "3 tiles could not be decoded" in text


@pytest.mark.parametrize(
    ("trained", "seen", "said"),
    [
        (True, False, True),
        (False, True, True),
        (True, True, False),
        (False, False, False),
        (None, True, False),
    ],
)
def test_colours_converted_unlike_the_training_slides_are_said(
    card: Card, trained: bool | None, seen: bool, said: bool
) -> None:
    recorded = {} if trained is None else {"srgb": trained}
    model = replace(card, cohort={**card.cohort, **recorded})
    slide = Slide(icc=b"profile", srgb=seen)

    texts = warnings(model, slide, TISSUE, None, FEATURES, MEAN)

    assert [("sRGB" in text) for text in texts] == ([True] if said else [])


def test_a_slide_without_a_profile_need_not_be_converted(card: Card) -> None:
    model = replace(card, cohort={**card.cohort, "srgb": True})

    assert warnings(model, GOOD_SLIDE, TISSUE, None, FEATURES, MEAN) == ()
