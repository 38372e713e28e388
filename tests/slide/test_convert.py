"""Converting slides to pyramidal OME-TIFF."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_gimp.errors import SlideError
from napari_gimp.slide import convert as convert_module
from napari_gimp.slide.convert import conversion, convert
from napari_gimp.slide.source import open_slide
from tiff_files import picture, spoil, write_ome_multichannel, write_tiled


def plain_half(pixels: np.ndarray) -> np.ndarray:
    """Means of 2 x 2, at the edge of what there is: the slow way."""
    rows, cols = -(-pixels.shape[0] // 2), -(-pixels.shape[1] // 2)
    out = np.empty((rows, cols, pixels.shape[2]), pixels.dtype)
    for y in range(rows):
        for x in range(cols):
            square = pixels[2 * y : 2 * y + 2, 2 * x : 2 * x + 2].astype(float)
            out[y, x] = np.rint(square.mean(axis=(0, 1)))
    return out


def whole(slide, level: int) -> np.ndarray:
    return slide.read_region(level, 0, 0, *slide.levels[level].shape)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_tiled(tmp_path / "a.tif", [picture(301, 427)])


def converted(path: Path, **kwargs) -> Path:
    out = path.with_name("out.ome.tif")
    with open_slide(path) as slide:
        return convert(slide, out, **kwargs)


@pytest.mark.parametrize("compression", ["deflate", "none"])
def test_every_level_is_the_half_of_the_one_before(path, compression):
    out = converted(path, compression=compression, tile=64)
    with open_slide(out) as slide:
        assert slide.reader == "tifffile"
        shapes = [level.shape for level in slide.levels]
        assert shapes == [(301, 427), (151, 214), (76, 107), (38, 54)]
        assert [level.downsample[0] for level in slide.levels] == [1, 2, 4, 8]
        expected = picture(301, 427)
        for number in range(4):
            np.testing.assert_array_equal(whole(slide, number), expected)
            expected = plain_half(expected)


def test_um_per_px_are_kept(path):
    with open_slide(converted(path)) as slide:
        assert slide.mpp == pytest.approx((0.5, 0.5))
        assert slide.resolution.verified
    with tifffile.TiffFile(path.with_name("out.ome.tif")) as tiff:
        assert 'PhysicalSizeX="0.5"' in tiff.ome_metadata
        assert tiff.pages[0].resolution == (20_000, 20_000)


def test_what_the_user_says_of_the_resolution_is_written(path):
    out = path.with_name("b.tif")
    with open_slide(path, mpp=(0.25, 0.3)) as slide:
        convert(slide, out)
    with open_slide(out) as slide:
        assert slide.mpp == pytest.approx((0.25, 0.3))


def test_without_resolution_none_is_made_up(tmp_path, texture):
    tifffile.imwrite(tmp_path / "a.tif", texture, tile=(128, 128), photometric="rgb")
    with open_slide(converted(tmp_path / "a.tif")) as slide:
        assert slide.resolution.mpp is None


def test_jpeg_stays_close_to_the_pixels(path, texture):
    path = write_tiled(path, [texture])
    with open_slide(converted(path, quality=95, tile=256)) as slide:
        assert slide.properties["compression"] == "JPEG"
        assert np.abs(whole(slide, 0).astype(int) - texture).mean() < 1.5
    half = converted(path, quality=80, overwrite=True)
    with open_slide(half) as slide:
        assert np.abs(whole(slide, 0).astype(int) - texture).mean() < 4


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_channels_keep_their_kind_and_values(tmp_path, channels, kind):
    pixels = picture(150, 200, channels, kind)
    path = write_ome_multichannel(tmp_path / "a.ome.tif", [pixels], tile=(64, 64))
    with open_slide(converted(path, compression="deflate", tile=64)) as slide:
        assert (slide.rgb, slide.channels, slide.dtype) == (False, channels, kind)
        np.testing.assert_array_equal(whole(slide, 0), pixels)
        mean = whole(slide, 1)[10, 10].astype(float)
        exact = pixels[20:22, 20:22].astype(float).mean(axis=(0, 1))
        assert np.abs(mean - exact).max() <= (0.5 if kind != np.float32 else 1e-6)


def test_grey_jpeg_is_written_per_channel(tmp_path):
    pixels = picture(150, 200, 2)
    path = write_ome_multichannel(tmp_path / "a.ome.tif", [pixels], tile=(64, 64))
    with open_slide(converted(path, quality=95)) as slide:
        assert np.abs(whole(slide, 0).astype(int) - pixels).mean() < 2


def test_names_and_colours_of_channels_are_kept(tmp_path):
    path = tmp_path / "a.ome.tif"
    path = write_ome_multichannel(path, [picture(150, 200, 2)], tile=(64, 64))
    with open_slide(path) as slide:
        slide.channel_names, slide.channel_colors = ("DAPI", "CD3"), ("#0000ff",) * 2
        out = convert(slide, path.with_name("b.ome.tif"), compression="deflate")
    with tifffile.TiffFile(out) as tiff:
        found = re.findall(r'Name="(DAPI|CD3)"[^>]*Color="(-?\d+)"', tiff.ome_metadata)
    assert found == [("DAPI", "65535"), ("CD3", "65535")]


def test_a_plain_picture_gets_levels_on_disk(tmp_path, texture):
    from PIL import Image

    Image.fromarray(texture).save(tmp_path / "a.png")
    with open_slide(converted(tmp_path / "a.png", compression="deflate")) as slide:
        assert [level.shape for level in slide.levels] == [(700, 900), (350, 450)]
        np.testing.assert_array_equal(whole(slide, 0), texture)


def test_the_colour_profile_is_kept_unless_it_was_applied(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, picture(), tile=(64, 64), iccprofile=profile, metadata=None)
    with open_slide(path) as slide, open_slide(path, srgb=True) as srgb:
        kept = convert(slide, tmp_path / "kept.tif", compression="deflate")
        applied = convert(srgb, tmp_path / "applied.tif", compression="deflate")
    with open_slide(kept) as slide, open_slide(applied) as srgb:
        assert (slide.icc, srgb.icc) == (profile, None)


def test_a_file_that_is_there_is_replaced_only_when_asked(path):
    out = path.with_name("out.ome.tif")
    out.write_text("mine")
    with pytest.raises(SlideError, match=r"out\.ome\.tif exists already: give another"):
        converted(path)
    assert out.read_text() == "mine"
    converted(path, overwrite=True)
    assert out.stat().st_size > 1000


def test_a_slide_is_never_written_over_itself(path):
    before = path.read_bytes()
    with open_slide(path) as slide, pytest.raises(SlideError, match="is the slide"):
        convert(slide, path, overwrite=True)
    assert path.read_bytes() == before


def test_what_is_too_large_for_a_classic_tiff_becomes_a_big_one(path, monkeypatch):
    monkeypatch.setattr(convert_module, "CLASSIC_BYTES", 1000)
    out = converted(path, compression="deflate", tile=64)
    with tifffile.TiffFile(out) as tiff:
        assert tiff.is_bigtiff
    with open_slide(out) as slide:
        np.testing.assert_array_equal(whole(slide, 0), picture(301, 427))
        assert len(slide.levels) == 4


def test_tifffile_reads_the_levels_as_one_image(path):
    with tifffile.TiffFile(converted(path, compression="deflate", tile=64)) as tiff:
        assert not tiff.is_bigtiff
        (series,) = tiff.series
        assert series.axes == "YXS"
        assert [level.shape[0] for level in series.levels] == [301, 151, 76, 38]
        np.testing.assert_array_equal(series.asarray(), picture(301, 427))


def test_progress_tells_tiles_done_and_in_all(path):
    told = []
    converted(path, tile=128, progress=lambda *counts: told.append(counts))
    assert told == [(n, 12) for n in range(1, 13)]


def test_a_cancelled_conversion_leaves_nothing(path):
    with pytest.raises(SlideError, match="was cancelled after 1 of 12 tiles; nothing"):
        converted(path, tile=128, cancelled=lambda: True)
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


def test_a_conversion_that_is_not_stepped_to_its_end_leaves_nothing(path):
    with open_slide(path) as slide:
        steps = conversion(slide, path.with_name("b.tif"), tile=64)
        next(steps)
        steps.close()
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


def test_a_full_disk_is_an_error_that_leaves_nothing(path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(convert_module._Spool, "add", full)
    with pytest.raises(SlideError, match=r"cannot be written \(No space left on dev"):
        converted(path)
    assert [p.name for p in path.parent.iterdir()] == ["a.tif"]


def test_a_folder_that_is_not_there_is_an_error(path):
    with open_slide(path) as slide, pytest.raises(SlideError, match="cannot be writ"):
        convert(slide, path.parent / "nowhere" / "b.tif")


def test_damaged_tiles_are_written_as_empty_and_stay_noted(tmp_path, texture):
    path = write_tiled(tmp_path / "a.tif", [texture], compression="deflate")
    spoil(path, 0, 0)
    with open_slide(path) as slide:
        out = convert(slide, tmp_path / "b.tif", compression="deflate")
        assert slide.damage.places == ((0, 0, 0),)
    with open_slide(out) as slide:
        pixels = whole(slide, 0)
    assert (pixels[:128, :128] == 255).all()
    np.testing.assert_array_equal(pixels[128:], texture[128:])


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"compression": "zip"}, "choose one of jpeg, deflate, none"),
        ({"quality": 0}, "quality of 0 is not within 1 to 100"),
        ({"tile": 100}, "give a multiple of 16"),
    ],
)
def test_what_cannot_be_written_is_refused(path, kwargs, message):
    with pytest.raises(SlideError, match=message):
        converted(path, **kwargs)


def test_sixteen_bits_are_not_squeezed_into_jpeg(tmp_path):
    pixels = picture(150, 200, 2, np.uint16)
    path = write_ome_multichannel(tmp_path / "a.ome.tif", [pixels], tile=(64, 64))
    with pytest.raises(SlideError, match="choose the compression deflate"):
        converted(path)
