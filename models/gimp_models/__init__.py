"""The models in plain PyTorch: usable without napari, Qt or a slide.

Names below come on first use, so importing this package is cheap; torch is loaded
with the first of them.

    from gimp_models import Bag, Gimp, GimpConfig, collate
    config = GimpConfig.preset("tiny", patch_features=192, genes=500, classes=3)
    output = Gimp(config)(collate([Bag(features, coords_um, genes)]))

Models and what they take: `Gimp`, `Mgi`, `Subspace` with `GimpConfig`, `MgiConfig`,
`SubspaceConfig`; `Bag`, `Batch`, `collate` for patch features, `Region`,
`RegionBatch`, `collate_regions` for pixels. What they learn from: `objective`. Where
a prediction comes from: `evidence`. Cohorts to try them on: `planted`. By name:
`MODELS`, `build`. Folders: `save`, `load`, `load_as`, `read_card` with `Card`,
`Checkpoint` and `Expectation`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gimp_models.bag import Bag, Batch, collate
    from gimp_models.checkpoint import (
        Card,
        Checkpoint,
        Expectation,
        load,
        load_as,
        read_card,
        save,
    )
    from gimp_models.errors import (
        BatchError,
        CheckpointError,
        ConfigError,
        GimpError,
    )
    from gimp_models.gene_lists import GeneLists, default_gene_lists, read_gene_lists
    from gimp_models.gimp import Gimp
    from gimp_models.gimp_config import GimpConfig
    from gimp_models.glioma import diagnosis_label, grade_label
    from gimp_models.mgi import Mgi
    from gimp_models.mgi_config import MgiConfig
    from gimp_models.objective import LossParts
    from gimp_models.region import Region, RegionBatch, collate_regions
    from gimp_models.registry import MODELS, Architecture, build
    from gimp_models.subspace import Subspace
    from gimp_models.subspace_config import TASKS, SubspaceConfig
    from gimp_models.timm_weights import load_timm

__all__ = [
    "MODELS",
    "TASKS",
    "Architecture",
    "Bag",
    "Batch",
    "BatchError",
    "Card",
    "Checkpoint",
    "CheckpointError",
    "ConfigError",
    "Expectation",
    "GeneLists",
    "Gimp",
    "GimpConfig",
    "GimpError",
    "LossParts",
    "Mgi",
    "MgiConfig",
    "Region",
    "RegionBatch",
    "Subspace",
    "SubspaceConfig",
    "build",
    "collate",
    "collate_regions",
    "default_gene_lists",
    "diagnosis_label",
    "grade_label",
    "load",
    "load_as",
    "load_timm",
    "read_card",
    "read_gene_lists",
    "save",
]

_HOMES = {
    "bag": ("Bag", "Batch", "collate"),
    "checkpoint": (
        *("Card", "Checkpoint", "Expectation"),
        *("load", "load_as", "read_card", "save"),
    ),
    "errors": ("BatchError", "CheckpointError", "ConfigError", "GimpError"),
    "gimp": ("Gimp",),
    "gimp_config": ("GimpConfig",),
    "gene_lists": ("GeneLists", "default_gene_lists", "read_gene_lists"),
    "glioma": ("diagnosis_label", "grade_label"),
    "mgi": ("Mgi",),
    "mgi_config": ("MgiConfig",),
    "objective": ("LossParts",),
    "region": ("Region", "RegionBatch", "collate_regions"),
    "registry": ("MODELS", "Architecture", "build"),
    "subspace": ("Subspace",),
    "subspace_config": ("TASKS", "SubspaceConfig"),
    "timm_weights": ("load_timm",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Fetch a public name from its module on first use (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
