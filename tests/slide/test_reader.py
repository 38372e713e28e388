"""napari's reader of slides."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_gimp.reader import get_reader, slide_layers


@pytest.fixture
def path(write, texture):
    return write([texture, texture[::2, ::2]], compression="deflate")


def test_importing_the_reader_loads_no_library():
    heavy = "{'torch', 'napari', 'tifffile', 'openslide', 'dask', 'numpy'}"
    code = f"import sys, napari_gimp.reader; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["a.csv", "a.txt", "a", "a.npy"])
def test_other_files_are_left_to_other_readers(name):
    assert get_reader(name) is None


def test_a_slide_becomes_one_multiscale_layer_in_um(path):
    from napari.layers import Image

    [(levels, kwargs, kind)] = get_reader(str(path))(str(path))
    layer = Image(levels, **kwargs)
    assert kind == "image"
    assert (layer.multiscale, layer.rgb, len(layer.data)) == (True, True, len(levels))
    assert tuple(layer.scale) == (0.5, 0.5)
    assert tuple(layer.translate) == (0.0, 0.0)
    assert [str(unit) for unit in layer.units] == ["micrometer", "micrometer"]
    assert layer.metadata["gimp_slide"] == str(path)
    layer.metadata["gimp_view"].close()


def test_the_layer_shows_the_slide(path, texture):
    [(levels, kwargs, _)] = get_reader(str(path))(str(path))
    view = kwargs["metadata"]["gimp_view"]
    assert view.base.complete.wait(20)
    np.testing.assert_array_equal(levels[-1][100:200, 50:90], texture[100:200, 50:90])
    view.close()


def test_several_slides_become_several_layers(path, write, texture):
    other = write([texture[:300]], name="b.tif")
    layers = get_reader([str(path), str(other)])([str(path), str(other)])
    assert [kwargs["name"] for _, kwargs, _ in layers] == ["a", "b"]
    for _, kwargs, _ in layers:
        kwargs["metadata"]["gimp_view"].close()


def test_without_resolution_the_layer_is_in_pixels_and_says_so(tmp_path, texture):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, texture, tile=(128, 128), photometric="rgb")
    with pytest.warns(UserWarning, match=r"Shown in pixels\. a\.tif does not say"):
        [(_, kwargs, _)] = slide_layers(path)
    assert kwargs["units"] == ("pixel", "pixel")
    kwargs["metadata"]["gimp_view"].close()
    [(_, kwargs, _)] = slide_layers(path, mpp=0.25)
    assert kwargs["scale"] == (0.25, 0.25)
    kwargs["metadata"]["gimp_view"].close()
