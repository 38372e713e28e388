"""Make a small synthetic cohort, train GiMP on it in both stages, and measure it.

You will see the path of each run folder and, at the end, the held-out patients'
accuracy beside the baselines. With so few patients the intervals are wide: this
shows the way, not what the model can do.

Run it with: python examples/02_train_on_a_synthetic_cohort.py [FOLDER]
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from napari_gimp.synthetic.cohort import make_cohort
from napari_gimp.training.evaluate import evaluate
from napari_gimp.training.loop import train
from napari_gimp.training.plan import DEFAULT_PLANS
from napari_gimp.training.run import RunConfig

PATIENTS, EPOCHS = 18, 4


def main(folder: Path) -> None:
    manifest = make_cohort(folder / "cohort", patients=PATIENTS, seed=7, side_px=1024)
    pretrain = RunConfig(
        stage="pretrain",
        manifest=manifest,
        genes=manifest.parent / "genes.csv",
        out=folder / "pretrain",
        grouping="pathway",
        plan=replace(DEFAULT_PLANS["pretrain"], epochs=EPOCHS, folds=3),
    )
    start = train(pretrain)
    print("pre-trained:", start)
    finetune = replace(
        pretrain,
        stage="finetune",
        out=folder / "finetune",
        start=start,
        plan=replace(DEFAULT_PLANS["finetune"], epochs=EPOCHS, folds=3),
    )
    print("fine-tuned:", train(finetune))
    print(evaluate(folder / "finetune").table())


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("synthetic"))
