"""Options that say who works: processes here, a dask cluster, or Slurm jobs."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_gimp.errors import ClusterError

if TYPE_CHECKING:
    from napari_gimp.cohorts.cluster import Cluster

SLURM = {
    "jobs": (int, "N", "how many jobs; 1"),
    "partition": (str, "NAME", "where they run; Slurm's default"),
    "time": (str, "D-HH:MM:SS", "how long each may run; 04:00:00"),
    "memory": (str, "SIZE", "of each; 16GB"),
    "cores": (int, "N", "of each; 4"),
    "gpus": (int, "N", "of each; 0"),
}
"""Options of `--slurm`, fields of `Slurm`: type, placeholder, help."""


def add_cluster_options(sub: Any) -> None:
    """Add `--workers`, `--scheduler`, `--slurm` and what belongs to it."""
    group = sub.add_argument_group(
        "workers",
        "without any, slides are encoded in this process. With --slurm, sbatch also "
        "heeds its variables (SBATCH_ACCOUNT, SBATCH_QOS, ...)",
    )
    where = group.add_mutually_exclusive_group()
    where.add_argument(
        "--workers", type=int, metavar="N", help="processes on this machine"
    )
    where.add_argument(
        "--scheduler", metavar="ADDRESS", help="a dask.distributed cluster"
    )
    where.add_argument(
        "--slurm", action="store_true", help="start workers as jobs of Slurm"
    )
    for name, (kind, placeholder, text) in SLURM.items():
        group.add_argument(
            f"--{name}", type=kind, metavar=placeholder, help=f"--slurm: {text}"
        )


def cluster_of(arguments: argparse.Namespace) -> AbstractContextManager[Cluster | None]:
    """Return the workers that were asked for, or None for this process.

    Raises
    ------
    ClusterError
        If they cannot be had, or options of Slurm are given without it.
    """
    told = {name: getattr(arguments, name) for name in SLURM}
    told = {name: value for name, value in told.items() if value is not None}
    if told and not arguments.slurm:
        belong = "belong" if len(told) > 1 else "belongs"
        raise ClusterError(
            f"--{' and --'.join(told)} {belong} to jobs of Slurm; give --slurm, too."
        )
    if arguments.slurm:
        return _slurm(arguments.out, told)
    if arguments.workers is not None:
        from napari_gimp.cohorts.local import local_workers

        return local_workers(arguments.workers)
    if arguments.scheduler:
        from napari_gimp.cohorts.cluster import connected

        return connected(arguments.scheduler)
    return nullcontext()


def _slurm(out: Path, told: dict[str, Any]) -> AbstractContextManager[Cluster]:
    from napari_gimp.cohorts.slurm import Slurm, slurm_workers

    return slurm_workers(Slurm(logs=out.resolve() / ".slurm", **told))
