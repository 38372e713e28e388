"""Which model to run: a shipped one, or any checkpoint folder."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal
from qtpy.QtWidgets import QComboBox, QPushButton

from napari_gimp._qt.parts import Dock, Notice, allow, ask_folder, beside, quiet
from napari_gimp._qt.patches_count import Seen, encoder_line, facts_about, seen_by
from napari_gimp._qt.tissue_search import tissue_job
from napari_gimp.errors import CheckpointError
from napari_gimp.explain.models import (
    ListedModel,
    list_models,
    model_in,
    resolve_model,
)

if TYPE_CHECKING:
    from napari_gimp.jobs import Job
    from napari_gimp.patches.encoders import EncoderFacts

NO_MODEL = "No model is chosen. Train one in the Train dock, or choose its folder."


class ModelChoice:
    """The model rows of a dock.

    Parameters
    ----------
    dock
        The dock; the rows get a section of it.
    """

    changed = Signal()

    def __init__(self, dock: Dock) -> None:
        self._dock = dock
        form = dock.section("5  Model")
        self.models, self.browse = QComboBox(), QPushButton("Choose…")
        self.browse.setToolTip("A checkpoint folder, or the folder of a training run")
        self.card = Notice()
        form.add("Model", beside(self.models, self.browse))
        self.encoder = quiet()
        form.add("Encoder", self.encoder)
        self.looking: Job[EncoderFacts | None] | None = None
        dock.add(self.card)
        for model in list_models():
            self.models.addItem(model.name, model)
        self.models.currentIndexChanged.connect(self._show)
        self.browse.clicked.connect(self._ask)
        self._show()

    @property
    def chosen(self) -> str:
        """Folder of the chosen model, "" if there is none."""
        model = self.listed
        return "" if model is None else str(model.path)

    @property
    def listed(self) -> ListedModel | None:
        """The chosen model with its card."""
        model: ListedModel | None = self.models.currentData()
        return model

    def obstacle(self) -> str:
        """Return why an analysis cannot start, "" if it can."""
        return NO_MODEL if self.listed is None else self.listed.obstacle

    def choose(self, path: Path) -> None:
        """Add a checkpoint folder and choose it; says so if it is none."""
        try:
            model = model_in(resolve_model(path))
        except CheckpointError as error:
            self.card.say(str(error), "error")
            return
        self.models.addItem(path.name, model)
        self.models.setCurrentIndex(self.models.count() - 1)

    def _ask(self) -> None:
        if chosen := ask_folder("Choose a model")(self.browse):
            self.choose(Path(chosen))

    def _show(self) -> None:
        model = self.listed
        if model is not None and not model.obstacle:
            self.card.say(model.summary)
        else:
            self.card.say(self.obstacle(), "error" if model else "note")
        self._show_encoder(None if model is None else seen_by(model.card))
        tip = card_text(model.card) if model else ""
        allow(self.models, tip=tip, obstacle="" if model else NO_MODEL)
        self.changed.emit()

    def _show_encoder(self, seen: Seen | None) -> None:
        """Say what the card says at once, and what else is known when it is read."""
        self.looking = None
        self.encoder.setText("not named in the card" if seen is None else "")
        self.encoder.setToolTip("")
        if seen is None:
            return
        self.encoder.setText(encoder_line(seen, None))
        self.looking = job = tissue_job(partial(facts_about, seen))
        tell = partial(self._tell_encoder, job.number, seen)
        self._dock.hear(job.event, tell, thread="main")
        job.start()

    def _tell_encoder(
        self, number: int, seen: Seen, facts: EncoderFacts | None
    ) -> None:
        if self.looking is None or self.looking.number != number:
            return
        self.looking = None
        self.encoder.setText(encoder_line(seen, facts))
        if facts is not None:
            tip = (facts.title, f"weights: {facts.access}", facts.page, facts.source)
            self.encoder.setToolTip("\n".join(filter(None, tip)))


def card_text(card: dict[str, Any]) -> str:
    """Return what a checkpoint's card says, one fact per line."""
    genes, encoder = card.get("genes") or (), card.get("encoder") or {}
    facts = {
        "Architecture": card.get("architecture"),
        "Stage": card.get("stage"),
        "Classes": ", ".join(card.get("classes") or ()),
        "Genes": f"{len(genes):,}",
        "Encoder": encoder.get("name"),
        "Patch": f"{card.get('patch_um')} µm at {card.get('mpp')} µm/px",
        "Cohort": _pairs(card.get("cohort")),
        "Metrics": _pairs(card.get("metrics")),
        "Licence": card.get("licence"),
        "SHA-256": str(card.get("sha256", ""))[:12],
    }
    return "\n".join(f"{name}: {fact}" for name, fact in facts.items() if fact)


def _pairs(values: object) -> str:
    if not isinstance(values, dict):
        return str(values or "")
    return ", ".join(f"{key} {value}" for key, value in values.items())
