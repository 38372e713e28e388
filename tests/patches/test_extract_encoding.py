"""How batches are encoded: in order, on every core, in as much memory as there is."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from napari_gimp.errors import GimpError
from napari_gimp.geometry import Grid
from napari_gimp.patches import encoding
from napari_gimp.patches.encoders import load_encoder
from napari_gimp.patches.encoding import Calls, encode_batches, fitting_batch
from napari_gimp.patches.estimate import patch_bytes
from napari_gimp.patches.extract import extract, extract_all
from napari_gimp.patches.grid import PatchGrid, lay_patches
from napari_gimp.patches.tissue import Tissue

CPU_MESSAGE = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"
SHORT = [torch.OutOfMemoryError("too much"), RuntimeError(CPU_MESSAGE)]


def noise(count: int, side: int = 16) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.integers(0, 255, (count, side, side, 3), dtype=np.uint8)


def in_batches(pixels: np.ndarray, size: int) -> Iterator[tuple[slice, np.ndarray]]:
    for k in range(0, len(pixels), size):
        part = pixels[k : k + size]
        yield slice(k, k + len(part)), part


def whole(slide) -> PatchGrid:
    mask = np.ones((32, 40), bool)
    return lay_patches(Tissue(mask, Grid(mask.shape, (8.0, 8.0))), patch_um=16.0)


class Limited:
    """An encoder that takes `most` patches at once; remembers the sizes it was given.

    Parameters
    ----------
    inner
        The encoder that encodes.
    most
        B, at most.
    error
        What it raises for more.
    """

    def __init__(self, inner, most: int, error: Exception) -> None:
        self._inner, self.most, self.error = inner, most, error
        self.sizes: list[int] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def to(self, device: str) -> Limited:
        return self

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.sizes.append(len(pixels))
        if len(pixels) > self.most:
            raise self.error
        return self._inner(pixels)


@pytest.mark.parametrize("cores", [1, 2, 5])
def test_features_have_the_same_bytes_whatever_the_number_of_cores(
    monkeypatch, cores: int
) -> None:
    encoder, pixels = load_encoder(), noise(100, 128)
    expected = np.concatenate([encoder(pixels[k : k + 32]) for k in (0, 32, 64, 96)])
    monkeypatch.setattr(encoding, "lanes", lambda _: cores)

    batches = list(encode_batches(encoder, in_batches(pixels, 64), batch_size=64))

    done = [batch for batch in batches if batch]
    assert [(rows.start, rows.stop) for rows, _ in done] == [(0, 64), (64, 100)]
    features = np.concatenate([features for _, features in done])
    assert features.tobytes() == expected.tobytes()


def test_a_call_on_a_cpu_uses_one_thread_and_the_callers_keep_theirs(encoder) -> None:
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(3)

    def watched(pixels: np.ndarray) -> np.ndarray:
        seen.append((threading.current_thread().name, torch.get_num_threads()))
        return encoder(pixels)

    try:
        list(encode_batches(watched, in_batches(noise(64), 8), batch_size=8))
        after = torch.get_num_threads()
    finally:
        torch.set_num_threads(before)

    assert {threads for _, threads in seen} == {1}
    assert {name.rpartition("_")[0] for name, _ in seen} == {"gimp-model-encode"}
    assert after == 3


@pytest.mark.parametrize("error", [*SHORT, MemoryError("Unable to allocate")])
@pytest.mark.parametrize("most", [32, 16, 8])
def test_a_batch_is_halved_where_memory_is_short(
    noise_slide, encoder, most: int, error: Exception
) -> None:
    expected = extract_all(noise_slide, whole(noise_slide), encoder)
    limited = Limited(encoder, most, error)

    features = extract_all(noise_slide, whole(noise_slide), limited, batch_size=32)

    np.testing.assert_array_equal(features, expected)
    assert set(limited.sizes) <= {32, 16, 8}
    assert limited.sizes[-1] <= most
    assert limited.sizes.count(32) <= (10 if most == 32 else encoding.lanes("cpu"))


def test_after_two_halvings_it_is_said_what_fits(noise_slide, encoder) -> None:
    limited = Limited(encoder, 3, SHORT[0])

    with pytest.raises(
        GimpError,
        match=r"device 'cpu' has not enough memory for 8 patches at once \(nor for "
        r"32, 16\)\. 2 patches fit: ask for a batch size of 2",
    ):
        extract_all(noise_slide, whole(noise_slide), limited, batch_size=32)


def test_where_not_one_patch_fits_it_is_said(noise_slide, encoder) -> None:
    limited = Limited(encoder, 0, SHORT[1])

    with pytest.raises(GimpError, match=r"Not one fits, close what else .* a smaller"):
        extract_all(noise_slide, whole(noise_slide), limited, batch_size=2)


def test_errors_of_another_kind_reach_the_caller_at_once(encoder) -> None:
    limited = Limited(encoder, 3, RuntimeError("mat1 and mat2 cannot be multiplied"))

    with pytest.raises(RuntimeError, match="mat1"):
        Calls(limited, "cpu", 32)(noise(32))

    assert limited.sizes == [32]


def test_a_call_that_takes_long_lets_the_caller_give_up(
    noise_slide, encoder, monkeypatch
) -> None:
    monkeypatch.setattr(encoding, "PATIENCE_S", 0.01)
    monkeypatch.setattr(encoding, "LET_GO_S", 0.01)
    go_on, begun = threading.Event(), threading.Event()

    def stuck(pixels: np.ndarray) -> np.ndarray:
        begun.set()
        assert go_on.wait(60)
        return encoder(pixels)

    slow = Limited(stuck, 1 << 20, SHORT[0])
    for name in ("name", "fingerprint", "width", "input_px", "mpp", "patch_um"):
        setattr(slow, name, getattr(encoder, name))
    steps = extract(noise_slide, whole(noise_slide), slow, batch_size=8)

    step = next(steps)
    steps.close()  # does not wait for the call

    assert begun.is_set()
    assert (step.done, step.rows) == (0, slice(0, 0))
    calls = [t for t in threading.enumerate() if t.name.startswith("gimp-model-encode")]
    assert calls
    go_on.set()
    for thread in calls:
        thread.join(60)


class FakeCuda:
    """What is asked of torch.cuda, without a GPU; counts streams and pinned arrays."""

    def __init__(self, free: int) -> None:
        self.free, self.streams, self.pinned = free, [], []
        self._own = threading.local()

    def mem_get_info(self, device: str) -> tuple[int, int]:
        return self.free, 2 * self.free

    def Stream(self, device: str) -> SimpleNamespace:  # noqa: N802 # as torch has it
        self.streams.append(device)
        return SimpleNamespace(number=len(self.streams))

    def set_stream(self, stream: SimpleNamespace) -> None:
        self._own.number = stream.number

    def current(self) -> int:
        return self._own.number

    def empty(self, shape, *, dtype: torch.dtype, pin_memory: bool) -> torch.Tensor:
        self.pinned.append((shape[0], pin_memory))
        return torch.from_numpy(np.empty(shape, np.uint8))


@pytest.fixture
def fake_cuda(monkeypatch) -> Callable[[int], FakeCuda]:
    """A factory of fake GPUs with so much free memory, bytes."""

    def make(free: int) -> FakeCuda:
        fake = FakeCuda(free)
        for name in ("mem_get_info", "Stream", "set_stream"):
            monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
        monkeypatch.setattr(torch, "empty", fake.empty)
        return fake

    return make


def test_a_gpu_is_given_pinned_batches_by_two_threads_with_streams_of_their_own(
    noise_slide, encoder, fake_cuda
) -> None:
    gpu, meeting, used = fake_cuda(1 << 40), threading.Barrier(2, timeout=60), set()
    turns = itertools.count()

    def two_at_once(pixels: np.ndarray) -> np.ndarray:
        if next(turns) < 2:
            meeting.wait()  # hangs unless another call runs at the same time
        used.add(gpu.current())
        return encoder(pixels)

    encoder_on_gpu = Limited(two_at_once, 1 << 20, SHORT[0])
    for name in ("name", "fingerprint", "width", "input_px", "mpp", "patch_um"):
        setattr(encoder_on_gpu, name, getattr(encoder, name))
    patches = whole(noise_slide)

    features = extract_all(
        noise_slide, patches, encoder_on_gpu, device="cuda:1", batch_size=64
    )

    np.testing.assert_array_equal(features, extract_all(noise_slide, patches, encoder))
    assert gpu.streams == ["cuda:1", "cuda:1"]
    assert used == {1, 2}
    assert gpu.pinned == [(64, True)] * 5


@pytest.mark.parametrize(("patches", "batch"), [(1, 1), (65, 64), (10_000, 256)])
def test_the_batch_of_a_gpu_is_what_a_quarter_of_its_free_memory_takes(
    encoder, fake_cuda, patches: int, batch: int
) -> None:
    fake_cuda(4 * 2 * patches * patch_bytes(encoder))

    assert fitting_batch(encoder, "cuda") == batch


def test_the_batch_of_a_cpu_is_smaller_where_memory_is(encoder, monkeypatch) -> None:
    monkeypatch.setattr(encoding, "lanes", lambda _: 2)
    monkeypatch.setattr(
        encoding, "usable_bytes", lambda: 4 * 2 * 9 * patch_bytes(encoder)
    )

    assert fitting_batch(encoder, "cpu") == 9
    assert fitting_batch(load_encoder(), "cpu") == 1


def test_large_networks_are_given_fewer_patches_at_once_on_a_cpu() -> None:
    from napari_gimp.patches.encoders.look import Look
    from napari_gimp.patches.encoders.module import ModuleEncoder

    look = Look(8, 1.0, (0.5,) * 3, (0.5,) * 3)
    sizes = []
    for hidden in (10, 100_000, 10_000_000):
        layers = torch.nn.Flatten(), torch.nn.Linear(192, 1), torch.nn.Linear(1, hidden)
        module = torch.nn.Sequential(*layers)
        sizes.append(ModuleEncoder("n", module, look=look, fingerprint="n").cpu_batch)

    assert sizes == [32, 32, 4]
