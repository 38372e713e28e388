"""Features on a dask.distributed cluster, wherever its workers come from.

Workers see the slides and the store under the same paths and run the same version.
Each works on one slide at a time, so one thread is right (`--nthreads 1`). Under a
nanny it computes on one core unless `OMP_NUM_THREADS` says otherwise where it is
started, and slower than with `--no-nanny` (`local.TRIM`).
"""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from napari_gimp.cohorts.extraction import Recipe, extract_slide, reason
from napari_gimp.cohorts.manifest import Entry
from napari_gimp.cohorts.states import SlideState, State
from napari_gimp.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client, Future

    from napari_gimp.cohorts.features import Attempt

Progress = dict[str, Any]
CONNECT_S = 10
FIRST_WORKER_S = 60
PATIENCE_S = 1.0


def _nothing() -> None:
    return None


@dataclass(frozen=True, slots=True)
class Cluster:
    """Workers that answer.

    Parameters
    ----------
    client
        Speaks with them.
    check
        Called while nothing is heard; raises a ClusterError where nothing can come.
    """

    client: Client
    check: Callable[[], None] = _nothing


@contextmanager
def connected(address: str) -> Iterator[Cluster]:
    """Connect to a scheduler ("tcp://host:8786") with at least one worker.

    Raises
    ------
    ClusterError
        If there is none, or it has no worker.
    """
    client = _client(address)
    try:
        _wait_for_a_worker(client, address)
        yield Cluster(client)
    finally:
        client.close()


def extract_on(
    cluster: Cluster,
    attempts: Sequence[Attempt],
    entries: Sequence[Entry],
    recipe: Recipe,
    retries: int,
) -> Generator[SlideState, None, None]:
    """Make features on a cluster; see `extract_manifest`.

    Closing it asks the workers to stop after their batch and drops what waits. A
    slide whose worker dies goes on elsewhere from the last batch stored.
    """
    from distributed import Event

    client = cluster.client
    run = f"napari-gimp-{uuid.uuid4().hex}"
    news: SimpleQueue[Progress | Future] = SimpleQueue()
    stop = Event(run, client=client)
    waiting: dict[str, tuple[Attempt, Future]] = {}
    client.subscribe_topic(run, lambda event: news.put(event[1]))

    def submit(attempt: Attempt) -> None:
        future = _submit(client, run, attempt, entries[attempt.number], recipe)
        waiting[future.key] = attempt, future
        future.add_done_callback(news.put)

    try:
        for attempt in attempts:
            submit(attempt)
        while waiting:
            new = _next(news)
            if isinstance(new, dict):  # of a finished task it comes too late
                if new["task"] in waiting:
                    yield _state(new)
            elif new is None:  # lets whoever watches cancel
                cluster.check()
                attempt = next(iter(waiting.values()))[0]
                yield SlideState(attempt.number, State.QUEUED)
            else:
                attempt, _ = waiting.pop(new.key)
                yield (last := _last(new, attempt))
                if again := attempt.after(last, retries):
                    submit(again)
    finally:
        if client.status == "running":  # else the scheduler is gone
            with suppress(OSError):
                stop.set()
                client.cancel([future for _, future in waiting.values()])
                client.unsubscribe_topic(run)


def _submit(
    client: Client, run: str, attempt: Attempt, entry: Entry, recipe: Recipe
) -> Future:
    """Queue an attempt; those after the first come when the others are done."""
    again = attempt.tries + attempt.wait
    return client.submit(
        work_on,
        attempt.number,
        entry,
        recipe,
        attempt.wait,
        run,
        key=f"{run}-{attempt.number}-{attempt.tries}-{attempt.wait}",
        priority=-again,
        pure=False,
    )


def work_on(
    number: int, entry: Entry, recipe: Recipe, wait: bool, run: str
) -> SlideState:
    """Make one slide's features on a worker; return how it ended.

    Progress goes out as events of the topic `run`; the event `run` stops it.
    """
    from distributed import Event, get_worker

    worker, stop = get_worker(), Event(run)
    task = worker.get_current_task()
    state = SlideState(number, State.QUEUED)
    with closing(extract_slide(number, entry, recipe, wait=wait)) as steps:
        for state in steps:
            if not state.ended:
                worker.log_event(run, _progress(task, state))
                if stop.is_set():
                    return replace(state, state=State.CANCELLED)
    return state


def check_installed(module: str) -> None:
    """Raise a ClusterError where a module of the extra [distributed] is missing."""
    if importlib.util.find_spec(module) is None:
        raise ClusterError(
            f"A cluster needs {module}, which is not installed: "
            "pip install 'napari-gimp[distributed]'."
        )


def _client(address: str) -> Client:
    check_installed("distributed")
    from distributed import Client

    try:
        return Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"No dask scheduler answers at {address} ({reason(error)}). Give the "
            "address that `dask scheduler` prints, such as tcp://host:8786."
        ) from error


def _wait_for_a_worker(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=FIRST_WORKER_S)
    except TimeoutError as error:
        raise ClusterError(
            f"The scheduler at {address} has no worker after {FIRST_WORKER_S} s. Start "
            f"some: `dask worker {address} --nthreads 1`."
        ) from error


def _next(news: SimpleQueue[Progress | Future]) -> Progress | Future | None:
    """Return what comes next; None where nothing comes for a while."""
    try:
        return news.get(timeout=PATIENCE_S)
    except Empty:
        return None


def _progress(task: str, state: SlideState) -> Progress:
    return {"task": task, "slide": asdict(state) | {"state": state.state.value}}


def _state(progress: Progress) -> SlideState:
    told = progress["slide"]
    return SlideState(**told | {"state": State(told["state"])})


def _last(future: Future, attempt: Attempt) -> SlideState:
    """Return how a task ended, also where its worker could not say it."""
    if future.status == "finished":
        state: SlideState = future.result()
        return state
    if future.cancelled():
        return SlideState(attempt.number, State.CANCELLED, text="the scheduler is gone")
    return SlideState(attempt.number, State.FAILED, text=reason(future.exception()))
