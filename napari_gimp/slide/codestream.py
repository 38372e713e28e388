"""How large an image a JPEG or JPEG 2000 stream says it is, before it is decoded.

A flipped bit can make a tile of 128 px claim two million: the codec then takes all
memory or half a minute before anyone sees that the size is wrong.
"""

from __future__ import annotations

import struct

Shape = tuple[int, int]
JPEG_START, JPEG_2000_START = b"\xff\xd8", b"\xff\x4f\xff\x51"
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers SOF0 to SOF15; C4, C8 and CC are tables and extensions."""


def stated_shape(stream: bytes) -> Shape | None:
    """Return height and width in px, None where the stream is of another kind.

    Sources: ITU-T T.81, B.2.2 (JPEG); ITU-T T.800, A.5.1 (JPEG 2000).
    """
    if stream.startswith(JPEG_START):
        return _jpeg_shape(stream)
    at = stream.find(JPEG_2000_START, 0, 512)
    return _jpeg_2000_shape(stream, at) if at >= 0 else None


def _jpeg_shape(stream: bytes) -> Shape | None:
    at = len(JPEG_START)
    while at + 9 <= len(stream) and stream[at] == 0xFF:
        if stream[at + 1] in FRAME_HEADERS:
            height, width = struct.unpack_from(">HH", stream, at + 5)
            return height, width
        if stream[at + 1] == 0xFF:  # padding before a marker
            at += 1
            continue
        at += 2 + int.from_bytes(stream[at + 2 : at + 4], "big")
    return None


def _jpeg_2000_shape(stream: bytes, at: int) -> Shape | None:
    if at + 24 > len(stream):
        return None
    x1, y1, x0, y0 = struct.unpack_from(">4I", stream, at + 8)
    return y1 - y0, x1 - x0
