"""Which slides a cohort has, and what is known of their patients.

A manifest is a table (.csv, or .tsv/.txt with tabs), one row per slide or more:

`patient`, `slide`
    Required. A slide is a path, relative to the manifest, or a pattern
    (`P01/*.svs`, `**` goes through folders); a patient may have many.
`sample`, `site`
    Row of the gene table; where the slide was made.
`label`, or `days` and `event`
    Outcome: a class; or days to the last news, and whether (1, 0) it was the event.
`mpp`
    um per level-0 pixel of a slide whose file does not say, or says it wrong.
`tissue`, `include`, `exclude`
    A mask of the tissue; annotations (GeoJSON) or masks to look inside, to leave
    out: a path, relative to the manifest, or a folder with a file for each slide.

Other columns are left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from glob import glob, has_magic
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from napari_gimp.errors import CohortError

if TYPE_CHECKING:
    import pandas as pd

T = TypeVar("T")

SUFFIXES = (".csv", ".tsv", ".txt")
AREAS = ("tissue", "include", "exclude")
COLUMNS = (
    *("patient", "slide", "sample", "site", "label", "days", "event", "mpp"),
    *AREAS,
)
REQUIRED = COLUMNS[:2]
SINGLE = ("sample", "label", "days", "event")
"""What is the same for all slides of a patient."""
EVENTS = {"": None, "0": False, "1": True, "false": False, "true": True}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Entry:
    """One slide of a cohort.

    Parameters
    ----------
    slide
        Absolute path.
    patient
        Whose it is; empty where nobody said.
    sample
        Row of the gene table; empty for slide only.
    site
        Where it was made; empty if unknown.
    label
        Class; empty if unknown.
    days, event
        Time to the last news, days, and whether it was the event; None if unknown.
    mpp
        um per level-0 pixel; None takes the file's word.
    tissue, include, exclude
        Files of areas, or folders of them (`cohorts.plans`); absolute.
    row
        Where the manifest says so, counted as a spreadsheet does; 0 without one.
    """

    slide: Path
    patient: str = ""
    sample: str = ""
    site: str = ""
    label: str = ""
    days: float | None = None
    event: bool | None = None
    mpp: float | None = None
    tissue: Path | None = None
    include: tuple[Path, ...] = ()
    exclude: tuple[Path, ...] = ()
    row: int = field(default=0, compare=False)


def read_manifest(manifest: Path | str) -> tuple[Entry, ...]:
    """Return the slides of a manifest, in its order.

    Files are not looked into (`napari_gimp.cohorts.inspection` does).

    Raises
    ------
    CohortError
        Listing everything that is wrong: columns, empty cells, patterns without a
        match, slides or samples of two patients, outcomes that contradict.
    """
    entries, problems = check_manifest(manifest)
    refuse(manifest, problems, "Mend the manifest.")
    return entries


def check_manifest(manifest: Path | str) -> tuple[tuple[Entry, ...], list[str]]:
    """Return the slides of a manifest and a line for everything that is wrong.

    Raises
    ------
    CohortError
        If it cannot be read, or lacks a column.
    """
    manifest = Path(manifest).resolve()
    rows = _rows(manifest)
    entries = [entry for row in rows for entry in _entries(row, manifest.parent)]
    return tuple(entries), [
        *_row_problems(rows, manifest.parent),
        *_entry_problems(entries),
    ]


def refuse(manifest: Path | str, problems: Sequence[str], remedy: str) -> None:
    """Raise a CohortError that lists all problems, if there is one."""
    if problems:
        lines = "\n- ".join(problems)
        raise CohortError(f"The cohort {manifest} cannot be used:\n- {lines}\n{remedy}")


def read_sheet(manifest: Path) -> pd.DataFrame:
    """Return a manifest as text: lower-case column names, cells without margins.

    Raises
    ------
    CohortError
        If it cannot be read, or has a column twice.
    """
    import pandas as pd

    separator = "," if manifest.suffix.lower() == ".csv" else "\t"
    try:
        table = pd.read_csv(
            manifest,
            sep=separator,
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
        )
    except (OSError, ValueError) as error:
        raise CohortError(
            f"The manifest {manifest} cannot be read: {error}. "
            "Give a .csv, or a .tsv with tabs."
        ) from error
    table.columns = table.columns.str.strip().str.lower()
    if double := twice(table.columns):
        raise CohortError(
            f"The manifest {manifest} has more than one column {', '.join(double)} "
            "(case does not count). Rename or remove all but one."
        )
    for name in table.columns:
        table[name] = table[name].str.strip()
    return table


def matches(cell: str, base: Path) -> tuple[Path, ...]:
    """Return the files a path or pattern names; a plain path need not exist."""
    path = (base / cell).resolve()
    if path.exists() or not has_magic(cell):
        return (path,)
    found = glob(str(base / cell), recursive=True)  # noqa: PTH207 # absolute ones too
    return tuple(Path(name).resolve() for name in sorted(found))


def twice(values: Iterable[T]) -> list[T]:
    """Return the values, empty ones apart, that occur more than once."""
    return [value for value, n in Counter(values).items() if n > 1 and value]


def problem(what: str, values: Sequence[str]) -> str:
    """Return a line that counts some values and shows the first of them."""
    more = len(values) - _SHOWN
    tail = f" and {more} more" if more > 0 else ""
    return f"{what} ({len(values)}): {', '.join(values[:_SHOWN])}{tail}"


def shared(pairs: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the names, empty ones apart, to which belongs more than one value."""
    found: dict[str, dict[str, None]] = {}
    for name, value in pairs:
        if name:
            found.setdefault(name, {})[value] = None
    return {name: tuple(values) for name, values in found.items() if len(values) > 1}


def _rows(manifest: Path) -> list[dict[str, str]]:
    table = read_sheet(manifest)
    missing = [c for c in REQUIRED if c not in table.columns]
    if missing:
        raise CohortError(
            f"The manifest {manifest} lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(map(str, table.columns))}. Columns are "
            f"{', '.join(REQUIRED)} and, if wanted, {', '.join(COLUMNS[2:])}."
        )
    if table.empty:
        raise CohortError(f"The manifest {manifest} names no slide. Add rows.")
    table = table.reindex(columns=list(COLUMNS), fill_value="")
    table["row"] = [str(number) for number in range(2, len(table) + 2)]
    return [{str(k): str(v) for k, v in r.items()} for r in table.to_dict("records")]


def _entries(row: Mapping[str, str], base: Path) -> list[Entry]:
    tissue, include, exclude = (_areas(row[name], base) for name in AREAS)
    return [
        Entry(
            slide,
            row["patient"],
            row["sample"],
            row["site"],
            row["label"],
            _days(row),
            EVENTS.get(row["event"].lower()),
            _mpp(row),
            tissue[0] if tissue else None,
            include,
            exclude,
            int(row["row"]),
        )
        for slide in (matches(row["slide"], base) if row["slide"] else ())
    ]


def _areas(cell: str, base: Path) -> tuple[Path, ...]:
    return ((base / cell).resolve(),) if cell else ()


def _days(row: Mapping[str, str]) -> float | None:
    """Return a number of days, None where it is no such number."""
    days = _number(row["days"])
    return days if days is not None and days >= 0 else None


def _mpp(row: Mapping[str, str]) -> float | None:
    """Return um per pixel, None where it is no such number."""
    mpp = _number(row["mpp"])
    return mpp if mpp is not None and mpp > 0 else None


def _number(cell: str) -> float | None:
    try:
        number = float(cell)
    except ValueError:
        return None
    return number if isfinite(number) else None


def _row_problems(rows: Sequence[Mapping[str, str]], base: Path) -> list[str]:
    found = {
        "rows without a patient": [_at(r) for r in rows if not r["patient"]],
        "rows without a slide": [_at(r) for r in rows if not r["slide"]],
        "patterns that match no file": [
            _at(r, "slide")
            for r in rows
            if r["slide"] and not matches(r["slide"], base)
        ],
        "areas that do not exist": [
            _at(r, area)
            for r in rows
            for area in AREAS
            if not (base / r[area]).exists()
        ],
        "days that are no number of 0 or more": [
            _at(r, "days") for r in rows if r["days"] and _days(r) is None
        ],
        "events that are neither 1 nor 0": [
            _at(r, "event") for r in rows if r["event"].lower() not in EVENTS
        ],
        "um/px that are no number above 0": [
            _at(r, "mpp") for r in rows if r["mpp"] and _mpp(r) is None
        ],
        "rows with only one of days and event": [
            _at(r) for r in rows if bool(r["days"]) != bool(r["event"])
        ],
    }
    return [problem(what, values) for what, values in found.items() if values]


def _at(row: Mapping[str, str], cell: str = "") -> str:
    return f"row {row['row']} '{row[cell]}'" if cell else f"row {row['row']}"


def _entry_problems(entries: Sequence[Entry]) -> list[str]:
    pairs = Counter((e.patient, str(e.slide)) for e in entries)
    found = {
        "slides named twice": [
            f"{slide} ({_rows_of(entries, slide=slide)})"
            for (_, slide), n in pairs.items()
            if n > 1
        ],
        "slides used by two patients": _owners(entries, "slide"),
        "samples used by two patients": _owners(entries, "sample"),
    }
    for name in SINGLE:
        values = shared((e.patient, str(getattr(e, name))) for e in entries)
        found[f"patients with more than one {name}"] = [
            f"{patient} ({_said(held)}; {_rows_of(entries, patient=patient)})"
            for patient, held in values.items()
        ]
    return [problem(what, values) for what, values in found.items() if values]


def _said(values: Iterable[str]) -> str:
    return ", ".join("nothing" if v in ("", "None") else v for v in values)


def _owners(entries: Sequence[Entry], name: str) -> list[str]:
    owners = shared((str(getattr(e, name)), e.patient) for e in entries)
    return [
        f"{what} ({', '.join(who)}; {_rows_of(entries, **{name: what})})"
        for what, who in owners.items()
    ]


def _rows_of(entries: Sequence[Entry], **where: str) -> str:
    """Return the rows whose fields are as stated: "rows 2, 5"."""
    found = {
        entry.row: None
        for entry in entries
        if all(str(getattr(entry, name)) == value for name, value in where.items())
    }
    return f"row{'s' if len(found) > 1 else ''} {', '.join(map(str, found))}"
