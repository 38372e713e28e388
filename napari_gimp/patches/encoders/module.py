"""Any torch module as an encoder: checked, normalised, pooled, fingerprinted."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders.embedded import CPU_BATCH
from napari_gimp.patches.encoders.look import Look
from napari_gimp.patches.encoders.protocol import check_pixels

if TYPE_CHECKING:
    import torch

CPU_WEIGHTS = 1 << 27
"""Weights times patches of one call on a CPU."""


class ModuleEncoder:
    """A frozen torch module with the way it looks at patches.

    Parameters
    ----------
    name
        What `load_encoder` takes to load it again.
    module
        The network: (B,3,H,W) float to what `look` pools. Put in evaluation mode.
    look
        What it is shown and what is taken from it.
    fingerprint
        Hex digest of its content.

    Raises
    ------
    EncoderError
        If it cannot encode a batch of its own input size.
    """

    def __init__(
        self, name: str, module: torch.nn.Module, *, look: Look, fingerprint: str
    ) -> None:
        self.name = name
        self.fingerprint = fingerprint
        self.look = look
        self._module = module
        self._device = "cpu"
        self.width = self._measure_width()

    @property
    def input_px(self) -> int:
        """Side of a patch, px."""
        return self.look.input_px

    @property
    def mpp(self) -> float:
        """um/px at which it looks."""
        return self.look.mpp

    @property
    def patch_um(self) -> float:
        """Side of a patch, um."""
        return self.look.patch_um

    @property
    def cpu_batch(self) -> int:
        """Patches that a CPU takes best in one call: the larger the network, the fewer.

        Its weights fill the processor's cache then, and what a patch becomes shall
        not leave it: a ViT-S takes 4 a fifth faster than 32.
        """
        weights = sum(p.numel() for p in self._module.parameters())
        fits = max(CPU_WEIGHTS // max(weights, 1), 1)
        return min(1 << (fits.bit_length() - 1), CPU_BATCH)

    def to(self, device: str) -> ModuleEncoder:
        """Move the network to a device ("cpu", "cuda", "cuda:1", "mps")."""
        self._module.to(device)
        self._device = device
        return self

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features (B, P) of patches (B, H, W, 3) uint8.

        Raises
        ------
        EncoderError
            If the patches have another size, type or number of channels.
        """
        check_pixels(self, pixels)
        if not len(pixels):
            return np.empty((0, self.width), np.float32)
        size = self.cpu_batch if self._device == "cpu" else len(pixels)
        parts = [pixels[k : k + size] for k in range(0, len(pixels), size)]
        return np.concatenate([self._encode(part) for part in parts])

    def _encode(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features of one batch that the device takes at once."""
        import torch

        with torch.inference_mode():
            features = self.look.pool(self._module(self._input(pixels)))
        out: NDArray[np.float32] = features.float().cpu().numpy()
        return out

    def _input(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Return (B,3,H,W), normalised; the strides are already channels-last."""
        import torch

        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(
            self._device, non_blocking=True
        )
        rgb = batch.permute(0, 3, 1, 2).float() / 255
        mean = rgb.new_tensor(self.look.mean).view(3, 1, 1)
        return (rgb - mean) / rgb.new_tensor(self.look.sd).view(3, 1, 1)

    def _measure_width(self) -> int:
        """Return P, by encoding one and two patches: both must work."""
        side = self.input_px
        try:
            for count in (1, 2):
                features = self._encode(np.zeros((count, side, side, 3), np.uint8))
        except EncoderError as error:
            raise EncoderError(f"the encoder {self.name}: {error}") from error
        except (RuntimeError, TypeError, ValueError, AssertionError) as error:
            raise EncoderError(
                f"the encoder {self.name} cannot encode {count} patches of {side} x "
                f"{side} px ({_first_line(error)}); it must take float (B, 3, {side}, "
                f"{side}) with any B. Mend input_px in its card, or export it with a "
                "dynamic batch"
            ) from error
        return int(features.shape[1])


def digest(tensors: Mapping[str, torch.Tensor], settings: Mapping[str, Any]) -> str:
    """Return the hex digest (64 letters) of weights and of what else counts.

    The tensors are read by name, not by file: the same weights in a .pt, a
    safetensors file or fresh from a hub have the same digest.
    """
    import torch

    summed = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        summed.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        summed.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return summed.hexdigest()


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
