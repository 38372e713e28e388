"""Write Philips TIFF files: XML with pixel spacings, levels padded to whole tiles.

The page sizes of coarser levels count the padding; only the spacings in the XML tell
the true factor, which is what OpenSlide corrects.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

TILE = 128


def write_philips(path: Path, levels: list[np.ndarray], mpp: float = 0.5) -> Path:
    """Write levels (h, w, 3) uint8, each an integer factor coarser than the first.

    OpenSlide gives a coarser level floor(side / factor) pixels.
    """
    xml = _xml([levels[0].shape[0] // v.shape[0] for v in levels], mpp)
    with tifffile.TiffWriter(path) as tiff:
        for number, level in enumerate(levels):
            tiff.write(
                level if number == 0 else _padded(level),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": 95},
                tile=(TILE, TILE),
                subfiletype=int(number > 0),
                software="Philips DP v1.0",
                description=xml if number == 0 else f"level={number}",
                metadata=None,
            )
    return path


def _padded(level: np.ndarray) -> np.ndarray:
    rows, cols = (-n % TILE for n in level.shape[:2])
    return np.pad(level, ((0, rows), (0, cols), (0, 0)), constant_values=255)


def _xml(factors: list[int], mpp: float) -> str:
    spacings = "".join(
        '<DataObject ObjectType="PixelDataRepresentation">'
        + _attribute("DICOM_PIXEL_SPACING", _spacing(mpp * factor))
        + _attribute("PIIM_PIXEL_DATA_REPRESENTATION_NUMBER", str(number))
        + "</DataObject>"
        for number, factor in enumerate(factors)
    )
    wsi = (
        _attribute("PIM_DP_IMAGE_TYPE", "WSI")
        + _attribute("DICOM_PIXEL_SPACING", _spacing(mpp))
        + _attribute("DICOM_DERIVATION_DESCRIPTION", "tiff-useBigTIFF=1-levels=20,1")
        + '<Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE"><Array>'
        + spacings
        + "</Array></Attribute>"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">'
        + _attribute("DICOM_MANUFACTURER", "PHILIPS")
        + _attribute("PIM_DP_UFS_BARCODE", "c2VjcmV0LW5hbWU=")
        + '<Attribute Name="PIM_DP_SCANNED_IMAGES"><Array>'
        + f'<DataObject ObjectType="DPScannedImage">{wsi}</DataObject>'
        + "</Array></Attribute></DataObject>"
    )


def _attribute(name: str, value: str) -> str:
    return f'<Attribute Name="{name}">{value}</Attribute>'


def _spacing(um: float) -> str:
    """Return row and column spacing in mm, quoted as Philips does."""
    return f"&quot;{um / 1000:.9f}&quot; &quot;{um / 1000:.9f}&quot;"
