"""The numbers of an included encoder's card, with intervals, by one command.

    python -m napari_gimp.training.encoder_numbers --classes DATA/tiles_lc25000_lung/dev
        --nuclei DATA/tiles_dsb2018_stained --nuclei-mpp 0.625 [--write]

Two questions to features of tiles: which class (logistic regression, accuracy), and how
many nuclei per mm2 (ridge regression, R2 of held-out tiles). The same folds judge the
encoder, networks of its sizes with random weights, and colour histograms. Intervals are
95 % bootstraps over images; a gain is the paired difference to a baseline.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError, GimpError
from napari_gimp.patches.encoders import (
    WEIGHTS,
    EncoderCard,
    PatchNetEncoder,
    load_embedded,
)
from napari_gimp.training.encoder_probe import (
    FOLDS,
    REPEATS,
    Features,
    Pixels,
    colour_histograms,
    read_labelled,
    read_picture,
)

Numbers = NDArray[np.float64]
Scores = Callable[[NDArray[np.int64]], float]
"""A measure of some images, by their numbers (with repetitions)."""
DRAWS = 2000
UNTRAINED_SEEDS = (1, 2, 3)
PENALTIES = (1e0, 1e1, 1e2, 1e3, 1e4)
WHAT = (
    "95 % intervals by bootstrap over images; a gain is the paired difference. "
    "Classes: accuracy of logistic regression, 5 folds x 3. Nuclei: R2 of ridge "
    "regression on the four corners of each tile, whole tiles held out, 5 folds x 3. "
    "Untrained: the mean of 3 seeds. The network was trained on 24 crops of the tiles "
    "of nuclei, without their labels. Command: python -m "
    "napari_gimp.training.encoder_numbers --classes DATA/tiles_lc25000_lung/dev "
    "--nuclei DATA/tiles_dsb2018_stained --nuclei-mpp 0.625 --write"
)


def read_nuclei(folder: Path, *, mpp: float, side_px: int) -> tuple[Pixels, Numbers]:
    """Return the corners of labelled tiles, and nuclei per mm2 in each.

    Parameters
    ----------
    folder
        `images/` and `labels/` (instances as whole numbers), of equal file names.
    mpp
        um/px of the images; they are resized to 1 um/px.
    side_px
        Side of a corner, px at 1 um/px.

    Returns
    -------
    pixels
        (4 T, side, side, 3) uint8; rows 4 k to 4 k + 3 are of image k.
    density
        (4 T,) nuclei per mm2; a nucleus counts where its centroid lies.

    Raises
    ------
    EncoderError
        If there is no image, a file is no picture, or an image is smaller than a
        corner.
    """
    files = sorted((folder / "images").glob("*.png"))
    if not files:
        raise EncoderError(f"{folder / 'images'} has no PNG; give images and labels")
    corners = [_corners(folder, file.name, mpp, side_px) for file in files]
    pixels = np.concatenate([images for images, _ in corners])
    return pixels, np.concatenate([density for _, density in corners])


def _corners(folder: Path, name: str, mpp: float, side: int) -> tuple[Pixels, Numbers]:
    from PIL.Image import Resampling

    image = read_picture(folder / "images" / name).convert("RGB")
    width, height = round(image.width * mpp), round(image.height * mpp)
    if min(width, height) < side:
        raise EncoderError(
            f"{folder / 'images' / name} is {height} x {width} um, smaller than a "
            f"patch of {side} um; leave it out"
        )
    shown = np.asarray(image.resize((width, height), Resampling.BOX))
    centres = _centroids(np.asarray(read_picture(folder / "labels" / name))) * mpp
    places = [(y, x) for y in (0, height - side) for x in (0, width - side)]
    inside = [
        ((centres >= place) & (centres < np.add(place, side))).all(1).sum()
        for place in places
    ]
    cut = np.stack([shown[y : y + side, x : x + side] for y, x in places])
    return cut, np.array(inside) / (side * side * 1e-6)


def _centroids(labels: NDArray[Any]) -> Numbers:
    """Return the centroid (y, x) of every instance, px."""
    from skimage.measure import regionprops

    return np.array([p.centroid for p in regionprops(labels)]).reshape(-1, 2)


def held_out_hits(
    features: Features, labels: NDArray[np.int64], *, seed: int
) -> Numbers:
    """Return (T,): how often each tile, held out, was given its class."""
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    hits = []
    for repeat in range(REPEATS):
        folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed + repeat)
        logistic = LogisticRegressionCV(
            Cs=[1e-3, 1e-2, 1e-1, 1.0],
            cv=3,
            max_iter=2000,
            scoring="accuracy",
            l1_ratios=(0.0,),
            use_legacy_attributes=False,
        )
        model = make_pipeline(StandardScaler(), logistic)
        hits.append(cross_val_predict(model, features, labels, cv=folds) == labels)
    mean: Numbers = np.mean(hits, axis=0)
    return mean


def held_out_values(
    features: Features, values: Numbers, groups: NDArray[np.int64], *, seed: int
) -> Numbers:
    """Return (T,): each tile's value as predicted with its whole group held out."""
    from sklearn.linear_model import RidgeCV
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(PENALTIES))
    predicted = []
    for repeat in range(REPEATS):
        folds = GroupKFold(FOLDS, shuffle=True, random_state=seed + repeat)
        predicted.append(
            cross_val_predict(model, features, values, cv=folds, groups=groups)
        )
    mean: Numbers = np.mean(predicted, axis=0)
    return mean


def r_squared(predicted: Numbers, values: Numbers) -> float:
    """Return 1 - (unexplained / total) variance; 0 is as good as the mean."""
    unexplained = ((values - predicted) ** 2).sum()
    return float(1 - unexplained / ((values - values.mean()) ** 2).sum())


def compare(scores: dict[str, Scores], images: int, *, seed: int) -> dict[str, Any]:
    """Return value and interval of each score, and the first's gain over the rest.

    Parameters
    ----------
    scores
        The encoder's first, then the baselines'.
    images
        T, how many images there are to draw from.
    """
    rng = np.random.default_rng(seed)
    draws = rng.integers(0, images, (DRAWS, images))
    drawn = {name: np.array([f(d) for d in draws]) for name, f in scores.items()}
    whole = {name: f(np.arange(images)) for name, f in scores.items()}
    first, *others = scores
    return {
        **{name: _with_interval(whole[name], drawn[name]) for name in scores},
        **{
            f"gain over {name}": _with_interval(
                whole[first] - whole[name], drawn[first] - drawn[name]
            )
            for name in others
        },
    }


def _with_interval(value: float, drawn: Numbers) -> dict[str, Any]:
    low, high = np.quantile(drawn, (0.025, 0.975))
    return {
        "value": round(value, 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
    }


def class_numbers(encoder: PatchNetEncoder, folder: Path, *, seed: int) -> Any:
    """Return accuracies on a folder of classes, with intervals and gains."""
    pixels, labels = read_labelled(folder, encoder.input_px)
    hits = {
        name: np.mean(
            [held_out_hits(embed(pixels), labels, seed=seed) for embed in ways], axis=0
        )
        for name, ways in _ways(encoder).items()
    }
    scores = {name: _mean_of_images(h) for name, h in hits.items()}
    return compare(scores, len(labels), seed=seed)


def _mean_of_images(hits: Numbers) -> Scores:
    return lambda images: float(hits[images].mean())


def nuclei_numbers(
    encoder: PatchNetEncoder, folder: Path, *, mpp: float, seed: int
) -> Any:
    """Return R2 of nucleus density on labelled tiles, with intervals and gains."""
    pixels, density = read_nuclei(folder, mpp=mpp, side_px=encoder.input_px)
    groups = np.arange(len(density)) // 4
    scores = {}
    for name, ways in _ways(encoder).items():
        predicted = [
            held_out_values(embed(pixels), density, groups, seed=seed) for embed in ways
        ]
        scores[name] = _r_squared_of_images(predicted, density)
    return compare(scores, len(density) // 4, seed=seed)


def _r_squared_of_images(predicted: list[Numbers], density: Numbers) -> Scores:
    """Return the mean R2 of some predictions as a function of drawn images."""

    def score(images: NDArray[np.int64]) -> float:
        rows = (images[:, None] * 4 + np.arange(4)).ravel()
        return float(np.mean([r_squared(p[rows], density[rows]) for p in predicted]))

    return score


def _ways(
    encoder: PatchNetEncoder,
) -> dict[str, list[Callable[[Pixels], Features]]]:
    return {
        "this encoder": [encoder],
        "same network, untrained": [
            untrained(encoder.card, seed) for seed in UNTRAINED_SEEDS
        ],
        "colour histograms": [colour_histograms],
    }


def untrained(card: EncoderCard, seed: int) -> PatchNetEncoder:
    """Return a network of a card's sizes with random weights."""
    import torch

    from napari_gimp.patches.network import PatchNet, fuse

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PatchNet(card.config)
    return PatchNetEncoder(card, fuse(network), f"untrained {seed}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure from the command line; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--encoder", default="default")
    parser.add_argument("--classes", type=Path, required=True)
    parser.add_argument("--nuclei", type=Path, required=True)
    parser.add_argument("--nuclei-mpp", type=float, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="into the card")
    try:
        _measure(parser.parse_args(arguments))
    except GimpError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


def _measure(args: argparse.Namespace) -> None:
    encoder = load_embedded(args.encoder)
    numbers = {
        "accuracy of classes": class_numbers(encoder, args.classes, seed=args.seed),
        "R2 of nuclei per mm2": nuclei_numbers(
            encoder, args.nuclei, mpp=args.nuclei_mpp, seed=args.seed
        ),
    }
    sys.stdout.write(json.dumps(numbers, indent=2) + "\n")
    if args.write:
        _write(WEIGHTS / f"{args.encoder}.json", numbers)


def _write(path: Path, numbers: dict[str, Any]) -> None:
    """Put the numbers under the card's metrics; all else stays as it is."""
    card = json.loads(path.read_text(encoding="utf-8"))
    card["metrics"]["with intervals"] = {"what": WHAT, **numbers}
    building = path.with_name(f".{path.name}.part")
    building.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    building.replace(path)


if __name__ == "__main__":
    sys.exit(main())
