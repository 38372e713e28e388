"""Write Hamamatsu NDPI files: one JPEG with restart markers in each level.

A TIFF with 32-bit entries, but 64-bit offsets of directories and, behind each
directory, the upper halves of its values. Written by hand, since no library does.
"""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from vendor_jpeg import jpeg_with_restarts, padded, run_starts

TILE_PX = 128
SHORT, LONG, RATIONAL, SLONG, FLOAT, ASCII = 3, 4, 5, 9, 11, 2
SIZE = {SHORT: 2, LONG: 4, RATIONAL: 8, SLONG: 4, FLOAT: 4, ASCII: 1}
Tags = dict[int, tuple[int, bytes]]


def write_ndpi(path: Path, levels: list[np.ndarray], mpp: float = 0.5) -> Path:
    """Write levels (h, w, 3) uint8, padded with white to whole tiles, and a macro.

    OpenSlide adds levels 2, 4 and 8 times coarser than each stored one, which the
    JPEG decoder makes.
    """
    out = bytearray(struct.pack("<2sHQ", b"II", 42, 0))
    link = 4
    wide = padded(levels, (8, TILE_PX))
    macro = np.full((64, 128, 3), (0, 0, 255), np.uint8)
    for level in [*wide, macro]:
        lens = -1.0 if level is macro else 20.0 * level.shape[0] / wide[0].shape[0]
        um = mpp * wide[0].shape[0] / level.shape[0]
        tags = _tags(out, level, lens, um)
        link = _directory(out, tags, link)
    path.write_bytes(out)
    return path


def _tags(out: bytearray, level: np.ndarray, lens: float, um: float) -> Tags:
    jpeg = jpeg_with_restarts(level, TILE_PX)
    start = len(out)
    out += jpeg
    per_cm = struct.pack("<II", round(1e7 / um), 1000)
    number = "<I"
    return {
        256: (LONG, struct.pack(number, level.shape[1])),
        257: (LONG, struct.pack(number, level.shape[0])),
        258: (SHORT, struct.pack("<3H", 8, 8, 8)),
        259: (SHORT, struct.pack("<H", 7)),
        262: (SHORT, struct.pack("<H", 6)),
        271: (ASCII, b"Hamamatsu\0"),
        272: (ASCII, b"NanoZoomer\0"),
        273: (LONG, struct.pack(number, start)),
        277: (SHORT, struct.pack("<H", 3)),
        278: (LONG, struct.pack(number, level.shape[0])),
        279: (LONG, struct.pack(number, len(jpeg))),
        282: (RATIONAL, per_cm),
        283: (RATIONAL, per_cm),
        284: (SHORT, struct.pack("<H", 1)),
        296: (SHORT, struct.pack("<H", 3)),
        530: (SHORT, struct.pack("<2H", 1, 1)),
        65420: (LONG, struct.pack(number, 1)),
        65421: (FLOAT, struct.pack("<f", lens)),
        65422: (SLONG, struct.pack("<i", 1000)),
        65423: (SLONG, struct.pack("<i", -2000)),
        65424: (SLONG, struct.pack("<i", 0)),
        65426: (LONG, np.array(run_starts(jpeg), "<u4").tobytes()),
        65427: (ASCII, b"secret-reference\0"),
    }


def _directory(out: bytearray, tags: Tags, link: int) -> int:
    """Append a directory, point the one before to it; return where its link is."""
    entries = b""
    for tag, (kind, value) in sorted(tags.items()):
        if len(value) > 4:
            place, value_or_offset = len(out), struct.pack("<I", len(out))
            out += value + b"\0" * (-(place + len(value)) % 2)
        else:
            value_or_offset = value.ljust(4, b"\0")
        count = len(value) // SIZE[kind]
        entries += struct.pack("<HHI", tag, kind, count) + value_or_offset
    out += b"\0" * (len(out) % 2)
    out[link : link + 8] = struct.pack("<Q", len(out))
    out += struct.pack("<H", len(tags)) + entries
    after = len(out)
    out += b"\0" * (8 + 4 * len(tags))  # no next directory, no upper halves
    return after
