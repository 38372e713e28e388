"""An encoder that computes in bfloat16: faster where a device does so in hardware.

Its features differ a little from those in float32, so they have a name of their own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders.embedded import CPU_BATCH
from napari_gimp.patches.encoders.imported import ImportedEncoder
from napari_gimp.patches.encoders.protocol import Encoder

ENDING = "+bf16"


@dataclass(frozen=True, slots=True)
class Bfloat16Encoder:
    """Another encoder under torch's autocast: weights stay float32, products do not.

    Parameters
    ----------
    encoder
        The encoder.
    device
        Where it is.
    """

    encoder: Encoder
    device: str = field(default="cpu")

    @property
    def name(self) -> str:
        """What `load_encoder` takes to load it again."""
        return self.encoder.name + ENDING

    @property
    def fingerprint(self) -> str:
        """Hex digest; never that of the encoder in full precision."""
        return hashlib.sha256(
            f"{self.encoder.fingerprint}{ENDING}".encode()
        ).hexdigest()

    @property
    def width(self) -> int:
        """P, features per patch."""
        return self.encoder.width

    @property
    def input_px(self) -> int:
        """Side of a patch, px."""
        return self.encoder.input_px

    @property
    def mpp(self) -> float:
        """um/px at which it looks."""
        return self.encoder.mpp

    @property
    def patch_um(self) -> float:
        """Side of a patch, um."""
        return self.encoder.patch_um

    @property
    def cpu_batch(self) -> int:
        """Patches that a CPU takes best in one call."""
        return int(getattr(self.encoder, "cpu_batch", CPU_BATCH))

    def to(self, device: str) -> Bfloat16Encoder:
        """Move the network to a device ("cpu", "cuda", "cuda:1", "mps")."""
        return replace(self, encoder=self.encoder.to(device), device=device)

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features (B, P) of patches (B, H, W, 3) uint8.

        Raises
        ------
        EncoderError
            If the patches have another size, type or number of channels.
        """
        import torch

        kind = torch.device(self.device).type
        with torch.autocast(kind, dtype=torch.bfloat16):
            return self.encoder(pixels)


def in_bfloat16(encoder: Encoder) -> Bfloat16Encoder:
    """Return an encoder that computes in bfloat16.

    Raises
    ------
    EncoderError
        If it computes nothing here.
    """
    if isinstance(encoder, ImportedEncoder):
        raise EncoderError(
            f"{encoder.fingerprint} stands for features that another tool has made, so "
            f"nothing is computed here; leave {ENDING} out"
        )
    return Bfloat16Encoder(encoder)
