"""GiMP's forward pass: invariances the specification asks for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models import mixing
from gimp_models.bag import Batch, collate
from gimp_models.errors import BatchError, ConfigError
from gimp_models.gimp import Gimp, GimpConfig, choices, place_code
from gimp_models.grouping import contiguous
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

BOTH = pytest.mark.parametrize("attention", ["exact", "nystrom"])


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


@BOTH
def test_batch_of_one_equals_the_same_patient_inside_a_padded_batch(
    make_model, three_bags, attention
):
    model = make_model(attention=attention, landmarks=6)
    many = model(collate(three_bags), attention=True)
    for row, bag in enumerate(three_bags):
        one = model(collate([bag]), attention=True)
        n = len(bag.features)
        for name in ("logits", "image_logits", "gene_logits", "embedding"):
            close(getattr(many, name)[row], getattr(one, name)[0])
        close(many.patch_tokens[row, :n], one.patch_tokens[0])
        close(many.patch_attention[row, :n], one.patch_attention[0])
        assert many.patch_attention[row, n:].eq(0).all()


@BOTH
def test_what_lies_in_padding_changes_nothing(make_model, three, attention):
    model = make_model(attention=attention, landmarks=6)
    junk = torch.where(three.mask[..., None], three.features, 1e3)
    places = torch.where(three.mask[..., None], three.coords_um, 9e4)
    other = model(replace(three, features=junk, coords_um=places))
    close(other.logits, model(three).logits)


def test_padding_genes_change_nothing(make_model, three):
    model = make_model(per_fragment=True)
    before = model(three).logits
    empty = model.genes.layout == model.config.genes
    assert empty.any()
    with torch.no_grad():
        model.genes.weight.masked_fill_(empty[..., None], 1e3)
        model.genes.position.masked_fill_(empty.all(-1)[..., None], 1e3)
    close(model(three).logits, before)


def test_permuting_genes_together_with_the_stored_order_changes_nothing(
    make_model, three, rng
):
    model = make_model()
    order = torch.randperm(model.config.genes, generator=rng)
    place = order.argsort().tolist()
    groups = [[place[g] for g in group] for group in model.config.gene_groups]
    permuted = Gimp(model.config.with_groups("correlation", groups)).eval()
    permuted.load_state_dict(model.state_dict())
    shuffled = replace(three, genes=three.genes[:, order])
    close(permuted(shuffled).logits, model(three).logits)
    assert (model(shuffled).logits - model(three).logits).abs().max() > 1e-3


def test_a_group_token_has_no_gradient_to_other_groups_genes(make_model, rng):
    model = make_model()
    groups = model.config.gene_groups
    genes = torch.randn(2, model.config.genes, generator=rng, requires_grad=True)
    tokens, _ = model.genes.group_tokens(genes)
    (gradient,) = torch.autograd.grad(tokens[:, 1].square().sum(), genes)
    own = torch.zeros(model.config.genes, dtype=torch.bool)
    own[list(groups[1])] = True
    assert gradient[:, ~own].eq(0).all()
    assert gradient[:, own].ne(0).all()


def test_a_gene_may_be_in_several_groups_and_in_none(make_model, rng):
    model = make_model(
        grouping="pathway", groups=((0, 1, 2), (2, 3)), group_names=("a", "b")
    )
    genes = torch.randn(1, model.config.genes, generator=rng, requires_grad=True)
    tokens, _ = model.genes.group_tokens(genes)
    for group in (0, 1):
        (gradient,) = torch.autograd.grad(tokens[0, group, 0], genes, retain_graph=True)
        touched = gradient[0].nonzero()[:, 0].tolist()
        assert touched == list(model.config.groups[group])


def test_patients_without_genes_get_the_mean_gene_token(make_model, three):
    model = make_model()
    output = model(three, attention=True)
    close(output.gene_token[1], model.gene_token_mean)
    assert output.group_attention[1].eq(0).all()
    assert (output.gene_token[0] - model.gene_token_mean).abs().max() > 1e-2


def test_slide_only_equals_a_batch_in_which_nobody_has_genes(make_model, three):
    model = make_model()
    nobody = replace(three, genes=None, has_genes=torch.zeros(3, dtype=torch.bool))
    output = model(nobody, attention=True)
    assert output.group_attention is None
    close(output.logits[1], model(three).logits[1])


def test_patches_may_come_in_any_order(make_model, make_bag, rng):
    for attention in ("exact", "nystrom"):
        model, bag = make_model(attention=attention, landmarks=6), make_bag(30)
        order = torch.randperm(30, generator=rng)
        mixed = replace(
            bag, features=bag.features[order], coords_um=bag.coords_um[order]
        )
        close(model(collate([mixed])).logits, model(collate([bag])).logits)


def test_nystrom_with_a_landmark_per_token_is_close_to_exact(make_model, three):
    exact, nystrom = make_model(), make_model(attention="nystrom", landmarks=64)
    nystrom.load_state_dict(exact.state_dict())
    expected = exact(three).patch_tokens[three.mask]
    found = nystrom(three).patch_tokens[three.mask]
    assert (found - expected).norm() / expected.norm() < 0.01


def test_nystrom_in_slabs_equals_nystrom_in_one_piece(make_model, three, monkeypatch):
    model = make_model(attention="nystrom", landmarks=6)
    whole = model(three).patch_tokens
    monkeypatch.setattr(mixing, "_ROWS", 7)
    close(model(three).patch_tokens[three.mask], whole[three.mask])


def test_landmarks_are_means_of_equal_runs_of_real_tokens():
    rank = torch.tensor([[2, 0, 1, 3, 4, 5], [0, 1, 2, 5, 5, 5]])
    mask = torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    pooling = mixing.landmark_pooling(rank, mask, 3)
    first = [[0, 0.5, 0.5, 0, 0, 0], [0.5, 0, 0, 0.5, 0, 0], [0, 0, 0, 0, 0.5, 0.5]]
    assert pooling[0].tolist() == first
    assert torch.equal(pooling[1], torch.eye(6)[:3])


@BOTH
def test_double_precision_is_kept_from_end_to_end(make_model, three, rng, attention):
    """A central difference of 1e-5 agrees to 1e-7: float32 anywhere would not."""
    model = make_model(attention=attention, landmarks=6).double()
    exact = {"coords_um": three.coords_um.double(), "genes": three.genes.double()}
    step = torch.randn(three.features.shape, generator=rng, dtype=torch.float64)

    def value(along):
        features = three.features.double() + along * step
        output = model(replace(three, features=features, **exact))
        tensors = (output.logits, output.embedding, output.patch_tokens[three.mask])
        assert all(t.dtype == torch.float64 for t in tensors)
        return sum(t.sin().sum() for t in tensors)

    at = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(at), at)
    found = (value(1e-5) - value(-1e-5)) / 2e-5
    torch.testing.assert_close(found, slope, atol=1e-7, rtol=1e-7)


class Largest(TorchDispatchMode):
    """Notes the largest tensor any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        returned = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(returned):
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return returned


@BOTH
def test_no_matrix_of_patches_by_patches_is_ever_made(make_model, make_bag, attention):
    model = make_model(width=16, heads=2, attention=attention, landmarks=16)
    batch = collate([make_bag(900), make_bag(700)])
    with Largest() as largest:
        output = model.train()(batch, attention=True)
        (output.logits.sum() + output.patch_tokens.sum()).backward()
    assert 0 < largest.numel < 900 * 900 / 4


@pytest.mark.parametrize("tokens", [300, 900])
def test_the_class_row_makes_nothing_larger_than_its_tokens(make_model, tokens, rng):
    attention = make_model(width=64).image.mixer.layers[-1].attention
    x = torch.randn(1, tokens, 64, generator=rng)
    with Largest() as largest:
        attention.class_row(x, None)
    assert 0 < largest.numel <= x.numel()


def test_place_code_tells_any_two_patches_of_a_slide_apart():
    steps = torch.arange(0, 75_000, 128.0)
    ends = torch.stack([steps, steps.flip(0)], dim=1)
    codes = place_code(ends, 32)
    assert torch.cdist(codes, codes).fill_diagonal_(9).min() > 0.05


def test_base_size_has_the_gene_branch_of_the_specification():
    config = GimpConfig.preset("base", patch_features=32, genes=20_530, classes=2)
    branch = Gimp(config).genes
    assert branch.layout.shape == (21, 16, 64)
    assert 1.6e6 < sum(p.numel() for p in branch.parameters()) < 1.8e6


@pytest.mark.parametrize("field", ["features", "genes"])
def test_a_batch_of_another_width_is_refused(make_model, three, field):
    wide = torch.nn.functional.pad(getattr(three, field), (0, 1))
    with pytest.raises(BatchError, match="the model needs"):
        make_model()(replace(three, **{field: wide}))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"width": 30}, "multiple of 4"),
        ({"gene_width": 18}, "multiple of gene_heads"),
        ({"heads": 0}, "heads is 0, it must be at least 1"),
        ({"intra_depth": 0}, "intra_depth is 0"),
        ({"mask_ratio": 1.0}, "between 0 and 1"),
        ({"order": "zigzag"}, "raster, hilbert"),
        ({"grouping": "pathway"}, "with groups"),
        ({"grouping": "pathway", "groups": ((0, 150),)}, "largest gene index"),
        ({"grouping": "pathway", "groups": ((0,), ())}, "empty group"),
        (
            {"grouping": "pathway", "groups": ((0,), (1,)), "group_names": ("a",)},
            "2 names, or none",
        ),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(make_model, options, text):
    with pytest.raises(ConfigError, match=text):
        make_model(**options)


def test_an_unknown_size_is_refused_with_the_choices():
    with pytest.raises(ConfigError, match="tiny, small, base"):
        GimpConfig.preset("huge", patch_features=2, genes=2, classes=2)


def test_choices_name_the_options_that_were_taken(make_model):
    told = " ".join(choices(make_model(order="hilbert", mask_mode="random").config))
    for word in ("hilbert", "random", "contiguous", "one per fragment"):
        assert word in told
    assert "99" not in told


def test_contiguous_groups_cover_every_gene_once():
    groups = contiguous(150, 32)
    assert [g for group in groups for g in group] == list(range(150))
    assert [len(group) for group in groups] == [32, 32, 32, 32, 22]


def test_attention_of_the_model_sums_to_one(make_model, three: Batch):
    output = make_model()(three, attention=True)
    close(output.patch_attention.sum(1), torch.ones(3))
    close(output.group_attention.sum((1, 2)), torch.tensor([1.0, 0, 1.0]))
