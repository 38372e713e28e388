"""What Subspace is trained on: parts, tasks, coordination, and nothing left dead."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.bag import Bag, collate
from gimp_models.consistency import consistency_loss
from gimp_models.errors import BatchError, ConfigError
from gimp_models.objective.subspace import (
    SubspaceFinetune,
    subspace_parameter_groups,
)
from gimp_models.subspace import TASKS, Subspace, SubspaceConfig, Task
from gimp_models.survival import hazard_nll, intervals

FEATURES, GENES = 6, 20
OWN = Task("relapse", "survival", ("early", "middle", "late"), (100.0, 400.0))
ENDPOINTS = [*TASKS.values(), OWN, Task("MGMT", "classification", ("no", "yes"))]


@pytest.fixture
def make_subspace():
    """Small seeded model of a task, without dropout unless asked for."""

    def make(task="diagnosis", **options):
        config = SubspaceConfig(
            patch_features=FEATURES,
            genes=GENES,
            classes=2,
            tumour_genes=tuple(range(11)),
            micro_genes=tuple(range(9, 20)),
        )
        small = {"grid": 8, "width": 16, "heads": 4, "head_width": 8, "dropout": 0.0}
        task = TASKS[task] if isinstance(task, str) else task
        config = replace(config.with_task(task), **{**small, "gene_dropout": 0.0})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Subspace(replace(config, **options))

    return make


@pytest.fixture
def make_patients(rng):
    """Bags of different length with label, genes and days."""

    def make(*lengths, classes=3, genes=True):
        return [
            Bag(
                features=torch.randn(patches, FEATURES, generator=rng),
                coords_um=torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))[
                    torch.randperm(64, generator=rng)[:patches].sort().values
                ],
                genes=torch.randn(GENES, generator=rng) if genes else None,
                label=i % classes,
                days=float(50 + 300 * (i % 4)),
                event=i % 3 != 0,
            )
            for i, patches in enumerate(lengths)
        ]

    return make


@pytest.fixture
def batch(make_patients):
    return collate(make_patients(40, 64, 25, 9))


def test_the_loss_is_the_task_and_half_of_each_consistency(make_subspace, batch):
    objective = SubspaceFinetune(make_subspace()).eval()
    loss = objective(batch)
    named = ["classify", "consistency_tumour", "consistency_micro"]
    assert list(loss.parts) == named
    task, tumour, micro = (loss.parts[name] for name in named)
    torch.testing.assert_close(loss.total.detach(), task + 0.5 * tumour + 0.5 * micro)


@pytest.mark.parametrize("kind", ["vgrid", "offsets", "compat"])
def test_consistency_compares_each_branch_with_its_own_genes(
    make_subspace, batch, kind
):
    model = make_subspace()
    parts = SubspaceFinetune(model, consistency=kind).eval()(batch).parts
    for name in ("tumour", "micro"):
        side = getattr(model.eval()(batch), name)
        expected = consistency_loss(side.genes, side.vgrid, heads=4, kind=kind)
        torch.testing.assert_close(parts[f"consistency_{name}"], expected.detach())


def test_class_weights_weigh_the_cross_entropy(make_subspace, batch):
    model, weights = make_subspace(), torch.tensor([1.0, 5, 2, 1])
    loss = SubspaceFinetune(model, class_weights=weights).eval()(batch)
    own = model(batch).logits.log_softmax(1).gather(1, batch.labels[:, None])[:, 0]
    weight = weights[batch.labels]
    expected = -(weight * own).sum() / weight.sum()
    torch.testing.assert_close(loss.parts["classify"], expected.detach())


def test_survival_is_the_discrete_time_likelihood(make_subspace, batch):
    model = make_subspace(OWN)
    loss = SubspaceFinetune(model).eval()(batch)
    bins = intervals(batch.days, OWN.edges_days)
    expected = hazard_nll(model(batch).logits, bins, ~batch.event)
    torch.testing.assert_close(loss.parts["survive"], expected.detach())


def test_patients_of_unknown_label_add_to_the_consistency_only(make_subspace, batch):
    objective = SubspaceFinetune(make_subspace()).eval()
    labels = batch.labels.clone()
    labels[2] = -1
    some = objective(replace(batch, labels=labels)).parts
    own = objective.model(batch).logits.log_softmax(1).gather(1, batch.labels[:, None])
    expected = -own[[0, 1, 3]].mean()
    torch.testing.assert_close(some["classify"], expected.detach())
    full = objective(batch).parts
    assert some["consistency_tumour"] == full["consistency_tumour"]


def test_patients_without_genes_take_no_part_in_the_consistency(
    make_subspace, make_patients
):
    objective = SubspaceFinetune(make_subspace()).eval()
    with_genes = make_patients(20, 30, 40)
    silent = [replace(bag, genes=None) for bag in make_patients(25, 35)]
    mixed = objective(collate([*with_genes, *silent])).parts
    alone = objective(collate(with_genes)).parts
    for name in ("consistency_tumour", "consistency_micro"):
        torch.testing.assert_close(mixed[name], alone[name])


def test_a_batch_without_genes_has_no_consistency_but_a_gradient(
    make_subspace, make_patients
):
    objective = SubspaceFinetune(make_subspace())
    loss = objective(collate(make_patients(20, 30, genes=False)))
    loss.total.backward()
    assert loss.parts["consistency_tumour"] == loss.parts["consistency_micro"] == 0
    assert all(p.grad.isfinite().all() for p in objective.parameters())


def test_the_loss_of_a_batch_is_the_mean_of_its_members(make_subspace, make_patients):
    patients = make_patients(40, 64, 5)
    objective = SubspaceFinetune(make_subspace()).eval()
    alone = [objective(collate([bag])).parts["classify"] for bag in patients]
    together = objective(collate(patients)).parts["classify"]
    torch.testing.assert_close(together, torch.stack(alone).mean())


@pytest.mark.parametrize("task", ["diagnosis", "survival"])
def test_double_precision_stays_and_agrees(make_subspace, batch, task):
    objective = SubspaceFinetune(make_subspace(task)).eval()
    single = objective(batch).total
    precise = replace(
        batch,
        features=batch.features.double(),
        coords_um=batch.coords_um.double(),
        genes=batch.genes.double(),
    )
    double = objective.double()(precise).total
    assert double.dtype == torch.float64
    torch.testing.assert_close(single.double(), double, atol=1e-5, rtol=1e-5)


def test_the_same_seed_gives_the_same_gradient(make_subspace, batch):
    def gradient():
        objective = SubspaceFinetune(make_subspace(dropout=0.3, gene_dropout=0.3))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            objective(batch).total.backward()
        objective.coordinate()
        return torch.cat([p.grad.flatten() for p in objective.parameters()])

    assert gradient().equal(gradient())


@pytest.mark.parametrize("layout", ["spatial", "list"])
@pytest.mark.parametrize("task", ["diagnosis", "survival"])
@pytest.mark.parametrize("consistency", ["vgrid", "offsets"])
def test_no_part_is_dead(make_subspace, make_patients, task, consistency, layout):
    model = make_subspace(task, layout=layout, dropout=0.1, gene_dropout=0.1)
    objective = SubspaceFinetune(model, consistency=consistency)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for _ in range(2):
            objective(collate(make_patients(40, 64, 25, 60))).total.backward()
    dead = [n for n, p in model.named_parameters() if not p.grad.abs().max() > 1e-8]
    assert dead == []


@pytest.mark.slow
@pytest.mark.parametrize("task", ENDPOINTS, ids=lambda task: task.endpoint)
def test_one_batch_is_overfitted(make_subspace, make_patients, task):
    patients = make_patients(*[30, 64, 50, 20, 40, 64], classes=len(task.classes))
    objective = SubspaceFinetune(make_subspace(task))
    groups = subspace_parameter_groups(objective.model, lr=1e-2, weight_decay=0)
    optimizer, batch = torch.optim.Adam(groups), collate(patients)
    for _ in range(60):
        loss = objective(batch)
        optimizer.zero_grad()
        loss.total.backward()
        objective.coordinate()
        optimizer.step()
    found = objective.eval()(batch).parts
    assert found[objective.task.part] < 0.05


@pytest.mark.parametrize("task", ["diagnosis", "survival"])
def test_coordination_edits_the_gradient_of_the_last_layer_only(
    make_subspace, batch, task
):
    model = make_subspace(task)
    objective = SubspaceFinetune(model, coordination="reflect")
    with torch.no_grad():  # one branch against the other: rows conflict
        model.micro.project.load_state_dict(
            {n: -p for n, p in model.tumour.project.state_dict().items()}
        )
        model.micro.pool.load_state_dict(model.tumour.pool.state_dict())
    objective(batch).total.backward()
    before = {n: p.grad.clone() for n, p in model.named_parameters()}
    done = objective.coordinate()
    changed = [n for n, p in model.named_parameters() if not p.grad.equal(before[n])]
    assert changed == ["head.weight"]
    assert done.rows == 4 >= done.conflicts > 0


def test_coordination_off_changes_no_gradient(make_subspace, batch):
    objective = SubspaceFinetune(make_subspace(), coordination="off")
    objective(batch).total.backward()
    before = objective.model.head.weight.grad.clone()
    objective.coordinate()
    assert objective.model.head.weight.grad.equal(before)


def test_coordination_measures_the_rows_that_it_is_given(make_subspace, batch):
    objective = SubspaceFinetune(make_subspace())
    objective(batch).total.backward()
    seen = []
    objective.coordinate(gather=lambda rows: seen.append(rows) or rows)
    assert [rows.shape for rows in seen] == [(4, 2 * 4 + 1)]


def test_coordination_before_a_batch_is_refused(make_subspace):
    with pytest.raises(BatchError, match="no batch to coordinate"):
        SubspaceFinetune(make_subspace()).coordinate()


@pytest.mark.parametrize(
    ("task", "missing", "told"),
    [
        ("grade", {"labels": torch.full((4,), -1)}, "has a label"),
        ("survival", {"days": None, "event": None}, "has days of follow-up"),
        ("survival", {"days": torch.full((4,), torch.nan)}, "has days of follow-up"),
    ],
)
def test_a_batch_that_says_nothing_of_the_task_is_refused(
    make_subspace, batch, task, missing, told
):
    with pytest.raises(BatchError, match=told):
        SubspaceFinetune(make_subspace(task))(replace(batch, **missing))


@pytest.mark.parametrize(
    ("task", "options", "told"),
    [
        ("grade", {"consistency": "both"}, "no consistency 'both'"),
        ("grade", {"coordination": "both"}, "no coordination 'both'"),
        ("survival", {"class_weights": torch.ones(4)}, "belong to a classification"),
    ],
)
def test_options_that_contradict_are_refused(make_subspace, task, options, told):
    with pytest.raises(ConfigError, match=told):
        SubspaceFinetune(make_subspace(task), **options)


def test_every_parameter_is_in_one_group_with_the_decay_of_its_task(make_subspace):
    for task, decay in (("diagnosis", 0.01), ("survival", 0.1)):
        model = make_subspace(task)
        (group,) = subspace_parameter_groups(model)
        assert set(group["params"]) == set(model.parameters())
        assert (group["lr"], group["weight_decay"]) == (2e-4, decay)


def test_choices_name_the_loss_and_the_coordination(make_subspace):
    told = " ".join(SubspaceFinetune(make_subspace(), consistency="offsets").choices)
    assert "cross-entropy, equal class weights" in told
    assert "offsets" in told
    assert "project" in told
