"""A report of one analysis: a single HTML file with all its pictures inside."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp import plots
from napari_gimp.errors import ResultError
from napari_gimp.explain.maps import PatchMap
from napari_gimp.explain.result import Overview, ReconstructionExample, Result
from napari_gimp.geometry import YX

TEMPLATE = "report.html.j2"
STAGES = {
    "pretrain": "pre-trained only: its classification head was never trained",
    "finetune": "fine-tuned for classification",
}
ICC = {
    "none": "none in the file",
    "embedded, not applied": "in the file, not applied: colours as scanned",
    "applied": "applied: colours converted to sRGB",
}


def write_report(result: Result, out: Path) -> Path:
    """Write the report and return its path.

    Parameters
    ----------
    out
        A folder, which gets ``report.html``, or the name of an ``.html`` file.

    Raises
    ------
    ResultError
        If the file cannot be written.
    """
    out = Path(out)
    path = out if out.suffix.lower() in {".html", ".htm"} else out / "report.html"
    html = render(result)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write_whole(html, path)
    except OSError as error:
        raise ResultError(
            f"The report could not be written to '{path}': {error.strerror or error}. "
            "Choose a folder you may write to, with some space left."
        ) from error
    return path


def _write_whole(html: str, path: Path) -> None:
    scratch = path.with_name(f".{path.name}.partial")
    try:
        scratch.write_text(html, encoding="utf-8")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def render(result: Result) -> str:
    """Return the report's HTML; it refers to nothing outside itself."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("napari_gimp", "templates")
    env = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    env.filters["um"] = plots.length_text
    return env.get_template(TEMPLATE).render(**contents(result))


def contents(result: Result) -> dict[str, Any]:
    """Return what the template shows: texts, numbers, pictures as data URIs."""
    return {
        "r": result,
        "answer": _answer(result),
        "bars": _probability_bars(result),
        "share": _share(result),
        "pictures": _pictures(result),
        "genes": None if result.genes is None else _gene_section(result),
        "hot": _hot(result),
        "examples": [_example(result, e) for e in result.examples],
        "slide_rows": _slide_rows(result),
        "model_rows": _model_rows(result),
    }


def _answer(result: Result) -> dict[str, Any]:
    best = int(np.argmax(result.probabilities))
    alone = int(np.argmax(result.slide_only))
    return {
        "name": result.classes[best],
        "percent": _percent(result.probabilities[best]),
        "agrees": best == alone,
        "alone": result.classes[alone],
    }


def _percent(value: float) -> str:
    """Return a probability in per cent; never a rounded 0 or 100."""
    if value > 0.995:
        return "> 99 %"
    return f"{100 * value:.0f} %" if value >= 0.005 else "< 1 %"


def _probability_bars(result: Result) -> list[dict[str, Any]]:
    order = np.argsort(-result.probabilities, kind="stable")
    return [
        {
            "name": result.classes[i],
            "both": float(result.probabilities[i]),
            "both_text": _percent(result.probabilities[i]),
            "alone": float(result.slide_only[i]),
            "alone_text": _percent(result.slide_only[i]),
        }
        for i in order
    ]


def _share(result: Result) -> dict[str, Any] | None:
    share = result.share
    if share is None:
        return None
    return {
        "slide": f"{share.slide:+.2f}",
        "genes": f"{share.genes:+.2f}",
        "total": f"{share.total:+.2f}",
        "percent": round(100 * share.slide_fraction),
    }


def _pictures(result: Result) -> list[dict[str, str]]:
    """Return the slide and its maps, all cut to the same place."""
    maps = list(result.maps.values())
    near = plots.shrink(plots.close_up(result.overview, maps[0]))
    first = _picture("Slide", _slide_caption(result), plots.slide_picture(near))
    return [first, *(_map_picture(result, m, near) for m in maps)]


def _slide_caption(result: Result) -> str:
    count, side = len(result.patches), plots.length_text(result.patches.patch_um)
    return f"The part with tissue: {count:,} patches of {side} were analysed."


def _map_picture(result: Result, patch_map: PatchMap, near: Overview) -> dict[str, str]:
    title, caption = patch_map.title, patch_map.caption
    if patch_map.signed:
        title = f"{title}: {result.class_name}"
    gap = result.gaps.get("patches")
    if patch_map.name == "contribution" and gap is not None:
        caption = f"{caption} Completeness gap {_gap(gap)}."
    if not patch_map.signed:
        caption = f"{caption} {_range(patch_map)}"
    return _picture(title, caption, plots.map_overlay(patch_map, near))


def _gap(gap: float) -> str:
    return f"{100 * gap:.1f} %" if gap >= 0.001 else "< 0.1 %"


def _range(patch_map: PatchMap) -> str:
    known = patch_map.values[np.isfinite(patch_map.values)]
    low, middle, high = (f"{v:.2g}" for v in np.percentile(known, (0, 50, 100)))
    return f"Values {low} to {high}, median {middle} ({patch_map.unit})."


def _picture(title: str, caption: str, figure: Any) -> dict[str, str]:
    uri = data_uri(plots.jpeg_bytes(figure, dpi=144), "jpeg")
    return {"title": title, "caption": caption, "uri": uri}


def data_uri(file: bytes, kind: str) -> str:
    """Return a picture file, "png" or "jpeg", as text that an ``<img>`` shows."""
    return f"data:image/{kind};base64," + base64.b64encode(file).decode("ascii")


def _hot(result: Result) -> dict[str, list[dict[str, str]]]:
    """Return the patches that moved the prediction most, by side."""
    sides: dict[str, list[dict[str, str]]] = {"for": [], "against": []}
    for hot in result.hot:
        side = sides["for" if hot.contribution > 0 else "against"]
        side.append(
            {
                "uri": _thumbnail(hot.pixels),
                "value": f"{hot.contribution:+.2g}",
                "where": _where(hot.center_um),
            }
        )
    sides["against"].reverse()
    return {side: patches for side, patches in sides.items() if patches}


def _where(center_um: YX) -> str:
    y, x = center_um
    return f"x {x / 1000:.2f}, y {y / 1000:.2f} mm"


def _gene_section(result: Result) -> dict[str, Any]:
    genes = result.genes
    assert genes is not None
    figure = plots.gene_bars(genes, 20, width=7.6)
    return {
        "uri": data_uri(plots.png_bytes(figure, dpi=160), "png"),
        "gap": _gap(genes.gap),
        "present": int(genes.present.sum()),
        "total": len(genes.genes),
        "sum": f"{float(genes.attribution.sum()):+.2f}",
    }


def _example(result: Result, example: ReconstructionExample) -> dict[str, Any]:
    y, x = example.center_um
    ry, rx = result.patches.coords_um[example.retrieved_patch]
    return {
        "real": _thumbnail(example.real),
        "masked": _thumbnail(example.masked),
        "retrieved": _thumbnail(example.retrieved),
        "decoded": _thumbnail(example.decoded),
        "where": _where(example.center_um),
        "away": plots.length_text(float(round(np.hypot(ry - y, rx - x), -1))),
        "error": f"{example.error:.2f}",
        "percentile": f"percentile {example.percentile:.0f}",
    }


def _thumbnail(pixels: NDArray[np.uint8]) -> str:
    from io import BytesIO

    from matplotlib.image import imsave

    stream, photo = BytesIO(), np.ascontiguousarray(pixels)
    imsave(stream, photo, format="jpeg", pil_kwargs=dict(plots.JPEG))
    return data_uri(stream.getvalue(), "jpeg")


def _slide_rows(result: Result) -> list[tuple[str, str]]:
    (high, wide), (my, mx) = result.size_px, result.mpp
    sides = f"{mx:.4g}" if mx == my else f"{mx:.4g} × {my:.4g}"
    checked = "read from the file" if result.mpp_verified else "not verified"
    count = len(result.patches)
    return [
        ("Slide", result.slide.name),
        ("Sample", result.sample or "none: slide only"),
        (
            "Size",
            f"{wide:,} × {high:,} px, {wide * mx / 1e3:.1f} × {high * my / 1e3:.1f} mm",
        ),
        ("Resolution", f"{sides} µm/px ({result.mpp_origin}; {checked})"),
        ("Read by", result.reader or "not recorded"),
        ("Colour profile", ICC[result.icc]),
        ("Damaged tiles", f"{result.damaged_tiles:,}"),
        ("Patches", f"{count:,} of {result.patches.patch_um:g} µm"),
        ("Where", _looked_at(result)),
        ("Time", " · ".join(f"{k} {v:.1f} s" for k, v in result.seconds.items())),
        ("Versions", " · ".join(f"{k} {v}" for k, v in result.versions.items())),
    ]


PLAN = {
    "tissue": "tissue as in {}",
    "include": "only in {}",
    "include_labels": "there only {}",
    "exclude": "not in {}",
    "exclude_labels": "of that only {}",
    "stride_um": "every {} µm",
    "min_tissue": "at least {} of a patch tissue",
}
"""What a plan's record says (`PatchPlan.record`), in words."""


def _looked_at(result: Result) -> str:
    if result.model.encoder.startswith("imported:"):
        return "where another tool has laid them"
    plan = result.patches.plan
    told = [text.format(_file(plan[k])) for k, text in PLAN.items() if k in plan]
    return "; ".join(told) or "all tissue that was found"


def _file(value: Any) -> str:
    if isinstance(value, Mapping):
        return str(value["file"])
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_file, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _model_rows(result: Result) -> list[tuple[str, str]]:
    model = result.model
    rows = [
        ("Model", f"{model.name} ({model.architecture})"),
        ("Purpose", model.description),
        ("Stage", STAGES.get(model.stage, model.stage)),
        ("Trained on", _listed(model.cohort)),
        ("Held-out results", _held_out(model.metrics) or "none recorded in the card"),
        ("Inputs", f"encoder {model.encoder}, {model.genes:,} genes"),
        ("Licence", model.licence),
        ("Weights", f"sha256 {model.sha256[:16]}…"),
    ]
    return [(name, text) for name, text in rows if text]


def _held_out(metrics: Mapping[str, Any]) -> str:
    """Return accuracy and AUC of the model and of each baseline, with intervals."""
    rows = metrics.get("test")
    if not isinstance(rows, Mapping):
        return _listed(metrics)
    told = {name: (scores["accuracy"], scores["auc"]) for name, scores in rows.items()}
    lines = [
        f"{name}: accuracy {_score(accuracy)}, AUC {_score(auc)}"
        for name, (accuracy, auc) in told.items()
    ]
    return " · ".join([*lines, f"{metrics['test_patients']} patients, 95 % intervals"])


def _score(score: Mapping[str, float]) -> str:
    return f"{score['value']:.2f} ({score['low']:.2f} to {score['high']:.2f})"


def _listed(values: Mapping[str, object]) -> str:
    return " · ".join(f"{_words(k)} {_value(v)}" for k, v in values.items())


def _words(key: str) -> str:
    return key.replace("_", " ")


def _value(value: object) -> str:
    """Return a card's value for a person; (estimate, low, high) as an interval."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, (list, tuple)) and len(value) == 3:
        middle, low, high = value
        return f"{_value(middle)} ({_value(low)} to {_value(high)})"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value))
    if isinstance(value, Mapping):
        return "(" + _listed(value) + ")"
    return str(value)
