"""What every frozen encoder is to its users, wherever its weights came from."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError


class Measured(Protocol):
    """What is known of an encoder without loading it."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of its content: weights, and all that changes its features."""

    @property
    def width(self) -> int:
        """P, features per patch."""

    @property
    def input_px(self) -> int:
        """Side of a patch, px."""


class Encoder(Measured, Protocol):
    """A frozen network that turns patches into feature vectors."""

    @property
    def name(self) -> str:
        """What `load_encoder` takes to load it again."""

    @property
    def mpp(self) -> float:
        """um/px at which it looks."""

    @property
    def patch_um(self) -> float:
        """Side of a patch, um."""

    def to(self, device: str) -> Encoder:
        """Move the network to a device ("cpu", "cuda", "cuda:1", "mps")."""

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features (B, P) of patches (B, H, W, 3) uint8.

        Called by several threads at once.

        Raises
        ------
        EncoderError
            If the patches have another size, type or number of channels.
        """


def check_pixels(encoder: Encoder, pixels: NDArray[np.uint8]) -> None:
    """Refuse patches that are not (B, H, W, 3) uint8 of the encoder's side.

    Raises
    ------
    EncoderError
        If the patches have another size, type or number of channels.
    """
    right = (encoder.input_px, encoder.input_px, 3)
    if pixels.shape[1:] != right or pixels.dtype != np.uint8:
        raise EncoderError(
            f"the encoder {encoder.name} takes uint8 patches of shape (B, "
            f"{right[0]}, {right[1]}, 3), got {pixels.shape} {pixels.dtype}; read "
            f"them at {encoder.mpp:g} um/px"
        )
