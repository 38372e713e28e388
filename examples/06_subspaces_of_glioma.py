"""Train Subspace on planted gliomas: diagnosis, its evidence, and survival.

Tumour and microenvironment each have a hidden state that shows in genes and patches
of their own. You will see who is told right with and without genes, where the
evidence lies, how often gradients conflicted, and the C-index (0.5 by chance).
Run it with: python examples/06_subspaces_of_glioma.py
"""

from dataclasses import replace

import torch
from gimp_models.bag import collate
from gimp_models.evidence import subspace as evidence
from gimp_models.objective.subspace import SubspaceFinetune, subspace_parameter_groups
from gimp_models.planted import subspace as planted
from gimp_models.subspace import Subspace
from gimp_models.survival import concordance


def train(config, patients, steps=100):
    objective, g = SubspaceFinetune(Subspace(config)), torch.Generator().manual_seed(0)
    groups = subspace_parameter_groups(objective.model, weight_decay=0.01)
    optimizer, conflicts = torch.optim.Adam(groups), 0
    rate = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, steps)
    for _ in range(steps):
        chosen = torch.randperm(len(patients), generator=g)[:10]
        optimizer.zero_grad()
        objective(collate([patients[i].bag for i in chosen])).total.backward()
        conflicts += objective.coordinate().conflicts
        optimizer.step()
        rate.step()
    print(f"{config.endpoint}: {conflicts / steps:.1f} of 4 gradient rows conflicted")
    return objective.model


def main() -> None:
    torch.manual_seed(0)
    glioma = planted.PlantedGlioma.make()
    training, held_back = glioma.cohort(200, seed=1), glioma.cohort(120, seed=2)
    batch = collate([patient.bag for patient in held_back])
    model = train(glioma.config(), training)
    silent = replace(batch, has_genes=torch.zeros_like(batch.has_genes))
    for what, seen in (("genes and patches", batch), ("patches alone", silent)):
        right = evidence.look(model, seen).logits.argmax(1) == batch.labels
        print(f"  four classes are told by {what} in {right.double().mean():.0%}")
    output, tissue = evidence.look(model, batch), planted.tissue_of(held_back)
    found = evidence.against_rest(evidence.class_evidence(model, output))
    tokens = (found.tumour.tokens + found.micro.tokens)[range(len(batch)), batch.labels]
    best = output.placed.patch_values(tokens).nan_to_num(-torch.inf).topk(15).indices
    share = (tissue.gather(1, best) > planted.NORMAL).double().mean()
    due = (tissue > planted.NORMAL).sum() / batch.mask.sum()
    print(f"  best evidence in the planted tissues {share:.0%}, by chance {due:.0%}")
    model = train(glioma.config().with_task(planted.survival_task(training)), training)
    own = concordance(evidence.look(model, batch).risk, batch.days, batch.event)
    ideal = concordance(planted.best_risk(held_back), batch.days, batch.event)
    print(f"  C-index of the model {own:.2f}, of the hidden states {ideal:.2f}")


if __name__ == "__main__":
    main()
