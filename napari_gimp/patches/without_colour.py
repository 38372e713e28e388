"""Tissue where no stain's colour tells it: fluorescence, and grey pictures.

On a dark ground each channel is measured against its own darkest part and its own
noise, so that a camera's offset is no light and an empty channel finds nothing; the
tissue is what shines in any of them. On a bright ground grey is optical density.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Channel = NDArray[np.float32]

BRIGHT_GROUND = 0.6
"""Between a grey picture's darkest (0) and brightest (1): its commonest value, where
higher, is glass. On a dark ground most is black, or tissue of middling brightness."""
OVER_NOISE = 6
"""Light counts from so many standard deviations of the ground's noise on."""
SPREAD_CELLS = 1.5
"""Nuclei light up and the cytoplasm between them does not: about a nucleus apart."""
OD_LIMITS = (0.045, 0.15)
"""As for stained tissue: fat reaches the lower, above the upper pale tissue is lost."""


def is_bright_ground(pixels: NDArray[np.generic]) -> bool:
    """Whether a picture (h, w, C) is one grey channel on bright glass."""
    if pixels.shape[2] != 1:
        return False
    grey = np.asarray(pixels, dtype=np.float32)
    low, high = np.percentile(grey, (0.1, 99.9))
    if high <= low:
        return bool(low > 0)
    counts, edges = np.histogram(grey, bins=64, range=(low, high))
    return bool(edges[counts.argmax()] >= low + BRIGHT_GROUND * (high - low))


def shining(pixels: NDArray[np.generic]) -> Mask:
    """Return where any channel of a picture (h, w, C) shines on a dark ground."""
    channels = np.moveaxis(np.asarray(pixels, dtype=np.float32), -1, 0)
    found: Mask = np.logical_or.reduce([_shines(channel) for channel in channels])
    return found


def absorbing(pixels: NDArray[np.generic]) -> Mask:
    """Return where a grey picture (h, w, 1) is darker than its glass."""
    light = np.asarray(pixels[..., 0], dtype=np.float32) + 1
    glass = max(float(np.percentile(light, 99)), 1.0)
    density = np.maximum(-np.log10(light / glass), 0)
    half = _otsu(density.clip(0, 0.6)) / 2
    return np.asarray(density > np.clip(half, *OD_LIMITS))


def _shines(channel: Channel) -> Mask:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(channel, SPREAD_CELLS)
    ground, noise = _ground(channel, smooth)
    top = float(np.percentile(smooth, 99.5))
    least = ground + OVER_NOISE * noise
    if top <= least:
        return np.zeros(channel.shape, dtype=bool)
    half = ground + (_otsu(smooth.clip(None, top)) - ground) / 2
    return np.asarray(smooth > max(half, least))


def _ground(channel: Channel, smooth: Channel) -> tuple[float, float]:
    """Return level and noise of the darkest twentieth of a channel.

    The noise is that of single cells, so that it is not too small where smoothing
    took it away; a channel without any counts to one step of its numbers.
    """
    dark = smooth <= np.percentile(smooth, 5)
    ground = float(np.median(smooth[dark]))
    noise = 1.4826 * float(np.median(np.abs(channel[dark] - smooth[dark])))
    return ground, max(noise, 1 / OVER_NOISE if channel.max() > 1 else 0.0)


def _otsu(values: Channel) -> float:
    from skimage.filters import threshold_otsu

    return float(threshold_otsu(values)) if np.ptp(values) > 0 else float(values.min())
