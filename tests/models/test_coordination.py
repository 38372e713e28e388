"""Gradient coordination against golden numbers, by its geometry, and over ranks."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gimp_models.coordination import (
    class_confidence,
    coordinate,
    gather_rows,
    survival_confidence,
)
from gimp_models.errors import BatchError, ConfigError
from gimp_models.survival import concordance, risk
from torch import nn

WIDTH, CLASSES = 6, 4


@pytest.fixture
def golden():
    path = Path(__file__).parents[3] / "shared/golden/subspace/coordination.npz"
    if not path.is_file():
        pytest.skip(f"the golden numbers are not at {path}")
    return {name: torch.from_numpy(value) for name, value in np.load(path).items()}


@pytest.fixture
def branches(rng):
    """Features of two branches: the tumour branch points at the class, micro away."""
    labels = torch.randint(CLASSES, (8,), generator=rng)
    hint = 3 * torch.eye(CLASSES, WIDTH)[labels]
    noise = torch.randn(2, 8, WIDTH, generator=rng)
    return noise[0] + hint, noise[1] - hint, labels


@pytest.fixture
def head():
    """Last layer that reads the class from either branch; not yet with a gradient."""
    head = nn.Linear(2 * WIDTH, CLASSES)
    weight = torch.eye(CLASSES, WIDTH).repeat(1, 2)
    head.load_state_dict({"weight": weight, "bias": torch.zeros(CLASSES)})
    return head


def with_gradient(head, tumour, micro, labels):
    head.zero_grad()
    F.cross_entropy(head(torch.cat([tumour, micro], 1)), labels).backward()
    return head.weight.grad.clone()


def halves(gradient):
    return gradient.chunk(2, dim=1)


@pytest.mark.parametrize("case", range(12))
def test_reflect_equals_the_public_code(golden, case):
    weight, bias = golden["weight"][case], golden["bias"][case]
    head = nn.Linear(weight.shape[1], len(weight))
    head.load_state_dict({"weight": weight, "bias": bias})
    head.weight.grad = golden["grad_before"][case].clone()
    done = coordinate(
        head,
        golden["f_tumour"][case],
        golden["f_micro"][case],
        golden["target"][case],
        confidence=class_confidence,
        mode="reflect",
    )
    expected = golden["grad_after"][case]
    scale = expected.abs().max()
    assert done.rho == pytest.approx(golden["rho"][case].item(), rel=1e-5)
    assert (head.weight.grad - expected).abs().max() < 1e-4 * scale
    assert not torch.equal(expected, golden["grad_before"][case])


def test_project_leaves_the_lower_half_orthogonal_to_the_higher(head, branches):
    before = with_gradient(head, *branches)
    done = coordinate(head, *branches, confidence=class_confidence)
    higher, lower = halves(head.weight.grad)
    assert done.lower == "micro"
    assert done.rho > 1
    against = (before[:, :WIDTH] * before[:, WIDTH:]).sum(1) < 0
    assert done.conflicts == against.sum() > 0
    angle = F.cosine_similarity(lower[against], higher[against])
    torch.testing.assert_close(angle, torch.zeros_like(angle), atol=1e-6, rtol=0)


def test_project_takes_out_only_the_part_along_the_higher_half(head, branches):
    before = with_gradient(head, *branches)
    coordinate(head, *branches, confidence=class_confidence)
    taken = halves(before - head.weight.grad)[1]
    along = F.cosine_similarity(taken, halves(before)[0]).abs()
    changed = taken.norm(dim=1) > 0
    torch.testing.assert_close(along[changed], torch.ones(int(changed.sum())))


@pytest.mark.parametrize("mode", ["project", "reflect"])
def test_the_confident_half_and_rows_without_conflict_stay(head, branches, mode):
    with_gradient(head, *branches)
    head.weight.grad[0] = head.weight.grad[0].abs()  # halves of row 0 agree
    before = head.weight.grad.clone()
    done = coordinate(head, *branches, confidence=class_confidence, mode=mode)
    after = head.weight.grad
    assert done.conflicts > 0
    assert torch.equal(halves(after)[0], halves(before)[0])
    assert torch.equal(after[0], before[0])
    assert not torch.equal(after, before)


def test_reflect_turns_the_conflict_into_agreement(head, branches):
    before = with_gradient(head, *branches)
    coordinate(head, *branches, confidence=class_confidence, mode="reflect")
    higher, lower = halves(head.weight.grad)
    was = (before[:, :WIDTH] * before[:, WIDTH:]).sum(1)
    assert ((higher * lower).sum(1)[was < 0] > 0).all()


def test_the_roles_follow_the_confidence(head, branches):
    tumour, micro, labels = branches
    with_gradient(head, micro, tumour, labels)
    done = coordinate(head, micro, tumour, labels, confidence=class_confidence)
    assert done.lower == "tumour"
    assert done.rho < 1


def test_off_counts_conflicts_and_changes_nothing(head, branches):
    before = with_gradient(head, *branches)
    done = coordinate(head, *branches, confidence=class_confidence, mode="off")
    assert torch.equal(head.weight.grad, before)
    assert done.conflicts > 0
    assert done.rows == CLASSES


def test_branches_of_equal_confidence_are_left_alone(head, branches):
    tumour, _, labels = branches
    before = with_gradient(head, *branches)
    done = coordinate(head, tumour, tumour, labels, confidence=class_confidence)
    assert done.lower is None
    assert done.rho == 1
    assert torch.equal(head.weight.grad, before)


def test_a_batch_without_a_comparable_pair_is_left_alone(head, branches):
    tumour, micro, _ = branches
    before = with_gradient(head, *branches)
    outcome = torch.stack([torch.arange(8.0), torch.zeros(8)], 1)  # nobody died
    done = coordinate(head, tumour, micro, outcome, confidence=survival_confidence)
    assert np.isnan(done.rho)
    assert done.lower is None
    assert torch.equal(head.weight.grad, before)


def test_the_change_does_not_depend_on_the_scale_of_the_loss(head, branches):
    with_gradient(head, *branches)
    coordinate(head, *branches, confidence=class_confidence)
    once = head.weight.grad.clone()
    with_gradient(head, *branches)
    head.weight.grad *= 2.0**16
    coordinate(head, *branches, confidence=class_confidence)
    torch.testing.assert_close(head.weight.grad / 2.0**16, once)


def test_class_confidence_sums_the_probability_of_the_own_class():
    logits = torch.tensor([[0.0, 0], [np.log(3.0), 0], [5, 5]])
    labels = torch.tensor([0, 1, -1])
    assert class_confidence(logits, labels).item() == pytest.approx(0.5 + 0.25)


def test_survival_confidence_is_the_concordance_of_the_risk(rng):
    logits = torch.randn(10, 4, generator=rng)
    days, event = torch.rand(10, generator=rng), torch.rand(10, generator=rng) < 0.7
    found = survival_confidence(logits, torch.stack([days, event], 1))
    assert found == concordance(risk(logits), days, event)


def test_without_a_gradient_coordination_is_refused(head, branches):
    with pytest.raises(BatchError, match="has no gradient to coordinate"):
        coordinate(head, *branches, confidence=class_confidence)


def test_features_that_do_not_fit_are_refused(head, branches):
    with_gradient(head, *branches)
    tumour, micro, labels = branches
    with pytest.raises(BatchError, match="two branches of 6 features, got 6 and 5"):
        coordinate(head, tumour, micro[:, 1:], labels, confidence=class_confidence)


def test_an_unknown_mode_is_refused(head, branches):
    with_gradient(head, *branches)
    with pytest.raises(ConfigError, match="no coordination 'mirror'"):
        coordinate(head, *branches, confidence=class_confidence, mode="mirror")


def test_one_process_gathers_its_own_rows(rng):
    rows = torch.randn(3, 2, generator=rng)
    assert gather_rows(rows) is rows


RANK = """
import sys
import torch, torch.distributed as dist, torch.nn.functional as F
from gimp_models import coordination
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=2)
given = torch.load(f"{folder}/given.pt", weights_only=True)
own = slice(0, 5) if rank == 0 else slice(5, 8)
tumour, micro, labels, outcome = (column[own] for column in given["rows"])
for name, targets in (("class", labels), ("survival", outcome)):
    head = torch.nn.Linear(*reversed(given["weight"].shape))
    head.load_state_dict({"weight": given["weight"], "bias": given["bias"]})
    logits = head(torch.cat([tumour, micro], 1))
    F.cross_entropy(logits, labels, reduction="sum").backward()
    dist.all_reduce(head.weight.grad)
    head.weight.grad /= 8
    confidence = getattr(coordination, f"{name}_confidence")
    coordination.coordinate(head, tumour, micro, targets, confidence=confidence)
    torch.save(head.weight.grad, f"{folder}/{name}{rank}.pt")
dist.destroy_process_group()
"""


def loopback():
    """Let gloo talk over the loopback interface, so that it needs no network."""
    names = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    return {"GLOO_SOCKET_IFNAME": names[0]} if names else {}


def run_two_ranks(folder, given):
    """Coordinate in two processes of 5 and 3 patients; gradients of both by name."""
    torch.save(given, folder / "given.pt")
    env = {**os.environ, "OMP_NUM_THREADS": "1", **loopback()}
    ranks = [
        subprocess.Popen([sys.executable, "-c", RANK, str(folder), str(rank)], env=env)
        for rank in range(2)
    ]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    return {
        name: [torch.load(folder / f"{name}{r}.pt", weights_only=True) for r in (0, 1)]
        for name in ("class", "survival")
    }


@pytest.mark.slow
def test_two_ranks_apply_the_change_of_one_process_with_all_patients(
    head, branches, rng, tmp_path
):
    tumour, micro, labels = branches
    # The second rank sees the micro branch ahead; over all patients tumour is ahead.
    tumour[5:], micro[5:] = micro[5:].clone(), tumour[5:].clone()
    outcome = torch.stack([torch.rand(8, generator=rng), torch.ones(8)], 1).double()
    given = {"rows": (tumour, micro, labels, outcome), **head.state_dict()}
    found = run_two_ranks(tmp_path, given)
    for name, targets, told in (
        ("class", labels, class_confidence),
        ("survival", outcome, survival_confidence),
    ):
        with_gradient(head, tumour, micro, labels)
        second = [rows[5:] for rows in (tumour, micro, targets)]
        alone = coordinate(head, *second, confidence=told, mode="off")
        done = coordinate(head, tumour, micro, targets, confidence=told)
        assert (alone.lower, done.lower) == ("tumour", "micro")
        assert done.conflicts > 0
        assert torch.equal(*found[name])
        torch.testing.assert_close(found[name][0], head.weight.grad)
