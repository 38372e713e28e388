"""Both stages of MGI's training: what is learnt, and from what."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from gimp_models.augment import Augmentation
from gimp_models.contrast import contrastive_loss
from gimp_models.errors import BatchError
from gimp_models.mgi import Mgi, MgiConfig
from gimp_models.objective.mgi import MgiFinetune, MgiPretrain, mgi_parameter_groups
from gimp_models.overlap import dice_loss, pixel_entropy
from gimp_models.region import Region, collate_regions

GENES = 60
PLAIN = Augmentation(turn=False, stain=0, gene_dropout=0, gene_noise=0)
SMALL = {
    "image_px": 32,
    "patch_px": 8,
    "width": 32,
    "depth": 4,
    "heads": 4,
    "fragment": 10,
    "gene_layers": 2,
    "gene_width": 24,
    "embedding": 16,
    "decoder_width": 16,
}


def make_model(classes=1, **options):
    config = MgiConfig(genes=GENES, classes=classes, **{**SMALL, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Mgi(config)


def make_region(index, *, side=(32, 32), classes=1, patient=None):
    """A region of its own tint whose mask is a rectangle, darker than the rest."""
    g = torch.Generator().manual_seed(index)
    mask = torch.zeros(side, dtype=torch.int64)
    top, left = (int(torch.randint(0, 12, (), generator=g)) for _ in range(2))
    mask[top : top + 14, left : left + 10] = 1 + index % max(classes - 1, 1)
    tint = 0.5 + 0.4 * torch.rand(3, 1, 1, generator=g)
    image = tint - 0.2 * (mask > 0) + 0.1 * torch.rand(3, *side, generator=g)
    genes = torch.randn(GENES, generator=g)
    return Region(image, genes, mask, patient=patient or f"p{index}")


@pytest.fixture
def regions():
    return [make_region(i) for i in range(6)]


def draw(seed=0):
    return torch.Generator().manual_seed(seed)


def descend(objective, batch, *, steps, lr):
    """Train on one batch with the same draw each time; return the last parts."""
    optimizer = torch.optim.Adam(objective.parameters(), lr=lr)
    for _ in range(steps):
        loss = objective(batch, draw())
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
    return objective(batch, draw())


def rows_of(batch, rows):
    values = {f.name: getattr(batch, f.name) for f in fields(batch)}
    return replace(batch, **{k: v[rows] for k, v in values.items() if v is not None})


@pytest.mark.slow
def test_pretraining_overfits_one_batch(regions):
    objective = MgiPretrain(make_model(depth=2), augmentation=PLAIN)
    first = objective(collate_regions(regions), draw())
    last = descend(objective, collate_regions(regions), steps=40, lr=3e-3)
    assert first.total > 1
    assert last.total < 0.1
    assert last.parts["recall_1"] == 1
    assert last.parts["recall_1_chance"] == pytest.approx(1 / 6)


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 3])
def test_finetuning_overfits_one_batch(classes):
    batch = collate_regions([make_region(i, classes=classes) for i in range(4)])
    objective = MgiFinetune(make_model(classes, depth=2), augmentation=PLAIN)
    last = descend(objective, batch, steps=110, lr=5e-3)
    assert last.total < 0.2
    assert last.parts["dice_score"] > 0.97


FUSIONS = ["cross_attention", "concat", "film", "none"]
VARIANTS = [
    *({"fusion": fusion} for fusion in FUSIONS),
    {"gene_tokens": "gene"},
    {"bidirectional": True},
    {"pool": "last"},
    {"skips": False},
    {"fusion_layers": 2},
    {"gene_encoder": "transformer"},
    *({"gene_encoder": kind, "fusion": "film"} for kind in ("mlp", "snn")),
]


def untrained(objective, batches):
    """Names of the model's parameters without a non-zero gradient in any batch."""
    objective.train()
    for batch in batches:
        objective(batch, draw()).total.backward()
    return {
        name
        for name, parameter in objective.model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    }


def named(model, *parts):
    return {
        name for name, _ in model.named_parameters() if name.startswith(tuple(parts))
    }


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_pretraining_trains_all_but_fusion_and_decoder(regions, options):
    model = make_model(**options)
    batches = [collate_regions(regions[:3]), collate_regions(regions[3:])]
    left = untrained(MgiPretrain(model), batches)
    assert left == named(model, "fusion.", "decoder.")


@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_finetuning_trains_all_but_the_contrastive_space(regions, options):
    model = make_model(**options)
    batches = [collate_regions(regions[:3]), collate_regions(regions[3:])]
    left = untrained(MgiFinetune(model), batches)
    unused = ["image_projection.", "gene_projection.", "log_scale"]
    if options.get("fusion") == "none":
        unused.append("genes.")
    if options.get("skips") is False or options.get("depth") == 1:
        unused.append("decoder.skips.")
    assert left == named(model, *unused)


def test_the_loss_of_pretraining_is_the_contrast_of_the_embeddings(regions):
    several = [replace(r, patient=f"p{i // 2}") for i, r in enumerate(regions)]
    batch, model = collate_regions(several), make_model().eval()
    loss = MgiPretrain(model).eval()(batch, draw())
    out = model(batch)
    expected = contrastive_loss(
        out.image_embedding, out.gene_embedding, batch.patients, model.scale()
    )
    torch.testing.assert_close(loss.total, expected)
    assert loss.parts["recall_1_chance"] == pytest.approx(1 / 3)
    assert not any(part.requires_grad for part in loss.parts.values())


def test_training_keeps_theta_at_its_bound_and_evaluation_leaves_it(regions):
    objective, batch = MgiPretrain(make_model()), collate_regions(regions)
    theta = objective.model.log_scale
    with torch.no_grad():
        theta.fill_(9.0)
    objective.eval()(batch, draw())
    assert theta == 9
    objective.train()(batch, draw()).total.backward()
    assert float(theta.detach().exp()) == pytest.approx(100, rel=1e-5)
    assert theta.grad != 0


@pytest.mark.parametrize("classes", [1, 3])
def test_the_loss_of_finetuning_is_dice_plus_entropy(classes):
    batch = collate_regions([make_region(i, classes=classes) for i in range(3)])
    model = make_model(classes).eval()
    loss = MgiFinetune(model).eval()(batch, draw())
    logits = model(batch).logits
    expected = dice_loss(logits, batch.masks) + pixel_entropy(logits, batch.masks)
    torch.testing.assert_close(loss.total, expected)
    summed = loss.parts["dice"] + loss.parts["entropy"]
    torch.testing.assert_close(loss.total.detach(), summed)
    assert not any(part.requires_grad for part in loss.parts.values())


def test_regions_without_genes_take_no_part_in_pretraining(regions):
    some = [replace(r, genes=None) if i < 2 else r for i, r in enumerate(regions)]
    objective = MgiPretrain(make_model()).eval()
    found = objective(collate_regions(some), draw()).total
    expected = objective(collate_regions(regions[2:]), draw()).total
    torch.testing.assert_close(found, expected)


def test_regions_without_masks_take_no_part_in_finetuning(regions):
    some = [replace(r, mask=None) if i < 2 else r for i, r in enumerate(regions)]
    objective = MgiFinetune(make_model()).eval()
    found = objective(collate_regions(some), draw()).total
    expected = objective(collate_regions(regions[2:]), draw()).total
    torch.testing.assert_close(found, expected)


def test_regions_without_genes_are_segmented_too(regions):
    slides = collate_regions([replace(r, genes=None) for r in regions])
    loss = MgiFinetune(make_model())(slides, draw())
    loss.total.backward()
    assert loss.total.isfinite()


@pytest.mark.parametrize("kind", [MgiPretrain, MgiFinetune])
def test_what_lies_in_the_padding_changes_no_loss(kind):
    sides = [(32, 32), (24, 32), (17, 20)]
    batch = collate_regions([make_region(i, side=s) for i, s in enumerate(sides)])
    objective = kind(make_model()).eval()
    noise = torch.rand(batch.images.shape, generator=draw())
    other = torch.where(batch.pixels[:, None], batch.images, noise)
    found = objective(replace(batch, images=other), draw()).total
    torch.testing.assert_close(found, objective(batch, draw()).total)


def test_one_region_alone_loses_what_it_loses_in_a_ragged_batch():
    sides = [(32, 32), (24, 32), (17, 20)]
    regions = [make_region(i, side=s) for i, s in enumerate(sides)]
    objective = MgiFinetune(make_model()).eval()
    alone = [objective(collate_regions([r]), draw()).parts["dice"] for r in regions]
    together = objective(collate_regions(regions), draw()).parts["dice"]
    torch.testing.assert_close(together, torch.stack(alone).mean(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", [MgiPretrain, MgiFinetune])
def test_regions_are_augmented_in_training_only(regions, kind):
    objective, batch = kind(make_model()), collate_regions(regions)
    one, same, other = (objective(batch, draw(s)).total for s in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    objective.eval()
    assert torch.equal(objective(batch, draw(0)).total, objective(batch, draw(1)).total)


@pytest.mark.parametrize("kind", [MgiPretrain, MgiFinetune])
def test_losses_work_in_double_precision(regions, kind):
    batch = collate_regions(regions)
    exact = replace(batch, images=batch.images.double(), genes=batch.genes.double())
    loss = kind(make_model().double())(exact, draw())
    loss.total.backward()
    assert loss.total.dtype == torch.float64


def test_class_weights_reach_the_entropy(regions):
    batch, model = collate_regions(regions), make_model().eval()
    weights = torch.tensor([1.0, 5.0])
    found = MgiFinetune(model, class_weights=weights).eval()(batch, draw())
    expected = pixel_entropy(model(batch).logits, batch.masks, class_weights=weights)
    torch.testing.assert_close(found.parts["entropy"], expected.detach())


def test_a_batch_that_teaches_nothing_is_refused(regions):
    slides = collate_regions([replace(r, genes=None) for r in regions])
    with pytest.raises(
        BatchError, match="None of the 6 regions of the batch has genes"
    ):
        MgiPretrain(make_model())(slides, draw())
    batch = collate_regions(regions)
    for masks in (None, torch.full_like(batch.masks, -1)):
        with pytest.raises(BatchError, match="needs masks"):
            MgiFinetune(make_model())(replace(batch, masks=masks), draw())
    with pytest.raises(BatchError, match="holds class 2"):
        MgiFinetune(make_model())(replace(batch, masks=2 * batch.masks), draw())


def test_encoders_learn_at_a_tenth_of_the_decoders_rate():
    model = make_model()
    groups = mgi_parameter_groups(model)
    rate = {id(p): g["lr"] for g in groups for p in g["params"]}
    assert len(rate) == len(list(model.parameters()))
    assert sum(len(g["params"]) for g in groups) == len(rate)
    for name, parameter in model.named_parameters():
        encoder = name.startswith(("vit.", "genes."))
        assert rate[id(parameter)] == pytest.approx(1e-5 if encoder else 1e-4)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_the_scan_and_the_temperature_do_not_decay(bidirectional):
    model = make_model(bidirectional=bidirectional)
    groups = mgi_parameter_groups(model, weight_decay=0.3)
    free = {id(p) for g in groups if g["weight_decay"] == 0 for p in g["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in free}
    scans = model.config.gene_layers * (2 if bidirectional else 1)
    assert "log_scale" in names
    assert len(names) == 1 + 3 * scans
    assert sum(name.endswith("A_log") for name in names) == scans


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("kind", [MgiPretrain, MgiFinetune])
def test_a_gpu_measures_the_same_loss_and_learns(kind, regions):
    here, there = kind(make_model()), kind(make_model()).cuda()
    batch = collate_regions(regions)
    expected = here(batch, draw()).total  # the same draws of augmentation
    loss = there(batch.to("cuda"), draw())
    loss.total.backward()
    torch.testing.assert_close(loss.total.cpu(), expected, atol=1e-3, rtol=1e-3)
    assert all(part.is_cuda for part in loss.parts.values())


def test_choices_tell_how_a_stage_was_trained():
    model = make_model()
    told = MgiPretrain(model, augmentation=Augmentation(stain=0.07)).choices
    assert "stain jitter 0.07" in told[1]
    weights = torch.ones(2)
    assert "given class weights" in MgiFinetune(model, class_weights=weights).choices[0]
    assert "no turns" in MgiFinetune(model, augmentation=PLAIN).choices[1]
