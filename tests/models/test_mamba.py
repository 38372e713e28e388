"""The Mamba block and the gene encoder built from it (spec B)."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from gimp_models.errors import BatchError
from gimp_models.mamba import MambaBlock, MambaGenes, no_weight_decay

WIDTH, GENES = 24, 70
WAYS = pytest.mark.parametrize("bidirectional", [False, True], ids=["one", "both"])
TOKENS = pytest.mark.parametrize("tokenise", ["chunk", "gene"])
POOLS = pytest.mark.parametrize("pool", ["mean", "last"])


def block(dtype=torch.float32, **options):
    torch.manual_seed(0)
    return MambaBlock(WIDTH, **{"states": 4, **options}).to(dtype)


def encoder(dtype=torch.float32, **options):
    torch.manual_seed(0)
    sizes = {"tokenise": "chunk", "fragment": 8, "width": WIDTH, "layers": 2}
    sizes |= {"states": 4, "conv": 4, "bidirectional": False, "pool": "mean"}
    return MambaGenes(GENES, **{**sizes, **options}).to(dtype)


def normal(*shape, dtype=torch.float32, seed=1):
    return torch.randn(*shape, generator=torch.manual_seed(seed), dtype=dtype)


def real(*lengths):
    return torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


@pytest.mark.slow
def test_the_block_equals_the_slow_path_of_transformers():
    kind = pytest.importorskip(
        "transformers.models.mamba.modeling_mamba",
        reason="transformers is not installed",
    )
    sizes = {"hidden_size": WIDTH, "state_size": 16, "conv_kernel": 4, "expand": 2}
    config = kind.MambaConfig(**sizes, num_hidden_layers=1, use_mambapy=False)
    theirs = kind.MambaMixer(config, layer_idx=0).double().eval()
    ours = block(torch.float64, states=16)
    with torch.no_grad():
        ours.norm.weight.uniform_(0.5, 2)
        for parameter in theirs.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    take(theirs, ours)
    x = normal(3, 37, WIDTH, dtype=torch.float64).requires_grad_()
    found, right = ours(x), x + theirs(ours.norm(x))
    close(found, right, 1e-6)  # theirs rounds A to float32
    one, other = (torch.autograd.grad(y.square().sum(), x)[0] for y in (found, right))
    torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def take(theirs, ours):
    """Copy the weights of transformers' mixer."""
    part = ours.directions[0]
    for into, source in (
        (ours.project_in, theirs.in_proj),
        (part.conv, theirs.conv1d),
        (part.select, theirs.x_proj),
        (part.step, theirs.dt_proj),
        (ours.project_out, theirs.out_proj),
    ):
        into.load_state_dict(source.state_dict())
    with torch.no_grad():
        part.A_log.copy_(theirs.A_log)
        part.skip.copy_(theirs.D)


def test_a_block_starts_as_the_specification_says():
    part = MambaBlock(64, states=16).directions[0]
    assert part.select.out_features == math.ceil(64 / 16) + 2 * 16
    assert part.conv.weight.shape == (128, 1, 4)
    close(part.A_log, torch.arange(1.0, 17).log().expand(128, 16))
    assert part.skip.eq(1).all()
    assert part.step.weight.abs().max() <= 4**-0.5
    delta = F.softplus(part.step.bias)
    assert delta.min() >= 1e-3 - 1e-6
    assert delta.max() <= 1e-1 + 1e-6
    assert delta.log().std() > 1  # log-uniform, not one value


def test_one_way_a_token_changes_nothing_before_it():
    x = normal(2, 30, WIDTH)
    other = x.clone()
    other[:, 12] += 1
    before, after = (block()(tokens) for tokens in (x, other))
    assert before[:, :12].equal(after[:, :12])
    assert before[:, 12:].ne(after[:, 12:]).any(2).all()


def test_both_ways_a_token_changes_every_other():
    x = normal(2, 30, WIDTH)
    other = x.clone()
    other[:, 12] += 1
    before, after = (block(bidirectional=True)(tokens) for tokens in (x, other))
    assert before.ne(after).any(2).all()


def test_the_second_direction_is_the_first_one_turned():
    model = block(torch.float64, bidirectional=True)
    x = normal(2, 9, WIDTH, dtype=torch.float64)
    with torch.no_grad():
        once = model(x)
        model.directions = model.directions[::-1]
        turned = model(x.flip(1)).flip(1)
    close(once, turned, 1e-12)


@WAYS
def test_a_padded_batch_equals_its_members_one_by_one(bidirectional):
    model, lengths = block(bidirectional=bidirectional), (30, 17, 1)
    x = normal(3, 30, WIDTH)
    many = model(x, real(*lengths))
    for row, length in enumerate(lengths):
        close(many[row, :length], model(x[row : row + 1, :length])[0])


@WAYS
def test_a_padded_batch_learns_what_its_members_do(bidirectional):
    model = block(torch.float64, bidirectional=bidirectional)
    x, lengths = normal(2, 30, WIDTH, dtype=torch.float64), (30, 17)
    mask = real(*lengths)
    many = gradients(model, model(x, mask)[mask].square().sum())
    loss = sum(model(x[i : i + 1, :n]).square().sum() for i, n in enumerate(lengths))
    for found, right in zip(many, gradients(model, loss), strict=True):
        torch.testing.assert_close(found, right, atol=1e-10, rtol=1e-8)


def gradients(model, loss):
    return torch.autograd.grad(loss, list(model.parameters()))


@WAYS
@pytest.mark.parametrize("junk", [1e4, torch.nan])
def test_what_padding_holds_changes_nothing(bidirectional, junk):
    model, mask = block(bidirectional=bidirectional), real(30, 17, 1)
    x = normal(3, 30, WIDTH)
    other = x.masked_fill(~mask[..., None], junk)
    assert model(x, mask)[mask].equal(model(other, mask)[mask])


@TOKENS
@WAYS
@POOLS
def test_every_parameter_learns(tokenise, bidirectional, pool):
    model = encoder(tokenise=tokenise, bidirectional=bidirectional, pool=pool)
    model(normal(3, GENES)).pooled.square().sum().backward()
    dead = [n for n, p in model.named_parameters() if not p.grad.abs().sum() > 0]
    assert dead == []


def test_fragments_are_consecutive_genes():
    model = encoder(fragment=16)
    assert model.embed.length == 5  # 70 genes
    assert model.tokens_of_genes().tolist() == [g // 16 for g in range(GENES)]


def test_single_genes_are_tokens_of_their_own():
    model = encoder(tokenise="gene")
    assert model.tokens_of_genes().tolist() == list(range(GENES))
    x = normal(2, GENES)
    right = x[1, 5] * model.embed.tokens.weight[5] + model.embed.tokens.bias[5]
    close(model.embed(x)[1, 5], right)


@TOKENS
def test_a_gene_enters_through_its_own_token_alone(tokenise):
    model = encoder(tokenise=tokenise)
    x = normal(1, GENES).requires_grad_()
    tokens = model.embed(x)
    for token in (0, 4, tokens.shape[1] - 1):
        loss = tokens[0, token].square().sum()
        (gradient,) = torch.autograd.grad(loss, x, retain_graph=True)
        touched = gradient[0].nonzero()[:, 0].tolist()
        assert touched == model.tokens_of_genes().eq(token).nonzero()[:, 0].tolist()


def test_the_order_of_genes_matters():
    model, x = encoder(), normal(2, GENES)
    shuffled = x[:, torch.randperm(GENES, generator=torch.manual_seed(3))]
    assert model(x).pooled.sub(model(shuffled).pooled).abs().max() > 1e-2


@POOLS
def test_pooling_reads_real_tokens_only(pool):
    model, x = encoder(pool=pool), normal(3, GENES)
    mask = real(9, 4, 1)
    held = model(x, mask)
    assert held.tokens[~mask].eq(0).all()
    for row, length in enumerate((9, 4, 1)):
        tokens = held.tokens[row, :length]
        close(held.pooled[row], tokens.mean(0) if pool == "mean" else tokens[-1])


def test_the_last_token_of_two_scans_is_one_at_each_end():
    model = encoder(pool="last", bidirectional=True)
    held = model(normal(3, GENES), real(9, 4, 1))
    for row, length in enumerate((9, 4, 1)):
        ends = held.tokens[row, 0] + held.tokens[row, length - 1]
        close(held.pooled[row], ends / 2)


def test_without_a_mask_all_tokens_are_real():
    model, x = encoder(), normal(3, GENES)
    assert model(x).mask.shape == (3, 9)
    assert model(x).mask.all()
    close(model(x).pooled, model(x, real(9, 9, 9)).pooled)


def test_a_batch_of_one_equals_the_same_patient_among_many():
    model, x = encoder(bidirectional=True), normal(3, GENES)
    many = model(x)
    for row in range(3):
        close(model(x[row : row + 1]).pooled[0], many.pooled[row])


def test_profiles_of_another_panel_are_refused():
    with pytest.raises(BatchError, match=r"71 genes, the gene encoder reads 70"):
        encoder()(normal(2, GENES + 1))


@WAYS
def test_the_parameters_of_the_recurrence_are_named_for_the_optimiser(bidirectional):
    model = encoder(bidirectional=bidirectional)
    names = no_weight_decay(model)
    assert len(names) == 2 * (1 + bidirectional) * 3
    assert names <= {name for name, _ in model.named_parameters()}
    one = "blocks.1.directions.0"
    assert {f"{one}.A_log", f"{one}.skip", f"{one}.step.bias"} <= names
    assert no_weight_decay(model.blocks[0].directions[0]) == {
        "A_log",
        "skip",
        "step.bias",
    }
    assert no_weight_decay(torch.nn.Linear(2, 2)) == set()


def test_dropout_acts_in_training_only():
    model, x = block(dropout=0.5), normal(2, 9, WIDTH)
    assert not model(x).equal(model(x))
    model.eval()
    assert model(x).equal(model(x))


@TOKENS
def test_double_precision_agrees_with_single(tokenise):
    x = normal(2, GENES)
    single = encoder(tokenise=tokenise)(x).pooled
    double = encoder(torch.float64, tokenise=tokenise)(x.double()).pooled
    assert double.dtype == torch.float64
    close(single.double(), double, 1e-5)


@WAYS
def test_bfloat16_autocast_stays_close(bidirectional):
    model, x = encoder(bidirectional=bidirectional), normal(4, GENES)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(x).pooled
    whole = model(x).pooled
    assert (half - whole).abs().max() < 0.05 * whole.abs().max()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@WAYS
def test_a_gpu_gives_what_the_processor_gives(bidirectional):
    model, x = encoder(bidirectional=bidirectional), normal(3, GENES)
    here = model(x, real(9, 4, 1)).pooled
    there = model.cuda()(x.cuda(), real(9, 4, 1).cuda()).pooled
    close(there.cpu(), here, 1e-4)
