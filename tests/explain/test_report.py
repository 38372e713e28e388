import base64
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from napari_gimp import plots, report
from napari_gimp.errors import ResultError
from napari_gimp.explain.maps import KINDS
from napari_gimp.explain.models import resolve_model
from napari_gimp.explain.result import IccUse, Result


class Page(HTMLParser):
    """Collects pictures, visible text and whatever points outside."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: dict[str, list[str]] = {}
        self.links: list[str] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "img":
            self.images.setdefault(given["alt"] or "", []).append(given["src"] or "")
        elif given.get("src") or given.get("href"):
            self.links.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


@pytest.fixture(scope="session")
def page(result: Result) -> Page:
    return Page(report.render(result))


@pytest.fixture(scope="session")
def quick(result: Result) -> Result:
    """The result with a small overview, for what is not about pictures."""
    return replace(result, overview=plots.shrink(result.overview, 150))


def pixels_of(uri: str) -> np.ndarray:
    head, _, encoded = uri.partition(";base64,")
    kind = head.removeprefix("data:image/")
    return imread(BytesIO(base64.b64decode(encoded)), format=kind)


def test_slide_maps_genes_and_examples_all_have_their_pictures(
    page: Page, result: Result
) -> None:
    count = len(result.examples)
    titles = {kind.title for kind in KINDS.values()} - {"Patch contribution"}
    wanted = {"Slide", f"Patch contribution: {result.class_name}", *titles}

    assert wanted <= set(page.images)
    assert len(page.images["Genes with the largest attributions"]) == 1
    for kind in ("real patch", "retrieved patch", "decoded prediction"):
        assert len(page.images[kind]) == count
    shown = [page.images.get(f"patch {s} the class", []) for s in ("for", "against")]
    assert sum(map(len, shown)) == len(result.hot) > 0
    assert len(page.images["surroundings with hidden patches"]) == count


def test_every_picture_decodes_and_shows_something(page: Page) -> None:
    for uris in page.images.values():
        for uri in uris:
            assert pixels_of(uri)[..., :3].std() > 0


def test_the_page_needs_nothing_outside_itself(page: Page, result: Result) -> None:
    assert page.links == []
    assert "http" not in re.sub(r"base64,[^\"]*", "", report.render(result))


def test_it_says_research_use_only_once(page: Page) -> None:
    assert page.text.lower().count("research use only") == 1


def test_it_gives_both_answers_the_warnings_and_the_card(
    page: Page, result: Result
) -> None:
    for name in result.classes:
        assert name in page.text
    for warning in result.warnings:
        assert warning in page.text
    assert "slide alone" in page.text
    assert "balanced accuracy 0.5 (0.4 to 0.6)" in page.text
    assert "completeness gap" in page.text.lower()
    assert result.model.sha256[:16] in page.text


def test_a_slide_alone_shows_one_answer_and_no_genes(slide_only: Result) -> None:
    page = Page(report.render(slide_only))

    assert "no gene expression was given" in page.text
    assert "slide and genes" not in page.text
    assert "In which genes" not in page.text


def test_an_answer_that_the_genes_turned_is_pointed_out(quick: Result) -> None:
    turned = replace(
        quick,
        probabilities=np.array([0.1, 0.2, 0.7], np.float32),
        slide_only=np.array([0.8, 0.1, 0.1], np.float32),
    )

    text = Page(report.render(turned)).text

    assert "The slide alone gives another class: benign." in text


@pytest.mark.parametrize(
    ("icc", "text"),
    [
        ("none", "none in the file"),
        ("embedded, not applied", "not applied: colours as scanned"),
        ("applied", "colours converted to sRGB"),
    ],
)
def test_what_became_of_colours_and_tiles_is_told(
    quick: Result, icc: IccUse, text: str
) -> None:
    seen = replace(quick, icc=icc, damaged_tiles=1234, reader="openslide")

    rows = dict(report._slide_rows(seen))

    assert text in rows["Colour profile"]
    assert (rows["Damaged tiles"], rows["Read by"]) == ("1,234", "openslide")


def test_names_from_outside_cannot_become_markup(quick: Result) -> None:
    html = report.render(replace(quick, sample="<script>alert(1)</script>"))

    assert "<script>" not in html


@pytest.mark.parametrize(
    ("value", "text"), [(0.9999, "> 99 %"), (0.0001, "< 1 %"), (0.834, "83 %")]
)
def test_no_probability_is_called_certain(
    quick: Result, value: float, text: str
) -> None:
    rest = (1 - value) / 2
    certain = np.array([value, rest, rest], np.float32)
    html = report.render(replace(quick, probabilities=certain))

    assert text in Page(html).text


def test_it_goes_into_a_folder_or_a_named_file(quick: Result, tmp_path: Path) -> None:
    assert report.write_report(quick, tmp_path / "new") == tmp_path / "new/report.html"
    named = report.write_report(quick, tmp_path / "mine.html")
    assert named.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert {p.name for p in tmp_path.iterdir()} == {"new", "mine.html"}


def test_a_place_that_cannot_be_written_is_named(quick: Result, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match="report could not be written"):
        report.write_report(quick, tmp_path / "file" / "report.html")


def test_the_shipped_models_results_are_told_beside_its_baselines() -> None:
    card = json.loads((resolve_model("demo") / "card.json").read_text())
    told = report._held_out(card["metrics"])
    assert told.startswith("slide + genes: GiMP: accuracy 0.")
    assert "genes: logistic regression: accuracy 0." in told
    assert told.endswith("120 patients, 95 % intervals")
