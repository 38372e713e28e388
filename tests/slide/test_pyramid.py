"""The Dask pyramid: stored levels, virtual ones, and where they are computed."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from icc_profiles import swapped_profile
from napari_gimp.errors import SlideError
from napari_gimp.slide.pyramid import Pyramid
from napari_gimp.slide.shelf import Shelf, Volume
from napari_gimp.slide.source import open_slide
from tiff_files import picture, write_ome_multichannel, write_tiled

ROWS, COLS = 2503, 1907


@pytest.fixture
def path(write, texture):
    return write([texture, texture[::2, ::2]], compression="deflate")


@pytest.fixture(scope="module")
def flat(tmp_path_factory) -> Path:
    """A slide with one level."""
    path = tmp_path_factory.mktemp("pyramid") / "flat.tif"
    return write_tiled(path, [noise()], compression="deflate")


def noise(rows: int = ROWS, cols: int = COLS, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (rows, cols, 3), np.uint8)


def plain_means(pixels: np.ndarray, step: int) -> np.ndarray:
    """Means of squares in double precision, at the edge of what there is."""
    rest = [(0, -side % step) for side in pixels.shape[:2]]
    padded = np.pad(pixels.astype(float), (*rest, (0, 0)), constant_values=np.nan)
    shape = padded.shape[0] // step, step, padded.shape[1] // step, step, -1
    return np.rint(np.nanmean(padded.reshape(shape), axis=(1, 3)))


def pyramid_of(path: Path, **kwargs) -> Pyramid:
    with open_slide(path, **kwargs) as slide:
        return Pyramid(slide)


def test_dask_levels_hold_the_true_pixels_after_the_slide_is_closed(path, texture):
    pyramid = pyramid_of(path)
    np.testing.assert_array_equal(pyramid.levels[0].compute(), texture)
    np.testing.assert_array_equal(pyramid.levels[1].compute(), texture[::2, ::2])
    part = pyramid.levels[0][101:333:3, 17:600:2, 1]
    np.testing.assert_array_equal(part.compute(), texture[101:333:3, 17:600:2, 1])


def index_of(side: int):
    """What a NumPy axis may be indexed with."""
    number = st.integers(-side, side - 1)
    return st.one_of(
        st.slices(side),
        number,
        st.lists(number, min_size=1, max_size=5),
        st.just(slice(None)),
    )


@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(y=index_of(700), x=index_of(900), c=index_of(3))
def test_levels_are_indexed_as_numpy_arrays_are(path, texture, y, x, c):
    lazy = pyramid_of(path).levels[0][:, :, c][:, x][y]
    expected = texture[:, :, c][:, x][y]
    np.testing.assert_array_equal(lazy.compute(scheduler="synchronous"), expected)


def test_a_part_is_read_without_the_rest_of_its_chunk(flat, monkeypatch):
    from napari_gimp.slide.tiff import TiffSource

    decoded = []
    decode = TiffSource.decode_tile

    def counted(self, *place: int):
        decoded.append(place)
        return decode(self, *place)

    pyramid = pyramid_of(flat)
    monkeypatch.setattr(TiffSource, "decode_tile", counted)
    pyramid.levels[0][1100:1150, 1100:1150].compute()
    read = [place for place in decoded if place[0] == 0]
    assert len(set(read)) <= 2  # the probe's at opening, and the one that is needed


def test_chunks_are_whole_native_tiles(write):
    pyramid = pyramid_of(write([np.zeros((2100, 1500, 3), np.uint8)]))
    assert pyramid.levels[0].chunks == ((1024, 1024, 52), (1024, 476), (3,))


def test_chunks_of_many_channels_are_smaller(tmp_path):
    pixels = np.zeros((1500, 1300, 24), np.uint16)
    path = write_ome_multichannel(tmp_path / "a.ome.tif", [pixels], tile=(128, 128))
    level = pyramid_of(path).levels[0]
    assert level.chunks[0] == (512, 512, 476)
    assert level.chunks[2] == (24,)


def test_a_slide_with_one_level_gets_virtual_ones_down_to_1024_px(flat):
    pyramid = pyramid_of(flat)
    assert [level.shape for level in pyramid.levels] == [
        (2503, 1907, 3),
        (1252, 954, 3),
        (626, 477, 3),
    ]
    assert [spec.downsample for spec in pyramid.specs] == [(1, 1), (2, 2), (4, 4)]


@pytest.mark.parametrize("number", [1, 2])
def test_a_virtual_level_is_the_mean_of_the_stored_pixels(flat, number, monkeypatch):
    monkeypatch.setattr("napari_gimp.slide.pyramid.BLOCK_PX", 512)
    monkeypatch.setattr("napari_gimp.slide.pyramid.STORED_PX", 1024)
    level = pyramid_of(flat).levels[number]
    assert len(level.chunks[0]) > 1
    expected = plain_means(noise(), 2**number)
    np.testing.assert_array_equal(level.compute(), expected)
    part = level[30:470:7, 400:]
    np.testing.assert_array_equal(part.compute(), expected[30:470:7, 400:])


def test_virtual_levels_lie_between_stored_ones_that_are_far_apart(tmp_path):
    levels = [picture(700, 530), picture(88, 67)]  # 8x apart
    pyramid = pyramid_of(write_tiled(tmp_path / "a.tif", levels))
    assert [spec.downsample[0] for spec in pyramid.specs] == [1, 2, 4, 8]
    np.testing.assert_array_equal(
        pyramid.levels[2].compute(), plain_means(levels[0], 4)
    )
    np.testing.assert_array_equal(pyramid.levels[3].compute(), levels[1])


def test_a_virtual_level_is_made_from_the_nearest_finer_stored_one(tmp_path):
    levels = [noise(1300, 2600), noise(650, 1300)]
    pyramid = pyramid_of(write_tiled(tmp_path / "a.tif", levels))
    assert [spec.downsample[0] for spec in pyramid.specs] == [1, 2, 4]
    np.testing.assert_array_equal(
        pyramid.levels[2].compute(), plain_means(levels[1], 2)
    )


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 5])
def test_virtual_levels_keep_channels_and_kind(tmp_path, kind, channels):
    pixels = picture(1100, 300, channels, kind)
    path = write_ome_multichannel(tmp_path / "a.ome.tif", [pixels])
    level = pyramid_of(path).levels[1]
    assert (level.shape, level.dtype) == ((550, 150, channels), kind)
    np.testing.assert_array_equal(level.compute(), plain_means(pixels, 2))


def test_no_virtual_pixel_is_computed_before_it_is_asked_for(flat, monkeypatch):
    def never(*_: object) -> None:
        raise AssertionError("computed")

    monkeypatch.setattr("napari_gimp.slide.pyramid.block_means", never)
    pyramid = pyramid_of(flat)
    with pytest.raises(AssertionError, match="computed"):
        pyramid.levels[1][:1, :1].compute(scheduler="synchronous")


@settings(deadline=None, max_examples=30)
@given(
    tile=st.sampled_from([64, 128, 240, 256, 333, 512, 1024]),
    step=st.sampled_from([1, 2, 4, 8, 16, 64]),
    longest=st.sampled_from([300, 1024]),
)
def test_a_chunk_holds_whole_tiles_where_that_is_possible(tile, step, longest):
    from napari_gimp.slide.pyramid import STORED_PX, _chunk

    side = _chunk(tile, step, longest)
    assert side >= 1
    if step == 1:
        assert side % tile == 0
        assert side <= max(longest, tile)
    else:
        assert side * step <= STORED_PX
        if np.lcm(tile, step) <= min(longest * step, STORED_PX):
            assert side * step % tile == 0


def test_grids_of_virtual_levels_have_the_exact_factor(tmp_path):
    path = write_tiled(tmp_path / "a.tif", [noise(2503, 1001)], mpp=0.25)
    grids = pyramid_of(path).grids
    assert [grid.cell_um for grid in grids] == [(0.25,) * 2, (0.5,) * 2, (1.0,) * 2]
    assert grids[2].shape == (626, 251)


def test_grids_follow_the_um_per_px_that_the_user_gave(path):
    pyramid = pickle.loads(pickle.dumps(pyramid_of(path, mpp=0.3)))
    assert pyramid.grids[1].cell_um == pytest.approx((0.6, 0.6))


def test_a_pyramid_travels_as_a_path(path, texture):
    stored = pickle.dumps(pyramid_of(path))
    assert len(stored) < 20_000
    pyramid = pickle.loads(stored)
    np.testing.assert_array_equal(pyramid.levels[0][:50].compute(), texture[:50])
    assert pyramid.grids[1].cell_um == (1.0, 1.0)


def test_conversion_to_srgb_travels_with_the_pyramid(tmp_path):
    import tifffile

    profile = swapped_profile()
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), tile=(64, 64), iccprofile=profile, metadata=None)
    plain, srgb = pyramid_of(path), pyramid_of(path, srgb=True)
    assert plain.levels[0].name != srgb.levels[0].name
    with open_slide(path, srgb=True) as slide:
        expected = slide.read_region(0, 0, 0, 300, 420)
    assert (expected != picture()).any()
    pyramid = pickle.loads(pickle.dumps(srgb))
    np.testing.assert_array_equal(pyramid.levels[0].compute(), expected)
    np.testing.assert_array_equal(plain.levels[0].compute(), picture())


def test_another_process_computes_the_same(path, texture):
    mean = pyramid_of(path).levels[0].mean()
    code = "import pickle, sys; print(pickle.load(sys.stdin.buffer).compute())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(mean),
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert float(done.stdout) == pytest.approx(texture.mean())


def test_many_threads_compute_the_same_as_one(flat):
    level = pyramid_of(flat).levels[2]
    alone = level.compute(scheduler="synchronous")
    with ThreadPoolExecutor(8) as pool:
        for result in pool.map(lambda _: level.compute(scheduler="threads"), range(8)):
            np.testing.assert_array_equal(result, alone)


@pytest.mark.slow
def test_processes_compute_the_same_as_one(flat):
    level = pyramid_of(flat).levels[1]
    alone = level.compute(scheduler="synchronous")
    by_processes = level.compute(scheduler="processes", num_workers=2)
    np.testing.assert_array_equal(by_processes, alone)


@pytest.mark.slow
def test_a_cluster_of_two_processes_computes_the_same_as_one(flat):
    from distributed import Client, LocalCluster

    pyramid = pyramid_of(flat)
    alone = [level.compute(scheduler="synchronous") for level in pyramid.levels]
    before = set(threading.enumerate())
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=2,
            processes=True,
            dashboard_address=None,
        ) as cluster,
        Client(cluster) as client,
    ):
        by_workers = client.gather(client.compute(list(pyramid.levels)))
    for ours, theirs in zip(alone, by_workers, strict=True):
        np.testing.assert_array_equal(theirs, ours)
    left = [t for t in set(threading.enumerate()) - before if not t.daemon]
    assert not [t for t in left if t.is_alive() and "IO loop" in t.name]


def test_the_shelf_closes_what_it_can_no_longer_keep(tmp_path):
    shelf = Shelf(places=2)
    paths = [write_tiled(tmp_path / f"{name}.tif", [picture(64, 64)]) for name in "abc"]
    lent = []
    for path in paths:
        with shelf.borrow(Volume(path)) as slide:
            lent.append(slide)
    assert len(shelf) == 2
    with pytest.raises(SlideError, match=r"a\.tif is closed"):
        lent[0].tile(0, 0, 0)
    assert lent[1].tile(0, 0, 0).shape == (64, 64, 3)
    shelf.clear()


def test_a_slide_that_is_being_read_is_closed_only_afterwards(tmp_path):
    shelf = Shelf(places=1)
    one, two = (
        write_tiled(tmp_path / n, [picture(64, 64)]) for n in ("a.tif", "b.tif")
    )
    with shelf.borrow(Volume(one)) as first:
        with shelf.borrow(Volume(two)):
            assert first.tile(0, 0, 0).shape == (64, 64, 3)
        shelf.clear()
        assert first.tile(0, 0, 0).shape == (64, 64, 3)
    with pytest.raises(SlideError, match="is closed"):
        first.tile(0, 0, 0)


def test_a_slide_is_opened_once_for_many_threads(flat, monkeypatch):
    opened = []

    def counted(*args, **kwargs):
        opened.append(args)
        return open_slide(*args, **kwargs)

    monkeypatch.setattr("napari_gimp.slide.shelf.open_slide", counted)
    shelf = Shelf()

    def read(_: int) -> int:
        with shelf.borrow(Volume(flat)) as slide:
            return len(slide.levels)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(read, range(40))) == {1}
    assert len(opened) == 1
    shelf.clear()


def test_a_file_that_was_replaced_is_opened_anew(path, write, texture):
    level = pyramid_of(path).levels[0]
    assert level[0, 0].compute().tolist() == texture[0, 0].tolist()
    write([255 - texture], compression="deflate")
    assert level[0, 0].compute().tolist() == (255 - texture[0, 0]).tolist()


def test_a_file_that_is_gone_is_an_error_that_says_so(path):
    level = pyramid_of(path).levels[0]
    path.unlink()
    with pytest.raises(SlideError, match=r"can no longer be read \(No such file"):
        level.compute(scheduler="synchronous")


def test_closing_one_of_two_keeps_the_tiles_of_the_other(tmp_path):
    path = write_tiled(tmp_path / "a.tif", [picture(seed=11)])
    with open_slide(path) as one:
        one.tile(0, 0, 0)
        open_slide(path).close()
        assert one.cached_tile(0, 0, 0) is not None
        with open_slide(path) as two:
            assert two.cached_tile(0, 0, 0) is not None
    with open_slide(path) as three:
        assert three.cached_tile(0, 0, 0) is None
