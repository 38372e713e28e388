"""Which encoder makes features: a list to search, with what each is and asks for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from psygnal import Signal
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QCompleter, QLabel, QPushButton

from napari_gimp._qt.parts import Dock, Form, ask_file
from napari_gimp.jobs import read_job

if TYPE_CHECKING:
    from napari_gimp.patches.encoders import EncoderFacts

PATTERNS = "Encoders (*.safetensors *.pt *.pth *.pt2 *.bin *.ts);;All files (*)"
TIP = "Type to search. Also timm:NAME@UM_PER_PX, PRESET=FILE, or the path of a file"
OWN = (
    "Loaded when you start. A name of timm is written timm:NAME@UM_PER_PX, your copy "
    "of a preset's weights PRESET=FILE; a path may end in @UM_PER_PX."
)
LINK = "#5c9ded"


class EncoderChoice:
    """The encoder rows of a dock.

    Parameters
    ----------
    dock
        The dock.
    form
        Where the rows go.
    """

    changed = Signal()

    def __init__(self, dock: Dock, form: Form) -> None:
        self.known: dict[str, EncoderFacts] = {}
        self.names, self.browse = QComboBox(), QPushButton("Choose weights…")
        self.facts = _linked()
        self.names.setEditable(True)
        self.names.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.names.setToolTip(TIP)
        self.browse.setToolTip("Your own TorchScript, torch.export or timm file")
        _search(self.names)
        form.add("Encoder", self.names)
        form.add("", self.browse)
        form.addRow(self.facts)
        self.names.setEditText("default")
        self.names.editTextChanged.connect(self._show)
        self.browse.clicked.connect(self._ask)
        self.listing = read_job(_list)
        dock.hear(self.listing.event, self._fill, thread="main")
        self.listing.start()

    @property
    def name(self) -> str:
        """What `load_encoder` takes."""
        return self.names.currentText().strip()

    def obstacle(self) -> str:
        """Return why features cannot be made, "" if they can."""
        return "" if self.name else "Choose an encoder first."

    def _fill(self, listed: list[EncoderFacts]) -> None:
        wanted = self.name
        self.known = {facts.name: facts for facts in listed}
        self.names.addItems(list(self.known))
        self.names.setEditText(wanted)
        for row, facts in enumerate(listed):
            tip = f"{facts.title}: {plain(facts)}"
            self.names.setItemData(row, tip, Qt.ItemDataRole.ToolTipRole)
        self._show()

    def _show(self) -> None:
        known = self.known.get(self.name)
        self.facts.setText(rich(known) if known else OWN if self.known else "")
        self.changed.emit()

    def _ask(self) -> None:
        if chosen := ask_file("Choose an encoder's weights", PATTERNS)(self.browse):
            self.names.setEditText(str(Path(chosen)))


def plain(facts: EncoderFacts) -> str:
    """Return an encoder's numbers: what it takes, gives and allows."""
    return (
        f"{facts.width:,} features of a patch of {facts.patch_um:.4g} µm "
        f"({facts.input_px} px at {facts.mpp:.3g} µm/px). Licence: {facts.licence}."
    )


def rich(facts: EncoderFacts) -> str:
    """Return an encoder's facts with a link to where its weights are, as HTML."""
    link = f'<a style="color: {LINK}" href="{facts.page}">{_short(facts.page)}</a>'
    access = {
        "included": "Included, nothing is fetched.",
        "open": f"Fetched when first used, from {link}.",
        "gated": f"Gated: ask for access at {link}, then log in with "
        f"<code>hf auth login</code>; or type {facts.name}=FILE for your copy.",
    }
    return f"<b>{facts.title}</b><br>{plain(facts)}<br>{access[facts.access]}"


def _short(page: str) -> str:
    return page.removeprefix("https://")


def _list() -> list[EncoderFacts]:
    from napari_gimp.patches.encoders import encoder_facts

    return encoder_facts()


def _search(names: QComboBox) -> None:
    """Find what is typed anywhere in the names, in whatever case."""
    completer = QCompleter(names.model(), names)
    completer.setFilterMode(Qt.MatchFlag.MatchContains)
    completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
    names.setCompleter(completer)


def _linked() -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.RichText)
    label.setOpenExternalLinks(True)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextBrowserInteraction)
    label.setStyleSheet("padding: 0 4px;")
    return label
