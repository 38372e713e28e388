"""MGI's forward pass: invariances the specification asks for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from gimp_models.errors import BatchError
from gimp_models.mgi import Mgi, MgiConfig, MgiOutput, choices
from gimp_models.region import Region, RegionBatch, collate_regions
from torch import Tensor

GENES = 90
ENCODERS = ["mamba", "transformer", "mlp", "snn"]
FUSIONS = ["cross_attention", "concat", "film", "none"]
every_fusion = pytest.mark.parametrize("fusion", FUSIONS)


def make(**options: Any) -> Mgi:
    """Seeded small model in evaluation mode."""
    sizes = {"image_px": 64, "width": 32, "depth": 4, "heads": 2, "embedding": 24}
    genes = {"fragment": 16, "gene_width": 32, "gene_layers": 2, "decoder_width": 16}
    config = MgiConfig(**{"genes": GENES, "classes": 1, **sizes, **genes, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Mgi(config).eval()


@pytest.fixture
def regions(rng: torch.Generator) -> list[Region]:
    """Sides of whole patches and not; the third has no genes, the fourth no mask."""
    made = []
    for index, (h, w) in enumerate(((64, 64), (48, 39), (25, 64), (16, 16))):
        image = torch.rand(3, h, w, generator=rng)
        genes = torch.randn(GENES, generator=rng)
        mask = torch.randint(0, 2, (h, w), generator=rng)
        made.append(
            Region(
                image,
                None if index == 2 else genes,
                None if index == 3 else mask,
                patient=str(index),
            )
        )
    return made


@pytest.fixture
def batch(regions: list[Region]) -> RegionBatch:
    return collate_regions(regions)


def close(a: Tensor, b: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


def run(model: Mgi, batch: RegionBatch) -> MgiOutput:
    output: MgiOutput = model(batch, attention=True)
    return output


@every_fusion
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_padded_batch_equals_its_members_one_by_one(regions, encoder, fusion):
    if fusion == "cross_attention" and encoder in ("mlp", "snn"):
        fusion = "concat"
    model = make(gene_encoder=encoder, fusion=fusion, classes=3)
    many = run(model, collate_regions(regions))
    for row, region in enumerate(regions):
        one = run(model, collate_regions([region]))
        height, width = region.image.shape[1:]
        close(many.logits[row, :, :height, :width], one.logits[0])
        close(many.image_embedding[row], one.image_embedding[0])
        close(many.gene_embedding[row], one.gene_embedding[0])


def test_what_lies_in_padding_changes_nothing(batch):
    model, real = make(), batch.pixels
    images = torch.where(real[:, None], batch.images, torch.nan)
    genes = torch.where(batch.has_genes[:, None], batch.genes, torch.nan)
    clean, dirty = (
        run(model, batch),
        run(model, replace(batch, images=images, genes=genes)),
    )
    close(dirty.logits, clean.logits, atol=0)
    close(dirty.image_embedding, clean.image_embedding, atol=0)
    close(dirty.gene_embedding, clean.gene_embedding, atol=0)


def test_pixels_that_are_not_real_may_lie_anywhere(regions):
    model, batch = make(), collate_regions(regions[:1])
    batch.pixels[:, 20:30, 5:25] = False
    junk = torch.where(batch.pixels[:, None], batch.images, torch.nan)
    clean, dirty = run(model, batch), run(model, replace(batch, images=junk))
    close(dirty.logits, clean.logits, atol=0)
    hidden = ~clean.image.mask.reshape(4, 4)
    assert hidden.nonzero().tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("encoder", ENCODERS)
def test_dropout_acts_in_training_only(batch, encoder):
    model = make(gene_encoder=encoder, fusion="concat", dropout=0.3)
    close(model(batch).logits, model(batch).logits, atol=0)
    image, genes = model.encode_images(batch), model.encode_genes(batch)
    model.train()
    for name, seen in (
        ("genes", lambda: model.encode_genes(batch).pooled),
        ("vit", lambda: model.encode_images(batch).cls),
        ("fusion", lambda: model.fusion(image.patches, genes)),
    ):
        assert (seen() - seen()).abs().max() > 1e-3, name


@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_region_without_genes_has_the_mean_profile(regions, encoder):
    model = make(gene_encoder=encoder, fusion="film")
    without = run(model, collate_regions(regions[2:3]))
    mean = replace(regions[2], genes=torch.zeros(GENES))
    close(run(model, collate_regions([mean])).logits, without.logits, atol=0)
    close(
        run(model, collate_regions(regions)).gene_embedding[2:3], without.gene_embedding
    )


@every_fusion
def test_genes_change_the_mask_unless_there_is_no_fusion(batch, fusion):
    model = make(fusion=fusion)
    other = replace(batch, genes=batch.genes.flip(0))
    moved = (run(model, other).logits - run(model, batch).logits).abs()
    assert (
        moved[batch.has_genes[:, None, None, None].expand_as(moved)].max() > 1e-4
    ) == (fusion != "none")


def test_rows_of_the_cross_attention_sum_to_one(batch):
    output = run(make(fusion_layers=2), batch)
    assert output.cross_attention.shape == (4, 16, 6)
    close(output.cross_attention.sum(-1), torch.ones(4, 16))


def test_asking_for_attention_changes_nothing_else(batch):
    model = make()
    plain = model(batch)
    assert plain.cross_attention is None
    close(plain.logits, run(model, batch).logits, atol=0)


def test_embeddings_are_unit_vectors_and_split_over_tokens(batch):
    """Spec C: mean pool and linear projection, so u is a sum over real tokens."""
    model = make()
    output = run(model, batch)
    for embedding in (output.image_embedding, output.gene_embedding):
        assert embedding.shape == (4, 24)
        close(embedding.norm(dim=-1), torch.ones(4))
    parts = model.image_projection(output.image.patches) * output.image.mask[..., None]
    total = parts.sum(1)
    close(total / total.norm(dim=-1, keepdim=True), output.image_embedding)


def test_the_stages_of_the_forward_pass_can_be_run_alone(batch):
    model = make()
    image, genes = model.encode_images(batch), model.encode_genes(batch)
    logits, weights = model.segment(image, genes, (64, 64), attention=True)
    output = run(model, batch)
    close(logits, output.logits, atol=0)
    close(weights, output.cross_attention, atol=0)
    close(model.embed_images(image), output.image_embedding, atol=0)
    close(model.embed_genes(genes), output.gene_embedding, atol=0)


def test_logits_have_the_images_size_and_a_channel_per_class(batch):
    assert run(make(classes=5), batch).logits.shape == (4, 5, 64, 64)
    odd = collate_regions([Region(torch.rand(3, 33, 50))])
    assert run(make(), odd).logits.shape == (1, 1, 33, 50)


def test_the_scale_begins_at_the_temperature_and_stops_at_100():
    model = make()
    assert math.isclose(float(model.scale()), 1 / 0.07, rel_tol=1e-6)
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    assert math.isclose(float(model.scale()), 100, rel_tol=1e-5)


def test_theta_can_come_back_from_the_bound():
    model = make()
    with torch.no_grad():
        model.log_scale.fill_(9.0)
    model.scale().backward()
    assert model.log_scale.grad > 0


PAIRING = ("vit.", "genes.", "image_projection.", "gene_projection.", "log_scale")
SEGMENTING = ("vit.", "genes.", "fusion.", "decoder.")


def learning(model: Mgi, loss: Tensor) -> set[str]:
    model.zero_grad()
    loss.backward()
    named = model.named_parameters()
    return {n for n, p in named if p.grad is not None and p.grad.ne(0).any()}


def parameters(model: Mgi, *rooms: str) -> set[str]:
    return {n for n, _ in model.named_parameters() if n.startswith(rooms)}


def wavy(x: Tensor) -> Tensor:
    """Sum with signs, so that no normalisation makes it constant."""
    return (x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pool": "last"},
        {"bidirectional": True},
        {"bidirectional": True, "pool": "last"},
        {"gene_tokens": "gene"},
        {"gene_encoder": "transformer"},
    ],
)
def test_pairing_trains_encoders_projections_and_scale_and_nothing_else(batch, options):
    model = make(**options).train()
    output = run(model, batch)
    pairs = model.scale() * output.image_embedding @ output.gene_embedding.T
    assert learning(model, wavy(pairs)) == parameters(model, *PAIRING)


@every_fusion
@pytest.mark.parametrize("skips", [True, False])
def test_segmenting_trains_all_that_makes_the_mask(batch, fusion, skips):
    model = make(fusion=fusion, skips=skips, fusion_layers=2).train()
    used = [room for room in SEGMENTING if fusion != "none" or room != "genes."]
    found = learning(model, wavy(run(model, batch).logits))
    assert found == parameters(model, *used)


@pytest.mark.parametrize("encoder", ["mlp", "snn"])
def test_encoders_of_the_whole_profile_learn_in_both_stages(batch, encoder):
    model = make(gene_encoder=encoder, fusion="concat").train()
    output = run(model, batch)
    pairs = model.scale() * output.image_embedding @ output.gene_embedding.T
    assert learning(model, wavy(pairs)) == parameters(model, *PAIRING)
    mask = wavy(run(model, batch).logits)
    assert learning(model, mask) == parameters(model, *SEGMENTING)


@every_fusion
def test_float32_is_close_to_float64(batch, fusion):
    model = make(fusion=fusion)
    single = run(model, batch)
    wide = replace(batch, images=batch.images.double(), genes=batch.genes.double())
    double = run(model.double(), wide)
    assert double.logits.dtype == double.image_embedding.dtype == torch.float64
    close(single.logits.double(), double.logits, atol=1e-4)
    close(single.image_embedding.double(), double.image_embedding)


@every_fusion
def test_half_precision_stays_close_to_float32(batch, fusion):
    model = make(fusion=fusion)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = run(model, batch)
    full = run(model, batch)
    assert (half.logits.float() - full.logits).abs().max() < 0.1
    assert half.image_embedding.dtype == torch.float32
    close(half.image_embedding.norm(dim=-1), torch.ones(4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every_fusion
def test_a_gpu_gives_what_the_cpu_gives(batch, fusion):
    expected = run(make(fusion=fusion), batch)
    found = run(make(fusion=fusion).cuda(), batch.to("cuda"))
    close(found.logits.cpu(), expected.logits, atol=1e-3)
    close(found.image_embedding.cpu(), expected.image_embedding, atol=1e-4)


def test_a_batch_of_another_number_of_genes_is_refused(batch):
    wide = torch.nn.functional.pad(batch.genes, (0, 1))
    with pytest.raises(BatchError, match=r"91 genes G, the model needs 90"):
        run(make(), replace(batch, genes=wide))


def test_nobody_needs_genes(batch):
    nobody = torch.zeros(4, dtype=torch.bool)
    output = run(make(), replace(batch, genes=None, has_genes=nobody))
    close(output.logits[2], run(make(), batch).logits[2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, ("mamba", "6 tokens", "scan forward.", "attend", "with skips", "tumour")),
        ({"bidirectional": True}, ("forward and backward",)),
        ({"gene_tokens": "gene"}, ("90 tokens (one gene each)",)),
        ({"gene_encoder": "snn", "fusion": "film"}, ("snn of the whole", "FiLM")),
        ({"fusion": "none", "classes": 4}, ("image only", "4 tissue classes")),
        ({"pool": "last", "skips": False}, ("the last gene token", "without skips")),
        ({"pool": "last", "bidirectional": True}, ("first and last gene token",)),
    ],
)
def test_choices_name_the_options_that_were_taken(options, words):
    told = "\n".join(choices(make(**options).config))
    for word in words:
        assert word in told


@pytest.mark.parametrize(
    ("size", "millions"),
    [("tiny", (0.9, 0.9)), ("small", (21, 22)), ("base", (85, 87))],
)
def test_image_encoders_have_the_size_of_their_names(size, millions):
    with torch.device("meta"):
        model = Mgi(MgiConfig.preset(size, genes=20_530, classes=1))
    count = sum(p.numel() for p in model.vit.parameters()) / 1e6
    assert millions[0] <= round(count, 1) <= millions[1]
    light = sum(p.numel() for p in model.decoder.parameters()) / 1e6
    assert light < count / 2
