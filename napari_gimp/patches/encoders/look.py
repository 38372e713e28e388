"""How a foreign network looks at a patch, and how its output becomes one vector."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from napari_gimp.errors import EncoderError

if TYPE_CHECKING:
    import torch

POOLINGS = ("vector", "class", "class+mean", "map")
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_SD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True)
class Look:
    """What a network is shown and what is taken from it.

    Parameters
    ----------
    input_px
        Side of its input, px.
    mpp
        um/px at which it looks.
    mean, sd
        Per channel, of RGB in 0..1; pixels are (x - mean) / sd.
    pooling
        "vector": its output is (B,P). "class": the first of its tokens (B,T,P).
        "class+mean": the first token, then the mean of the patch tokens. "map": the
        mean over the places of a map (B,P,h,w).
    prefix
        Tokens before the patch tokens: the class token and any registers.

    Raises
    ------
    EncoderError
        If a value is impossible.
    """

    input_px: int
    mpp: float
    mean: tuple[float, float, float]
    sd: tuple[float, float, float]
    pooling: str = "vector"
    prefix: int = 1

    def __post_init__(self) -> None:
        for name, right, holds in self._rules():
            if not holds:
                raise EncoderError(
                    f"an encoder's {name} must be {right}, got "
                    f"{getattr(self, name)!r}; mend it in the encoder's card"
                )

    def _rules(self) -> list[tuple[str, str, bool]]:
        return [
            ("input_px", "a whole number of pixels, 1 or more", _whole(self.input_px)),
            ("mpp", "um/px, above 0", _number(self.mpp) and self.mpp > 0),
            ("mean", "three numbers", _three(self.mean)),
            ("sd", "three numbers above 0", _three(self.sd) and min(self.sd) > 0),
            ("pooling", f"one of {', '.join(POOLINGS)}", self.pooling in POOLINGS),
            ("prefix", "a whole number of tokens, 1 or more", _whole(self.prefix)),
        ]

    @property
    def patch_um(self) -> float:
        """Side of a patch, um."""
        return self.input_px * self.mpp

    def as_dict(self) -> dict[str, Any]:
        """Return its fields, as a fingerprint takes them."""
        return asdict(self)

    def pool(self, output: Any) -> torch.Tensor:
        """Return features (B,P) of what the network gave.

        Raises
        ------
        EncoderError
            If the output has not the shape that `pooling` names.
        """
        tensor = _tensor(output)
        dimensions = {"vector": 2, "map": 4}.get(self.pooling, 3)
        if tensor.ndim != dimensions:
            raise EncoderError(
                f"the network's output has the shape {tuple(tensor.shape)}, but "
                f"pooling {self.pooling!r} takes {dimensions} axes; name another of "
                f"{', '.join(POOLINGS)} in the encoder's card"
            )
        return self._pooled(tensor)

    def _pooled(self, tensor: torch.Tensor) -> torch.Tensor:
        import torch

        if self.pooling == "map":
            return tensor.mean((-2, -1))
        if self.pooling == "class":
            return tensor[:, 0]
        if self.pooling == "class+mean":
            return torch.cat([tensor[:, 0], tensor[:, self.prefix :].mean(1)], dim=-1)
        return tensor


def _tensor(output: Any) -> torch.Tensor:
    """Return the one tensor of an output: itself, of a list of one, of transformers."""
    import torch

    output = getattr(output, "last_hidden_state", output)
    if isinstance(output, (list, tuple)) and len(output) == 1:
        output = output[0]
    if not isinstance(output, torch.Tensor):
        raise EncoderError(
            f"the network's output is a {type(output).__name__}; an encoder must give "
            "one tensor. Wrap it in a module that returns the features alone"
        )
    return output


def _number(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _three(values: tuple[float, ...]) -> bool:
    return len(values) == 3 and all(_number(value) for value in values)
