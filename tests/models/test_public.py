"""The package as a user of tensors sees it: cheap to import, whole without napari."""

from __future__ import annotations

import re
import subprocess
import sys

import gimp_models
import pytest
import torch
from gimp_models.registry import MODELS

BLOCK = """
import sys

class Blocked:
    NAMES = {"napari", "napari_gimp", "qtpy", "PySide6", "dask", "matplotlib",
             "psygnal", "magicgui", "captum"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.NAMES:
            raise ImportError(f"{name} is blocked in this test")

sys.meta_path.insert(0, Blocked())
"""

START = """
import torch
from pathlib import Path
from gimp_models import *
from gimp_models.objective import *
torch.manual_seed(0)
rng = torch.Generator().manual_seed(0)
"""

BAGS = """
def bag(n):
    return Bag(torch.randn(n, 16), torch.rand(n, 2) * 5000, torch.randn(90), n % 3)
batch = collate([bag(40), bag(31), bag(22), bag(50)])
"""

REGIONS = """
def region(side, patient):
    mask = torch.randint(0, 2, (side, side))
    return Region(torch.rand(3, side, side), torch.randn(90), mask, patient)
batch = collate_regions([region(64, "a"), region(48, "b"), region(64, "c")])
"""

# From a config to an objective's loss, for each registered model.
STEPS = {
    "gimp": BAGS
    + """
model = Gimp(GimpConfig.preset("tiny", patch_features=16, genes=90, classes=3))
loss = GimpPretrain(model)(batch, rng).total + GimpFinetune(model)(batch, rng).total
""",
    "mgi": REGIONS
    + """
model = Mgi(MgiConfig.preset("tiny", genes=90, classes=1))
contrast = MgiPretrain(model)(batch, rng).total
loss = contrast + MgiFinetune(model)(batch, rng).total
""",
    "subspace": BAGS
    + """
lists = {"tumour_genes": range(40), "micro_genes": range(30, 90)}
sizes = {"patch_features": 16, "genes": 90, "classes": 3}
model = Subspace(SubspaceConfig.preset("tiny", **sizes, **lists))
loss = SubspaceFinetune(model)(batch, rng).total
""",
}

FINISH = """
step = torch.optim.AdamW(model.parameters(), 1e-3)
loss.backward()
step.step()
model.eval()
classes, genes = model.config.classes, model.config.genes
card = Card(
    classes=tuple(map(str, range(classes))), genes=tuple(map(str, range(genes))),
    gene_mean=(0.0,) * genes, gene_sd=(1.0,) * genes,
)
folder = Path(sys.argv[1]) / "model"
save(folder, model, card)
found = load_as(folder, type(model)).model
assert torch.equal(found(batch).logits, model(batch).logits)
assert load(folder).card.architecture == sys.argv[2]
print("loss", float(loss))
"""


def alone(code: str, *arguments: object) -> str:
    """Run code in a fresh interpreter; return what it prints."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(MODELS))
def test_a_model_trains_saves_and_loads_without_napari(name, tmp_path):
    printed = alone(BLOCK + START + STEPS[name] + FINISH, tmp_path, name)
    assert printed.startswith("loss ")


def test_the_block_of_this_test_blocks():
    with pytest.raises(AssertionError, match="napari is blocked"):
        alone(f"{BLOCK}\nimport napari")


def test_importing_the_package_or_its_errors_loads_no_torch():
    code = (
        "import gimp_models, sys; gimp_models.GimpError; print('torch' in sys.modules)"
    )
    assert alone(code).strip() == "False"


def test_every_public_name_is_there_and_documented():
    for name in gimp_models.__all__:
        value = getattr(gimp_models, name)
        assert name == "MODELS" or value.__doc__, name
        assert name in dir(gimp_models)


def test_the_lines_in_the_packages_docstring_run():
    lines = re.findall(r"^    (\S.*)$", gimp_models.__doc__, flags=re.MULTILINE)
    names = {
        "features": torch.zeros(5, 192),
        "coords_um": torch.zeros(5, 2),
        "genes": torch.zeros(500),
    }
    exec("\n".join(lines), names)
    assert names["output"].logits.shape == (1, 3)


def test_models_and_their_configs_are_public():
    for architecture in MODELS.values():
        for kind in (architecture.model, architecture.config):
            assert getattr(gimp_models, kind.__name__) is kind


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="alchemy"):
        _ = gimp_models.alchemy


def test_names_for_the_type_checker_and_names_at_run_time_are_the_same():
    listed = set(gimp_models.__all__)
    assert listed == set(gimp_models._HOME_OF)
    assert sorted(gimp_models.__all__, key=_isort) == gimp_models.__all__


def _isort(name: str) -> tuple[int, str]:
    """Constants, classes, functions; as ruff sorts `__all__`."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name
