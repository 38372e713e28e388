"""Gene groupings: which genes the gene branch reads together (spec gimp C).

A grouping is a tuple of groups, a group a tuple of gene indices in the order of the
panel. It is saved in the checkpoint's config as it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from gimp_models.errors import ConfigError

__all__ = ["Groups", "contiguous", "correlated", "pathways"]

Groups = tuple[tuple[int, ...], ...]

_REFINEMENTS = 10


def contiguous(genes: int, size: int) -> Groups:
    """Cut genes into runs of `size` in stored order; the last may be shorter."""
    starts = range(0, genes, size)
    return tuple(tuple(range(s, min(s + size, genes))) for s in starts)


def pathways(
    symbols: Sequence[str], sets: Mapping[str, Sequence[str]], *, size: int
) -> tuple[Groups, tuple[str, ...]]:
    """Group genes by named sets; a gene may be in several.

    Genes of no set follow in groups "other 1", "other 2", ... so that no gene of
    the panel is lost.

    Parameters
    ----------
    symbols
        G gene symbols of the panel.
    sets
        Set name to symbols, as read from a GMT file. Sets without a gene of the
        panel are left out.
    size
        Largest number of genes of an "other" group.

    Returns
    -------
    tuple
        Groups and their names.

    Raises
    ------
    ConfigError
        If no set has a gene of the panel.
    """
    place = {symbol: index for index, symbol in enumerate(symbols)}
    named = {name: _members(place, members) for name, members in sets.items()}
    named = {name: members for name, members in named.items() if members}
    if not named:
        raise ConfigError(
            f"None of the {len(sets)} gene sets has a gene of the panel (which begins "
            f"with {', '.join(symbols[:3])}): use sets of the same gene symbols."
        )
    others = sorted(
        set(place.values()) - {g for group in named.values() for g in group}
    )
    rest = [tuple(others[s : s + size]) for s in range(0, len(others), size)]
    names = (*named, *(f"other {i + 1}" for i in range(len(rest))))
    return (*named.values(), *rest), names


def correlated(values: Tensor, *, size: int) -> Groups:
    """Cluster genes by correlation into groups of equal size.

    Genes are bisected by balanced 2-means of their profiles until a group holds at
    most `size`; deterministic, no labels used.

    Parameters
    ----------
    values
        (S,G) z-scores of the training fold's samples.
    size
        Genes per group; the last group may be shorter.

    Returns
    -------
    Groups
    """
    profiles = values.double() - values.double().mean(0)
    profiles = profiles / profiles.norm(dim=0).clamp_min(1e-12)
    genes = torch.arange(values.shape[1], device=values.device)
    return tuple(_bisect(profiles.T, genes, size))


def _members(place: Mapping[str, int], members: Sequence[str]) -> tuple[int, ...]:
    return tuple(sorted({place[symbol] for symbol in members if symbol in place}))


def _bisect(profiles: Tensor, genes: Tensor, size: int) -> list[tuple[int, ...]]:
    if len(genes) <= size:
        return [tuple(genes.sort().values.tolist())]
    groups = -(-len(genes) // size)
    first, second = _halves(profiles, genes, (groups + 1) // 2 * size)
    return _bisect(profiles, first, size) + _bisect(profiles, second, size)


def _halves(profiles: Tensor, genes: Tensor, middle: int) -> tuple[Tensor, Tensor]:
    """Balanced 2-means, begun along the leading principal direction."""
    inside = profiles[genes] - profiles[genes].mean(0)
    direction = torch.linalg.eigh(inside.T @ inside).eigenvectors[:, -1]
    for _ in range(_REFINEMENTS):
        order = torch.argsort(inside @ direction, stable=True)
        halves = inside[order[:middle]], inside[order[middle:]]
        direction = halves[1].mean(0) - halves[0].mean(0)
    order = torch.argsort(inside @ direction, stable=True)
    return genes[order[:middle]], genes[order[middle:]]
