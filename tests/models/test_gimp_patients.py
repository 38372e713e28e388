"""The map of patients: a true projection, with true neighbours."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from gimp_models.errors import BatchError
from gimp_models.evidence.patients import patient_map
from hypothesis import given
from hypothesis import strategies as st


def unit(patients: int, width: int = 6, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(patients, width, generator=g), dim=1)


@given(
    st.lists(st.sampled_from([-1, 0, 1, 2]), min_size=1, max_size=12),
    st.integers(0, 999),
)
def test_neighbours_equal_plain_loops(labels, seed):
    v = unit(len(labels), seed=seed)
    found = patient_map(v, torch.tensor(labels), neighbours=2)
    for i, own in enumerate(labels):
        known = [j for j, c in enumerate(labels) if min(c, own) >= 0 and j != i]
        known.sort(key=lambda j: float((v[i] - v[j]).norm()))
        for kind, wanted in ((found.same, True), (found.other, False)):
            expected = [j for j in known if (labels[j] == own) == wanted][:2]
            missing = 2 - len(expected)
            away = [float((v[i] - v[j]).norm()) for j in expected]
            assert kind.patients[i].tolist() == expected + [-1] * missing
            assert kind.distance[i].tolist() == pytest.approx(
                away + [float("inf")] * missing
            )


def test_the_plane_is_the_projection_that_keeps_most_of_the_variance():
    v = unit(40)
    found = patient_map(v, torch.zeros(40).long())
    variance = (v - v.mean(0)).square().sum()
    kept = found.places.square().sum() / variance
    torch.testing.assert_close(kept, found.explained.sum())
    axes = torch.linalg.eigvalsh((v - v.mean(0)).T @ (v - v.mean(0)))
    torch.testing.assert_close(found.explained, axes.flip(0)[:2] / variance)
    assert (torch.cdist(found.places, found.places) <= torch.cdist(v, v) + 1e-5).all()


def test_a_cohort_that_lies_in_a_plane_keeps_all_its_distances():
    angle = torch.linspace(0, 5, 9)
    circle = torch.stack([angle.cos(), angle.sin()], dim=1)
    tilted = circle @ torch.linalg.qr(unit(6, 2)).Q.T
    found = patient_map(tilted, torch.zeros(9).long())
    close = torch.testing.assert_close
    close(torch.cdist(found.places, found.places), torch.cdist(circle, circle))
    close(found.explained.sum(), torch.tensor(1.0))


def test_the_map_of_some_does_not_turn_over_from_run_to_run():
    v = unit(20)
    shuffled = torch.arange(20).flip(0)
    found = patient_map(v, torch.zeros(20).long()).places
    again = patient_map(v[shuffled], torch.zeros(20).long()).places
    torch.testing.assert_close(again[shuffled], found, atol=1e-5, rtol=1e-4)


def test_one_patient_lies_in_the_middle_alone():
    found = patient_map(unit(1), torch.zeros(1).long())
    assert found.places.tolist() == [[0, 0]]
    assert found.explained.tolist() == [0, 0]
    assert found.same.patients.tolist() == [[-1, -1, -1]]


def test_the_model_maps_its_own_cohort(make_model, three):
    model = make_model()
    found = patient_map(model(three).embedding.detach(), three.labels, neighbours=1)
    assert found.places.isfinite().all()
    assert found.same.patients.flatten().tolist() == [-1, -1, -1]  # three classes
    assert set(found.other.patients.flatten().tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(("patients", "labels"), [(0, 0), (4, 3)])
def test_a_map_of_nobody_or_of_other_labels_is_refused(patients, labels):
    with pytest.raises(BatchError, match="S >= 1"):
        patient_map(torch.zeros(patients, 6), torch.zeros(labels).long())
