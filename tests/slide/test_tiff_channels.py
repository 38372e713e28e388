"""Channels and series of tiled TIFF: OME-TIFF, ImageJ and QPTIFF."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

import tiff_files
from napari_gimp.errors import SlideError
from napari_gimp.slide.source import open_slide
from napari_gimp.slide.tiff import TiffSource
from tiff_files import halved, picture

GREEN, RED = 0x00FF00FF, 0xFF0000FF - (1 << 32)
"""OME's colours are RGBA in one signed int."""


def whole(path, level: int = 0) -> np.ndarray:
    with TiffSource(path) as slide:
        pixels = slide.read_region(level, 0, 0, *slide.levels[level].shape)
        assert (pixels.shape[2], pixels.dtype) == (slide.channels, slide.dtype)
        assert len(slide.damage) == 0
        return pixels


def test_channels_of_an_ome_tiff_have_names_and_colours(tmp_path):
    levels = halved(picture(channels=2, dtype=np.uint16))
    path = tiff_files.write_ome_multichannel(
        tmp_path / "a.ome.tif", levels, names=["DAPI", "CD3"], colors=[GREEN, RED]
    )
    with open_slide(path) as slide:
        assert slide.channel_names == ("DAPI", "CD3")
        assert slide.channel_colors == ("#00ff00", "#ff0000")
        assert (slide.rgb, slide.channels, slide.dtype) == (False, 2, np.uint16)
        assert slide.mpp == (tiff_files.MPP, tiff_files.MPP)
        assert [v.downsample[0] for v in slide.levels] == [1, 2, 4]
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(path, number), level)


def test_channels_without_names_have_none(tmp_path):
    levels = [picture(channels=3, dtype=np.uint16)]
    path = tiff_files.write_ome_multichannel(tmp_path / "a.ome.tif", levels)
    with TiffSource(path) as slide:
        assert (slide.channel_names, slide.channel_colors) == ((), ())
        assert not slide.rgb


def test_an_ome_tiff_in_colour_is_one_picture(tmp_path):
    levels = halved(picture())
    path = tiff_files.write_ome_rgb(tmp_path / "a.ome.tif", levels)
    with TiffSource(path) as slide:
        assert slide.rgb
        assert slide.channel_names == ()
    np.testing.assert_array_equal(whole(path, 2), levels[2])


@pytest.mark.parametrize("planarconfig", ["contig", "separate"])
def test_five_samples_of_a_pixel_are_five_channels(tmp_path, planarconfig):
    pixels = picture(channels=5, dtype=np.uint16)
    stored = pixels if planarconfig == "contig" else np.moveaxis(pixels, 2, 0)
    path = tmp_path / "a.ome.tif"
    axes = "YXS" if planarconfig == "contig" else "SYX"
    tifffile.imwrite(
        path,
        np.ascontiguousarray(stored),
        ome=True,
        tile=(128, 128),
        photometric="minisblack",
        planarconfig=planarconfig,
        metadata={"axes": axes},
    )
    with TiffSource(path) as slide:
        assert (slide.rgb, slide.channels) == (False, 5)
    np.testing.assert_array_equal(whole(path), pixels)


def test_the_largest_image_is_the_slide_and_label_and_macro_wait_to_be_asked(
    tmp_path, monkeypatch
):
    slide_pixels, macro = halved(picture(), 2), picture(200, 600, seed=2)
    small, label = picture(100, 80, seed=3), picture(90, 70, seed=4)
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name, pixels in (("Macro image", macro), ("region 2", small)):
            about = {"Name": name, "axes": "YXS"}
            tiff.write(pixels, metadata=about, photometric="rgb", tile=(128, 128))
        about = {"Name": "scan", "axes": "YXS", "PhysicalSizeX": 0.3}
        about |= {"PhysicalSizeY": 0.3}
        options = {"photometric": "rgb", "tile": (128, 128)}
        tiff.write(slide_pixels[0], subifds=1, metadata=about, **options)
        tiff.write(slide_pixels[1], subfiletype=1, **options)
        about = {"Name": "label image", "axes": "YXS"}
        tiff.write(label, metadata=about, photometric="rgb")
    asked: list[str] = []
    asarray = tifffile.TiffPageSeries.asarray
    monkeypatch.setattr(
        tifffile.TiffPageSeries,
        "asarray",
        lambda self, *a, **k: asked.append(self.name) or asarray(self, *a, **k),
    )
    with TiffSource(path) as slide:
        assert slide.levels[0].shape == slide_pixels[0].shape[:2]
        assert len(slide.levels) == 2
        assert slide.mpp == (0.3, 0.3)
        assert sorted(slide.associated) == ["label", "macro"]
        slide.read_region(0, 0, 0, 50, 50)
        assert asked == []
        np.testing.assert_array_equal(slide.read_associated("label"), label)
        np.testing.assert_array_equal(slide.read_associated("macro"), macro)
    np.testing.assert_array_equal(whole(path, 1), slide_pixels[1])


def test_a_macro_larger_than_the_slide_is_not_the_slide(tmp_path):
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as tiff:
        for name, side in (("overview", 400), ("scan", 200)):
            tiff.write(
                picture(side, side),
                metadata={"Name": name, "axes": "YXS"},
                photometric="rgb",
                tile=(128, 128),
            )
    with TiffSource(path) as slide:
        assert slide.levels[0].shape == (200, 200)
        assert slide.associated == ("macro",)


def test_an_image_over_several_files_is_refused_with_their_number(tmp_path):
    pixels = picture(channels=2, dtype=np.uint16)
    path = tiff_files.write_ome_multichannel(tmp_path / "a.ome.tif", [pixels])
    with tifffile.TiffFile(path) as tiff:
        xml = tiff.ome_metadata
    parts = "".join(
        f'<TiffData FirstC="{n}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="{n}.ome.tif">urn:uuid:{n}</UUID></TiffData>'
        for n in range(2)
    )
    xml = xml.replace('<TiffData IFD="0" PlaneCount="2"/>', parts)
    assert parts in xml
    tifffile.imwrite(
        path,
        pixels[:, :, 0],
        description=xml.encode(),
        metadata=None,
        tile=(128, 128),
        photometric="minisblack",
    )
    with pytest.raises(SlideError, match="one of 2 files that make an image"):
        open_slide(path)


def test_a_stack_of_focal_planes_is_refused_not_shown_in_part(tmp_path):
    path = tmp_path / "a.ome.tif"
    planes = np.zeros((4, 200, 300), np.uint16)
    options = {"tile": (64, 64), "photometric": "minisblack"}
    tifffile.imwrite(path, planes, ome=True, metadata={"axes": "ZYX"}, **options)
    with pytest.raises(SlideError, match=r"a stack of 4 images \(axes ZYX\)"):
        open_slide(path)


def test_tiled_channels_as_imagej_names_them_are_read(tmp_path):
    pixels = picture(channels=3, dtype=np.uint16)
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        np.ascontiguousarray(np.moveaxis(pixels, 2, 0)),
        description="ImageJ=1.11a\nimages=3\nchannels=3\nhyperstack=true\n"
        "mode=composite\nunit=\\u00B5m\n",
        resolution=(4.0, 4.0),
        resolutionunit="NONE",
        metadata=None,
        tile=(128, 128),
        photometric="minisblack",
    )
    np.testing.assert_array_equal(whole(path), pixels)
    with open_slide(path) as slide:
        assert (slide.rgb, slide.mpp) == (False, (0.25, 0.25))
        assert slide.properties["vendor"] == "imagej"


QPI = """<?xml version="1.0" encoding="utf-16"?>
<PerkinElmer-QPI-ImageDescription><ImageType>{kind}</ImageType><Name>{name}</Name>
<Color>{color}</Color></PerkinElmer-QPI-ImageDescription>"""


def test_channels_of_a_qptiff_have_names_and_colours(tmp_path):
    levels = halved(picture(256, 512, 2), 2)
    path = tmp_path / "a.qptiff"
    stains = [("DAPI", "0,0,255"), ("Opal 520", "0,255,0")]
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate((levels[0], None, levels[1])):
            if level is None:
                about = QPI.format(kind="Thumbnail", name="", color="")
                thumbnail = np.zeros((40, 50, 3), np.uint8)
                tiff.write(thumbnail, description=about, metadata=None)
                continue
            kind = "ReducedResolution" if number else "FullResolution"
            for channel, (name, color) in enumerate(stains):
                tiff.write(
                    np.ascontiguousarray(level[:, :, channel]),
                    tile=(128, 128),
                    photometric="minisblack",
                    description=QPI.format(kind=kind, name=name, color=color),
                    software="PerkinElmer-QPI",
                    metadata=None,
                )
    with TiffSource(path) as slide:
        assert slide.channel_names == ("DAPI", "Opal 520")
        assert slide.channel_colors == ("#0000ff", "#00ff00")
        assert slide.associated == ("thumbnail",)
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(path, number), level)


@pytest.mark.parametrize(
    "xml", [b"<OME><Image></OME>", b"<OME><Image/></OME>", b"OME>"]
)
def test_a_slide_whose_description_is_damaged_is_read_without_it(tmp_path, xml):
    levels = halved(picture(), 2)
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                level,
                subifds=1 - number or None,
                subfiletype=number,
                description=xml if number == 0 else None,
                photometric="rgb",
                tile=(128, 128),
                metadata=None,
            )
    for number, level in enumerate(levels):
        np.testing.assert_array_equal(whole(path, number), level)


def test_channels_that_are_not_in_the_file_are_not_made_up(tmp_path):
    pixels = picture(channels=2, dtype=np.uint16)
    path = tiff_files.write_ome_multichannel(tmp_path / "a.ome.tif", [pixels])
    stored = path.read_bytes()
    assert b'SizeC="2"' in stored
    path.write_bytes(stored.replace(b'SizeC="2"', b'SizeC="3"'))
    with pytest.raises(SlideError, match="lacks some of its channels"):
        open_slide(path)
