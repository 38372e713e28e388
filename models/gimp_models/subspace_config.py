"""Sizes, task and gene lists of Subspace: one frozen value, saved in every checkpoint.

`TASKS` are the four endpoints of glioma of the specification, section 1; any other
classification or survival endpoint is a config like theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from gimp_models.config import Config

__all__ = ["TASKS", "Layout", "SubspaceConfig", "Task", "TaskKind"]

TaskKind = Literal["classification", "survival"]
Layout = Literal["spatial", "list"]

_CHOICES = {"task": get_args(TaskKind), "layout": get_args(Layout)}

# Keys move up to 4 places of their own grid: with fewer than 8 along a side most
# would leave the slide at once.
_SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {
        "grid": 16,
        "width": 32,
        "heads": 4,
        "head_width": 16,
        "stride": 2,
        "kernel": 4,
    },
    "small": {"grid": 32, "width": 64, "head_width": 32},
    "base": {},
}


@dataclass(frozen=True, slots=True)
class Task:
    """A question asked of a cohort.

    Parameters
    ----------
    endpoint
        Its name.
    task
        "classification", or "survival" in time bins.
    classes
        Names of the C classes, or of the C time bins.
    edges_days
        (C-1) upper edges of the time bins in days; empty for classification. Fixed
        edges are those of the public code: take the quartiles of your own training
        cohort's uncensored times where you train anew.
    """

    endpoint: str
    task: TaskKind
    classes: tuple[str, ...]
    edges_days: tuple[float, ...] = ()


_ENDPOINTS = (
    Task(
        "diagnosis",
        "classification",
        (
            "glioblastoma",
            "astrocytoma, grade 4",
            "astrocytoma, grade 2 or 3",
            "oligodendroglioma",
        ),
    ),
    Task("grade", "classification", ("G2", "G3", "G4")),
    Task(
        "survival",
        "survival",
        ("up to 233.5 days", "up to 511 days", "up to 929 days", "over 929 days"),
        (233.5, 511.0, 929.0),
    ),
    Task(  # the specification names no classes: the molecular groups of LGG and GBM
        "subtype",
        "classification",
        ("IDH wild type", "IDH mutant", "IDH mutant, 1p/19q codeleted"),
    ),
)

TASKS: Mapping[str, Task] = {task.endpoint: task for task in _ENDPOINTS}
"""The endpoints of glioma by name (spec 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SubspaceConfig(Config):
    """Sizes and options of Subspace; the defaults are the `base` size.

    Parameters
    ----------
    patch_features
        P, width of the patch encoder.
    genes
        G, number of genes of the panel.
    classes
        C, number of classes, or of time bins for survival.
    tumour_genes, micro_genes
        Indices into the panel of the genes of the tumour and of the
        microenvironment branch. A gene may be in both.
    task
        "classification" or "survival".
    endpoint
        Name of what is predicted.
    edges_days
        (C-1) increasing edges of the time bins in days; empty for classification.
    layout
        "spatial" lays patches on their true rows and columns; "list" resamples the
        bag in list order as the public code does.
    grid
        Cells along a side of the grid, N = grid x grid.
    width
        D, a multiple of `heads`.
    heads, head_width
        Heads of the attention, which are also its groups, and the width of each.
    stride, kernel
        Of the offset network's depthwise convolution, in cells; they set how many
        keys there are. They differ by an even number.
    dropout
        On attention weights.
    gene_dropout
        AlphaDropout of the gene encoders.

    Raises
    ------
    ConfigError
        If sizes or options contradict each other.
    """

    MODEL: ClassVar[str] = "Subspace"
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]] = _SIZES

    patch_features: int
    genes: int
    classes: int
    tumour_genes: tuple[int, ...]
    micro_genes: tuple[int, ...]
    task: TaskKind = "classification"
    endpoint: str = "diagnosis"
    edges_days: tuple[float, ...] = ()
    layout: Layout = "spatial"
    grid: int = 50
    width: int = 128
    heads: int = 8
    head_width: int = 64
    stride: int = 4
    kernel: int = 6
    dropout: float = 0.1
    gene_dropout: float = 0.1

    def __post_init__(self) -> None:
        self.require_choices(_CHOICES)
        _check_sizes(self)
        _check_keys(self)
        _check_genes(self)
        _check_edges(self)

    @classmethod
    def preset(
        cls,
        size: str,
        *,
        patch_features: int,
        genes: int,
        classes: int,
        tumour_genes: tuple[int, ...],
        micro_genes: tuple[int, ...],
    ) -> SubspaceConfig:
        """Return a named size: "tiny", "small" (ours) or "base" (the public code's).

        Change single options with `dataclasses.replace`, the task with `with_task`.

        Raises
        ------
        ConfigError
            If the size is unknown.
        """
        config = cls(
            patch_features=patch_features,
            genes=genes,
            classes=classes,
            tumour_genes=tuple(tumour_genes),
            micro_genes=tuple(micro_genes),
        )
        return replace(config, **cls.size(size))

    def with_task(self, task: Task) -> SubspaceConfig:
        """Return the config for another endpoint, one of `TASKS` or your own."""
        return replace(
            self,
            task=task.task,
            endpoint=task.endpoint,
            classes=len(task.classes),
            edges_days=task.edges_days,
        )

    @property
    def cells(self) -> int:
        """N, tokens of a slide: the cells of the grid."""
        return self.grid * self.grid


def _check_sizes(config: SubspaceConfig) -> None:
    config.require_positive("patch_features", "genes", "grid", "heads", "head_width")
    least = 1 if config.task == "survival" else 2
    config.require(config.classes >= least, "classes", f"at least {least}")
    fits = config.width >= 1 and config.width % config.heads == 0
    config.require(fits, "width", "a multiple of heads")
    for name in ("dropout", "gene_dropout"):
        share = getattr(config, name)
        config.require(0 <= share < 1, name, "from 0 to below 1")


def _check_keys(config: SubspaceConfig) -> None:
    config.require_positive("stride")
    padding, odd = divmod(config.kernel - config.stride, 2)
    right = f"the stride {config.stride} plus 0, 2, 4, ..."
    config.require(padding >= 0 and not odd, "kernel", right)
    # One key alone has no place in [-1, 1]: positions are divided by keys - 1.
    keys = (config.grid + 2 * padding - config.kernel) // config.stride + 1
    config.require(keys >= 2, "grid", f"at least {2 * config.stride} for two keys")


def _check_genes(config: SubspaceConfig) -> None:
    for name in ("tumour_genes", "micro_genes"):
        genes = getattr(config, name)
        distinct = 0 < len(genes) == len(set(genes))
        config.require(distinct, name, "at least one gene, each named once")
        inside = min(genes) >= 0 and max(genes) < config.genes
        config.require(inside, name, f"indices from 0 to {config.genes - 1}")


def _check_edges(config: SubspaceConfig) -> None:
    edges = config.edges_days
    if config.task == "classification":
        config.require(not edges, "edges_days", "empty for a classification")
        return
    rising = all(a < b for a, b in zip((0.0, *edges), edges, strict=False))
    fits = len(edges) == config.classes - 1 and rising
    right = f"{config.classes - 1} increasing numbers of days"
    config.require(fits, "edges_days", right)
