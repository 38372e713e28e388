from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from gimp_models.checkpoint import load

from napari_gimp.planted import measure_planted
from napari_gimp.synthetic.cohort import make_cohort
from napari_gimp.training.events import read_events
from napari_gimp.training.loop import train
from napari_gimp.training.plan import Plan
from napari_gimp.training.run import RunConfig


@pytest.mark.slow
def test_synthetic_slides_go_through_both_stages_to_scored_maps(tmp_path: Path) -> None:
    manifest = make_cohort(tmp_path / "cohort", patients=9, seed=5, side_px=1024)
    plan = Plan(epochs=1, batch=6, folds=3, warmup=0, device="cpu", workers=2)
    first = RunConfig(
        stage="pretrain",
        manifest=manifest,
        genes=manifest.parent / "genes.csv",
        out=tmp_path / "first",
        grouping="pathway",
        plan=plan,
    )
    train(first)
    second = replace(first, stage="finetune", out=tmp_path / "second", start=first.out)
    train(second)

    held = load(second.folder.best)
    assert held.card.classes == ("basal-like", "benign", "luminal-like")
    assert held.model.config.grouping == "pathway"
    assert len(held.card.cohort["slides"]) == 6
    done = [e.step for e in read_events(first.folder.events) if e.kind == "features"]
    assert done == list(range(1, 10))
    found = measure_planted(second.out)
    assert set(found.tumour_auc) == {"attention", "contribution"}
    scores = [*found.tumour_auc.values(), *found.gene_precision.values()]
    assert all(0 <= s.low <= s.value <= s.high <= 1 for s in scores)
    assert set(found.cohort_precision) == set(found.gene_precision)
    assert 0 < found.gene_chance < 0.5
