"""What every frozen encoder is to its users, wherever its weights came from."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Encoder(Protocol):
    """A frozen network that turns patches into feature vectors."""

    @property
    def name(self) -> str:
        """What `load_encoder` takes to load it again."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of its content: weights, and all that changes its features."""

    @property
    def width(self) -> int:
        """P, features per patch."""

    @property
    def input_px(self) -> int:
        """Side of a patch, px."""

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

        Raises
        ------
        EncoderError
            If the patches have another size, type or number of channels.
        """
