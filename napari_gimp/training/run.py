"""A training run: what was asked for (`run.toml`) and the folder it lives in.

The folder is the protocol between a training process and whoever watches it:
`run.toml` in; `events.jsonl` (append-only) and `checkpoints/` out; a file `stop`
asks for a clean end after the epoch.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from napari_gimp.errors import PatchError, RunError
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.training.plan import DEFAULT_PLANS, STAGES, Plan, Stage, check

Grouping = Literal["contiguous", "pathway", "correlation"]

GROUPINGS: tuple[Grouping, ...] = ("contiguous", "pathway", "correlation")
MODELS = ("gimp",)  # those of the registry that `train` has a loop for
SIZES = ("tiny", "small", "base")
_PATHS = ("manifest", "genes", "out", "start", "store")
_SWITCHES = ("srgb",)
_NUMBERS, _AREAS = ("stride_um", "min_tissue"), ("include", "exclude")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """One training run.

    Parameters
    ----------
    stage
        "pretrain" or "finetune".
    manifest, genes
        Cohort manifest and gene table.
    out
        The run folder, made if needed.
    model, size
        Architecture in the registry, and its preset; a start brings its own preset.
    grouping
        Which genes are read together: "contiguous" (stored order), "pathway" (the
        hallmark gene sets) or "correlation" (clusters of the training fold);
        a start brings its own.
    encoder
        Patch encoder by name.
    start
        Checkpoint folder, or run folder, whose weights are the starting point.
    store
        Where patch features are kept; beside the manifest if None.
    srgb
        Convert colours from the slides' ICC profiles to sRGB.
    patches
        Where patches lie on every slide (`[patches]`); the manifest may name areas
        of single slides.
    plan
        The schedule (`[plan]`).

    Raises
    ------
    RunError
        If the stage, the model, the size or the grouping is unknown.
    """

    stage: Stage
    manifest: Path
    genes: Path
    out: Path
    model: str = "gimp"
    size: str = "tiny"
    grouping: Grouping = "contiguous"
    encoder: str = "default"
    start: Path | None = None
    store: Path | None = None
    srgb: bool = False
    patches: PatchPlan = field(default_factory=PatchPlan)
    plan: Plan = field(default_factory=Plan)

    def __post_init__(self) -> None:
        check("stage", self.stage in STAGES, self, f"one of {', '.join(STAGES)}")
        check("model", self.model in MODELS, self, f"one of {', '.join(MODELS)}")
        check("size", self.size in SIZES, self, f"one of {', '.join(SIZES)}")
        known = self.grouping in GROUPINGS
        check("grouping", known, self, f"one of {', '.join(GROUPINGS)}")

    @classmethod
    def read(cls, path: Path | str) -> RunConfig:
        """Read a `run.toml`; relative paths are relative to its folder.

        Raises
        ------
        RunError
            If the file is missing or no TOML, a key is unknown or missing, or a
            value has the wrong type or range.
        """
        path = Path(path)
        return _config_from(_read_toml(path), path.resolve().parent)

    def write(self, path: Path) -> Path:
        """Write the resolved configuration (absolute paths, every default)."""
        import tomli_w

        content = _without_none(self.as_dict())
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_text(path, tomli_w.dumps(content))

    def as_dict(self) -> dict[str, Any]:
        """Return values that JSON holds and gives back equal."""
        return {key: _plain(value) for key, value in asdict(self).items()}

    @property
    def feature_store(self) -> Path:
        """Folder of the feature store."""
        return self.store or self.manifest.parent / "features"

    @property
    def folder(self) -> RunFolder:
        """The run folder."""
        return RunFolder(self.out)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Names inside a run folder."""

    root: Path

    @property
    def config(self) -> Path:
        """The resolved `run.toml`."""
        return self.root / "run.toml"

    @property
    def asked(self) -> Path:
        """What a dock asks for; it becomes `run.toml` once it may train here."""
        return self.root / "asked.toml"

    @property
    def events(self) -> Path:
        """Append-only JSON lines."""
        return self.root / "events.jsonl"

    @property
    def log(self) -> Path:
        """Output of a launched process."""
        return self.root / "log.txt"

    @property
    def process(self) -> Path:
        """Who is training here."""
        return self.root / "process.json"

    @property
    def stop(self) -> Path:
        """Its existence asks for a clean end after the epoch."""
        return self.root / "stop"

    @property
    def last(self) -> Path:
        """Checkpoint of the last finished epoch."""
        return self.root / "checkpoints" / "last"

    @property
    def best(self) -> Path:
        """Checkpoint of the best epoch."""
        return self.root / "checkpoints" / "best"

    @property
    def used(self) -> bool:
        """Whether there is training to go on from, or to lose."""
        between = self.last.with_name("last.old")  # see state.replace_folder
        return self.last.exists() or between.exists()

    def request_stop(self) -> None:
        """Ask the training process to end cleanly after its epoch."""
        self.stop.touch()


def write_text(path: Path, text: str) -> Path:
    """Write a text file under a temporary name, then rename it."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RunError(
            f"The run file {path} cannot be read ({error.strerror}). "
            "Give the path of a run.toml."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RunError(f"{path} is not valid TOML: {error}. Mend that line.") from error


def _config_from(content: Mapping[str, Any], base: Path) -> RunConfig:
    _check_keys(content, _names(RunConfig), "run.toml")
    missing = [
        f.name
        for f in fields(RunConfig)
        if f.default is MISSING
        and f.default_factory is MISSING
        and f.name not in content
    ]
    if missing:
        raise RunError(f"run.toml lacks {', '.join(missing)}. Add the missing keys.")
    values = {k: v for k, v in content.items() if k not in ("plan", "patches")}
    for key, value in values.items():
        _check_type(key, value, bool if key in _SWITCHES else str)
    paths = {k: (base / v).resolve() for k, v in values.items() if k in _PATHS}
    plan = _plan_from(content.get("plan", {}), values["stage"])
    patches = _patches_from(content.get("patches", {}), base)
    return RunConfig(**{**values, **paths, "plan": plan, "patches": patches})


def _plan_from(content: Any, stage: Stage) -> Plan:
    _check_type("plan", content, dict)
    _check_keys(content, _names(Plan), "[plan]")
    default = DEFAULT_PLANS.get(stage, Plan())
    for key, value in content.items():
        _check_type(key, value, type(getattr(default, key)))
    return replace(default, **content)


def _patches_from(content: Any, base: Path) -> PatchPlan:
    """Return where patches lie; areas are relative to the run file's folder."""
    _check_type("patches", content, dict)
    _check_keys(content, _names(PatchPlan), "[patches]")
    values = {key: _patch_value(key, value, base) for key, value in content.items()}
    try:
        return PatchPlan(**values)
    except PatchError as error:
        raise RunError(f"{error} Change [patches] of run.toml.") from error


def _patch_value(key: str, value: Any, base: Path) -> Any:
    if key in _NUMBERS:
        _check_type(key, value, float)
        return value
    if key == "tissue":
        _check_type(key, value, str)
        return (base / value).resolve()
    _check_texts(key, value)
    return tuple((base / v).resolve() if key in _AREAS else v for v in value)


def _check_texts(key: str, value: object) -> None:
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise RunError(
            f"The key {key!r} is {value!r}; it must be a list of texts. Change "
            "run.toml."
        )


def _names(cls: type) -> list[str]:
    return [f.name for f in fields(cls)]


def _check_keys(given: Iterable[str], known: list[str], where: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise RunError(
                f"{where} has the unknown key {key!r}.{hint} "
                f"Keys are: {', '.join(known)}."
            )


def _check_type(key: str, value: object, kind: type) -> None:
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or (isinstance(value, bool) and kind is not bool):
        words = {str: "text", int: "a whole number", float: "a number", dict: "a table"}
        words[bool] = "true or false"
        raise RunError(
            f"The key {key!r} is {value!r}; it must be {words[kind]}. Change run.toml."
        )


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value.as_posix() if isinstance(value, Path) else value


def _without_none(value: Any) -> Any:
    """Return what TOML can hold of plain values."""
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return value
