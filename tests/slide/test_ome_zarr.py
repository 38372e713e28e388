"""OME-Zarr images: pixels against what was written, metadata, channels and planes."""

from __future__ import annotations

import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import zarr

from napari_gimp.errors import SlideError
from napari_gimp.slide.ome_zarr import OmeZarrSource, is_ome_zarr
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiles import tile_cache
from planted_slides import averaged
from tiff_files import halved, picture
from zarr_files import (
    FLUORESCENCE,
    MPP,
    RGB,
    VERSIONS,
    arranged,
    edit,
    whole,
    write_attributes,
    write_ome_zarr,
)


@pytest.fixture(autouse=True)
def _empty_cache():
    tile_cache().clear()


@pytest.fixture(scope="module")
def levels() -> list[np.ndarray]:
    return halved(picture(300, 420), 3)


@pytest.fixture(scope="module")
def stains() -> list[np.ndarray]:
    return halved(picture(300, 420, 4, np.uint16), 2)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("axes", ["cyx", "tczyx", "yxc", "zcxy", "czyx"])
def test_levels_come_back_as_written(tmp_path, levels, version, axes):
    path = write_ome_zarr(tmp_path / "a.zarr", levels, version=version, axes=axes)
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(path, number), level)
        stored = zarr.open_group(path, mode="r")[str(number)][...]
        np.testing.assert_array_equal(stored, arranged(level, axes))


@pytest.mark.parametrize("version", VERSIONS)
def test_one_channel_needs_no_axis(tmp_path, stains, version):
    grey = [level[:, :, :1] for level in stains]
    path = write_ome_zarr(tmp_path / "a.zarr", grey, version=version, axes="yx")
    with open_slide(path) as slide:
        assert slide.reader == "zarr"
        assert (slide.channels, slide.rgb, slide.dtype) == (1, False, np.uint16)
    np.testing.assert_array_equal(whole(path), grey[0])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("factor", ["2", "4", "5/2"])
def test_factors_are_the_quotients_of_the_scales(tmp_path, version, factor):
    finest, times = picture(611, 733), Fraction(factor)
    coarse = averaged(finest, times)
    path = write_ome_zarr(
        tmp_path / "a.zarr", [finest, coarse], version=version, factor=times
    )
    with OmeZarrSource(path) as slide:
        assert slide.levels[1].downsample == (float(times), float(times))
        assert slide.levels[1].shape == coarse.shape[:2]
    np.testing.assert_array_equal(whole(path, 1), coarse)


def test_a_scale_that_the_shape_contradicts_is_not_believed(tmp_path, levels):
    path = write_ome_zarr(tmp_path / "a.zarr", levels[:2], factor=3)
    with OmeZarrSource(path) as slide:
        assert slide.levels[1].downsample == (2.0, 2.0)


def test_stretched_levels_have_the_uneven_factor_the_file_states(tmp_path):
    finest = picture(301, 421)
    path = write_ome_zarr(tmp_path / "a.zarr", [finest, finest[:150, :210]])

    def stretch(ome) -> None:
        scale = [1.0, MPP * 301 / 150, MPP * 421 / 210]
        stated = ome["multiscales"][0]["datasets"][1]["coordinateTransformations"]
        stated[0]["scale"] = scale

    edit(path, stretch)
    with OmeZarrSource(path) as slide:
        assert slide.levels[1].downsample == pytest.approx((301 / 150, 421 / 210))


def test_translations_to_the_first_pixels_centre_change_nothing(tmp_path, levels):
    prints = []
    for half_pixel in (False, True):
        path = tmp_path / f"{half_pixel}.zarr"
        write_ome_zarr(path, levels, half_pixel=half_pixel)
        with OmeZarrSource(path) as slide:
            prints.append([(level.shape, level.downsample) for level in slide.levels])
    assert prints[0] == prints[1]
    assert len(prints[0]) == 3


def test_a_level_shifted_by_more_than_half_its_pixel_is_left_out(tmp_path, levels):
    path = write_ome_zarr(tmp_path / "a.zarr", levels, half_pixel=True)

    def shift(ome) -> None:
        steps = ome["multiscales"][0]["datasets"][1]["coordinateTransformations"]
        steps[1]["translation"][1] += 5 * MPP

    edit(path, shift)
    with OmeZarrSource(path) as slide:
        assert [level.downsample[0] for level in slide.levels] == [1.0, 4.0]


def test_levels_out_of_order_are_sorted_and_doubled_ones_left_out(tmp_path, levels):
    path = write_ome_zarr(tmp_path / "a.zarr", levels)

    def shuffle(ome) -> None:
        listed = ome["multiscales"][0]["datasets"]
        ome["multiscales"][0]["datasets"] = [listed[n] for n in (0, 2, 1, 2)]

    edit(path, shuffle)
    with OmeZarrSource(path) as slide:
        assert [level.downsample[0] for level in slide.levels] == [1.0, 2.0, 4.0]
    np.testing.assert_array_equal(whole(path, 1), levels[1])


@pytest.mark.parametrize("version", VERSIONS)
def test_resolution_is_the_scale_in_its_unit(tmp_path, levels, version):
    path = write_ome_zarr(tmp_path / "a.zarr", levels, version=version)
    with OmeZarrSource(path) as slide:
        assert slide.mpp == (MPP, MPP)
        assert slide.resolution.origin == "OME-Zarr scale"


@pytest.mark.parametrize(
    ("unit", "mpp"), [("millimeter", 500.0), ("nanometer", 0.0005), ("µm", 0.5)]
)
def test_units_of_length_become_um(tmp_path, levels, unit, mpp):
    path = write_ome_zarr(tmp_path / "a.zarr", levels[:1], unit=unit)
    with OmeZarrSource(path) as slide:
        assert slide.resolution.mpp == pytest.approx((mpp, mpp))


@pytest.mark.parametrize("unit", [None, "pixel", "second"])
def test_without_a_unit_of_length_there_is_no_resolution(tmp_path, levels, unit):
    path = write_ome_zarr(tmp_path / "a.zarr", levels, unit=unit)
    with OmeZarrSource(path) as slide:
        assert slide.resolution.mpp is None
        assert slide.levels[1].downsample == (2.0, 2.0)


def test_a_scale_of_the_whole_image_multiplies_those_of_the_levels(tmp_path, levels):
    path = write_ome_zarr(tmp_path / "a.zarr", levels, mpp=1.0)

    def scale(ome) -> None:
        step = {"type": "scale", "scale": [1.0, 0.25, 0.3]}
        ome["multiscales"][0]["coordinateTransformations"] = [step]

    edit(path, scale)
    with OmeZarrSource(path) as slide:
        assert slide.mpp == (0.25, 0.3)
        assert slide.levels[2].downsample == (4.0, 4.0)


@pytest.mark.parametrize("version", VERSIONS)
def test_fluorescence_keeps_its_names_and_colours(tmp_path, stains, version):
    path = write_ome_zarr(
        tmp_path / "a.zarr", stains, version=version, channels=FLUORESCENCE
    )
    with OmeZarrSource(path) as slide:
        assert not slide.rgb
        assert (slide.channels, slide.dtype, slide.fill) == (4, np.uint16, 0)
        assert slide.channel_names == ("DAPI", "CD3", "CD20", "panCK")
        assert slide.channel_colors == ("#0000ff", "#00ff00", "#ff0000", "#ffff00")
        found = slide.read_region(0, -10, -10, 50, 60)
    np.testing.assert_array_equal(found[10:, 10:], stains[0][:40, :50])
    assert not found[:10].any()


STAINED = (("CK", "FF0000"), ("CD3", "00FF00"), ("DAPI", "0000FF"))


NUMBERED = tuple((f"Channel {i}", color) for i, (_, color) in enumerate(RGB))


@pytest.mark.parametrize(
    ("channels", "dtype", "rgb"),
    [
        ((), np.uint8, True),
        ((), np.uint16, False),
        (RGB, np.uint8, True),
        (RGB, np.uint16, True),
        (NUMBERED, np.uint8, True),
        (RGB[::-1], np.uint8, False),
        (STAINED, np.uint8, False),
        (RGB, np.float32, False),
    ],
)
def test_colour_is_told_from_three_stains(tmp_path, channels, dtype, rgb):
    pixels = picture(90, 80, 3, dtype)
    path = write_ome_zarr(tmp_path / "a.zarr", [pixels], channels=channels)
    with OmeZarrSource(path) as slide:
        assert slide.rgb == rgb
        assert slide.fill == (np.iinfo(dtype).max if rgb else 0)
    np.testing.assert_array_equal(whole(path), pixels)


def test_big_endian_numbers_become_native(tmp_path, stains):
    pixels = stains[0].astype(">u2")
    path = write_ome_zarr(tmp_path / "a.zarr", [pixels], version="0.4")
    with OmeZarrSource(path) as slide:
        assert slide.dtype.isnative
        assert slide.tile(0, 0, 0).dtype.isnative
    np.testing.assert_array_equal(whole(path), stains[0])


def test_shards_are_read_by_their_inner_chunks(tmp_path, levels):
    path = write_ome_zarr(
        tmp_path / "a.zarr", levels, shards=(1, 512, 512), tile=(256, 256)
    )
    with OmeZarrSource(path) as slide:
        assert slide.levels[0].tile == (256, 256)
    np.testing.assert_array_equal(whole(path), levels[0])


def test_codecs_of_images_are_known(tmp_path, levels):
    """JPEG 2000 and others, which imagecodecs has and zarr alone has not."""
    import numcodecs
    from imagecodecs.numcodecs import Jpeg2k, register_codecs

    register_codecs(verbose=False)
    path = write_ome_zarr(
        tmp_path / "a.zarr", levels, version="0.4", compressors=Jpeg2k(reversible=True)
    )
    del numcodecs.registry.codec_registry["imagecodecs_jpeg2k"]
    np.testing.assert_array_equal(whole(path), levels[0])
    with OmeZarrSource(path) as slide:
        assert slide.properties["compression"] == "imagecodecs_jpeg2k"


@pytest.mark.parametrize(
    ("chunk", "tile"),
    [
        ((64, 100), (256, 300)),
        ((256, 512), (256, 512)),
        ((7, 1500), (259, 750)),
        ((1200, 1100), (600, 550)),
    ],
)
def test_thin_chunks_are_joined_and_large_ones_cut(tmp_path, chunk, tile):
    pixels = picture(1300, 1500, 1)
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, [pixels], axes="yx", tile=chunk)
    with OmeZarrSource(path) as slide:
        assert slide.levels[0].tile == tile
        window = slide.read_region(0, 513, 331, 500, 900)
    np.testing.assert_array_equal(window, pixels[513:1013, 331:1231])
    np.testing.assert_array_equal(whole(path), pixels)


def test_a_large_chunk_is_decoded_once_for_all_its_tiles(tmp_path, monkeypatch):
    pixels = picture(2100, 2100, 1)
    path = write_ome_zarr(tmp_path / "a.zarr", [pixels], axes="yx", tile=(2100, 2100))
    asked = []
    real = zarr.Array.__getitem__

    def counted(self, selection):
        asked.append(selection)
        return real(self, selection)

    with OmeZarrSource(path) as slide:
        monkeypatch.setattr(zarr.Array, "__getitem__", counted)
        for row in range(3):
            for col in range(3):
                slide.tile(0, row, col)
    assert len(asked) == 1


def test_the_middle_focal_plane_is_shown_or_the_one_the_file_names(tmp_path, levels):
    path = tmp_path / "a.zarr"
    write_ome_zarr(path, levels[:1], axes="czyx")
    group = zarr.open_group(path, mode="r+")
    stack = np.stack([levels[0] // k for k in (1, 2, 3, 4, 5)], axis=3)
    del group["0"]
    stored = np.ascontiguousarray(stack.transpose(2, 3, 0, 1))
    group.create_array("0", data=stored, chunks=(1, 2, 128, 128))
    np.testing.assert_array_equal(whole(path), stack[..., 2])
    edit(path, lambda ome: ome.update(omero={"rdefs": {"defaultZ": 3}}))
    with OmeZarrSource(path) as slide:
        assert slide.properties["focal plane"] == "4 of 5"
    np.testing.assert_array_equal(whole(path), stack[..., 3])


def with_series(folder: Path, version: str, images: dict[str, np.ndarray]) -> Path:
    """Write images as bioformats2raw does: 0, 1, ... and their names in OME-XML."""
    root = zarr.open_group(folder, mode="w", zarr_format=2 if version == "0.4" else 3)
    write_attributes(root, {"bioformats2raw.layout": 3}, version)
    for number, pixels in enumerate(images.values()):
        write_ome_zarr(folder / str(number), [pixels], version=version)
    names = "".join(f'<Image ID="Image:0" Name="{name}"></Image>' for name in images)
    (folder / "OME").mkdir()
    (folder / "OME" / "METADATA.ome.xml").write_text(f"<OME>{names}</OME>")
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_of_several_images_the_largest_is_read(tmp_path, levels, version):
    images = {
        "label image": levels[0],
        "scan 1": levels[2],
        "scan 2": levels[1],
        "macro image": levels[0][::2],
    }
    path = with_series(tmp_path / "a.zarr", version, images)
    with OmeZarrSource(path) as slide:
        assert slide.properties["image"] == "the largest of 2"
        assert slide.associated == ("label", "macro")
        np.testing.assert_array_equal(slide.read_associated("label"), levels[0])
        with pytest.raises(
            SlideError, match="no image called 'thumbnail'; it has label"
        ):
            slide.read_associated("thumbnail")
    np.testing.assert_array_equal(whole(path), levels[1])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_zip_file_is_read_as_its_folder(tmp_path, levels, version):
    folder = write_ome_zarr(tmp_path / "a.zarr", levels, version=version)
    packed = tmp_path / "a.ozx"
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, path.relative_to(folder))
    assert is_ome_zarr(packed)
    with open_slide(packed) as slide:
        np.testing.assert_array_equal(
            slide.read_region(1, 0, 0, *slide.levels[1].shape), levels[1]
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_fingerprint_names_the_content(tmp_path, levels, version):
    path = write_ome_zarr(tmp_path / "a.zarr", levels, version=version)
    copy = Path(shutil.copytree(path, tmp_path / "copy.zarr"))
    changed = [level.copy() for level in levels]
    changed[0][140:150, 200:210] = 0
    other = write_ome_zarr(tmp_path / "b.zarr", changed, version=version)
    prints = []
    for one in (path, copy, other):
        with OmeZarrSource(one) as slide:
            prints.append(slide.fingerprint)
    assert prints[0] == prints[1] != prints[2]


@pytest.mark.parametrize("version", VERSIONS)
def test_many_threads_read_what_one_does(tmp_path, levels, version):
    path = write_ome_zarr(tmp_path / "a.zarr", levels, version=version, tile=(64, 32))
    with OmeZarrSource(path) as slide, ThreadPoolExecutor(8) as pool:
        assert slide.thread_safe
        places = [(n, 0, 0) for n in range(3)] + [(0, 1, 0), (0, 0, 1), (0, 1, 1)]
        places *= 2
        alone = [slide.decode_tile(*place) for place in places]
        found = pool.map(lambda place: slide.decode_tile(*place), places)
        for one, many in zip(alone, found, strict=True):
            np.testing.assert_array_equal(one, many)


def test_is_ome_zarr_knows_folders(tmp_path, levels):
    for version in VERSIONS:
        folder = tmp_path / version
        assert is_ome_zarr(write_ome_zarr(folder, levels, version=version))
    (tmp_path / "notes.zip").write_bytes(b"PK\3\4 no zip at all")
    assert not is_ome_zarr(tmp_path / "notes.zip")
    assert not is_ome_zarr(tmp_path)
    assert not is_ome_zarr(tmp_path / "absent.zarr")
