"""Workers as jobs of Slurm, through dask-jobqueue.

The command runs where `sbatch` does, on a login node, and shares the slides out from
there; each job is one worker process. Jobs that Slurm ends are not started anew: what
they stored stays, their slides go to those that are left.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gimp.cohorts.cluster import Cluster, check_installed
from napari_gimp.errors import ClusterError

if TYPE_CHECKING:
    from dask_jobqueue import SLURMCluster
    from distributed import Client

TIME = re.compile(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d\d?(:\d\d){0,2}")
"""Minutes, MM:SS, HH:MM:SS, or days before a dash, as sbatch takes them."""
LOOK_S = 30.0
"""Between two questions to Slurm whether jobs are left."""
SUBMIT_S = 600.0
"""A busy Slurm may take minutes to accept a job, not longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slurm:
    """What is asked of Slurm for each job.

    Parameters
    ----------
    logs
        Folder of the jobs' output.
    jobs
        How many.
    partition
        Where they run; empty for Slurm's default.
    time
        How long each may run, as sbatch takes it.
    memory
        Of each: "16GB".
    cores, gpus
        Of each.

    Raises
    ------
    ClusterError
        If a value cannot be meant.
    """

    logs: Path
    jobs: int = 1
    partition: str = ""
    time: str = "04:00:00"
    memory: str = "16GB"
    cores: int = 4
    gpus: int = 0

    def __post_init__(self) -> None:
        _check("jobs", self.jobs, self.jobs >= 1, "1 or more")
        _check("cores", self.cores, self.cores >= 1, "1 or more")
        _check("gpus", self.gpus, self.gpus >= 0, "0 or more")
        fits = bool(TIME.fullmatch(self.time))
        _check("time", self.time, fits, "HH:MM:SS or D-HH:MM:SS, such as 04:00:00")
        sized = bool(re.fullmatch(r"\d+(\.\d+)? ?[MGT]i?B?", self.memory))
        _check("memory", self.memory, sized, "a size such as 16GB")


@contextmanager
def slurm_workers(asked: Slurm) -> Iterator[Cluster]:
    """Submit jobs and share work out among them as they begin; cancel them at the end.

    Raises
    ------
    ClusterError
        If there is no Slurm here, it refuses the job, or dask-jobqueue is missing.
    """
    check_installed("dask_jobqueue")
    if not shutil.which("sbatch"):
        raise ClusterError(
            "Slurm's command sbatch is not on this machine. Run this on a login node "
            "of the cluster, or use --workers or --scheduler."
        )
    from distributed import Client

    with start(asked) as jobs:
        _try(jobs.job_script(), asked)
        jobs.scale(jobs=asked.jobs)
        with Client(jobs, set_as_default=False) as client:
            yield Cluster(client, _Watch(jobs, client, asked).look)


def start(asked: Slurm) -> SLURMCluster:
    """Return a scheduler in this process that can submit jobs; none is yet."""
    from dask_jobqueue import SLURMCluster

    return SLURMCluster(
        job_name="napari-gimp",
        queue=asked.partition or None,
        walltime=asked.time,
        memory=asked.memory,
        cores=1,  # slides at a time
        processes=1,
        nanny=False,  # Slurm watches; and see local.TRIM
        job_cpu=asked.cores,
        job_extra_directives=[f"--gpus={asked.gpus}"] if asked.gpus else [],
        job_script_prologue=[f"export OMP_NUM_THREADS={asked.cores}"],
        log_directory=str(asked.logs),
        scheduler_options={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
    )


@dataclass(slots=True)
class _Watch:
    """Tells when nothing can come any more: no worker, and no job left in Slurm."""

    jobs: SLURMCluster
    client: Client
    asked: Slurm
    begun: float = field(default_factory=time.monotonic)
    looked: float = field(default_factory=time.monotonic)

    def look(self) -> None:
        if time.monotonic() < self.looked + LOOK_S:
            return
        self.looked = time.monotonic()
        if self.client.scheduler_info()["workers"] or self._queued():
            return
        raise ClusterError(
            f"No job of the {self.asked.jobs} is left in Slurm and slides remain. "
            f"{self.asked.logs} has what the jobs said; if their time of "
            f"{self.asked.time} was too short, give more with --time. What is stored "
            "stays: run the command again."
        )

    def _queued(self) -> bool:
        ids = [job.job_id for job in self.jobs.workers.values() if job.job_id]
        if not ids:  # sbatch has not answered yet
            return time.monotonic() < self.begun + SUBMIT_S
        return _in_queue(ids)


def _in_queue(ids: Sequence[str]) -> bool:
    """Whether Slurm knows one of some jobs; also where it is too busy to say."""
    words = ["squeue", "--noheader", "--format=%i", f"--jobs={','.join(ids)}"]
    try:
        said = subprocess.run(
            words, capture_output=True, text=True, check=False, timeout=LOOK_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return True
    unknown = "Invalid job id" in said.stderr
    return bool(said.stdout.strip()) or bool(said.returncode and not unknown)


def _check(name: str, value: object, fits: bool, right: str) -> None:
    if not fits:
        raise ClusterError(f"--{name} {value} cannot be meant; give {right}.")


def _try(script: str, asked: Slurm) -> None:
    """Let Slurm look at the job without queueing it."""
    with tempfile.NamedTemporaryFile("w", suffix=".sh") as file:
        file.write(script)
        file.flush()
        words = ["sbatch", "--test-only", file.name]
        said = subprocess.run(words, capture_output=True, text=True, check=False)
    if said.returncode:
        raise ClusterError(
            f"Slurm refuses a job of {asked.cores} cores, {asked.memory}, {asked.gpus} "
            f"GPUs and {asked.time} in the partition {asked.partition or '(default)'}: "
            f"{' '.join(said.stderr.split())}. Ask for something else."
        )
