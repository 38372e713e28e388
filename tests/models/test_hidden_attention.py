"""Hidden attention is the scan written as a matrix (MGI, what the viewer shows)."""

from __future__ import annotations

import pytest
import torch
from gimp_models.evidence import hidden
from gimp_models.evidence.hidden import (
    gene_hidden_attention,
    hidden_attention,
    mean_hidden_attention,
)
from gimp_models.mamba import MambaBlock, MambaGenes
from gimp_models.scan import selective_scan

WIDTH = 8


def block(dtype=torch.float64, **options):
    torch.manual_seed(0)
    return MambaBlock(WIDTH, states=4, **options).to(dtype)


def tokens(length, *, dtype=torch.float64):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(2, length, WIDTH, generator=rng, dtype=dtype)


def real(*lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def scanned(held):
    return selective_scan(held.u, held.delta, held.a, held.b, held.c, held.skip)


@pytest.mark.parametrize("length", [1, 2, 64, 321])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str
)
def test_with_the_skip_term_it_reproduces_the_scan(length, dtype, tolerance):
    (held,) = block(dtype).signals(tokens(length, dtype=dtype))
    alpha = hidden_attention(held)
    assert alpha.shape == (2, 2 * WIDTH, length, length)
    y = torch.einsum("beij,bje->bie", alpha, held.u) + held.skip * held.u
    torch.testing.assert_close(y, scanned(held), atol=tolerance, rtol=0)


def test_it_reproduces_both_directions():
    for held in block(bidirectional=True).signals(tokens(20), real(20, 11)):
        y = torch.einsum("beij,bje->bie", hidden_attention(held), held.u)
        y = y + held.skip * held.u
        torch.testing.assert_close(y, scanned(held), atol=1e-10, rtol=0)


def test_no_token_reads_what_comes_later():
    (held,) = block().signals(tokens(20))
    alpha = hidden_attention(held)
    assert alpha.triu(1).eq(0).all()
    assert alpha.tril().ne(0).any((0, 1)).tril().sum() == 20 * 21 / 2


def test_steep_decays_overflow_nothing():
    model = block(torch.float32)
    with torch.no_grad():
        model.directions[0].A_log += 12
    (held,) = model.signals(tokens(321, dtype=torch.float32))
    assert hidden_attention(held).isfinite().all()


def test_some_channels_are_those_of_all():
    (held,) = block().signals(tokens(20))
    some = hidden_attention(held, slice(3, 9))
    assert some.equal(hidden_attention(held)[:, 3:9])


def test_the_mean_is_over_all_channels_however_many_fit_at_once(monkeypatch):
    (held,) = block().signals(tokens(20))
    right = hidden_attention(held).abs().mean(1).detach()
    for room in (1, 2 * 20 * 20 * 5, 1 << 22):
        monkeypatch.setattr(hidden, "_ROOM", room)
        found = mean_hidden_attention(block(), tokens(20))
        torch.testing.assert_close(found, right, atol=1e-12, rtol=0)


def test_the_mean_of_both_directions_lies_in_the_order_of_the_tokens():
    forward, backward = block(bidirectional=True).signals(tokens(20))
    first, second = (hidden_attention(x).abs().mean(1) for x in (forward, backward))
    found = mean_hidden_attention(block(bidirectional=True), tokens(20))
    torch.testing.assert_close(found.tril(-1), first.tril(-1).detach())
    torch.testing.assert_close(found.triu(1), second.flip(1, 2).triu(1).detach())


@pytest.mark.parametrize("bidirectional", [False, True])
def test_nothing_is_read_from_padding(bidirectional):
    model, mask = block(bidirectional=bidirectional), real(20, 11)
    found = mean_hidden_attention(model, tokens(20), mask)
    assert found[1, :, 11:].eq(0).all()
    alone = mean_hidden_attention(model, tokens(20)[1:, :11])
    torch.testing.assert_close(found[1:, :11, :11], alone, atol=1e-12, rtol=0)


def test_a_gene_encoder_has_one_map_per_block_and_keeps_its_mode():
    torch.manual_seed(0)
    sizes = {"fragment": 4, "width": WIDTH, "layers": 3, "states": 4, "conv": 4}
    options = {"tokenise": "chunk", "bidirectional": False, "pool": "mean"}
    genes = MambaGenes(30, **sizes, **options, dropout=0.5)
    x = torch.randn(2, 30, generator=torch.Generator().manual_seed(2))
    found = gene_hidden_attention(genes, x)
    assert found.shape == (2, 3, 8, 8)
    assert found.equal(gene_hidden_attention(genes, x))  # dropout is off
    assert genes.training
    first = mean_hidden_attention(genes.blocks[0], genes.embed(x))
    torch.testing.assert_close(found[:, 0], first)
