"""Train a model as a run file says; the run folder tells everyone how it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gimp_models.bag import Bag
from gimp_models.checkpoint import save
from gimp_models.evidence import measure_reference
from gimp_models.gimp import Gimp, choices
from gimp_models.objective import GimpFinetune, GimpPretrain

from napari_gimp.errors import RunError
from napari_gimp.training.events import Event, Kind, write_event
from napari_gimp.training.fit import (
    CLIP_NORM,
    EpochDone,
    Judge,
    Judgement,
    Trainer,
    rate_groups,
)
from napari_gimp.training.judge import finetune_judge, pair_logits, pretrain_judge
from napari_gimp.training.launch import sign_in, sign_out
from napari_gimp.training.predict import collated
from napari_gimp.training.prepare import Prepared, prepare
from napari_gimp.training.run import RunConfig, RunFolder
from napari_gimp.training.state import (
    TrainingState,
    find_folder,
    load_optimizer,
    replace_folder,
    save_optimizer,
)

Watch = Callable[[Event], None]


def train(run: RunConfig, *, resume: bool = False, watch: Watch | None = None) -> Path:
    """Train, and return the run folder.

    Parameters
    ----------
    run
        What to do.
    resume
        Go on from the last checkpoint of the folder, exactly; from the beginning
        if there is none yet.
    watch
        Called with each event as it is written.

    Raises
    ------
    RunError
        If the folder is in use or holds another run, or the start does not fit.
    CohortError, GeneError
        If the cohort cannot be used.
    """
    folder = run.folder
    _open_folder(folder, run, resume=resume)
    tell = partial(_tell, folder, run, watch)
    with _signed_out(folder), _farewell(tell), torch.random.fork_rng():
        last = find_folder(folder.last) if resume else None
        prepared = prepare(run, last=last, report=partial(tell, "features"))
        tell("started", text=_greeting(run, prepared, last))
        trainer = _trainer(run, prepared, last)
        stopped = _follow_epochs(run, prepared, trainer, tell)
        best = trainer.progress.best_epoch
        how: Kind = "stopped" if stopped else "finished"
        tell(how, epoch=trainer.progress.epoch, text=f"Best epoch: {best}.")
    return folder.root


def objective_of(run: RunConfig, model: Gimp) -> GimpPretrain | GimpFinetune:
    """Return model and loss of the run's stage."""
    plan = run.plan
    if run.stage == "pretrain":
        return GimpPretrain(model, lambda_triplet=plan.lambda_triplet)
    return GimpFinetune(
        model, max_patches=plan.max_patches, lambda_patches=plan.lambda_patches
    )


def _trainer(run: RunConfig, prepared: Prepared, last: Path | None) -> Trainer:
    objective = objective_of(run, prepared.model)
    judge = (
        pretrain_judge(objective, run.plan)
        if isinstance(objective, GimpPretrain)
        else finetune_judge(pair_logits(prepared.model))
    )
    judge = _with_reference(judge, prepared)
    progress = TrainingState.read(last).progress if last else None
    slow = run.stage == "finetune" and prepared.pretrained
    groups = rate_groups(prepared.model, run.plan, slow_encoders=slow)
    trainer = Trainer(objective, groups, run.plan, judge=judge, progress=progress)
    if last:
        load_optimizer(trainer.optimizer, last)
    return trainer


def _with_reference(judge: Judge, prepared: Prepared) -> Judge:
    """Measure the reference means before each judgement, with the epoch's weights.

    They stand for absent genes in the judgement too, so a checkpoint, best or last,
    holds the model that was judged.
    """

    def judged(bags: Sequence[Bag], device: torch.device) -> Judgement:
        batches = (batch.to(device) for batch in collated(prepared.bags.train))
        measure_reference(prepared.model, batches)
        return judge(bags, device)

    return judged


def _follow_epochs(
    run: RunConfig, prepared: Prepared, trainer: Trainer, tell: Callable[..., None]
) -> bool:
    """Run the epochs, keeping each; return whether somebody asked to stop."""
    bags = prepared.bags
    for done in trainer.epochs(bags.train, bags.validation):
        _keep(run, prepared, trainer, done)
        tell(
            "epoch",
            epoch=done.epoch,
            step=done.step,
            total=run.plan.epochs,
            parts=done.parts,
            metrics=done.metrics,
        )
        if run.folder.stop.exists():
            return True
    return False


def _keep(
    run: RunConfig, prepared: Prepared, trainer: Trainer, done: EpochDone
) -> None:
    """Write checkpoints/last, and checkpoints/best if the epoch is the best."""
    metrics = {"validation": dict(done.metrics), "epoch": done.epoch}
    model = prepared.model
    card = replace(prepared.card, metrics=metrics, choices=_settled(run, prepared))
    state = TrainingState(trainer.progress, run.as_dict(), prepared.bags.split)

    def fill(folder: Path) -> None:
        save(folder, model, card, prepared.decoder)
        save_optimizer(trainer.optimizer, folder)
        state.write(folder)

    if done.better:
        replace_folder(run.folder.best, fill)
    replace_folder(run.folder.last, fill)


def _settled(run: RunConfig, prepared: Prepared) -> tuple[str, ...]:
    """List what the paper leaves open, as settled here and before."""
    model = prepared.model
    own = (*choices(model.config), *objective_of(run, model).choices)
    here = (*own, *_schedule(run, pretrained=prepared.pretrained))
    before = [text for text in prepared.card.choices if text not in here]
    prefix = "In pre-training: "
    return (*here, *(f"{prefix}{text.removeprefix(prefix)}" for text in before))


def _schedule(run: RunConfig, *, pretrained: bool) -> tuple[str, ...]:
    plan = run.plan
    slow = run.stage == "finetune" and pretrained
    share = f", encoders at {plan.encoder_share:g} of it" if slow else ""
    loss = "loss" if run.stage == "pretrain" else "cross-entropy"
    return (
        f"Schedule: at most {plan.epochs} epochs of AdamW, peak rate {plan.lr:g}"
        f"{share}, weight decay {plan.weight_decay:g}, {plan.warmup} epochs of warm-up,"
        f" cosine, batches of {plan.batch} patients balanced by class, gradient norm "
        f"clipped at {CLIP_NORM:g}.",
        f"Epoch kept: least {loss} on the validation patients; ends after "
        f"{plan.patience} epochs without a better one.",
        f"Noise of {plan.gene_noise:g} sd on expression in training.",
    )


def _open_folder(folder: RunFolder, run: RunConfig, *, resume: bool) -> None:
    """Claim the folder for this process."""
    folder.root.mkdir(parents=True, exist_ok=True)
    if folder.used and not resume:
        raise RunError(
            f"{folder.root} holds a run already. Resume it (--resume), or choose "
            "another folder as `out`."
        )
    if resume and find_folder(folder.last):
        _check_same(TrainingState.read(folder.last).run, run.as_dict())
    sign_in(folder)
    folder.stop.unlink(missing_ok=True)
    run.write(folder.config)


def _check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """Only where and with how many threads to compute may change on the way."""
    free = {"device": None, "workers": None}
    old, new = ({**r, "plan": {**r["plan"], **free}} for r in (before, now))
    changed = [k for k in new if k != "plan" and old.get(k) != new[k]]
    changed += [k for k in new["plan"] if old["plan"].get(k) != new["plan"][k]]
    if changed:
        raise RunError(
            f"The run was begun with another {', '.join(changed)}. Put back what it "
            "was (run.toml of its folder has it), or begin anew in another folder."
        )


@contextmanager
def _signed_out(folder: RunFolder) -> Iterator[None]:
    """Free the folder at the end, after the last event."""
    try:
        yield
    finally:
        sign_out(folder)


@contextmanager
def _farewell(tell: Callable[..., None]) -> Iterator[None]:
    """Let nobody wait for a process that died."""
    try:
        yield
    except KeyboardInterrupt:
        tell("interrupted", text="Interrupted; resume goes on from checkpoints/last.")
        raise
    except BaseException as error:
        tell("failed", text=str(error) or type(error).__name__)
        raise


def _tell(
    folder: RunFolder,
    run: RunConfig,
    watch: Watch | None,
    kind: Kind,
    **what: Any,
) -> None:
    event = Event(kind=kind, stage=run.stage, **what)
    write_event(folder.events, event)
    if watch:
        watch(event)


def _greeting(run: RunConfig, prepared: Prepared, last: Path | None) -> str:
    bags = prepared.bags
    how = "Goes on" if last else "Begins"
    who = (
        f"{how}: {len(bags.train)} patients train, {len(bags.validation)} validate, "
        f"{len(bags.test)} are held out; {len(bags.panel.genes)} genes."
    )
    return "\n".join([who, *bags.cohort.gene_notes()])
