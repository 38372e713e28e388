"""What an analysis needs, read and checked before any pixel is touched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_gimp.errors import GeneError, GimpError
from napari_gimp.explain import checks
from napari_gimp.explain.models import resolve_model
from napari_gimp.explain.result import ModelSummary
from napari_gimp.geometry import YX
from napari_gimp.patches.plan import PatchPlan

if TYPE_CHECKING:
    from gimp_models.checkpoint import Card, Checkpoint
    from gimp_models.gimp import Gimp

    from napari_gimp.genes.panel import Aligned, Panel, PanelScale
    from napari_gimp.genes.table import GeneTable, Profile
    from napari_gimp.patches.encoders import Encoder


@dataclass(frozen=True, slots=True)
class Request:
    """What to analyse.

    Parameters
    ----------
    slide
        The slide's file.
    model
        Name of a shipped model, or a checkpoint's folder.
    genes
        Expression table; None means "slide only".
    sample
        The patient's sample in the table; may be left out if the table has one.
    pseudobulk
        Sum all rows of a counts table instead (spots or cells of this patient).
    mpp
        um per level-0 pixel, one number or (y, x), where the file does not say.
    srgb
        Convert colours from the slide's ICC profile to sRGB, if it has one.
    store
        Folder that keeps patch features; None keeps nothing.
    device
        "auto", "cpu", "cuda", "cuda:1", "mps".
    batch_size
        Patches per step; None for as many as memory takes.
    plan
        Where patches lie.
    allow_missing
        Use a profile that lacks much of the model's panel.
    """

    slide: Path
    model: str | Path = "demo"
    genes: Path | None = None
    sample: str | None = None
    pseudobulk: bool = False
    mpp: float | YX | None = None
    srgb: bool = False
    store: Path | None = None
    device: str = "auto"
    batch_size: int | None = None
    plan: PatchPlan = field(default_factory=PatchPlan)
    allow_missing: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """A request's model, encoder and genes, ready for use.

    Parameters
    ----------
    request
        The request.
    name
        The model's name.
    checkpoint
        Model, card and decoder, on the device.
    encoder
        The encoder the model was trained with.
    sample, aligned
        The patient's sample and profile; None for "slide only".
    device
        Where torch computes.
    """

    request: Request
    name: str
    checkpoint: Checkpoint[Gimp]
    encoder: Encoder
    sample: str | None
    aligned: Aligned | None
    device: str


def prepare(request: Request) -> Setting:
    """Read model, encoder and genes of a request, and refuse what does not fit.

    Raises
    ------
    CheckpointError
        If the model is unknown, damaged, no GiMP, or of another encoder.
    GeneError
        If table or sample cannot be used.
    GimpError
        If the device is not there.
    """
    from gimp_models.checkpoint import load_as
    from gimp_models.gimp import Gimp

    folder = resolve_model(request.model)
    device = pick_device(request.device)
    checkpoint = load_as(folder, Gimp, device=device)
    checks.check_finished(checkpoint.card)
    encoder = encoder_of(checkpoint.card)
    checks.check_fit(checkpoint.card, encoder)
    sample, aligned = read_genes(request, checkpoint.card)
    return Setting(request, folder.name, checkpoint, encoder, sample, aligned, device)


def encoder_of(card: Card) -> Encoder:
    """Return the encoder that a model was trained with.

    One of imported features gets its patches from the card: nothing else knows them.

    Raises
    ------
    EncoderError
        If it cannot be had.
    """
    from napari_gimp.patches.encoders import load_encoder
    from napari_gimp.patches.encoders.imported import ImportedEncoder

    encoder = load_encoder(str(card.encoder["name"]))
    if isinstance(encoder, ImportedEncoder):
        return replace(encoder, patch_um=card.patch_um, mpp=card.mpp)
    return encoder


def pick_device(wanted: str) -> str:
    """Return the torch device for "auto" or a name.

    Raises
    ------
    GimpError
        If the device is unknown or not there.
    """
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available()}
    there["mps"] = torch.backends.mps.is_available()
    if wanted == "auto":
        return "cuda" if there["cuda"] else "mps" if there["mps"] else "cpu"
    if not there.get(wanted.partition(":")[0], False):
        raise GimpError(
            f"The device '{wanted}' cannot be used here; it must be one of "
            f"{', '.join(['auto', *(name for name, here in there.items() if here)])}. "
            "`napari-gimp doctor` says why a GPU is not used."
        )
    return wanted


def read_genes(request: Request, card: Card) -> tuple[str | None, Aligned | None]:
    """Return the sample's name and its profile on a card's panel, None if not asked.

    Raises
    ------
    GeneError
        If table or sample cannot be used.
    """
    if request.genes is None:
        _check_slide_only(request)
        return None, None
    from napari_gimp.genes.panel import align
    from napari_gimp.genes.relevance import notes_for
    from napari_gimp.genes.table import read_table

    table, panel = read_table(request.genes), panel_of(card)
    profile = _profile(table, request)
    aligned = align(profile, panel)
    if aligned.question and not request.allow_missing:
        raise aligned.question.refusal("ask for it (--allow-missing)")
    notes = (*notes_for(table, panel), *aligned.report.notes)
    return profile.sample, replace(aligned, report=replace(aligned.report, notes=notes))


def _check_slide_only(request: Request) -> None:
    """Refuse a choice of sample that would silently do nothing."""
    if request.sample is None and not request.pseudobulk:
        return
    asked = f"the sample '{request.sample}'" if request.sample else "a pseudobulk"
    raise GeneError(
        f"You asked for {asked} but gave no gene table. Give the table (--genes FILE), "
        "or leave the sample out to analyse the slide alone."
    )


def panel_of(card: Card) -> Panel:
    """Return the gene panel of a model's card."""
    from napari_gimp.genes.panel import Panel

    mean = np.asarray(card.gene_mean, dtype=np.float32)
    sd = np.asarray(card.gene_sd, dtype=np.float32)
    scale: PanelScale = "zscore" if card.gene_scale == "zscore" else "log2"
    return Panel(tuple(card.genes), mean, sd, scale)


def _profile(table: GeneTable, request: Request) -> Profile:
    if request.pseudobulk:
        return table.pseudobulk()
    if request.sample is not None:
        return table.profile(request.sample)
    if len(table.samples) == 1:
        return table.profile(table.samples[0])
    raise GeneError(
        f"The gene table '{request.genes}' has {len(table.samples)} samples. Say which "
        f"one is the slide's (--sample {table.samples[0]}), or ask for the sum of "
        "a table of spots or cells of this patient (--pseudobulk)."
    )


def _countable(cohort: Mapping[str, object]) -> dict[str, object]:
    """Return what a card says of its cohort, with counts for what is said by slide."""
    slides, patches = cohort.get("slides"), cohort.get("patches")
    counts: dict[str, object] = {}
    if isinstance(slides, list | tuple):
        counts["slides"] = len(slides)
    if isinstance(patches, Mapping) and "by_slide" in patches:
        counts["patches"] = f"areas of their own on {len(patches['by_slide'])} slides"
    return {**cohort, **counts}


def summary(setting: Setting) -> ModelSummary:
    """Return what the model's card says, for display."""
    return summary_of(setting.name, setting.checkpoint.card, setting.encoder.name)


def summary_of(name: str, card: Card, encoder: str) -> ModelSummary:
    """Return what a card says, for display.

    Parameters
    ----------
    name
        The model's.
    card
        Its card.
    encoder
        What it sees patches through.
    """
    return ModelSummary(
        name=name,
        architecture=card.architecture,
        description=card.description,
        stage=card.stage,
        encoder=encoder,
        genes=len(card.genes),
        licence=card.licence,
        sha256=card.sha256,
        cohort=_countable(card.cohort),
        metrics=dict(card.metrics),
        choices=tuple(card.choices),
    )
