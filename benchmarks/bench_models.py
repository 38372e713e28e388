"""How the cost of a training step grows: three models, one input at a time.

One step is forward, backward and AdamW of the fine-tuning stage (pre-training is
shown at the middle of every range), float32, on random tensors. Each row grows one
input and holds the others at their middle value. Each measurement is a fresh process:
time is the median of three steps after a first one; memory is the kernel's count of
what the process held at most during these steps, less what it held before, so
gradients, moments and activations. With a GPU, the step of each model and size in
float32 and under bfloat16 autocast follows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from bench_gimp import alone, forget_peak, peak_mb, seconds

STEPS = 3


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a step is made of.

    Parameters
    ----------
    length
        Patches of each bag; for MGI, pixels along a side of a region.
    genes
        Of the panel; for Subspace, of each of the two lists.
    batch
        Patients or regions.
    """

    length: int
    genes: int
    batch: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to measure.

    Parameters
    ----------
    build
        Size, inputs and stage to an objective and a batch.
    stages
        The first is the one whose growth is shown.
    length, genes, batch
        Three values each.
    """

    build: Callable[[str, Inputs, str], tuple[Any, Any]]
    stages: tuple[str, ...]
    length: tuple[int, int, int]
    genes: tuple[int, int, int]
    batch: tuple[int, int, int]

    @property
    def middle(self) -> Inputs:
        """The inputs in the middle of every range."""
        return Inputs(self.length[1], self.genes[1], self.batch[1])

    def rows(self) -> list[tuple[str, Inputs]]:
        """Name of the input that grows, and all inputs."""
        return [
            (name, replace(self.middle, **{name: value}))
            for name in ("length", "genes", "batch")
            for value in getattr(self, name)
        ]


def bags(inputs: Inputs, genes: int) -> Any:
    """Return a batch of random slides of 1,024 features, labelled in turn."""
    from gimp_models.bag import Bag, collate

    side = int(inputs.length**0.5) + 1
    index = torch.arange(inputs.length)
    coords = torch.stack([index // side, index % side], dim=1) * 128.0
    return collate(
        [
            Bag(
                torch.randn(inputs.length, 1024),
                coords,
                torch.randn(genes),
                label=patient % 2,
            )
            for patient in range(inputs.batch)
        ]
    )


def gimp(size: str, inputs: Inputs, stage: str) -> tuple[Any, Any]:
    from gimp_models.gimp import Gimp, GimpConfig
    from gimp_models.objective import GimpFinetune, GimpPretrain

    config = GimpConfig.preset(size, patch_features=1024, genes=inputs.genes, classes=2)
    batch, model = bags(inputs, inputs.genes), Gimp(config)
    if stage == "pretrain":
        return GimpPretrain(model), batch
    return GimpFinetune(model, max_patches=inputs.length), batch


def mgi(size: str, inputs: Inputs, stage: str) -> tuple[Any, Any]:
    from gimp_models.mgi import Mgi, MgiConfig
    from gimp_models.objective.mgi import MgiFinetune, MgiPretrain
    from gimp_models.region import Region, collate_regions

    config = MgiConfig.preset(size, genes=inputs.genes, classes=1)
    side = inputs.length
    model = Mgi(replace(config, image_px=max(side, config.image_px)))
    regions = [
        Region(
            torch.rand(3, side, side),
            torch.randn(inputs.genes),
            torch.randint(0, 2, (side, side)),
            patient=str(patient),
        )
        for patient in range(inputs.batch)
    ]
    stages = {"pretrain": MgiPretrain, "finetune": MgiFinetune}
    return stages[stage](model), collate_regions(regions)


def subspace(size: str, inputs: Inputs, stage: str) -> tuple[Any, Any]:
    from gimp_models.objective import SubspaceFinetune
    from gimp_models.subspace import Subspace, SubspaceConfig

    panel = 2 * inputs.genes
    config = SubspaceConfig.preset(
        size,
        patch_features=1024,
        genes=panel,
        classes=2,
        tumour_genes=tuple(range(inputs.genes)),
        micro_genes=tuple(range(inputs.genes, panel)),
    )
    return SubspaceFinetune(Subspace(config)), bags(inputs, panel)


SUBJECTS = {
    "gimp": Subject(
        gimp,
        ("finetune", "pretrain"),
        length=(1000, 2000, 4000),
        genes=(5_000, 10_000, 20_000),
        batch=(2, 4, 8),
    ),
    "mgi": Subject(
        mgi,
        ("finetune", "pretrain"),
        length=(64, 128, 256),
        genes=(5_000, 10_000, 20_000),
        batch=(2, 4, 8),
    ),
    "subspace": Subject(
        subspace,
        ("finetune",),
        length=(625, 2500, 10_000),
        genes=(100, 1_000, 5_000),
        batch=(2, 4, 8),
    ),
}


def stepper(
    name: str, size: str, inputs: Inputs, stage: str, *, device: str, half: bool
) -> Callable[[], None]:
    """Return a function that takes one training step."""
    torch.manual_seed(0)
    objective, batch = SUBJECTS[name].build(size, inputs, stage)
    objective, batch = objective.to(device).train(), batch.to(device)
    optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-5)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=half):
            total = objective(batch, generator).total
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def on_cpu(name: str, size: str, inputs: Inputs, stage: str) -> tuple[float, float]:
    """Return the seconds of a step and the memory in MB it adds."""
    step = stepper(name, size, inputs, stage, device="cpu", half=False)
    held = forget_peak()
    return seconds(step, STEPS), peak_mb() - held


def on_gpu(name: str, size: str, half: bool) -> tuple[float, float]:
    """Return the seconds of a step and the most GPU memory in MB, model included."""
    inputs, stage = SUBJECTS[name].middle, SUBJECTS[name].stages[0]
    step = stepper(name, size, inputs, stage, device="cuda", half=half)
    torch.cuda.reset_peak_memory_stats()
    spent = seconds(step, 10)
    return spent, torch.cuda.max_memory_allocated() / 2**20


def print_growth(name: str, size: str) -> None:
    subject = SUBJECTS[name]
    print(f"\n{name}, {size}: a training step in float32 on the CPU")
    print(f"{'stage':10}{'length':>8}{'genes':>8}{'batch':>7}", end="")
    print(f"{'s':>8}{'':>7}{'MB':>8}{'':>7}")
    kind, first = None, (0.0, 0.0)
    for grows, inputs in subject.rows():
        cost = alone(on_cpu, name, size, inputs, subject.stages[0])
        kind, first = grows, first if grows == kind else cost
        print_cost(subject.stages[0], inputs, cost, first)
    for stage in subject.stages[1:]:
        cost = alone(on_cpu, name, size, subject.middle, stage)
        print_cost(stage, subject.middle, cost)


def print_cost(
    stage: str,
    inputs: Inputs,
    cost: tuple[float, float],
    first: tuple[float, float] | None = None,
) -> None:
    print(f"{stage:10}{inputs.length:8}{inputs.genes:8}{inputs.batch:7}", end="")
    for value, begin, digits in zip(cost, first or (0, 0), (2, 0), strict=True):
        ratio = f"{value / begin:6.1f}x" if begin else ""
        print(f"{value:8.{digits}f}{ratio:7}", end="")
    print(flush=True)


def print_gpu(name: str) -> None:
    print(f"\n{name} on {torch.cuda.get_device_name()}, {SUBJECTS[name].middle}")
    print(f"{'size':8}{'float32 ms':>12}{'MB':>8}{'bfloat16 ms':>13}{'MB':>8}{'':>8}")
    for size in ("tiny", "small", "base"):
        (full, full_mb), (half, half_mb) = (
            alone(on_gpu, name, size, half) for half in (False, True)
        )
        print(f"{size:8}{full * 1e3:12.1f}{full_mb:8.0f}", end="")
        print(f"{half * 1e3:13.1f}{half_mb:8.0f}{full / half:7.1f}x", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="small", help="tiny, small or base")
    parser.add_argument("--models", nargs="+", default=list(SUBJECTS))
    args = parser.parse_args()
    print(f"{torch.get_num_threads()} threads; x is against the first of its kind")
    for name in args.models:
        print_growth(name, args.size)
    if torch.cuda.is_available():
        for name in args.models:
            print_gpu(name)


if __name__ == "__main__":
    main()
