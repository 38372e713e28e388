"""Batches of patches in, features out: on every core, or beside the copies to a GPU.

On a CPU each call of the encoder runs in one thread and as many calls at once as there
are cores: that is faster than one call on all of them, and features are the same
whatever the number of cores. A CUDA device is kept busy by two calls, each with a
stream of its own: one copies while the other computes.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import GimpError
from napari_gimp.patches.encoders.embedded import CPU_BATCH
from napari_gimp.patches.estimate import patch_bytes
from napari_gimp.patches.reading import PATIENCE_S
from napari_gimp.slide.memory import usable_bytes

if TYPE_CHECKING:
    from napari_gimp.patches.encoders import Encoder

Pixels = NDArray[np.uint8]
Features = NDArray[np.float32]

CUDA_LANES = 2
MOST_PATCHES = 256
"""Patches of a batch, at most: more make no GPU faster."""
SHARE = 4
"""One part of so many of the free memory is for the batches that run at once."""
LET_GO_S = 1.0
"""So long is waited for a call that runs when the work is given up."""
HALVINGS = 2
_SHORT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory")

_log = logging.getLogger(__name__)


def encode_batches(
    encoder: Encoder,
    batches: Iterator[tuple[slice, Pixels] | None],
    *,
    device: str = "cpu",
    batch_size: int = 64,
) -> Iterator[tuple[slice, Features] | None]:
    """Yield (rows, (B, P) features) of the batches, in their order.

    Passes on the None of batches that are not there yet, and yields one itself
    whenever a batch takes longer than `PATIENCE_S`. Closed, it waits for the calls
    that run, but not long: they end by themselves.

    Parameters
    ----------
    encoder
        The encoder, on the device; called in several threads at once.
    batches
        Rows and pixels (B, H, W, 3).
    device
        Where the encoder is.
    batch_size
        B, of which the calls are parts where memory or a CPU's cache asks for it.

    Raises
    ------
    GimpError
        If memory is short for a quarter of a call; it says how many patches fit.
    """
    calls, count = Calls(encoder, device, batch_size), lanes(device)
    flying: deque[tuple[slice, list[Future[Features]]]] = deque()
    with _threads(count, device, flying) as pool:
        for batch in batches:
            if batch is None:
                yield None
                continue
            rows, pixels = batch
            flying.append((rows, [pool.submit(calls, p) for p in calls.parts(pixels)]))
            while sum(len(parts) for _, parts in flying) > 2 * count:
                yield from _first_of(flying)
        while flying:
            yield from _first_of(flying)


def _first_of(
    flying: deque[tuple[slice, list[Future[Features]]]],
) -> Iterator[tuple[slice, Features] | None]:
    rows, parts = flying[0]
    while wait(parts, PATIENCE_S).not_done:
        yield None
    flying.popleft()
    yield rows, np.concatenate([part.result() for part in parts])


def lanes(device: str) -> int:
    """Return how many calls of an encoder run at once on a device."""
    import torch

    kind = device.partition(":")[0]
    return {"cpu": torch.get_num_threads(), "cuda": CUDA_LANES}.get(kind, 1)


@contextmanager
def _threads(
    count: int, device: str, flying: deque[tuple[slice, list[Future[Features]]]]
) -> Iterator[ThreadPoolExecutor]:
    """Threads set up for a device; what runs for long after the end is let go."""
    pool = ThreadPoolExecutor(
        count, "gimp-model-encode", initializer=_prepare, initargs=(device,)
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        running = [part for _, parts in flying for part in parts if part.running()]
        late = wait(running, LET_GO_S).not_done
        pool.shutdown(wait=not late)


def _prepare(device: str) -> None:
    """Set up the thread that this is called on for calls of an encoder."""
    import torch

    if device == "cpu":
        from threadpoolctl import threadpool_limits

        torch.get_num_threads()  # its first call in a thread undoes a limit
        threadpool_limits(1, user_api="openmp")
    elif device.startswith("cuda"):
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call] # torch's
        torch.cuda.set_stream(stream)


def pinned(shape: tuple[int, ...]) -> Pixels:
    """Return an array that a CUDA device copies from while it computes."""
    import torch

    pixels: Pixels = torch.empty(shape, dtype=torch.uint8, pin_memory=True).numpy()
    return pixels


class Calls:
    """An encoder whose calls get smaller where memory is short.

    Parameters
    ----------
    encoder
        The encoder.
    device
        Where it is.
    batch_size
        Patches of a call, at most; a CPU takes what the encoder's `cpu_batch` says.
    """

    def __init__(self, encoder: Encoder, device: str, batch_size: int) -> None:
        self._encoder, self._device = encoder, device
        self._size = min(batch_size, cpu_batch(encoder) if device == "cpu" else 1 << 30)
        self._tried: list[int] = []
        self._lock = threading.Lock()

    def parts(self, pixels: Pixels) -> list[Pixels]:
        """Return a batch in parts of one call each."""
        size = self._size
        return [pixels[k : k + size] for k in range(0, len(pixels), size)]

    def __call__(self, pixels: Pixels) -> Features:
        """Return the features (B, P) of patches (B, H, W, 3).

        Raises
        ------
        GimpError
            If memory is short, and was for the half and the quarter too.
        """
        while True:
            parts = self.parts(pixels)
            features = [self._features(part) for part in parts]
            known = [part for part in features if part is not None]
            if len(known) == len(parts):
                return known[0] if len(known) == 1 else np.concatenate(known)
            self._halve(pixels, len(parts[0]))

    def _features(self, pixels: Pixels) -> Features | None:
        """Return the features of one call, None where memory is short."""
        try:
            return self._encoder(pixels)
        except (MemoryError, RuntimeError) as error:
            if not _is_short_of_memory(error):
                raise
            _log.warning("no memory for %d patches: %s", len(pixels), error)
            return None

    def _halve(self, pixels: Pixels, tried: int) -> None:
        _free(self._device)
        with self._lock:
            if self._size < tried:  # another thread has met with it just before
                return
            self._tried.append(tried)
            if len(self._tried) > HALVINGS or tried == 1:
                raise GimpError(self._what_fits(pixels, tried))
            self._size = max(tried // 2, 1)

    def _what_fits(self, pixels: Pixels, tried: int) -> str:
        """Return the sentence for too little memory, having tried what there is for."""
        sizes = [tried >> k for k in range(1, tried.bit_length())]
        fits = (n for n in sizes if self._features(pixels[:n]) is not None)
        count = next(fits, 0)
        *before, least = map(str, self._tried)
        nor = f" (nor for {', '.join(before)})" if before else ""
        fit = f"{count} {'patch fits' if count == 1 else 'patches fit'}"
        fit = f"{fit}: ask for a batch size of {count}" if count else "Not one fits"
        other = "a smaller encoder" if self._device == "cpu" else "device 'cpu'"
        return (
            f"The device '{self._device}' has not enough memory for {least} patches "
            f"at once{nor}. {fit}, close what else uses it, or take {other}."
        )


def _is_short_of_memory(error: Exception) -> bool:
    """Whether its kind or text says so: torch's CPU raises a plain RuntimeError."""
    import torch

    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return any(words in str(error).lower() for words in _SHORT_OF_MEMORY)


def _free(device: str) -> None:
    """Give back what torch keeps of a device's memory for later."""
    import torch

    if device != "cpu":
        torch.accelerator.empty_cache()


def cpu_batch(encoder: Encoder) -> int:
    """Return how many patches an encoder takes best in one call on a CPU."""
    return int(getattr(encoder, "cpu_batch", CPU_BATCH))


def fitting_batch(encoder: Encoder, device: str) -> int:
    """Return B, the patches of a batch for which there is memory.

    A CPU is given two calls' worth, so that progress is seen and little is lost; a
    GPU as many as a quarter of its free memory takes, a power of two.
    """
    free = _free_bytes(device) // SHARE
    most = max(free // (lanes(device) * patch_bytes(encoder)), 1)
    if device == "cpu":
        return min(2 * cpu_batch(encoder), most)
    return min(1 << (most.bit_length() - 1), MOST_PATCHES)


def _free_bytes(device: str) -> int:
    """Return the memory that is free on a device, bytes."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    if device == "mps":
        most = torch.mps.recommended_max_memory()
        return int(most - torch.mps.driver_allocated_memory())
    return usable_bytes()
