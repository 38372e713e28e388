"""From a run file to a model and its bags, checked, before the first step."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from gimp_models.card import Card
from gimp_models.checkpoint import Checkpoint, load_as
from gimp_models.decoder import PixelDecoder, fit_decoder
from gimp_models.gimp import Gimp

from napari_gimp.cohorts.plans import check_exclusions
from napari_gimp.training.cohort import check_panel, read_cohort
from napari_gimp.training.data import (
    CohortBags,
    draw_thumbnails,
    fit_panel,
    make_bags,
    plans_of,
    read_features,
)
from napari_gimp.training.run import RunConfig
from napari_gimp.training.schedule import choose_device
from napari_gimp.training.start import (
    check_encoder,
    check_no_leak,
    fresh_model,
    load_start,
    panel_of,
    seen_slides,
    started_model,
)

if TYPE_CHECKING:
    from napari_gimp.patches.encoders import Encoder

# A step of 64 takes about 0.2 s on one core: a minute for 2048 pictures.
DECODER_EPOCHS, DECODER_BATCH, DECODER_LEAST = 10, 64, 20


class FeaturesDone(Protocol):
    """Told how many patients' features are there, and what could not be read."""

    def __call__(self, *, step: int, total: int, text: str = "") -> None:
        """Take note."""
        ...


def _silent(*, step: int, total: int, text: str = "") -> None:
    del step, total, text


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything a training needs, before its first step.

    Parameters
    ----------
    bags
        The cohort.
    model
        Fresh, started or resumed.
    card
        What is already known of the checkpoint to be.
    decoder
        Features to thumbnails.
    pretrained
        Whether the model's encoders know something.
    """

    bags: CohortBags
    model: Gimp
    card: Card
    decoder: PixelDecoder | None
    pretrained: bool


def prepare(
    run: RunConfig,
    *,
    last: Path | None = None,
    report: FeaturesDone = _silent,
) -> Prepared:
    """Check the cohort, make its features, and build or load the model.

    Parameters
    ----------
    run
        What to do.
    last
        Checkpoint to go on from.
    report
        Called with `step` patients whose features are there, of `total`.
    """
    start = load_start(run.start) if run.start else None
    encoder = _encoder(run)
    bags = gather_bags(run, start.card if start else None, report=report)
    if start:
        check_no_leak(start.card, bags)
    held = load_as(last, Gimp) if last else start
    model = started_model(run, held, bags) if held else fresh_model(run, bags)
    decoder = held.decoder if held and held.decoder else _decoder(run, bags, encoder)
    card = _card(run, bags, encoder, start)
    return Prepared(bags, model, card, decoder, pretrained=start is not None)


def starting_model(run: RunConfig, bags: CohortBags) -> tuple[Gimp, bool]:
    """Return the model as the run begins with it, and whether it is pre-trained."""
    if run.start is None:
        return fresh_model(run, bags), False
    return started_model(run, load_start(run.start), bags), True


def gather_bags(
    run: RunConfig, known: Card | None = None, *, report: FeaturesDone = _silent
) -> CohortBags:
    """Read the cohort, split it, and return its bags.

    Parameters
    ----------
    run
        What to do.
    known
        Card of a checkpoint whose panel and encoder are to be used; None fits the
        panel on the training patients.
    report
        As in `prepare`.
    """
    encoder = _encoder(run)
    if known:
        check_encoder(known, encoder)
    plan, cohort = run.plan, read_cohort(run.manifest, run.genes)
    check_exclusions(cohort.slides(), run.patches)
    split = cohort.split(folds=plan.folds, fold=plan.fold, seed=plan.seed)
    panel = (
        panel_of(known)
        if known
        else fit_panel(cohort, split.train, top_genes=plan.top_genes)
    )
    if known:
        check_panel(cohort, panel)
    features = read_features(
        cohort,
        encoder,
        run.patches,
        store=run.feature_store,
        device=choose_device(plan.device),
        workers=plan.workers,
        srgb=run.srgb,
        report=lambda done, total, text: report(step=done, total=total, text=text),
    )
    return make_bags(cohort, split, panel, features)


def _encoder(run: RunConfig) -> Encoder:
    """Return the run's encoder; of imported features with the store's patch size."""
    from napari_gimp.patches.encoders import load_encoder
    from napari_gimp.patches.features import settle
    from napari_gimp.patches.store import FeatureStore

    return settle(load_encoder(run.encoder), FeatureStore(run.feature_store))


def _decoder(run: RunConfig, bags: CohortBags, encoder: Encoder) -> PixelDecoder:
    generator = torch.Generator().manual_seed(run.plan.seed)
    features, pictures = draw_thumbnails(
        bags, encoder.patch_um, generator, srgb=run.srgb
    )
    with torch.random.fork_rng():
        torch.manual_seed(run.plan.seed)
        decoder = PixelDecoder(features.shape[1])
    fit_decoder(
        decoder,
        features,
        pictures,
        generator=generator,
        steps=max(DECODER_LEAST, DECODER_EPOCHS * len(features) // DECODER_BATCH),
        batch_size=DECODER_BATCH,
    )
    return decoder.eval()


def _card(
    run: RunConfig,
    bags: CohortBags,
    encoder: Encoder,
    start: Checkpoint[Gimp] | None,
) -> Card:
    before = start.card.cohort.get("slides", ()) if start else ()
    plan, panel = run.plan, bags.panel
    return Card(
        stage=run.stage,
        classes=bags.classes,
        genes=panel.genes,
        gene_mean=tuple(map(float, panel.mean)),
        gene_sd=tuple(map(float, panel.sd)),
        gene_scale=panel.scale,
        encoder={
            "name": encoder.name,
            "fingerprint": encoder.fingerprint,
            "width": encoder.width,
        },
        patch_um=encoder.patch_um,
        mpp=encoder.mpp,
        cohort={
            "name": run.manifest.parent.name,
            "patients": bags.cohort.counts(),
            "train": len(bags.train),
            "validation": len(bags.validation),
            "test": len(bags.test),
            "folds": plan.folds,
            "fold": plan.fold,
            "seed": plan.seed,
            "slides": seen_slides(bags, before),
            "srgb": run.srgb,
            **_about_slides(bags),
        },
        choices=start.card.choices if start else (),
        description=f"{run.model}, {run.size}, {run.stage}",
    )


def _about_slides(bags: CohortBags) -> dict[str, object]:
    """Return where patches were asked for, and how many slides are damaged.

    Only what is not as usual is said.
    """
    parts = [part for slides in bags.slides.values() for part in slides]
    damaged = sum(bool(part.damage) for part in parts)
    said = {"patches": plans_of(bags), "damaged_slides": damaged}
    return {name: value for name, value in said.items() if value}
