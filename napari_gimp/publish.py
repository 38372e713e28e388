"""Make a trained run's best checkpoint ready to be given to others.

What a checkpoint needs for going on with training stays behind; what a reader of its
card needs is added: a description, a licence, the command, the measured results.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.errors import RunError

if TYPE_CHECKING:
    from gimp_models.card import Card


def publish(run_folder: Path, out: Path, *, description: str, licence: str) -> Card:
    """Write a run's best checkpoint, without training state, into `out`.

    On a synthetic cohort the card also says how well maps and gene attributions
    find what was planted.

    Parameters
    ----------
    run_folder
        A fine-tuned run that was evaluated.
    out
        The folder to write; a checkpoint that is there is replaced.
    description
        A sentence for people: purpose, and what it must not be used for.
    licence
        Licence of the weights.

    Returns
    -------
    Card
        The card as written.

    Raises
    ------
    RunError
        If the run was not evaluated.
    CheckpointError
        If the run has no checkpoint, or `out` holds something else.
    """
    from gimp_models.checkpoint import load, save

    from napari_gimp.training.run import RunFolder

    checkpoint = load(RunFolder(Path(run_folder)).best)
    card = checkpoint.card
    if "test" not in card.metrics:
        raise RunError(
            f"The run {run_folder} has no results on held-out patients in its card; "
            f"a published model needs them. Run `napari-gimp evaluate {run_folder}`."
        )
    metrics = {**card.metrics, **_planted(Path(run_folder))}
    card = replace(card, description=description, licence=licence, metrics=metrics)
    return save(out, checkpoint.model, card, checkpoint.decoder)


def _planted(run_folder: Path) -> dict[str, Any]:
    from napari_gimp.planted import measure_planted
    from napari_gimp.training.evaluate import read_run

    if not (read_run(run_folder).manifest.parent / "truth.json").exists():
        return {}  # a real cohort: nothing was planted
    return {"planted": measure_planted(run_folder).as_dict()}
