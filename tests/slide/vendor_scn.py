"""Write Leica SCN files: BigTIFF, sizes in nm, the picture somewhere on the slide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

NAMESPACE = "http://www.leica-microsystems.com/scn/2010/10/01"


def write_scn(
    path: Path,
    levels: list[np.ndarray],
    mpp: float = 0.5,
    *,
    margin_px: tuple[int, int] | None = None,
    quality: int = 95,
) -> Path:
    """Write levels (h, w, 3) uint8, the finest first.

    Parameters
    ----------
    margin_px
        Empty level-0 rows above and below, and columns left and right, of the
        picture; give multiples of the coarsest factor. None: no margin, and no
        macro image either.
    """
    pages = list(levels) if margin_px is None else [*levels, _macro(levels)]
    with tifffile.TiffWriter(path, bigtiff=True) as tiff:
        for number, page in enumerate(pages):
            factor = levels[0].shape[0] / page.shape[0]
            tiff.write(
                page,
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": quality},
                tile=(128, 128),
                subfiletype=int(0 < number < len(levels)),
                resolution=(1e4 / (mpp * factor),) * 2,
                resolutionunit="CENTIMETER",
                description=_xml(levels, mpp, margin_px) if number == 0 else None,
                metadata=None,
            )
    return path


def _macro(levels: list[np.ndarray]) -> np.ndarray:
    return np.full((64, 48, 3), (0, 0, 255), np.uint8)


def _xml(
    levels: list[np.ndarray], mpp: float, margin_px: tuple[int, int] | None
) -> str:
    nm = round(mpp * 1000)
    rows, cols = levels[0].shape[:2]
    top, left = margin_px or (0, 0)
    # An image as large as the slide counts as the macro image, so that without a
    # margin the slide is stated 1 nm narrower; level sizes are rounded up.
    wide = (cols + 2 * left) * nm - (margin_px is None)
    high = (rows + 2 * top) * nm
    main = _image(
        "".join(_dimension(k, *v.shape[:2]) for k, v in enumerate(levels)),
        (rows * nm, cols * nm),
        (top * nm, left * nm),
        "20",
    )
    macro = _image(_dimension(len(levels), 64, 48), (high, wide), (0, 0), "0.6")
    return (
        f'<?xml version="1.0"?><scn xmlns="{NAMESPACE}" uuid="urn:uuid:0">'
        f'<collection name="secret-name" uuid="1" sizeX="{wide}" sizeY="{high}">'
        "<barcode>c2VjcmV0</barcode>"
        f"{main}{macro if margin_px is not None else ''}</collection></scn>"
    )


def _image(
    dimensions: str, size: tuple[int, int], offset: tuple[int, int], objective: str
) -> str:
    return (
        '<image name="image" uuid="2"><creationDate>2012-01-01T00:00:00Z</creationDate>'
        '<device model="Leica SCN400" version="1.4"/>'
        f"<pixels>{dimensions}</pixels>"
        f'<view sizeX="{size[1]}" sizeY="{size[0]}" offsetX="{offset[1]}" '
        f'offsetY="{offset[0]}" spacingZ="0"/>'
        "<scanSettings><objectiveSettings>"
        f"<objective>{objective}</objective></objectiveSettings>"
        "<illuminationSettings><numericalAperture>0.4</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource>"
        "</illuminationSettings></scanSettings></image>"
    )


def _dimension(ifd: int, rows: int, cols: int) -> str:
    return f'<dimension sizeX="{cols}" sizeY="{rows}" r="{ifd}" ifd="{ifd}"/>'
