"""What the store does with damage, several writers, full disks and old entries."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import napari_gimp.patches.store_entry as entry_module
from napari_gimp.errors import StoreError
from napari_gimp.geometry import Grid
from napari_gimp.patches.features import PatchFeatures
from napari_gimp.patches.grid import PatchGrid
from napari_gimp.patches.store import CHUNK_ROWS, FeatureKey, FeatureStore

KEY = FeatureKey("slide", "encoder", (0.5, 0.5), 1.0, 128.0, 128.0, "layout")
COUNT, WIDTH = 3 * CHUNK_ROWS + 40, 5
ROWS = np.random.default_rng(0).normal(size=(COUNT, WIDTH)).astype(np.float32)


def patches_of(count: int, side: float = 128.0) -> PatchGrid:
    index = np.stack(np.divmod(np.arange(count), 20), 1).astype(np.int32)
    shape = (-(-count // 20), 20)
    return PatchGrid(Grid(shape, (side, side)), index, np.ones(count, "f4"), side)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """A store with one complete entry."""
    store = FeatureStore(tmp_path)
    store.open_or_create(KEY, patches_of(COUNT), WIDTH).write(0, ROWS)
    return store


def chunk(store: FeatureStore, number: int, key: FeatureKey = KEY) -> Path:
    return store.path(key) / "features" / "c" / str(number) / "0"


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


DAMAGE = [flip, cut, Path.unlink, lambda path: path.write_bytes(b"")]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_chunk_is_found_and_nothing_else_is_lost(
    damage: Any, store: FeatureStore
) -> None:
    damage(chunk(store, 1))
    stored, gone = store.open(KEY), slice(CHUNK_ROWS, 2 * CHUNK_ROWS)

    assert not store.has(KEY)
    np.testing.assert_array_equal(stored.lost(), np.arange(gone.start, gone.stop))
    rows = stored.read()
    assert np.isnan(rows[gone]).all()
    kept = np.delete(np.arange(COUNT), gone)
    np.testing.assert_array_equal(rows[kept], ROWS[kept])
    with pytest.raises(StoreError, match=r"only 552 of 808 features.*undamaged"):
        stored.whole()


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_chunk_can_be_written_again(damage: Any, store: FeatureStore) -> None:
    damage(chunk(store, 1))
    stored = store.open(KEY)

    stored.write(300, ROWS[300:400])
    assert len(stored.lost()) == CHUNK_ROWS - 100
    lost = stored.lost()
    stored.write_rows(lost, ROWS[lost])

    assert store.has(KEY)
    np.testing.assert_array_equal(stored.whole(), ROWS)


def test_damaged_features_of_a_slide_are_made_again_and_no_others(
    noise_slide: Any, encoder: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store, patches = FeatureStore(tmp_path), patches_of(320, encoder.patch_um)
    key = FeatureKey.of(noise_slide, patches, encoder)
    found = PatchFeatures(noise_slide, patches, None, encoder, store, key)
    expected = found.read()
    flip(chunk(store, 0, key))
    before, encoder.patches_seen = chunk(store, 1, key).read_bytes(), 0

    steps = [step.done for step in found.extract(batch_size=100)]

    assert encoder.patches_seen == CHUNK_ROWS
    assert steps == sorted(steps)
    assert [r.getMessage() for r in caplog.records if "damaged" in r.msg] == [
        f"256 of 320 stored features of array.tif were damaged and are made again "
        f"({store.path(key)})"
    ]
    assert chunk(store, 1, key).read_bytes() == before
    assert found.stored
    np.testing.assert_array_equal(store.open(key).whole(), expected)
    assert list(found.extract())[-1].done == 320
    assert encoder.patches_seen == CHUNK_ROWS


def test_mending_goes_on_where_it_was_stopped(
    noise_slide: Any, encoder: Any, tmp_path: Path
) -> None:
    store, patches = FeatureStore(tmp_path), patches_of(320, encoder.patch_um)
    key = FeatureKey.of(noise_slide, patches, encoder)
    found = PatchFeatures(noise_slide, patches, None, encoder, store, key)
    expected = found.read()
    Path.unlink(chunk(store, 0, key))
    steps = found.extract(batch_size=64)
    while not (first := next(steps)).rows.stop:  # one is empty where it takes long
        pass
    steps.close()

    assert first.rows == slice(0, 64)
    assert len(store.open(key).lost()) == CHUNK_ROWS - 64
    np.testing.assert_array_equal(found.read(batch_size=64), expected)


def test_threads_that_share_a_chunk_lose_nothing(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path)
    store.open_or_create(KEY, patches_of(COUNT), WIDTH).write(0, 0 * ROWS)

    def write(start: int) -> None:
        store.open(KEY).write(start, ROWS[start : start + 8])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(0, 160, 8)))

    np.testing.assert_array_equal(store.open(KEY).read()[:160], ROWS[:160])


WRITER = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, {here!r})
from test_feature_store_safety import COUNT, KEY, ROWS, WIDTH, patches_of
from napari_gimp.patches.store import FeatureStore
store, size = FeatureStore(Path(sys.argv[1])), int(sys.argv[2])
sys.stdin.read()
stored = store.open_or_create(KEY, patches_of(COUNT), WIDTH)
for start in range(0, COUNT, size):
    stored.write(start, ROWS[start : start + size])
    print(stored.done, flush=True)
"""


def writer(folder: Path, size: int, here: str = str(Path(__file__).parent)) -> Any:
    """Start a process that writes all rows, `size` at a time, once stdin is closed."""
    command = [sys.executable, "-c", WRITER.format(here=here), str(folder), str(size)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)


@pytest.mark.slow
def test_two_processes_on_one_entry_end_with_a_complete_right_entry(
    tmp_path: Path,
) -> None:
    writers = [writer(tmp_path, 7), writer(tmp_path, 11)]
    for one in writers:  # both have imported everything: they begin together
        one.stdin.close()

    assert [one.wait(120) for one in writers] == [0, 0]
    store = FeatureStore(tmp_path)
    assert store.has(KEY)
    np.testing.assert_array_equal(store.open(KEY).whole(), ROWS)


@pytest.mark.slow
def test_what_a_killed_process_has_stored_is_whole_and_is_gone_on_from(
    tmp_path: Path,
) -> None:
    one = writer(tmp_path, 7)
    one.stdin.close()
    told = [int(one.stdout.readline()) for _ in range(50)]
    one.kill()
    one.wait(60)

    stored = FeatureStore(tmp_path).open(KEY)
    assert stored.done >= told[-1] == 350
    assert not len(stored.lost())
    np.testing.assert_array_equal(stored.read(), ROWS[: stored.done])
    stored.write(stored.done, ROWS[stored.done :])
    np.testing.assert_array_equal(stored.whole(), ROWS)


def test_a_write_changes_nothing_of_the_description_but_how_many_rows_there_are(
    tmp_path: Path,
) -> None:
    store = FeatureStore(tmp_path)
    stored = store.open_or_create(KEY, patches_of(COUNT), WIDTH)
    zarr.open_group(store.path(KEY), mode="r+").attrs["note"] = "from elsewhere"

    stored.write(0, ROWS[:10])
    stored.write(3, ROWS[3:5])

    attributes = zarr.open_group(store.path(KEY), mode="r").attrs.asdict()
    assert attributes["note"] == "from elsewhere"
    assert attributes["done"] == 10 == stored.done


def test_a_full_disk_is_said_and_what_is_stored_is_kept(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(entry_module.StoredFeatures, "_put", full)
    with pytest.raises(StoreError, match=r"No space left.*what is stored is kept"):
        store.open(KEY).write(0, ROWS[:1])

    np.testing.assert_array_equal(store.open(KEY).whole(), ROWS)


def test_whoever_holds_an_entry_for_long_is_told(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from filelock import FileLock

    monkeypatch.setattr(entry_module, "LOCKED_S", 0.01)
    lock = store.root / ".locks" / f"{KEY.digest}.write.lock"
    with FileLock(lock), pytest.raises(StoreError, match="another program has held"):
        store.open(KEY).write(0, ROWS[:1])


def test_entries_of_the_first_version_are_read_and_filled_on(tmp_path: Path) -> None:
    store, path = FeatureStore(tmp_path), tmp_path / f"{KEY.digest}.zarr"
    group = zarr.open_group(path, mode="w-", zarr_format=3)
    shape = {"shape": (COUNT, WIDTH), "chunks": (CHUNK_ROWS, WIDTH)}
    old = group.create_array(
        "features", **shape, dtype="float32", fill_value=float("nan")
    )
    old[:600] = ROWS[:600]
    plain = {"slide_mpp": [0.5, 0.5], "slide": "slide", "encoder": "encoder"}
    plain |= {"mpp": 1.0, "patch_um": 128.0, "stride_um": 128.0}
    group.attrs.update({"key": plain | {"layout": "layout", "version": 1}, "done": 600})

    stored = store.open_or_create(KEY, patches_of(COUNT), WIDTH)
    np.testing.assert_array_equal(stored.read(), ROWS[:600])
    stored.write(600, ROWS[600:])

    assert store.has(KEY)
    flip(chunk(store, 1))
    cut(chunk(store, 2))
    assert set(stored.lost()) >= set(range(2 * CHUNK_ROWS, 3 * CHUNK_ROWS))
