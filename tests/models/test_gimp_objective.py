"""Both stages of training: what is learnt, and from what."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.bag import collate
from gimp_models.errors import BatchError, ConfigError
from gimp_models.objective import GimpFinetune, GimpPretrain, parameter_groups


@pytest.fixture
def paired(make_bag):
    """Six patients of three classes, two each, all with genes."""
    return collate([make_bag(12 + i, label=i % 3) for i in range(6)])


def descend(objective, batch, *, steps, lr=3e-3, seed=0):
    """Train on one batch with the same draw each time; return first and last loss."""
    optimizer = torch.optim.Adam(objective.parameters(), lr=lr)
    losses = []
    for _ in range(steps):
        loss = objective(batch, torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.total.item())
    return losses[0], losses[-1]


@pytest.mark.slow
@pytest.mark.parametrize("triplets", ["labels", "pairs"])
def test_pretraining_overfits_one_batch(make_model, paired, triplets):
    objective = GimpPretrain(make_model(dropout=0.0).train(), triplets=triplets)
    _, last = descend(objective, paired, steps=160, lr=6e-3)
    parts = objective(paired, torch.Generator().manual_seed(0)).parts
    assert last < 0.1
    assert parts["triplet"] == 0
    assert parts["patches"] < 0.1 * parts["patches_trivial"]
    assert parts["patches_cosine"] > 0.95


def test_finetuning_overfits_one_batch(make_model, paired):
    objective = GimpFinetune(make_model(dropout=0.0).train())
    _, last = descend(objective, paired, steps=80, lr=1e-2)
    assert last < 0.1
    assert objective.model.eval()(paired).logits.argmax(1).equal(paired.labels)


def test_total_is_patches_plus_lambda_times_triplet(make_model, paired, rng):
    loss = GimpPretrain(make_model(), lambda_triplet=0.25)(paired, rng)
    expected = loss.parts["patches"] + 0.25 * loss.parts["triplet"]
    assert loss.parts["triplet"] > 0
    torch.testing.assert_close(loss.total, expected)
    assert not any(part.requires_grad for part in loss.parts.values())


def test_the_same_generator_gives_the_same_loss(make_model, paired):
    objective = GimpPretrain(make_model(window=8, mask_mode="random"))
    draws = [
        objective(paired, torch.Generator().manual_seed(s)).total for s in (1, 1, 2)
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_one_class_batch_still_trains_the_patches(make_model, paired, rng):
    objective = GimpPretrain(make_model())
    loss = objective(replace(paired, labels=torch.zeros(6).long()), rng)
    loss.total.backward()
    assert loss.parts["triplet"] == 0
    assert objective.model.image.mask_token.grad.abs().sum() > 0
    assert objective.model.genes.weight.grad.eq(0).all()


def test_heads_of_one_modality_leave_the_encoders_alone(make_model, paired, rng):
    objective = GimpFinetune(make_model())
    model = objective.model
    torch.nn.init.zeros_(model.pair_head[1].weight)  # so classify sends nothing back
    objective(paired, rng).total.backward()
    assert model.image_head[1].weight.grad.abs().sum() > 0
    assert model.gene_head[1].weight.grad.abs().sum() > 0
    assert all(p.grad.eq(0).all() for p in model.genes.parameters())
    assert model.image.class_token.grad.eq(0).all()


def test_finetuning_drops_mask_token_patch_head_and_projection(make_model, paired, rng):
    objective = GimpFinetune(make_model())
    objective(paired, rng).total.backward()
    model = objective.model
    unused = [*model.patch_head.parameters(), *model.projection.parameters()]
    assert all(p.grad is None for p in [*unused, model.image.mask_token])


def test_patches_may_be_kept_up_in_finetuning(make_model, paired, rng):
    objective = GimpFinetune(make_model(), lambda_patches=0.5)
    loss = objective(paired, rng)
    summed = sum(loss.parts[name] for name in ("classify", "image", "genes"))
    torch.testing.assert_close(loss.total, summed + 0.5 * loss.parts["patches"])


def test_patients_of_unknown_label_are_passed_over(make_model, paired):
    objective = GimpFinetune(make_model())
    some = replace(paired, labels=torch.tensor([0, 1, 2, -1, -1, -1]))
    known = replace(
        paired,
        **{
            name: getattr(paired, name)[:3]
            for name in (
                "features",
                "coords_um",
                "mask",
                "genes",
                "has_genes",
                "labels",
            )
        },
    )
    found, expected = (objective(b, torch.Generator()).total for b in (some, known))
    torch.testing.assert_close(found, expected)


def test_a_batch_without_labels_is_refused(make_model, paired, rng):
    nobody = replace(paired, labels=torch.full((6,), -1))
    with pytest.raises(BatchError, match="None of the 6 patients"):
        GimpFinetune(make_model())(nobody, rng)


def test_a_batch_without_genes_trains_the_image_side(make_model, paired, rng):
    slides = replace(paired, genes=None, has_genes=torch.zeros(6).bool())
    loss = GimpFinetune(make_model())(slides, rng)
    loss.total.backward()
    assert loss.parts["genes"] == 0
    assert loss.total.isfinite()


def test_class_weights_weigh_the_classes(make_model, paired, rng):
    model = make_model()
    loss = GimpFinetune(model, class_weights=torch.tensor([1.0, 0, 0]))(paired, rng)
    rows = paired.labels == 0
    expected = torch.nn.functional.cross_entropy(
        model(paired).logits[rows], paired.labels[rows]
    )
    torch.testing.assert_close(loss.parts["classify"], expected.detach())


def test_class_weights_follow_the_precision_of_the_model(make_model, paired, rng):
    model, weights = make_model().double(), torch.tensor([1.0, 2, 3])
    fine = replace(
        paired, features=paired.features.double(), genes=paired.genes.double()
    )
    loss = GimpFinetune(model, class_weights=weights).eval()(fine, rng)
    assert loss.total.dtype == torch.float64


def test_subsampling_happens_in_training_only(make_model, paired):
    objective = GimpFinetune(make_model(dropout=0.0), max_patches=4)
    losses = [objective(paired, torch.Generator().manual_seed(s)) for s in (0, 1)]
    assert not torch.equal(losses[0].total, losses[1].total)
    objective.eval()
    losses = [objective(paired, torch.Generator().manual_seed(s)) for s in (0, 1)]
    assert torch.equal(losses[0].total, losses[1].total)


def test_encoders_learn_at_a_tenth_of_the_heads_rate(make_model):
    model = make_model()
    heads, encoders = parameter_groups(model, lr=1e-3)
    assert encoders["lr"] == pytest.approx(1e-4)
    assert heads["lr"] == pytest.approx(1e-3)
    assert len(heads["params"]) + len(encoders["params"]) == len(
        list(model.parameters())
    )
    assert {id(p) for p in model.pair_head.parameters()} <= set(
        map(id, heads["params"])
    )


def test_unknown_triplets_are_refused(make_model):
    with pytest.raises(ConfigError, match="labels or pairs"):
        GimpPretrain(make_model(), triplets="all")


def test_choices_tell_how_a_stage_was_trained(make_model):
    model = make_model()
    pretrain = GimpPretrain(model, lambda_triplet=0.5, triplets="pairs")
    assert "label-free" in pretrain.choices[0]
    assert "0.5 x triplets" in pretrain.choices[1]
    assert len(GimpFinetune(model).choices) == 1
    kept = GimpFinetune(model, max_patches=77, lambda_patches=0.25).choices
    assert "77 random patches" in kept[0]
    assert "0.25 x masked patch" in kept[1]


def test_vectors_of_mismatched_pairs_are_unit_vectors(make_model, rng):
    model = make_model()
    images = torch.randn(4, 4, model.config.width, generator=rng)
    genes = torch.randn(4, 4, model.config.gene_width, generator=rng)
    v = model.project(images, genes)
    torch.testing.assert_close(v.norm(dim=-1), torch.ones(4, 4))
    torch.testing.assert_close(v[1], model.project(images[1], genes[1]))


def learning(objective, batches):
    """Names of the model's parameters that some batch gives a non-zero gradient."""
    found, g = set(), torch.Generator().manual_seed(0)
    for batch in batches:
        objective.zero_grad()
        objective(batch, g).total.backward()
        named = objective.model.named_parameters()
        found |= {n for n, p in named if p.grad is not None and p.grad.any()}
    return found


def all_but(model, *untrained):
    """Names of all parameters but those of some parts, each of which exists."""
    names = {name for name, _ in model.named_parameters()}
    for part in untrained:
        rest = {name for name in names if not name.startswith(part)}
        assert len(rest) < len(names), part
        names = rest
    return names


HEADS = ("pair_head", "image_head", "gene_head")
OPTIONS = pytest.mark.parametrize(
    "options",
    [
        {},
        {"per_fragment": False, "mask_mode": "random", "order": "hilbert"},
        {"attention": "nystrom", "landmarks": 6, "standardise_target": False},
    ],
)


@OPTIONS
@pytest.mark.parametrize("triplets", ["labels", "pairs"])
def test_pretraining_leaves_no_part_dead_but_the_heads(
    make_model, paired, options, triplets
):
    objective = GimpPretrain(make_model(**options).train(), triplets=triplets)
    found = learning(objective, [paired] * 3)
    assert found == all_but(objective.model, *HEADS)


@OPTIONS
def test_finetuning_leaves_no_part_dead_but_those_of_pretraining(
    make_model, paired, options
):
    objective = GimpFinetune(make_model(**options).train())
    found = learning(objective, [paired] * 3)
    untrained = ("image.mask_token", "patch_head", "projection")
    assert found == all_but(objective.model, *untrained)


def test_finetuning_that_keeps_the_patches_trains_all_but_the_projection(
    make_model, paired
):
    objective = GimpFinetune(make_model().train(), lambda_patches=0.5)
    found = learning(objective, [paired] * 3)
    assert found == all_but(objective.model, "projection")
