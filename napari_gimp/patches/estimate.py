"""What an extraction will take, before it is started: time, memory, disk.

Time comes from the rate at which this encoder ran here the last time, on the same
device; `extract` remembers it. Before the first run it is unknown, and said so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from napari_gimp.slide.remembered import keep_choices, read_choices

if TYPE_CHECKING:
    from napari_gimp.patches.encoders.protocol import Measured
    from napari_gimp.patches.store import FeatureStore

RATES_FILE = "encoder-rates.json"
LEAST_PATCHES = 32
"""Fewer tell how long it takes to start, not how fast it goes."""
READ_AHEAD_BYTES = 160 << 20
"""Pixels, read and not yet encoded, that an extraction holds at most."""
TILES_BYTES = 160 << 20
"""Decoded tiles that it keeps for the next band at most: those that patches share."""
TIMES_INPUT = 24
"""What a network holds at once, as a multiple of its input in floats: a PatchNet 4, a
ResNet-50 10, a ViT-g with its wide layers 24."""
BYTES_PER_ROW = 16
"""Place and lattice index of a patch, beside its features."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """What an extraction will take.

    Parameters
    ----------
    seconds
        Time, s; None where this encoder never ran on this device.
    memory_bytes
        Memory above the encoder itself, on the host and the device together.
    disk_bytes
        Room for the features; 0 where they are not kept.
    from_
        What the time was judged from, as a phrase.
    """

    seconds: float | None
    memory_bytes: int
    disk_bytes: int
    from_: str


def estimate(
    patches: int,
    encoder: Measured,
    *,
    device: str = "cpu",
    batch_size: int | None = None,
    store: FeatureStore | None = None,
) -> Estimate:
    """Return what it will take to encode a number of patches.

    Parameters
    ----------
    patches
        N, how many.
    encoder
        The encoder or its facts; it is not run.
    device
        Where it will run.
    batch_size
        Patches per call; None for as many as memory takes.
    store
        Where features will be kept; None keeps nothing.
    """
    rate, on = remembered_rate(encoder.fingerprint, device)
    features = patches * encoder.width * 4
    batch = min(batch_size or 64, max(patches, 1)) * patch_bytes(encoder)
    return Estimate(
        seconds=None if rate is None else patches / rate,
        memory_bytes=READ_AHEAD_BYTES + TILES_BYTES + batch + features,
        disk_bytes=0 if store is None else features + patches * BYTES_PER_ROW,
        from_=_judged_from(rate, on, device),
    )


def patch_bytes(encoder: Measured) -> int:
    """Return the memory that an encoder takes for one patch of a batch, bytes."""
    return encoder.input_px**2 * 3 * (1 + 4 * TIMES_INPUT)


def remember_rate(
    fingerprint: str, device: str, *, patches: int, seconds: float
) -> None:
    """Keep how fast an encoder ran on a device of this computer.

    What was too short to tell is left out; a folder that cannot be written to loses
    the rate, nothing else.
    """
    if patches < LEAST_PATCHES or seconds <= 0:
        return
    rate = {"per_s": patches / seconds, "on": datetime.now(UTC).date().isoformat()}
    keep_choices(RATES_FILE, {_key(fingerprint, device): rate})


def remembered_rate(fingerprint: str, device: str) -> tuple[float | None, str]:
    """Return patches per second and the day they were measured, (None, "") if never."""
    kept = read_choices(RATES_FILE).get(_key(fingerprint, device))
    if not isinstance(kept, dict):
        return None, ""
    rate = kept.get("per_s")
    if not isinstance(rate, int | float) or not 0 < rate < math.inf:
        return None, ""
    return float(rate), str(kept.get("on", ""))


def _judged_from(rate: float | None, on: str, device: str) -> str:
    if rate is None:
        return f"time unknown until the first run on {device}"
    return f"{rate:,.3g} patches/s on {device}, measured {on}"


def _key(fingerprint: str, device: str) -> str:
    return f"{fingerprint[:16]} {device.partition(':')[0]}"
