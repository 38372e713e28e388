"""Gene-guided consistency against a hand computation and golden numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gimp_models.consistency import consistency_loss, relations
from gimp_models.errors import BatchError, ConfigError

HEADS = 2


@pytest.fixture
def golden():
    path = Path(__file__).parents[3] / "shared/golden/subspace/losses.npz"
    if not path.is_file():
        pytest.skip(f"the golden numbers are not at {path}")
    return {name: torch.from_numpy(value) for name, value in np.load(path).items()}


@pytest.fixture
def genes(rng):
    return torch.randn(3, 5, generator=rng, dtype=torch.float64)


@pytest.fixture
def offsets(rng):
    """Offsets (B,heads,2,h,w) of three patients, with a key grid of 2 x 3."""
    return torch.randn(3, HEADS, 2, 2, 3, generator=rng, dtype=torch.float64)


REGULAR = torch.tensor([[[0, 1, 2], [0, 1, 2]], [[0, 0, 0], [1, 1, 1]]]).double()


def by_hand(genes, described):
    """Loss from gene vectors (B,D) and what describes each head (B,heads,...)."""
    patients = len(genes)
    loss = 0.0
    own = [_relation(genes, i) for i in range(patients)]
    for i in range(patients):
        rows = [_relation(described[:, head], i) for head in range(HEADS)]
        loss += (own[i] - sum(rows) / HEADS).square().sum()
    return loss / patients


def _relation(vectors, i):
    row = torch.stack([(vectors[i] * other).sum() for other in vectors])
    return row / row.norm()


def test_the_loss_equals_a_hand_computation(genes, offsets):
    vgrid = offsets + REGULAR
    loss = consistency_loss(genes, vgrid.flatten(0, 1), heads=HEADS)
    torch.testing.assert_close(loss, by_hand(genes, vgrid))


def test_offsets_leave_out_the_regular_grid(genes, offsets):
    vgrid = (offsets + REGULAR).flatten(0, 1)
    loss = consistency_loss(genes, vgrid, heads=HEADS, kind="offsets")
    torch.testing.assert_close(loss, by_hand(genes, offsets))


def test_the_public_grouping_is_another_one(genes, offsets):
    vgrid = (offsets + REGULAR).flatten(0, 1)
    fixed = consistency_loss(genes, vgrid, heads=HEADS)
    compat = consistency_loss(genes, vgrid, heads=HEADS, kind="compat")
    assert (fixed - compat).abs() > 1e-3 * fixed


def test_the_compatible_loss_equals_that_of_the_public_code(golden):
    loss = consistency_loss(golden["gene_vectors"], golden["vgrid"], kind="compat")
    expected = golden["consistency_compat"]
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=0)


def test_the_order_of_patients_does_not_matter(genes, offsets):
    turn = torch.tensor([2, 0, 1])
    loss = consistency_loss(genes, offsets.flatten(0, 1), heads=HEADS)
    turned = consistency_loss(genes[turn], offsets[turn].flatten(0, 1), heads=HEADS)
    torch.testing.assert_close(turned, loss)


@pytest.mark.parametrize("kind", ["vgrid", "offsets"])
def test_the_same_relations_have_no_loss(offsets, kind):
    same = offsets[:, :1].expand(-1, HEADS, -1, -1, -1)
    regular = REGULAR if kind == "offsets" else 0
    vgrid = (same + regular).flatten(0, 1)
    loss = consistency_loss(offsets[:, 0].flatten(1), vgrid, heads=HEADS, kind=kind)
    assert loss < 1e-20


@pytest.mark.parametrize("share", [1, 0], ids=["told", "silent"])
def test_a_single_patient_has_no_relations(genes, offsets, share):
    own = (share * genes[:1].abs()).requires_grad_()
    loss = consistency_loss(own, offsets[0], heads=HEADS)
    loss.backward()
    assert loss == 0
    assert own.grad.eq(0).all()


@pytest.mark.parametrize("kind", ["vgrid", "offsets", "compat"])
def test_the_gradient_is_that_of_finite_differences(genes, offsets, kind):
    given = (genes.requires_grad_(), offsets.flatten(0, 1).requires_grad_())
    assert torch.autograd.gradcheck(
        lambda g, v: consistency_loss(g, v, heads=HEADS, kind=kind), given
    )


def test_a_patient_whose_genes_are_silent_leaves_the_gradient_finite(offsets):
    genes = torch.tensor([[0.0, 0], [1, 2], [2, 1]], requires_grad=True)
    vgrid = offsets.float().flatten(0, 1).requires_grad_()
    consistency_loss(genes, vgrid, heads=HEADS).backward()
    assert genes.grad.isfinite().all()
    assert vgrid.grad.isfinite().all()


def test_rows_of_relations_are_unit_vectors_and_zero_for_a_zero_vector():
    rows = relations(torch.tensor([[3.0, 4], [0, 0], [1, 0]]))
    torch.testing.assert_close(rows.norm(dim=1), torch.tensor([1.0, 0, 1]))


def test_autocast_does_not_blur_the_relations(genes, offsets):
    given = genes.float(), (offsets + REGULAR).float().flatten(0, 1)
    exact = consistency_loss(*given, heads=HEADS)
    with torch.autocast("cpu", torch.bfloat16):
        assert consistency_loss(*given, heads=HEADS) == exact


def test_an_unknown_kind_is_refused(genes, offsets):
    with pytest.raises(ConfigError, match="no consistency 'grid'"):
        consistency_loss(genes, offsets.flatten(0, 1), heads=HEADS, kind="grid")


def test_rows_that_do_not_fit_the_patients_are_refused(genes, offsets):
    with pytest.raises(BatchError, match="need 24 rows of vgrid"):
        consistency_loss(genes, offsets.flatten(0, 1))
