from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from napari_gimp.errors import CohortError
from napari_gimp.geometry import Grid
from napari_gimp.planted import (
    class_genes,
    driven_classes,
    precision_at,
    read_modules,
    tumour_auc,
    tumour_share,
)
from napari_gimp.training.metrics import Score, mean_with_interval

STROMA, TUMOUR, PEN = 1, 2, 6


def test_the_share_of_tumour_counts_tissue_only() -> None:
    codes = np.zeros((32, 32), np.uint8)
    codes[:16, :8], codes[:16, 8:12], codes[:16, 12:16] = TUMOUR, STROMA, PEN
    centres = np.array([[64.0, 64.0], [64.0, 192.0]])
    share = tumour_share(codes, Grid((32, 32), (8.0, 8.0)), centres, 128.0)
    assert share[0] == pytest.approx(8 / 12)
    assert np.isnan(share[1])


def test_a_map_that_follows_the_tumour_has_auc_one_and_its_reverse_zero() -> None:
    share = np.array([0.9, 0.7, 0.3, 0.05, 0.0, np.nan])
    values = np.array([5.0, 4.0, -9.0, 1.0, 2.0, 99.0])
    assert tumour_auc(values, share) == 1.0
    assert tumour_auc(-values, share) == 0.0


def test_a_slide_of_one_kind_has_no_auc() -> None:
    assert tumour_auc(np.ones(3), np.array([0.9, 0.8, 0.2])) is None


def test_precision_takes_attributions_by_size_whatever_their_sign() -> None:
    attribution = np.array([0.1, -3.0, 2.0, 0.0])
    planted = np.array([False, True, True, False])
    assert precision_at(attribution, planted, 2) == 1.0
    assert precision_at(attribution, planted, 4) == 0.5


def test_class_genes_leave_out_tissue_modules_and_decoys() -> None:
    modules = {
        "A": {"classes": {"basal-like": 2.0}, "genes": {"X": 1.0, "Y": 1.0}},
        "B": {"classes": {}, "genes": {"Z": 1.0}},
    }
    assert class_genes(modules) == {"X", "Y"}
    assert driven_classes(modules) == {"basal-like"}


def test_a_cohort_without_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CohortError, match="napari-gimp synth"):
        read_modules(tmp_path)


def test_a_mean_comes_with_an_interval_that_holds_it() -> None:
    score = mean_with_interval([0.5, 0.7, 0.9, 0.8])
    assert 0.5 < score.low < score.value < score.high < 0.9
    assert score.value == pytest.approx(0.725)
    assert mean_with_interval([0.4]) == Score(0.4, 0.4, 0.4)
