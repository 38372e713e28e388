"""A form made from the run's dataclasses: units, tooltips and defaults are theirs."""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, get_type_hints

from magicgui.widgets import Container, create_widget

from napari_gimp._qt.parts import Form
from napari_gimp.training.plan import DEFAULT_PLANS, Plan
from napari_gimp.training.run import SIZES, RunConfig

LABELS = {
    "manifest": "Cohort manifest",
    "genes": "Gene table",
    "out": "Run folder",
    "start": "Start from",
    "srgb": "Colours",
    "batch": "Batch, patients",
    "lr": "Learning rate",
    "fold": "Held-out fold",
    "mask_ratio": "Masked part",
    "lambda_triplet": "Triplet weight",
}
CHECKS = {"srgb": "Convert to sRGB (ICC)"}
"""What stands beside a box, where its label alone would not say it."""
TIPS = {
    "stage": "pretrain learns from slides and genes without labels; finetune predicts",
    "manifest": "CSV: patient, slide, sample, label, site",
    "genes": "Expression table of the cohort",
    "out": "Run folder, made if needed",
    "size": "Preset of the architecture",
    "start": "Checkpoint or run folder whose weights are the starting point",
    "srgb": "Convert colours from the slides' own profiles; a model is then for such",
}
COHORT = ("manifest", "genes", "out")
START = ("stage", "size", "start", "srgb")
FOLDERS = ("out", "start", "store")
USUAL = ("epochs", "batch", "lr", "seed", "device", "fold")
RARE = tuple(f.name for f in fields(Plan) if f.name not in USUAL)


class TrainForm:
    """Four groups of magicgui fields: `cohort`, `start`, `usual` and `rare`."""

    def __init__(self) -> None:
        self.cohort = _group(RunConfig, COHORT)
        self.start = _group(RunConfig, START)
        self.usual = _group(Plan, USUAL)
        self.rare = _group(Plan, RARE)
        self.start["stage"].changed.connect(self._take_plan)
        self.start["stage"].value = "finetune"

    def config(self) -> RunConfig:
        """Return the run that the form describes.

        Raises
        ------
        RunError
            If a number is out of range.
        """
        values = {**_values(self.cohort), **_values(self.start)}
        plan = Plan(**_values(self.usual), **_values(self.rare))
        return RunConfig(**values, plan=plan)

    def fill(self, config: RunConfig) -> None:
        """Show a run."""
        for group in (self.start, self.cohort):
            _fill(group, config)
        self._fill_plan(config.plan)

    def _take_plan(self, stage: Any) -> None:
        self._fill_plan(DEFAULT_PLANS[stage])

    def _fill_plan(self, plan: Plan) -> None:
        for group in (self.usual, self.rare):
            _fill(group, plan)

    def missing(self) -> str:
        """Return what must be filled in first, "" if nothing."""
        empty = [n for n in COHORT if _plain(self.cohort[n].value) is None]
        return f"Fill in first: {', '.join(empty)}." if empty else ""


def lay_out(group: Container[Any], form: Form) -> None:
    """Put a group's fields into a dock's form."""
    for widget in group:
        form.add(widget.label, widget.native)


def _group(cls: type, names: tuple[str, ...]) -> Container[Any]:
    hints = get_type_hints(cls)
    by_name = {f.name: f for f in fields(cls)}
    made = [_field(by_name[name], hints[name]) for name in names]
    return Container(widgets=made)


def _field(field: Field[Any], hint: Any) -> Any:
    unit = field.metadata.get("unit", "")
    options: dict[str, Any] = {
        "tooltip": field.metadata.get("tip", TIPS.get(field.name, ""))
    }
    name = LABELS.get(field.name, field.name.replace("_", " ").capitalize())
    label = f"{name}, {unit}" if unit else name
    if hint is float:
        options |= {"min": 0.0, "max": 10.0, "step": 1e-6}
    if hint is int:
        options |= {"min": 0, "max": 1_000_000}
    return _made(field, hint, label, options)


def _made(field: Field[Any], hint: Any, label: str, options: dict[str, Any]) -> Any:
    if field.name == "size":
        return create_widget(
            value="tiny",
            name="size",
            label=label,
            widget_type="ComboBox",
            options={**options, "choices": SIZES},
        )
    if hint in (Path, Path | None):
        return _path(field.name, label, options)
    default = {} if field.default is MISSING else {"value": field.default}
    made: Any = create_widget(
        annotation=hint, name=field.name, label=label, options=options, **default
    )
    if field.name in CHECKS:
        made.native.setText(CHECKS[field.name])
    return made


def _path(name: str, label: str, options: dict[str, Any]) -> Any:
    mode = "d" if name in FOLDERS else "r"
    options |= {"mode": mode, "nullable": True}
    made: Any = create_widget(annotation=Path, name=name, label=label, options=options)
    made.choose_btn.text = "Choose…"
    return made


def _values(group: Container[Any]) -> dict[str, Any]:
    return {widget.name: _plain(widget.value) for widget in group}


def _plain(value: Any) -> Any:
    """Return None for the empty path that a file field has at first."""
    return None if isinstance(value, Path) and str(value) in ("", ".") else value


def _fill(group: Container[Any], values: object) -> None:
    for widget in group:
        value = getattr(values, widget.name)
        if value is not None:
            widget.value = value
