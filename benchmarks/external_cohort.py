"""Measure a fine-tuned run on patients of another cohort, with all its baselines.

The run's own test patients come from the cohort it was developed on. Here the model
and the baselines, fitted on the run's training patients as in `napari-gimp evaluate`,
predict every patient of a cohort that nobody has looked at before.

    python benchmarks/external_cohort.py RUN MANIFEST GENES
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from gimp_models.checkpoint import load

from napari_gimp.training.data import CohortBags
from napari_gimp.training.evaluate import (
    baseline_probabilities,
    held_out_bags,
    model_probabilities,
    read_run,
)
from napari_gimp.training.metrics import METRICS, measure_with_intervals
from napari_gimp.training.prepare import gather_bags
from napari_gimp.training.run import RunConfig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name in ("run", "manifest", "genes"):
        parser.add_argument(name, type=Path)
    args = parser.parse_args()
    run = read_run(args.run)
    checkpoint = load(run.folder.best)
    bags = held_out_bags(run, checkpoint)
    with tempfile.TemporaryDirectory() as store:
        other = replace(
            run,
            manifest=args.manifest.resolve(),
            genes=args.genes.resolve(),
            store=Path(store),
            start=None,
        )
        patients = everyone(other, checkpoint.card)
    bags = replace(bags, test=patients)
    labels = np.array([bag.label for bag in patients])
    print(f"{len(labels)} patients; [95 % bootstrap interval]")
    print(f"{'':28}" + "".join(f"  {name:<20}" for name in METRICS))
    show("slide + genes: GiMP", labels, model_probabilities(checkpoint, bags))
    for name, _, probabilities in baseline_probabilities(run, bags, print_nothing):
        show(name, labels, probabilities)


def everyone(run: RunConfig, card: object) -> tuple:
    """Return the bags of all patients of a cohort, aligned to the card's panel."""
    bags: CohortBags = gather_bags(run, card)
    return (*bags.train, *bags.validation, *bags.test)


def show(name: str, labels: np.ndarray, probabilities: np.ndarray) -> None:
    """Print one row."""
    scores = measure_with_intervals(labels, probabilities)
    print(f"{name:28}" + "".join(f"  {scores[m]!s:<20}" for m in METRICS))


def print_nothing(text: str) -> None:
    """Baselines report what they do; here nobody listens."""


if __name__ == "__main__":
    main()
