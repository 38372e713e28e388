"""Encoders that ship with the package: a PatchNet and its card.

An embedded encoder is two files in `weights/`: NAME.safetensors and NAME.json, its
card (sizes, what it was trained on, licence, measured quality). Its fingerprint names
weights and sizes, so features of different encoders are never mixed up.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import EncoderError
from napari_gimp.patches.encoders.protocol import check_pixels

if TYPE_CHECKING:
    import torch

    from napari_gimp.patches.network import PatchNet, PatchNetConfig

WEIGHTS = Path(__file__).parents[1] / "weights"
CPU_BATCH = 32
"""Patches a CPU encodes at a time: more leave its cache, at 64 a sixth slower."""


@dataclass(frozen=True, slots=True)
class EncoderCard:
    """What an encoder is; `facts` holds everything else its card says.

    Parameters
    ----------
    name
        Its name.
    width
        P, features per patch.
    input_px
        Side of its input, px.
    mpp
        um/px at which it looks.
    config
        Sizes of its network.
    facts
        The whole card: training data, licence, metrics, ...
    """

    name: str
    width: int
    input_px: int
    mpp: float
    config: PatchNetConfig
    facts: dict[str, Any]


class PatchNetEncoder:
    """A frozen PatchNet with its card. `load_embedded` makes it.

    Parameters
    ----------
    card
        What it is.
    network
        The network, in evaluation mode.
    fingerprint
        Hex digest of weights and sizes.
    """

    def __init__(self, card: EncoderCard, network: PatchNet, fingerprint: str) -> None:
        self.card = card
        self.fingerprint = fingerprint
        self._network = network
        self._device = "cpu"

    @property
    def name(self) -> str:
        """Its name."""
        return self.card.name

    @property
    def width(self) -> int:
        """P, features per patch."""
        return self.card.width

    @property
    def input_px(self) -> int:
        """Side of a patch, px."""
        return self.card.input_px

    @property
    def mpp(self) -> float:
        """um/px at which it looks."""
        return self.card.mpp

    @property
    def patch_um(self) -> float:
        """Side of a patch, um."""
        return self.card.input_px * self.card.mpp

    @property
    def cpu_batch(self) -> int:
        """Patches that a CPU takes best in one call."""
        return CPU_BATCH

    def to(self, device: str) -> PatchNetEncoder:
        """Move the network to a device ("cpu", "cuda", "cuda:1", "mps")."""
        self._network.to(device)
        self._device = device
        return self

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return features (B, P) of patches (B, H, W, 3) uint8.

        Raises
        ------
        EncoderError
            If the patches have another size, type or number of channels.
        """
        import torch

        check_pixels(self, pixels)
        size = CPU_BATCH if self._device == "cpu" else max(len(pixels), 1)
        parts = [pixels[k : k + size] for k in range(0, max(len(pixels), 1), size)]
        with torch.inference_mode():
            features = [self._network(self._input(part)).float() for part in parts]
        out: NDArray[np.float32] = torch.cat(features).cpu().numpy()
        return out

    def _input(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Return (B,3,H,W) in 0..1; the strides are already channels-last."""
        import torch

        batch = torch.from_numpy(np.ascontiguousarray(pixels)).to(
            self._device, non_blocking=True
        )
        return batch.permute(0, 3, 1, 2).float() / 255


def embedded_names(folder: Path = WEIGHTS) -> list[str]:
    """Return the names of the encoders of a folder of weights and cards."""
    return sorted(path.stem for path in folder.glob("*.json"))


def load_embedded(name: str, *, folder: Path = WEIGHTS) -> PatchNetEncoder:
    """Return the encoder `name` of a folder, on the CPU, ready for inference.

    Raises
    ------
    EncoderError
        If there is none of that name, or its files are damaged.
    """
    from napari_gimp.patches.network import PatchNet, fuse

    card = read_card(name, folder=folder)
    network = PatchNet(card.config)
    weights = read_weights(folder / f"{name}.safetensors", network)
    return PatchNetEncoder(card, fuse(network), fingerprint(weights, card.config))


def read_weights(path: Path, network: PatchNet) -> bytes:
    """Load a safetensors file into a network; return the file's bytes.

    Raises
    ------
    EncoderError
        If it is missing, damaged, or of a network of other sizes.
    """
    try:
        weights = path.read_bytes()
        network.load_state_dict(_tensors(weights))
    except (OSError, RuntimeError, ValueError) as error:
        raise EncoderError(
            f"the weights {path} do not fit the encoder's card ({error}); install the "
            "package again or train anew with python -m napari_gimp.training.encoder"
        ) from error
    return weights


def read_card(name: str, *, folder: Path = WEIGHTS) -> EncoderCard:
    """Return the card of an encoder.

    Raises
    ------
    EncoderError
        If there is none of that name or it is damaged.
    """
    from napari_gimp.patches.network import PatchNetConfig

    path = folder / f"{name}.json"
    if not path.is_file():
        known = ", ".join(embedded_names(folder)) or "none"
        raise EncoderError(
            f"there is no encoder {name!r} in {folder}; known: {known}. Choose one"
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        sizes = facts["config"]
        config = PatchNetConfig(
            sizes["stem"], tuple(sizes["widths"]), tuple(sizes["depths"])
        )
        return EncoderCard(
            name, config.features, facts["input_px"], facts["mpp"], config, facts
        )
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderError(
            f"the card {path} is damaged ({error!r}); install the package again"
        ) from error


def fingerprint(weights: bytes, config: PatchNetConfig) -> str:
    """Return the hex digest (64 letters) of a weights file and its sizes."""
    sizes = json.dumps(asdict(config), sort_keys=True)
    return hashlib.sha256(weights + sizes.encode()).hexdigest()


def _tensors(weights: bytes) -> dict[str, torch.Tensor]:
    """Return the tensors of a safetensors file as float32 (integers kept)."""
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(weights)
    except SafetensorError as error:
        raise ValueError(str(error)) from error
    return {k: t.float() if t.is_floating_point() else t for k, t in tensors.items()}
