"""Worker processes on this machine, each with its share of the cores.

An encoder does not always fill every core: two processes of one core encode more
than one process of two. Slides are shared out one by one.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from napari_gimp.cohorts.cluster import Cluster, check_installed
from napari_gimp.errors import ClusterError

TRIM = "MALLOC_TRIM_THRESHOLD_"
"""dask sets it for its workers: memory that goes back to the system after every layer
of an encoder costs a third of the time."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""A terminal's Ctrl-C goes to workers, too; only the command is to hear it."""
DUMB = "import logging; logging.getLogger('distributed').setLevel(logging.ERROR)"
"""What workers say of a task that is cancelled is no news to a user."""
TRIM = "MALLOC_TRIM_THRESHOLD_"
"""dask sets it for its workers: memory that goes back to the system after every layer
of an encoder costs a third of the time."""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

DEAF = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""A terminal's Ctrl-C goes to workers, too; only the command is to hear it."""


@contextmanager
def local_workers(count: int) -> Iterator[Cluster]:
    """Start worker processes; they end with the block.

    Parameters
    ----------
    count
        How many; each computes on `cores / count` cores, at least one. What
        OMP_NUM_THREADS and NAPARI_GIMP_CACHE_MB say goes before.

    Raises
    ------
    ClusterError
        If `count` is below 1, or dask.distributed is not installed.
    """
    if count < 1:
        raise ClusterError(
            f"{count} worker processes cannot work; ask for 1 or more, at most one "
            f"for each of the {cores()} cores."
        )
    check_installed("distributed")
    import dask
    from distributed import Client, LocalCluster

    with (
        _kept((*THREADS, TRIM, "PYTHONHASHSEED")),
        dask.config.set(_shares(count)),
        LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            processes=True,
            memory_limit=None,  # reading ahead and batches are bounded in bytes
            dashboard_address="127.0.0.1:0",  # None would take a fixed port, too
            silence_logs=logging.ERROR,  # a worker killed while it ends loses nothing
            preload=[DEAF, DUMB],
        ) as workers,
        Client(workers, set_as_default=False) as client,
    ):
        yield Cluster(client)


def cores() -> int:
    """Return how many cores this process may use."""
    import psutil

    try:
        return len(psutil.Process().cpu_affinity() or ()) or 1
    except AttributeError:  # macOS knows no affinity
        return psutil.cpu_count() or 1


@contextmanager
def _kept(names: Iterable[str]) -> Iterator[None]:
    """Give this process its variables back, which dask changes for its workers."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def _shares(count: int) -> dict[str, int | None]:
    """Return dask's settings that give a worker its part of cores and memory."""
    from napari_gimp.slide.tiles import LEAST_MB, MB, VARIABLE, tile_cache

    threads = max(1, cores() // count)
    cache_mb = max(LEAST_MB, tile_cache().budget_bytes // MB // count)
    return {
        **{f"distributed.nanny.pre-spawn-environ.{n}": threads for n in THREADS},
        f"distributed.nanny.pre-spawn-environ.{TRIM}": None,
        f"distributed.nanny.environ.{VARIABLE}": cache_mb,
    }
