"""Evidence of Subspace: each map against its identity and a plain computation."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.errors import BatchError
from gimp_models.evidence.subspace import (
    against_rest,
    class_evidence,
    key_map,
    key_places_um,
    look,
    risk_evidence,
)
from gimp_models.subspace import Subspace, SubspaceConfig
from gimp_models.survival import risk

FEATURES, GENES, STEP_UM = 6, 20, 128.0
TUMOUR, MICRO = (3, 1, 7, 0), (7, 4, 9, 10, 12)
both_layouts = pytest.mark.parametrize("layout", ["spatial", "list"])
both_sides = pytest.mark.parametrize("side", ["tumour", "micro"])


@pytest.fixture
def make():
    """Seeded tiny model on a 10 x 10 grid that says something of its own accord."""

    def build(**options) -> Subspace:
        config = SubspaceConfig.preset(
            "tiny",
            patch_features=FEATURES,
            genes=GENES,
            classes=3,
            tumour_genes=TUMOUR,
            micro_genes=MICRO,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = Subspace(replace(config, **{"grid": 10, **options})).eval()
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * 0.2)
        return model

    return build


@pytest.fixture
def slide(rng):
    def build(rows, columns, *, genes=True, label=0) -> Bag:
        cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
        return Bag(
            features=torch.randn(rows * columns, FEATURES, generator=rng),
            coords_um=(cells + 0.5) * STEP_UM,
            genes=torch.randn(GENES, generator=rng) if genes else None,
            label=label,
        )

    return build


@pytest.fixture
def bags(slide):
    return [slide(13, 9), slide(5, 7), slide(8, 8, genes=False), slide(1, 1)]


@pytest.fixture
def batch(bags):
    return collate(bags)


@both_layouts
def test_evidence_and_constants_sum_to_the_logit(make, batch, layout):
    """sum c^t + const_t + sum c^m + const_m + b_k = logit_k (spec 7)."""
    model = make(layout=layout)
    output = look(model, batch)
    found = class_evidence(model, output)
    assert output.logits.abs().min() > 1e-3
    torch.testing.assert_close(found.total, output.logits, atol=1e-5, rtol=1e-5)


def test_evidence_is_exact_under_autocast(make, batch):
    model = make()
    expected = class_evidence(model, look(model, batch))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = look(model, batch)
        found = class_evidence(model, output)
        rest = against_rest(found).total
    torch.testing.assert_close(found.total, output.logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.tumour.tokens, expected.tumour.tokens)
    torch.testing.assert_close(rest, against_rest(expected).total)


def test_evidence_of_a_large_slide_sums_to_the_logit_at_base_size(slide):
    """2,500 tokens, float32: still within 1e-5."""
    config = SubspaceConfig.preset(
        "base",
        patch_features=FEATURES,
        genes=GENES,
        classes=4,
        tumour_genes=TUMOUR,
        micro_genes=MICRO,
    )
    torch.manual_seed(0)
    model = Subspace(config).eval()
    output = look(model, collate([slide(60, 44)]))
    found = class_evidence(model, output).total
    torch.testing.assert_close(found, output.logits, atol=1e-5, rtol=0)


def test_evidence_is_the_formula_token_by_token(make, batch):
    model = make().double()
    batch = replace(batch, features=batch.features.double(), genes=batch.genes.double())
    output = look(model, batch)
    found = class_evidence(model, output)
    half = model.config.width
    for start, branch, seen, told in (
        (0, model.tumour, output.tumour, found.tumour),
        (half, model.micro, output.micro, found.micro),
    ):
        for patient, real in enumerate(output.placed.mask):
            z = seen.pooled[patient]
            for k in range(3):
                w = model.head.weight[k, start : start + half]
                u = branch.project.weight.T @ w
                sigma = z.tanh() / z
                each = (u * sigma) @ branch.pool.weight @ seen.tokens[patient].T
                expected = torch.where(real, each, 0) / real.sum()
                torch.testing.assert_close(told.tokens[patient, k], expected)
                constant = (u * sigma) @ branch.pool.bias + branch.project.bias @ w
                torch.testing.assert_close(told.constant[patient, k], constant)


def test_evidence_holds_where_a_pooled_value_is_zero(make, batch):
    """sigma(0) = 1: nothing divides by zero, the identity holds."""
    model = make()
    with torch.no_grad():
        for branch in (model.tumour, model.micro):
            branch.pool.weight[::2] = 0
            branch.pool.bias[::2] = 0
            branch.pool.weight[1] *= 1e-6
            branch.pool.bias[1] = 0
    output = look(model, batch)
    assert output.tumour.pooled[:, ::2].eq(0).all()
    found = class_evidence(model, output)
    torch.testing.assert_close(found.total, output.logits, atol=1e-5, rtol=1e-5)


def test_each_branch_carries_its_half_of_the_head(make, batch):
    """The balance of a slide: what a branch adds is its feature times its half."""
    model = make()
    output = look(model, batch)
    found = class_evidence(model, output)
    of_tumour, of_micro = model.head.weight.split(model.config.width, dim=1)
    for told, seen, weight in (
        (found.tumour, output.tumour, of_tumour),
        (found.micro, output.micro, of_micro),
    ):
        expected = seen.feature @ weight.T
        torch.testing.assert_close(told.total, expected, atol=1e-5, rtol=1e-5)


@both_layouts
def test_patch_values_keep_the_sum_and_empty_cells_have_none(make, batch, layout):
    model = make(layout=layout)
    output = look(model, batch)
    tokens = class_evidence(model, output).micro.tokens
    assert tokens[~output.placed.mask[:, None].expand_as(tokens)].eq(0).all()
    values = output.placed.patch_values(tokens)
    torch.testing.assert_close(values.nansum(-1), tokens.sum(-1), atol=1e-5, rtol=1e-5)
    assert values.isnan()[~batch.mask[:, None].expand_as(values)].all()


def test_evidence_of_a_patient_does_not_depend_on_the_batch(make, bags):
    model = make()
    many = look(model, collate(bags))
    found = class_evidence(model, many)
    for row, bag in enumerate(bags):
        one = class_evidence(model, look(model, collate([bag])))
        torch.testing.assert_close(
            found.tumour.tokens[row], one.tumour.tokens[0], atol=1e-5, rtol=1e-4
        )


def test_class_against_the_rest_is_the_difference_from_the_mean_class(make, batch):
    model = make()
    output = look(model, batch)
    found, rest = (evidence := class_evidence(model, output)), against_rest(evidence)
    for name in ("tumour", "micro"):
        tokens = getattr(found, name).tokens
        expected = tokens - tokens.mean(1, keepdim=True)
        told = getattr(rest, name).tokens
        torch.testing.assert_close(told, expected, atol=1e-6, rtol=1e-4)
    centred = output.logits - output.logits.mean(1, keepdim=True)
    torch.testing.assert_close(rest.total, centred, atol=1e-5, rtol=1e-4)


def test_a_shift_of_all_logits_is_no_evidence_against_the_rest(make, batch):
    model = make()
    output = look(model, batch)
    before = against_rest(class_evidence(model, output))
    with torch.no_grad():
        model.head.bias += 3.0
        model.head.weight += torch.randn(1, 64)
    after = against_rest(class_evidence(model, look(model, batch)))
    torch.testing.assert_close(after.total, before.total, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        after.tumour.tokens, before.tumour.tokens, atol=1e-4, rtol=1e-3
    )


def test_risk_evidence_is_the_slope_of_the_risk_times_the_evidence(make, batch):
    """Against autograd; r_n = sum_k h_k (sum_{j>=k} S_j) c_n(k)."""
    model = make()
    output = look(model, batch)
    logits = output.logits.clone().requires_grad_()
    (slope,) = torch.autograd.grad(risk(logits).sum(), logits)
    assert slope.gt(0).all()
    evidence = class_evidence(model, output)
    found = risk_evidence(evidence, output)
    expected = torch.einsum("bk,bkn->bn", slope, evidence.micro.tokens)
    torch.testing.assert_close(found.micro.tokens[:, 0], expected)
    total = (slope * output.logits).sum(1)
    torch.testing.assert_close(found.total[:, 0], total, atol=1e-5, rtol=1e-5)


def test_risk_evidence_foretells_the_change_of_the_risk(make, batch):
    """A small push of a token along its evidence moves the risk as r_n says."""
    model = make().double()
    batch = replace(batch, features=batch.features.double(), genes=batch.genes.double())
    output = look(model, batch)
    evidence = class_evidence(model, output)
    told = risk_evidence(evidence, output).tumour.tokens[0, 0, :5]
    for token, expected in enumerate(told):
        step = 1e-6
        moved = output.logits[0] + step * evidence.tumour.tokens[0, :, token]
        change = (risk(moved) - risk(output.logits[0])) / step
        torch.testing.assert_close(change, expected, atol=1e-7, rtol=1e-3)


@both_layouts
@both_sides
def test_key_map_is_the_mean_attention_put_where_each_key_read(
    make, batch, layout, side
):
    """Against a plain bilinear splat at ((vs + 1) * side - 1) / 2."""
    output = look(make(layout=layout), batch)
    found = key_map(output, side)
    branch = getattr(output, side)
    heads, grid = 4, 10
    expected = torch.zeros(len(batch), heads, grid, grid)
    place = ((branch.positions + 1) * grid - 1) / 2
    place = place.unflatten(0, (-1, heads)).flatten(2, 3)
    for b in range(len(batch)):
        for head in range(heads):
            weights = branch.key_weights[b, head]
            for (x, y), weight in zip(place[b, head].tolist(), weights, strict=True):
                for row in range(grid):
                    for column in range(grid):
                        share = max(0, 1 - abs(row - y)) * max(0, 1 - abs(column - x))
                        expected[b, head, row, column] += share * weight
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert found.sum((2, 3)).le(1 + 1e-5).all()
    assert found.gt(0).any()


def test_key_maps_need_key_weights(make, batch):
    with pytest.raises(BatchError, match="no key weights"):
        key_map(make()(batch), "tumour")


def test_weights_of_keys_sum_to_one(make, batch):
    output = look(make(layout="list"), batch)
    weights = output.micro.key_weights
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(batch), 4))
    assert weights.std(-1).gt(0).all()  # unlike the mean over keys


def test_keys_are_drawn_on_the_slide_in_um(make, bags):
    output = look(make(), collate(bags))
    found = key_places_um(output, "tumour")
    assert found.shape == (4, 4, 5, 5, 2)  # patients, heads, keys, (y, x)
    x, y = output.tumour.positions.unflatten(0, (4, 4))[1, 2, 0, 1].tolist()
    expected = torch.tensor([(y + 1) / 2, (x + 1) / 2]).double() * 10 * STEP_UM
    torch.testing.assert_close(found[1, 2, 0, 1], expected, atol=1e-3, rtol=1e-5)
    listed = look(make(layout="list"), collate(bags))
    with pytest.raises(BatchError, match="no place on the slide"):
        key_places_um(listed, "tumour")


def test_looking_leaves_the_model_as_it_was(make, batch):
    model = make().train()
    output = look(model, batch)
    class_evidence(model, output)
    assert model.training
    assert not output.logits.requires_grad
    assert all(p.grad is None for p in model.parameters())
