"""How good is an encoder? A linear probe on labelled tiles it never saw.

The folder holds one folder of images per class. The same folds and the same
classifier judge the encoder, the same network with random weights, and plain
colour histograms: an encoder that does not beat both has learned little.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders import Encoder

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]
FOLDS = 5
REPEATS = 3
BINS = 8


def read_labelled(folder: Path, side_px: int) -> tuple[Pixels, NDArray[np.int64]]:
    """Return images (T, side, side, 3) uint8 and class numbers (T,).

    Raises
    ------
    EncoderError
        If there are not at least two classes with an image each, or a file is no
        image.
    """
    there = sorted(folder.iterdir()) if folder.is_dir() else []
    classes = [p for p in there if p.is_dir() and any(p.iterdir())]
    if len(classes) < 2:
        raise EncoderError(
            f"{folder} has {len(classes)} folders of images; a probe needs one for "
            "each of two or more classes"
        )
    files = [(f, k) for k, c in enumerate(classes) for f in sorted(c.iterdir())]
    images = [_resized(read_picture(f).convert("RGB"), side_px) for f, _ in files]
    return np.stack(images), np.array([k for _, k in files])


def read_picture(path: Path) -> Image:
    """Return a picture, decoded.

    Raises
    ------
    EncoderError
        If it is not there or is no picture.
    """
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except (OSError, SyntaxError, ValueError) as error:  # as Pillow's formats raise
        raise EncoderError(
            f"{path} cannot be read as a picture ({error}); put a PNG or JPEG there, "
            "or take the file away"
        ) from error


def _resized(picture: Image, side_px: int) -> Pixels:
    from PIL.Image import Resampling

    return np.asarray(picture.resize((side_px, side_px), Resampling.BOX))


def probe(
    encoders: dict[str, Encoder], folder: Path, *, seed: int = 0
) -> dict[str, float]:
    """Return the mean accuracy over folds per encoder, and of colour histograms."""
    side = next(iter(encoders.values())).input_px
    pixels, labels = read_labelled(folder, side)
    ways: dict[str, Callable[[Pixels], Features]] = {
        **encoders,
        "colour histograms": colour_histograms,
    }
    return {
        name: accuracy(embed(pixels), labels, seed=seed) for name, embed in ways.items()
    }


def colour_histograms(pixels: Pixels) -> Features:
    """Return (T, 24): how often each of 8 values occurs, for R, G and B."""
    counts = [
        [
            np.bincount(image[..., c].ravel() // (256 // BINS), minlength=BINS)
            for c in range(3)
        ]
        for image in pixels
    ]
    area = pixels.shape[1] * pixels.shape[2]
    return np.array(counts, dtype=np.float32).reshape(len(pixels), -1) / np.float32(
        area
    )


def accuracy(features: Features, labels: NDArray[np.int64], *, seed: int) -> float:
    """Return the mean accuracy of logistic regression over repeated folds.

    The strength of its penalty is chosen within each training fold.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import (
        GridSearchCV,
        RepeatedStratifiedKFold,
        cross_val_score,
    )
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    strengths = {"logisticregression__C": [1e-3, 1e-2, 1e-1, 1.0]}
    folds = RepeatedStratifiedKFold(
        n_splits=FOLDS, n_repeats=REPEATS, random_state=seed
    )
    search = GridSearchCV(model, strengths, cv=3)
    return float(cross_val_score(search, features, labels, cv=folds).mean())


def effective_rank(features: torch.Tensor) -> float:
    """Return exp(entropy of the spectrum) of features (T,P): 1 means collapse."""
    import torch

    values = torch.linalg.svdvals(features - features.mean(0)) ** 2
    share = values / values.sum()
    return float(torch.exp(-(share * torch.log(share + 1e-12)).sum()))
