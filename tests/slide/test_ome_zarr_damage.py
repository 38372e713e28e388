"""OME-Zarr images that are damaged, incomplete or none: what is marked and refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import zarr

from napari_gimp.errors import SlideError
from napari_gimp.slide.ome_zarr import OmeZarrSource
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiles import tile_cache
from tiff_files import halved, picture
from zarr_files import (
    VERSIONS,
    chunk_file,
    edit,
    whole,
    write_array,
    write_attributes,
    write_ome_zarr,
)


@pytest.fixture(autouse=True)
def _empty_cache():
    tile_cache().clear()


@pytest.fixture(scope="module")
def levels() -> list[np.ndarray]:
    return halved(picture(300, 420), 3)


def test_a_codec_nobody_knows_is_named(tmp_path, levels):
    path = write_ome_zarr(tmp_path / "a.zarr", levels, version="0.4")
    stored = json.loads((path / "0" / ".zarray").read_text())
    stored["compressor"] = {"id": "squeeze"}
    (path / "0" / ".zarray").write_text(json.dumps(stored))
    with pytest.raises(SlideError, match="squeeze"):
        OmeZarrSource(path)


def test_chunks_of_gigabytes_are_refused(tmp_path):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    group.create_array("0", shape=(40000, 40000), chunks=(40000, 40000), dtype="u1")
    axes = [{"name": name, "type": "space"} for name in "yx"]
    block = {"multiscales": [{"axes": axes, "datasets": [{"path": "0"}]}]}
    write_attributes(group, block, "0.5")
    with pytest.raises(SlideError, match="chunks of 40,000 x 40,000 px"):
        OmeZarrSource(tmp_path / "a.zarr")


def test_films_are_refused_with_their_axes(tmp_path, levels):
    path = write_ome_zarr(tmp_path / "a.zarr", levels[:1], axes="tcyx")
    group = zarr.open_group(path, mode="r+")
    del group["0"]
    group.create_array("0", shape=(7, 3, 30, 40), dtype="u1")
    with pytest.raises(SlideError, match=r"film of 7 times.*'c': 3, 'y': 30"):
        OmeZarrSource(path)


@pytest.mark.parametrize("kind", ["plate", "well"])
def test_plates_and_wells_are_refused(tmp_path, levels, kind):
    path = write_ome_zarr(tmp_path / "a.zarr", levels)
    edit(path, lambda ome: ome.update({kind: {}}))
    with pytest.raises(SlideError, match=f"is a {kind} of many images"):
        OmeZarrSource(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_chunks_never_written_read_as_the_fill_value(tmp_path, levels, version):
    path = write_ome_zarr(tmp_path / "a.zarr", levels, version=version, fill_value=200)
    for channel in range(3):
        chunk_file(path, 0, channel, 0, 0).unlink()
    wanted = levels[0].copy()
    wanted[:128, :128] = 200
    np.testing.assert_array_equal(whole(path), wanted)


@pytest.mark.parametrize("codec", ["zstd", "gzip", "blosc", "blosc2"])
@pytest.mark.parametrize("cut", [True, False])
def test_a_damaged_chunk_is_marked_and_the_rest_is_read(tmp_path, levels, codec, cut):
    from numcodecs import Blosc, GZip, Zstd

    codecs = {"zstd": Zstd(), "gzip": GZip(), "blosc": Blosc()}
    how = (
        {"version": "0.5", "compressors": zarr.codecs.BloscCodec()}
        if codec == "blosc2"
        else {"version": "0.4", "compressors": codecs[codec]}
    )
    path = write_ome_zarr(tmp_path / "a.zarr", levels[:1], tile=(256, 256), **how)
    file = chunk_file(path, 0, 0, 0, 1)
    stored = file.read_bytes()
    file.write_bytes(stored[: len(stored) // 2] if cut else b"\xff" * len(stored))
    with OmeZarrSource(path) as slide:
        found = slide.read_region(0, 0, 0, 300, 420)
        assert slide.damage.places == ((0, 0, 1),)
    wanted = levels[0].copy()
    wanted[:256, 256:] = 255
    np.testing.assert_array_equal(found, wanted)


def test_a_folder_that_vanishes_is_an_error_and_no_blank(tmp_path, levels):
    path = write_ome_zarr(tmp_path / "a.zarr", levels)
    with OmeZarrSource(path) as slide:
        shutil.rmtree(path)
        with pytest.raises(SlideError, match="can no longer be read"):
            slide.read_region(0, 0, 0, 100, 100)
        assert len(slide.damage) == 0


def test_a_drive_that_fails_is_an_error_and_no_damage(tmp_path, levels, monkeypatch):
    def unplugged(*_: object) -> None:
        raise OSError(5, "Input/output error")

    with OmeZarrSource(write_ome_zarr(tmp_path / "a.zarr", levels)) as slide:
        monkeypatch.setattr(zarr.Array, "__getitem__", unplugged)
        with pytest.raises(SlideError, match=r"can no longer be read.*drive"):
            slide.read_region(0, 0, 0, 100, 100)
        assert len(slide.damage) == 0


def test_a_closed_image_says_so(tmp_path, levels):
    slide = OmeZarrSource(write_ome_zarr(tmp_path / "a.zarr", levels))
    slide.close()
    with pytest.raises(SlideError, match="closed"):
        slide.read_region(0, 0, 0, 10, 10)


def test_zarr_without_an_image_is_refused(tmp_path, levels):
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    write_array(group, "0", levels[0])
    with pytest.raises(SlideError, match="zarr but no OME-Zarr image"):
        open_slide(tmp_path / "a.zarr")
    with pytest.raises(SlideError, match="one zarr array: give the OME-Zarr folder"):
        open_slide(tmp_path / "a.zarr" / "0")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda ome: ome["multiscales"].clear(), "cannot be understood"),
        (lambda ome: ome["multiscales"][0].pop("datasets"), "cannot be understood"),
        (lambda ome: ome["multiscales"][0]["datasets"].clear(), "no datasets"),
        (lambda ome: ome["multiscales"][0]["axes"].pop(), "cannot be understood"),
        (
            lambda ome: ome["multiscales"][0]["datasets"].reverse(),
            "before a larger one",
        ),
        (lambda ome: ome["multiscales"][0]["axes"].pop(0), "axes yx for an array"),
        (
            lambda ome: ome["multiscales"][0]["datasets"][0].update(path="9"),
            "no readable level '9'",
        ),
        (lambda ome: ome.update(multiscales=7), "cannot be understood"),
        (lambda ome: ome.update(omero=7), "cannot be understood"),
    ],
)
def test_metadata_that_is_wrong_is_refused(tmp_path, levels, change, said):
    path = write_ome_zarr(tmp_path / "a.zarr", levels)
    edit(path, change)
    with pytest.raises(SlideError, match=said):
        OmeZarrSource(path)


@pytest.mark.parametrize("name", ["zarr.json", "0/zarr.json"])
def test_metadata_that_is_no_json_is_refused(tmp_path, levels, name):
    path = write_ome_zarr(tmp_path / "a.zarr", levels)
    (path / name).write_text("{")
    with pytest.raises(SlideError, match="readable"):
        OmeZarrSource(path)
