"""Subspace's forward pass: what the specification and ragged batches ask for."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.errors import BatchError
from gimp_models.subspace import TASKS, Subspace, SubspaceConfig, choices

FEATURES, GENES, STEP_UM = 6, 20, 128.0
TUMOUR, MICRO = (3, 1, 7, 0), (7, 4, 9, 10, 12)
both_layouts = pytest.mark.parametrize("layout", ["spatial", "list"])
PER_PATIENT = ("feature", "genes", "tokens", "pooled", "key_weights")


def close(a, b, atol=1e-5):
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


@pytest.fixture
def make():
    """Seeded tiny model on a 10 x 10 grid, in evaluation mode."""

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
            return Subspace(replace(config, **{"grid": 10, **options})).eval()

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
    """A slide larger than the grid, one smaller, one without genes, one patch."""
    return [slide(13, 9), slide(5, 7), slide(8, 8, genes=False), slide(1, 1)]


@both_layouts
def test_batch_of_one_equals_the_same_patient_inside_a_padded_batch(make, bags, layout):
    model = make(layout=layout)
    many = model(collate(bags), attention=True)
    for row, bag in enumerate(bags):
        one = model(collate([bag]), attention=True)
        close(many.logits[row], one.logits[0])
        for of_many, of_one in ((many.tumour, one.tumour), (many.micro, one.micro)):
            for name in PER_PATIENT:
                close(getattr(of_many, name)[row], getattr(of_one, name)[0])
            for name in ("vgrid", "positions"):
                rows = getattr(of_many, name).unflatten(0, (len(bags), -1))
                close(rows[row], getattr(of_one, name))


@both_layouts
def test_what_lies_in_padding_changes_nothing(make, bags, layout):
    model, batch = make(layout=layout), collate(bags)
    junk = torch.where(batch.mask[..., None], batch.features, 1e3)
    places = torch.where(batch.mask[..., None], batch.coords_um, 9e4)
    other = model(replace(batch, features=junk, coords_um=places))
    assert torch.equal(other.logits, model(batch).logits)


def test_masked_empty_cells_change_nothing(make, bags):
    """Neither attention nor pooling looks at a cell without a patch (spec 8)."""
    model, batch = make(), collate(bags)
    placed, genes = model.place(batch), model.profiles(batch)
    assert not placed.mask.all()
    junk = torch.where(placed.mask[..., None], placed.features, 50.0)
    for branch in (model.tumour, model.micro):
        own = genes[:, branch.listed]
        before = branch(placed, own, attention=True)
        after = branch(replace(placed, features=junk), own, attention=True)
        for name in ("feature", "pooled", "vgrid", "key_weights"):
            close(getattr(after, name), getattr(before, name), atol=1e-6)
        real = placed.mask
        close(after.tokens[real], before.tokens[real], atol=1e-6)


def test_a_slide_may_lie_anywhere_and_its_patches_come_in_any_order(make, slide, rng):
    model, bag = make(), slide(12, 7)
    order = torch.randperm(len(bag.features), generator=rng)
    other = replace(
        bag, features=bag.features[order], coords_um=bag.coords_um[order] + 3e4
    )
    close(model(collate([other])).logits, model(collate([bag])).logits)


def test_places_of_patches_matter_in_the_spatial_layout_only(make, slide):
    bag = slide(6, 6)
    wide = replace(bag, coords_um=slide(2, 18).coords_um)
    for layout, differs in (("spatial", True), ("list", False)):
        logits = make(layout=layout)(collate([bag, wide])).logits
        assert (logits[0] - logits[1]).abs().max().gt(1e-5) == differs


def test_conditioning_is_the_product_with_patches_and_genes_side_by_side(make, rng):
    branch = make().tumour
    patches, genes = (torch.randn(2, *n, 32, generator=rng) for n in ((100,), ()))
    both = torch.cat([patches, genes[:, None].expand(-1, 100, -1)], dim=-1)
    close(branch.condition(patches, genes), branch.fuse(both))


def test_pooling_and_head_are_the_formulas_over_real_cells(make, bags):
    model = make()
    output = model(collate(bags))
    features = []
    for branch, found in ((model.tumour, output.tumour), (model.micro, output.micro)):
        rows = zip(found.tokens, output.placed.mask, strict=True)
        mean = torch.stack([tokens[real].mean(0) for tokens, real in rows])
        features.append(branch.project(branch.pool(mean).tanh()))
        close(found.feature, features[-1])
    close(output.logits, model.head(torch.cat(features, dim=1)))


def test_each_branch_reads_the_genes_of_its_list_alone(make, bags):
    model, batch = make(), collate(bags[:1])
    batch.genes.requires_grad_()
    output = model(batch)
    for branch, listed in ((output.tumour, TUMOUR), (output.micro, MICRO)):
        loss = branch.feature.square().sum()
        (slope,) = torch.autograd.grad(loss, batch.genes, retain_graph=True)
        assert set(slope[0].nonzero()[:, 0].tolist()) == set(listed)


def test_another_order_of_the_panel_with_the_lists_renamed_changes_nothing(
    make, bags, rng
):
    model, batch = make(), collate(bags)
    order = torch.randperm(GENES, generator=rng)
    place = order.argsort()
    other = make(
        tumour_genes=tuple(place[list(TUMOUR)].tolist()),
        micro_genes=tuple(place[list(MICRO)].tolist()),
    )
    shuffled = replace(batch, genes=batch.genes[:, order])
    assert torch.equal(other(shuffled).logits, model(batch).logits)


def test_patients_without_genes_count_as_the_training_mean(make, bags):
    model, batch = make(), collate(bags)
    logits = model(batch).logits
    mean = replace(bags[2], genes=torch.zeros(GENES))
    close(logits[2], model(collate([mean])).logits[0])
    nobody = [replace(bag, genes=None) for bag in bags]
    close(model(collate(nobody)).logits[2], logits[2])
    noise = torch.where(batch.has_genes[:, None], batch.genes, 7.0)
    assert torch.equal(model(replace(batch, genes=noise)).logits, logits)


@both_layouts
def test_every_parameter_moves_the_logits(make, bags, layout):
    """No dead parts; the objectives' own terms are tested with them."""
    model = make(layout=layout).train()
    for seed in range(3):
        torch.manual_seed(seed)
        model(collate(bags)).logits.square().sum().backward()
    dead = [n for n, p in model.named_parameters() if not p.grad.ne(0).any()]
    assert dead == []


def test_branches_are_of_equal_shape_and_share_no_weight(make):
    model = make(micro_genes=MICRO[:4])
    one, two = model.tumour.state_dict(), model.micro.state_dict()
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in two.items()}
    held = {p.data_ptr() for p in model.parameters()}
    assert len(held) == len(list(model.parameters()))


def test_dropout_acts_in_training_only_and_repeats_with_the_seed(make, bags):
    model, batch = make(), collate(bags)
    assert torch.equal(model(batch).logits, model(batch).logits)
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(model.train()(batch).logits)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@both_layouts
def test_double_precision_agrees_with_single(make, bags, layout):
    model, batch = make(layout=layout), collate(bags)
    single = model(batch).logits
    exact = replace(
        batch,
        features=batch.features.double(),
        genes=batch.genes.double(),
    )
    double = model.double()(exact).logits
    assert double.dtype == torch.float64
    close(double.float(), single)


def test_bfloat16_autocast_stays_near_float32(make, bags):
    model, batch = make(), collate(bags)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(batch).logits.float()
    close(low, model(batch).logits, atol=2e-2)


@pytest.mark.gpu
@both_layouts
def test_the_graphics_card_agrees_with_the_processor(make, bags, layout):
    model, batch = make(layout=layout), collate(bags)
    expected = model(batch, attention=True)
    found = model.cuda()(batch.to("cuda"), attention=True)
    close(found.logits.cpu(), expected.logits, atol=1e-4)
    close(found.micro.vgrid.cpu(), expected.micro.vgrid, atol=1e-4)
    close(found.tumour.key_weights.cpu(), expected.tumour.key_weights, atol=1e-4)


def test_survival_follows_from_the_hazards(make, bags):
    config = make().config.with_task(TASKS["survival"])
    output = Subspace(config).eval()(collate(bags))
    h = output.logits.sigmoid()
    survival = torch.stack([(1 - h[:, : k + 1]).prod(1) for k in range(4)], dim=1)
    close(output.hazards, h)
    close(output.survival, survival)
    close(output.risk, -survival.sum(1))


def test_hand_computed_survival_of_even_odds(make, bags):
    output = replace(make()(collate(bags)), logits=torch.zeros(1, 3))
    assert output.hazards.tolist() == [[0.5, 0.5, 0.5]]
    close(output.survival, torch.tensor([[0.5, 0.25, 0.125]]))
    assert math.isclose(output.risk.item(), -0.875, rel_tol=1e-6)


def test_a_batch_of_other_sizes_is_refused(make, slide):
    model, bag = make(), slide(3, 3)
    with pytest.raises(BatchError, match="has 7 patch features P, the model needs 6"):
        model(collate([replace(bag, features=torch.zeros(9, 7))]))
    with pytest.raises(BatchError, match="has 19 genes G, the model needs 20"):
        model(collate([replace(bag, genes=torch.zeros(19))]))


def test_card_says_what_was_chosen(make):
    config = make().config
    told = " ".join(choices(config))
    assert "4 of the tumour, 5 of the microenvironment" in told
    assert "No loss separates" in told
    assert choices(replace(config, layout="list")) != choices(config)
    assert "RNA nearly determines" in told  # of a diagnosis, not of survival
    assert "Caution" not in " ".join(choices(config.with_task(TASKS["survival"])))


MEASURE = """
import torch
from gimp_models.bag import Bag, collate
from gimp_models.subspace import Subspace, SubspaceConfig
torch.set_num_threads(1)
model = Subspace(SubspaceConfig.preset("base", patch_features=1024, genes=420,
    classes=4, tumour_genes=range(59), micro_genes=range(59, 420))).train()
cells = torch.cartesian_prod(torch.arange(50), torch.arange(50))
batch = collate([Bag(torch.randn(2500, 1024), cells * 128.0, torch.randn(420))])
def peak_mib():  # not getrusage: that begins with the peak of the parent process
    lines = open("/proc/self/status").read().splitlines()
    return [int(line.split()[1]) / 1024 for line in lines if "VmHWM" in line][0]
before = peak_mib()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
model(batch).logits.square().sum().backward()
optimizer.step()
print(round(peak_mib() - before))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_one_step_of_the_whole_model_takes_less_than_a_gigabyte():
    """B = 1, N = 2500, base size, forward, backward and Adam (spec 8)."""
    run = [sys.executable, "-c", MEASURE]
    done = subprocess.run(run, capture_output=True, text=True, check=True)
    grown_mib = int(done.stdout)
    assert 0 < grown_mib < 1000
