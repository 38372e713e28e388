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

    from napari_gimp.training.run import RunConfig


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
        If the folder holds no fine-tuned run, the run was not evaluated, or `out` is
        inside the run folder.
    CheckpointError
        If `out` holds something else than a checkpoint.
    """
    from gimp_models.checkpoint import load, save

    from napari_gimp.training.evaluate import read_run

    run = read_run(Path(run_folder))
    _check_outside(run, out)
    checkpoint = load(run.folder.best)
    card = checkpoint.card
    if "test" not in card.metrics:
        raise RunError(
            f"The run {run_folder} has no results on held-out patients in its card; "
            f"a published model needs them. Run `napari-gimp evaluate {run_folder}`."
        )
    metrics = {**card.metrics, **_planted(run)}
    card = replace(card, description=description, licence=licence, metrics=metrics)
    return save(out, checkpoint.model, card, checkpoint.decoder)


def _check_outside(run: RunConfig, out: Path) -> None:
    # Replacing one of the run's own checkpoints would lose what training goes on from.
    if out.resolve().is_relative_to(run.out):
        raise RunError(
            f"{out} is inside the run folder {run.out}; a published model must lie "
            "outside of it. Choose another folder."
        )


def _planted(run: RunConfig) -> dict[str, Any]:
    from napari_gimp.planted import measure_planted

    if not (run.manifest.parent / "truth.json").exists():
        return {}  # a real cohort: nothing was planted
    return {"planted": measure_planted(run.out).as_dict()}
