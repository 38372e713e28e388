"""Gene encoder of Subspace: a self-normalising network (spec 3.1).

Letters: B patients, G genes of one branch, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["SNN"]

_HIDDEN = (64, 48, 32)


class SNN(nn.Module):
    """Linear, ELU, AlphaDropout four times, then ReLU: G -> 64 -> 48 -> 32 -> D.

    Weights begin as N(0, 1/fan_in), biases as 0, so that z-scores neither grow nor
    vanish from layer to layer.

    Parameters
    ----------
    genes
        G.
    width
        D.
    dropout
        Share of values that AlphaDropout sets aside.
    """

    def __init__(self, genes: int, width: int, *, dropout: float) -> None:
        super().__init__()
        sizes = (genes, *_HIDDEN, width)
        self.layers = nn.ModuleList(map(nn.Linear, sizes[:-1], sizes[1:]))
        self.activation = nn.ELU()
        self.dropout = nn.AlphaDropout(dropout)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor) -> Tensor:
        """Encode z-scores (B,G) as g (B,D), not negative."""
        for layer in self.layers:
            z = self.dropout(self.activation(layer(z)))
        return z.relu()
