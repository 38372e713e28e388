from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
from gimp_models.checkpoint import Card, load, save

from napari_gimp.errors import CheckpointError, GeneError, GimpError, SlideError
from napari_gimp.explain.inference import (
    Event,
    Finished,
    GenesReady,
    MapReady,
    Progress,
    Request,
    analyse,
)
from napari_gimp.explain.result import Result
from napari_gimp.explain.setting import prepare
from napari_gimp.patches.encoders import PatchNetEncoder

NAMES = {"attention", "contribution", "reconstruction_error"}


def finish(request: Request) -> Result:
    *_, last = analyse(request)
    assert isinstance(last, Finished)
    return last.result


def test_events_end_with_the_result_after_every_map_and_the_genes(
    events: list[Event],
) -> None:
    finals = [e.map.name for e in events if isinstance(e, MapReady) and e.final]

    assert set(finals) == NAMES
    assert len(finals) == len(NAMES)
    assert sum(isinstance(e, GenesReady) for e in events) == 1
    assert [isinstance(e, Finished) for e in events].index(True) == len(events) - 1


def test_progress_of_a_stage_never_goes_back_and_ends_full(events: list[Event]) -> None:
    stages: dict[str, list[tuple[int, int]]] = {}
    for event in events:
        if isinstance(event, Progress):
            stages.setdefault(event.stage, []).append((event.done, event.total))

    assert "patch features" in stages
    for steps in stages.values():
        assert [done for done, _ in steps] == sorted(done for done, _ in steps)
        assert steps[-1][0] == steps[-1][1]


def test_attention_fills_in_while_features_come(events: list[Event]) -> None:
    partial = [
        e.map.values
        for e in events
        if isinstance(e, MapReady) and e.map.name == "attention" and not e.final
    ]
    counts = [int(np.isfinite(values).sum()) for values in partial]

    assert len(partial) >= 3
    assert counts == sorted(counts)
    assert all(np.nansum(values) == pytest.approx(1, abs=1e-4) for values in partial)


def test_every_patch_has_a_value_in_every_map_and_no_other_cell(
    result: Result,
) -> None:
    rows, cols = result.patches.index.T
    for patch_map in result.maps.values():
        known = np.isfinite(patch_map.values)
        assert known[rows, cols].all()
        assert known.sum() == len(result.patches)


def test_attention_sums_to_one_and_contribution_to_the_change_of_the_logit(
    result: Result,
) -> None:
    total = float(np.nansum(result.maps["contribution"].values))

    assert np.nansum(result.maps["attention"].values) == pytest.approx(1, abs=1e-4)
    assert result.gaps["patches"] < 0.02
    assert result.gaps["genes"] < 0.02
    assert abs(total) > 1e-3


def test_the_unlike_patch_stands_out_in_the_cell_that_holds_it(
    case: Any, result: Result, planted_um: tuple[float, float], tmp_path: Path
) -> None:
    """With an ordinary patch as the baseline only the planted one contributes."""
    checkpoint = load(case.model)
    features = torch.from_numpy(result.patches.features)
    checkpoint.model.feature_mean.copy_(features.median(0).values)
    save(tmp_path / "model", checkpoint.model, checkpoint.card)

    found = finish(Request(case.slide, tmp_path / "model")).maps["contribution"]

    size = np.abs(found.values)
    row, col = np.unravel_index(np.nanargmax(size), size.shape)
    assert found.grid.rect_of(int(row), int(col)).contains(*planted_um)
    assert np.nanmax(size) > 5 * np.nanmedian(size)


def test_genes_come_with_the_patients_scores_and_what_was_missing(
    result: Result,
) -> None:
    genes = result.genes
    assert genes is not None

    assert genes.present.sum() == 68
    assert genes.z[-2:].tolist() == [0, 0]
    assert genes.attribution[-2:].tolist() == [0, 0]
    assert genes.class_name == result.class_name
    assert any("2 of 70 genes are missing" in text for text in result.warnings)


def test_slide_alone_gives_maps_but_no_genes(slide_only: Result) -> None:
    assert set(slide_only.maps) == NAMES
    assert slide_only.genes is None
    assert slide_only.share is None
    assert slide_only.sample is None


def test_both_answers_stand_side_by_side(result: Result, slide_only: Result) -> None:
    np.testing.assert_allclose(result.slide_only, slide_only.probabilities, atol=1e-6)
    assert result.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert not np.allclose(result.probabilities, result.slide_only, atol=1e-4)


def test_examples_run_from_the_expected_to_the_unexpected(result: Result) -> None:
    errors = [example.error for example in result.examples]

    assert errors == sorted(errors)
    assert result.examples[-1].percentile == 100
    assert len({example.patch for example in result.examples}) == len(errors)
    for example in result.examples:
        assert example.retrieved_patch != example.patch
        assert example.decoded.shape == (32, 32, 3)
        assert example.real.shape == (128, 128, 3)


def test_features_of_a_store_give_the_same_result(case: Any, tmp_path: Path) -> None:
    request = Request(case.slide, case.model, store=tmp_path / "store", batch_size=16)
    first = finish(request)

    second = finish(request)

    np.testing.assert_array_equal(first.patches.features, second.patches.features)
    for name in NAMES:
        np.testing.assert_allclose(
            first.maps[name].values, second.maps[name].values, atol=1e-6
        )


@pytest.mark.parametrize("stop", [1, 6, 12])
def test_it_can_be_closed_at_any_event(case: Any, stop: int) -> None:
    """The fixture of all tests checks that no reading thread is left."""
    events = analyse(Request(case.slide, case.model, batch_size=8))
    for _ in range(stop):
        next(events)

    events.close()  # type: ignore[attr-defined] # a generator, typed as an iterator

    assert next(events, None) is None


def refused(case: Any, folder: Path, card: Card) -> str:
    save(folder, load(case.model).model, card)
    with pytest.raises(CheckpointError) as caught:
        finish(Request(case.slide, folder))
    return str(caught.value)


def test_another_encoder_is_refused_with_expected_and_given(
    case: Any, card: Card, tmp_path: Path
) -> None:
    from dataclasses import replace

    other = {**card.encoder, "fingerprint": "f" * 64}
    text = refused(case, tmp_path / "model", replace(card, encoder=other))

    assert "its encoder fingerprint is ffffffffffff" in text
    assert f"it must be {card.encoder['fingerprint'][:12]}" in text


def test_another_patch_size_is_refused_with_expected_and_given(
    case: Any, card: Card, tmp_path: Path
) -> None:
    from dataclasses import replace

    text = refused(case, tmp_path / "model", replace(card, patch_um=256.0))

    assert "its patch_um is 256.0, it must be 128.0" in text


def test_a_table_of_several_samples_needs_a_name(case: Any) -> None:
    with pytest.raises(GeneError, match="has 3 samples"):
        finish(Request(case.slide, case.model, case.genes))


def test_what_was_found_while_reading_the_table_is_told(
    case: Any, tmp_path: Path
) -> None:
    header, *rows = case.genes.read_text().splitlines()
    again = header.split(",")[1]
    path = tmp_path / "twice.csv"
    path.write_text("\n".join([f"{header},{again}", *(f"{row},1.5" for row in rows)]))

    setting = prepare(Request(case.slide, case.model, path, sample="PATIENT-1"))

    assert setting.aligned is not None
    told = setting.aligned.report.notes
    assert any(again in note and "more than once" in note for note in told)


def test_genes_are_looked_at_before_the_slide(case: Any, tmp_path: Path) -> None:
    """A wrong sample must not be found out after minutes of reading."""
    with pytest.raises(GeneError, match="PATIENT-1"):
        finish(Request(tmp_path / "no.tif", case.model, case.genes, sample="PATIENT"))


def test_a_missing_slide_is_an_error_for_the_user(case: Any, tmp_path: Path) -> None:
    with pytest.raises(SlideError, match=r"no\.tif"):
        finish(Request(tmp_path / "no.tif", case.model))


def test_a_device_that_is_not_there_is_refused_by_name(case: Any) -> None:
    with pytest.raises(GimpError, match="'tpu'"):
        finish(Request(case.slide, case.model, device="tpu"))


def limit_memory(monkeypatch: pytest.MonkeyPatch, patches: int) -> None:
    """Let the encoder take so many patches at once and no more."""
    plain = PatchNetEncoder.__call__

    def encode(self: PatchNetEncoder, pixels: np.ndarray) -> np.ndarray:
        if len(pixels) > patches:
            raise torch.OutOfMemoryError("CUDA out of memory, made up")
        return plain(self, pixels)

    monkeypatch.setattr(PatchNetEncoder, "__call__", encode)


@pytest.mark.parametrize("room", [16, 8])
def test_a_batch_too_large_for_the_device_is_halved(
    case: Any, slide_only: Result, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    limit_memory(monkeypatch, room)

    found = finish(Request(case.slide, case.model, batch_size=32))

    np.testing.assert_allclose(
        found.patches.features, slide_only.patches.features, atol=1e-4
    )


def test_after_two_halvings_it_says_what_did_not_fit(
    case: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, 4)

    with pytest.raises(GimpError, match="not enough memory for 8 patches"):
        finish(Request(case.slide, case.model, batch_size=32))


def test_a_fluorescence_image_is_refused_with_what_it_holds(
    case: Any, tmp_path: Path
) -> None:
    grey = np.full((600, 600), 900, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "dapi.tif", grey, tile=(256, 256))

    with pytest.raises(SlideError, match="1 grey channel of uint16"):
        finish(Request(tmp_path / "dapi.tif", case.model, mpp=0.5))
