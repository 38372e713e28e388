"""Write Zeiss CZI files: segments of tiles, each stating where it lies on level 0."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np

TILE = 128
BGR24, RAW = 3, 0


def write_czi(path: Path, levels: list[np.ndarray], mpp: float = 0.5) -> Path:
    """Write levels (h, w, 3) uint8, uncompressed, and a label that is all red."""
    out = bytearray(_segment(b"ZISRAWFILE", bytes(512)))
    entries = [
        _add_tile(out, level, levels[0].shape[0] // level.shape[0], y, x)
        for level in levels
        for y in range(0, level.shape[0], TILE)
        for x in range(0, level.shape[1], TILE)
    ]
    places = {}
    directory = struct.pack("<i124x", len(entries)) + b"".join(entries)
    places["directory"] = _append(out, b"ZISRAWDIRECTORY", directory)
    xml = _xml(levels[0], mpp).encode()
    stated = struct.pack("<2i248x", len(xml), 0) + xml
    places["metadata"] = _append(out, b"ZISRAWMETADATA", stated)
    label = _add_label(out)
    attached = struct.pack("<i252x", 1) + label
    places["attachments"] = _append(out, b"ZISRAWATTDIR", attached)
    out[32 : 32 + 80] = struct.pack(
        "<4i16s16siqqiq", 1, 0, 0, 0, b"primary", b"file", 0,
        places["directory"], places["metadata"], 0, places["attachments"],
    )  # fmt: skip
    path.write_bytes(out)
    return path


def _segment(name: bytes, body: bytes) -> bytes:
    return struct.pack("<16sqq", name, len(body), len(body)) + body


def _append(out: bytearray, name: bytes, body: bytes) -> int:
    """Append a segment, whose size is a multiple of 32; return where it starts."""
    place = len(out)
    out += _segment(name, body)
    out += bytes(-len(out) % 32)
    return place


def _add_tile(out: bytearray, level: np.ndarray, factor: int, y: int, x: int) -> bytes:
    """Append a tile's segment and return its entry for the directory."""
    tile = level[y : y + TILE, x : x + TILE]
    sides = {b"X": (x, tile.shape[1]), b"Y": (y, tile.shape[0])}
    entry = struct.pack(
        "<2siqiibx4xi", b"DV", BGR24, len(out), 0, RAW, int(factor > 1), 4
    ) + b"".join(
        struct.pack("<4s2ifi", name, start * factor, size * factor, 0.0, size)
        for name, (start, size) in {**sides, b"C": (0, 1), b"S": (0, 1)}.items()
    )
    pixels = np.ascontiguousarray(tile[:, :, ::-1]).tobytes()
    head = struct.pack("<2iq", 0, 0, len(pixels)) + entry
    _append(out, b"ZISRAWSUBBLOCK", head.ljust(256, b"\0") + pixels)
    return entry


def _add_label(out: bytearray) -> bytes:
    """Append a label image and return its entry for the directory of attachments."""
    from PIL import Image

    jpeg = io.BytesIO()
    Image.new("RGB", (48, 40), (255, 0, 0)).save(jpeg, "JPEG", quality=95)
    entry = struct.pack(
        "<2s10xqi16s8s80s", b"A1", len(out), 0, b"label", b"JPG", b"Label"
    )
    head = struct.pack("<i12x", len(jpeg.getvalue())) + entry
    _append(out, b"ZISRAWATTACH", head.ljust(256, b"\0") + jpeg.getvalue())
    return entry


def _xml(finest: np.ndarray, mpp: float) -> str:
    spacing = "".join(
        f'<Distance Id="{axis}"><Value>{mpp * 1e-6}</Value></Distance>' for axis in "XY"
    )
    return (
        "<ImageDocument><Metadata><Information><User><Name>secret-name</Name></User>"
        f"<Image><SizeX>{finest.shape[1]}</SizeX><SizeY>{finest.shape[0]}</SizeY>"
        '<SizeS>1</SizeS><ObjectiveSettings><ObjectiveRef Id="Objective:1"/>'
        "</ObjectiveSettings></Image><Instrument>"
        '<Microscopes><Microscope Id="Microscope:1" Name="Axioscan 7"/></Microscopes>'
        '<Objectives><Objective Id="Objective:1">'
        "<NominalMagnification>20</NominalMagnification></Objective></Objectives>"
        "</Instrument></Information>"
        f"<Scaling><Items>{spacing}</Items></Scaling></Metadata></ImageDocument>"
    )
