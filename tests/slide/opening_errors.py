"""What every error of opening must be: one clear sentence that names the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_gimp.errors import SlideError
from napari_gimp.slide.source import open_slide


def one_sentence(path: Path | str) -> str:
    """Open what is no slide and return the text, checked to be one sentence."""
    with pytest.raises(SlideError) as caught:
        open_slide(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.endswith(".")
    assert text.count(". ") == 0
    assert Path(path).name in text
    return text
