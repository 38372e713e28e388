from __future__ import annotations

from pathlib import Path

import pytest

from napari_gimp.errors import RunError
from napari_gimp.training.run import DEFAULT_PLANS, MODELS, Plan, RunConfig

MINIMAL = 'stage = "finetune"\nmanifest = "m.csv"\ngenes = "g.csv"\nout = "run"\n'


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "run.toml"
    path.write_text(text)
    return path


def test_paths_are_relative_to_the_run_file(tmp_path: Path) -> None:
    run = RunConfig.read(write(tmp_path, MINIMAL))
    assert run.manifest == tmp_path / "m.csv"
    assert run.feature_store == tmp_path / "features"


def test_an_unknown_key_is_named_with_the_nearest_choice(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "[plan]\nepoch = 3\n")
    with pytest.raises(RunError, match=r"'epoch'.*Did you mean 'epochs'.*patience"):
        RunConfig.read(path)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('stage = "finetune"\n', "lacks manifest, genes, out"),
        (MINIMAL.replace("finetune", "tune"), "pretrain, finetune"),
        (MINIMAL + 'size = "huge"\n', "tiny, small, base"),
        (MINIMAL + '[plan]\nepochs = "9"\n', "whole number"),
        (MINIMAL + "[plan]\nepochs = true\n", "whole number"),
        (MINIMAL + "[plan]\nepochs = 0\n", "from 1 on"),
        (MINIMAL + "[plan]\nseed = 4294967295\n", "0 to 2147483647"),
        (MINIMAL + "[plan]\nlr = inf\n", "above 0 and finite"),
        (MINIMAL + 'model = "gimpy"\n', "model is 'gimpy'; it must be one of gimp"),
        (MINIMAL + "[plan]\nfold = 5\n", "0 to 4"),
        (MINIMAL + "[plan]\nmask_ratio = 1.0\n", "between 0 and 1"),
        (MINIMAL + '[plan]\ndevice = "tpu"\n', "auto, cpu, cuda"),
        (MINIMAL + 'srgb = "yes"\n', "true or false"),
        (MINIMAL + "[patches]\nstride = 64\n", "'stride'.*Did you mean 'stride_um'"),
        (
            MINIMAL + "[patches]\nmin_tissue = 2\n",
            r"got 2.* Change \[patches\]",
        ),
        (MINIMAL + '[patches]\ninclude = "a"\n', "must be a list of texts"),
        (MINIMAL + "[patches]\ntissue = 3\n", "'tissue' is 3; it must be text"),
        ("stage = \n", "not valid TOML"),
    ],
)
def test_a_wrong_value_is_refused_with_what_would_be_right(
    tmp_path: Path, text: str, says: str
) -> None:
    with pytest.raises(RunError, match=says):
        RunConfig.read(write(tmp_path, text))


def test_colours_are_converted_only_where_the_run_says_so(tmp_path: Path) -> None:
    assert RunConfig.read(write(tmp_path, MINIMAL)).srgb is False
    asked = RunConfig.read(write(tmp_path, MINIMAL + "srgb = true\n"))
    assert asked.srgb is True
    assert RunConfig.read(asked.write(tmp_path / "again.toml")) == asked


def test_every_model_that_can_be_trained_is_registered() -> None:
    from gimp_models.registry import MODELS as REGISTERED

    assert MODELS
    assert set(MODELS) <= set(REGISTERED)


def test_a_missing_run_file_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        RunConfig.read(tmp_path / "none.toml")


def test_the_written_configuration_reads_back_equal(tmp_path: Path) -> None:
    text = MINIMAL + 'start = "before"\n[plan]\nlr = 1\nepochs = 7\n'
    run = RunConfig.read(write(tmp_path, text))
    again = RunConfig.read(run.write(tmp_path / "elsewhere" / "run.toml"))
    assert again == run
    assert again.plan.epochs == 7


def test_each_stage_has_its_own_default_plan(tmp_path: Path) -> None:
    run = RunConfig.read(write(tmp_path, MINIMAL.replace("finetune", "pretrain")))
    assert run.plan == DEFAULT_PLANS["pretrain"]
    assert run.plan != Plan()


def test_areas_are_relative_to_the_run_file_and_read_back_equal(
    tmp_path: Path,
) -> None:
    text = MINIMAL + (
        '[patches]\nstride_um = 64\ninclude = ["areas"]\ninclude_labels = ["Tumor"]\n'
    )
    run = RunConfig.read(write(tmp_path, text))
    assert run.patches.stride_um == 64
    assert run.patches.include == (tmp_path / "areas",)
    assert RunConfig.read(run.write(tmp_path / "again" / "run.toml")) == run
