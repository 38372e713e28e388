from pathlib import Path

import pytest

from napari_gimp.errors import CheckpointError
from napari_gimp.explain.models import list_models, model_in, resolve_model


@pytest.fixture
def shipped(tmp_path: Path) -> Path:
    for name in ("demo", "breast-subtype"):
        (tmp_path / "shipped" / name).mkdir(parents=True)
        card = '{"description": "Tells.", "classes": ["a", "b"]}'
        (tmp_path / "shipped" / name / "card.json").write_text(card)
    return tmp_path / "shipped"


def test_shipped_models_are_found_by_name(shipped: Path) -> None:
    assert resolve_model("demo", shipped=shipped) == shipped / "demo"
    assert [m.name for m in list_models(shipped)] == ["breast-subtype", "demo"]
    assert list_models(shipped)[1].summary == "Tells. Classes: a, b."


def test_a_checkpoint_folder_is_a_model(shipped: Path) -> None:
    assert resolve_model(shipped / "demo", shipped=shipped.parent) == shipped / "demo"


def test_a_run_folder_counts_as_its_best_checkpoint(tmp_path: Path) -> None:
    best = tmp_path / "run" / "checkpoints" / "best"
    best.mkdir(parents=True)
    (best / "card.json").write_text("{}")

    assert resolve_model(tmp_path / "run") == best


def test_an_unknown_name_gets_near_names(shipped: Path) -> None:
    with pytest.raises(CheckpointError, match="Did you mean 'demo'"):
        resolve_model("dmo", shipped=shipped)


def test_a_folder_that_is_no_checkpoint_is_called_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no card\.json"):
        resolve_model(tmp_path)


def test_a_file_is_refused_with_what_a_model_is(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="a model is a folder"):
        resolve_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize("given", ["model.pt", "."])
def test_a_pickle_is_refused_with_how_to_convert_it(tmp_path: Path, given: str) -> None:
    (tmp_path / "model.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"a pickle.*gimp_models\.save\(FOLDER"):
        resolve_model(tmp_path / given)


def test_a_damaged_card_beside_a_model_does_not_matter(shipped: Path) -> None:
    (shipped / "demo" / "card.json").write_text("{")

    assert model_in(shipped / "breast-subtype").card["classes"] == ["a", "b"]


def test_a_card_that_is_a_list_is_damaged(shipped: Path) -> None:
    (shipped / "demo" / "card.json").write_text("[]")
    with pytest.raises(CheckpointError, match="no named values"):
        model_in(shipped / "demo")


def test_a_damaged_card_is_named(shipped: Path) -> None:
    (shipped / "demo" / "card.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"demo/card\.json"):
        list_models(shipped)
