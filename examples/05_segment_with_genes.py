"""Pre-train MGI on image-gene pairs, fine-tune it to segment, and ask what it learned.

A tumour's outline follows 50 of 2,000 genes and hardly shows in the image. You will
see the rank of held-out images' profiles, Dice by genes, and the planted genes found.

Run it with: python examples/05_segment_with_genes.py [STEPS]
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch
from gimp_models.evidence.mgi import similarity_table
from gimp_models.evidence.mgi_genes import mask_attributions
from gimp_models.mgi import Mgi, MgiConfig
from gimp_models.objective.mgi import MgiFinetune, MgiPretrain, mgi_parameter_groups
from gimp_models.overlap import dice_score, spread
from gimp_models.planted.mgi import planted_regions
from gimp_models.region import collate_regions


def train(objective: MgiPretrain | MgiFinetune, regions: list, steps: int) -> None:
    generator = torch.Generator().manual_seed(0)
    groups = mgi_parameter_groups(objective.model, lr=3e-3, encoder_scale=1)
    adam = torch.optim.AdamW(groups)
    for _ in range(steps):
        drawn = torch.randperm(len(regions), generator=generator)[:16]
        loss = objective(collate_regions([regions[i] for i in drawn]), generator)
        adam.zero_grad()
        loss.total.backward()
        adam.step()


def main(steps: int) -> None:
    torch.manual_seed(0)
    truth = planted_regions()
    regions, held_out = truth.cohort(256, seed=1), truth.cohort(64, seed=2)
    sizes = {"image_px": 32, "patch_px": 8, "width": 48, "depth": 2, "gene_width": 48}
    model = Mgi(MgiConfig(genes=2000, classes=1, gene_layers=1, **sizes))
    train(MgiPretrain(model), regions, steps // 2)
    found = similarity_table(model, held_out).retrieval.profiles
    print(f"own profile: median rank {found.median_rank:g} of 64 (32.5 by chance)")
    train(MgiFinetune(model), regions, steps)
    own = (batch := collate_regions(held_out)).genes
    profiles = {"own": own, "another's": own.roll(1, 0), "average": 0 * own}
    for whose, genes in profiles.items():
        with torch.no_grad():
            masks = model.eval()(replace(batch, genes=genes)).logits[:, 0] > 0
        scores = spread([*map(dice_score, masks, batch.masks == 1)])
        print(f"Dice with {whose} genes: {scores.mean:.2f} (sd {scores.sd:.2f})")
    paths = [mask_attributions(model, collate_regions([r])) for r in held_out[:8]]
    moved = sum([*path][-1].attribution.abs() for path in paths).topk(50).indices
    planted = int(truth.drivers[moved].sum())
    print(f"planted genes among the 50 leading ones: {planted} (1 by chance)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
