"""Colour profiles whose effect is known, made from the sRGB profile of LittleCMS."""

from __future__ import annotations

import struct

import numpy as np


def srgb_profile() -> bytes:
    """Return sRGB itself: converting from it changes nothing."""
    from PIL import ImageCms

    made = bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    return made[:24] + struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + made[36:]


def swapped_profile() -> bytes:
    """Return sRGB with red and blue exchanged: converting from it swaps them back."""
    swap = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ", b"rTRC": b"bTRC", b"bTRC": b"rTRC"}
    tags = _tags(srgb_profile())
    return _profile({swap.get(name, name): tag for name, tag in tags.items()})


def gamma_profile(gamma: float) -> bytes:
    """Return a profile with the primaries of sRGB and a plain power law."""
    curve = struct.pack(">4sIIHH", b"curv", 0, 1, round(gamma * 256), 0)
    tags = _tags(srgb_profile())
    return _profile(tags | dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve))


def from_gamma(pixels: np.ndarray, gamma: float) -> np.ndarray:
    """Return what `gamma_profile` means in sRGB, in the range of the dtype."""
    high = np.iinfo(pixels.dtype).max
    light = (pixels / high) ** (round(gamma * 256) / 256)
    low = light <= 0.0031308
    encoded = np.where(low, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return encoded * high


def lab_profile() -> bytes:
    """Return a profile that is not one of RGB."""
    from PIL import ImageCms

    return bytes(ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes())


def _tags(profile: bytes) -> dict[bytes, bytes]:
    (count,) = struct.unpack_from(">I", profile, 128)
    places = [struct.unpack_from(">4sII", profile, 132 + 12 * n) for n in range(count)]
    return {name: profile[at : at + size] for name, at, size in places}


def _profile(tags: dict[bytes, bytes]) -> bytes:
    """Return a profile with the header of sRGB and these tags."""
    table, data, at = b"", b"", 132 + 12 * len(tags)
    for name, tag in tags.items():
        table += struct.pack(">4sII", name, at + len(data), len(tag))
        data += tag + b"\0" * (-len(tag) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    header = struct.pack(">I", 128 + len(body)) + srgb_profile()[4:128]
    return header[:84] + b"\0" * 16 + header[100:] + body  # no checksum
