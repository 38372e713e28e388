"""Expression profiles as sequences of gene tokens (MGI, spec B).

Letters: B patients, G genes, F genes of a fragment, T gene tokens, Dg gene width.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from gimp_models.errors import BatchError

__all__ = ["FragmentTokens", "GeneTokeniser", "SingleGeneTokens", "Tokenise"]

Tokenise = Literal["chunk", "gene"]


class GeneTokeniser(nn.Module):
    """Profiles (B,G) to gene tokens (B,T,Dg) (spec B).

    Parameters
    ----------
    genes
        G.
    tokenise
        "chunk": T = ceil(G / F) fragments of consecutive genes, t_k = W x_k + p_k.
        "gene": T = G tokens t_g = x_g e_g + b_g.
    fragment
        F; "gene" takes no notice of it.
    width
        Dg.

    Attributes
    ----------
    length
        T.
    """

    def __init__(
        self, genes: int, *, tokenise: Tokenise, fragment: int, width: int
    ) -> None:
        super().__init__()
        self.genes = genes
        held = fragment if tokenise == "chunk" else 1
        self.length = -(-genes // held)
        self.tokens = _TOKENS[tokenise](self.length, held, width)
        self.token: Tensor
        self.register_buffer("token", torch.arange(genes) // held, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Embed z-scored profiles.

        Raises
        ------
        BatchError
            If there are not G genes.
        """
        if x.shape[-1] != self.genes:
            raise BatchError(
                f"Profiles have {x.shape[-1]} genes, the gene encoder reads "
                f"{self.genes}: align the table to the model's panel."
            )
        tokens: Tensor = self.tokens(x)
        return tokens

    def tokens_of_genes(self) -> Tensor:
        """Token (G,) int64 in which each gene is read."""
        return self.token


class FragmentTokens(nn.Module):
    """Genes in stored order, F to a token: t_k = W x_k + p_k (spec B, `chunk`)."""

    def __init__(self, length: int, fragment: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(fragment, width))
        self.position = nn.Parameter(torch.empty(length, width))
        nn.init.normal_(self.weight, std=fragment**-0.5)
        # As large as the embedded genes: with a small one the norms turn around at
        # z = 0, and integrated gradients from there do not complete.
        nn.init.normal_(self.position)

    def forward(self, x: Tensor) -> Tensor:
        """(B,G) to (B,T,Dg); genes missing in the last fragment are zeros."""
        length, fragment = len(self.position), len(self.weight)
        padded = F.pad(x, (0, length * fragment - x.shape[1]))
        return padded.reshape(-1, length, fragment) @ self.weight + self.position


class SingleGeneTokens(nn.Module):
    """One token per gene: t_g = x_g e_g + b_g (spec B, `gene`)."""

    def __init__(self, length: int, fragment: int, width: int) -> None:
        del fragment  # it is 1
        super().__init__()
        self.weight = nn.Parameter(torch.empty(length, width))
        self.bias = nn.Parameter(torch.empty(length, width))
        for parameter in (self.weight, self.bias):
            nn.init.normal_(parameter)  # of one size, as in FragmentTokens

    def forward(self, x: Tensor) -> Tensor:
        """(B,G) to (B,G,Dg)."""
        return x[..., None] * self.weight + self.bias


_TOKENS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "chunk": FragmentTokens,
    "gene": SingleGeneTokens,
}
