"""Every map of MGI against its identity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.contrast import retrieval
from gimp_models.errors import BatchError, ConfigError
from gimp_models.evidence.mgi import (
    area_mm2,
    cross_attention,
    entropy_map,
    fragment_relevance,
    mask_probabilities,
    similarity_map,
    similarity_table,
)
from gimp_models.evidence.mgi_genes import similarity_attributions
from gimp_models.mgi import Mgi, MgiConfig
from gimp_models.region import Region, collate_regions
from gimp_models.tiling import plan_tiles, run_tiled

GENES, TOKENS, PATCH = 60, 6, 8
SMALL = {
    "image_px": 32,
    "patch_px": PATCH,
    "width": 32,
    "depth": 2,
    "heads": 4,
    "fragment": 10,
    "gene_width": 24,
    "gene_layers": 2,
    "embedding": 16,
    "decoder_width": 16,
}
PROFILE = torch.randn(GENES, generator=torch.Generator().manual_seed(3))
SIDES = [(32, 32), (24, 32), (19, 26)]


def make_model(classes=1, **options):
    config = MgiConfig(genes=GENES, classes=classes, **{**SMALL, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Mgi(config).eval()


def make_region(index, side=(32, 32), *, genes=True, patient=""):
    g = torch.Generator().manual_seed(index)
    image, profile = torch.rand(3, *side, generator=g), torch.randn(GENES, generator=g)
    return Region(image, profile if genes else None, patient=patient)


@pytest.fixture
def ragged():
    return collate_regions([make_region(i, side) for i, side in enumerate(SIDES)])


@pytest.fixture
def one():
    return collate_regions([make_region(0)])


def profiles_of(count):
    return torch.randn(count, GENES, generator=torch.Generator().manual_seed(5))


def double(batch):
    return replace(batch, images=batch.images.double(), genes=batch.genes.double())


def last_of(parts):
    *_, last = parts
    return last


def test_the_similarity_map_sums_to_the_similarity(ragged):
    model = make_model()
    found = similarity_map(model, ragged)
    with torch.no_grad():
        out = model(ragged)
    similarity = (out.image_embedding * out.gene_embedding).sum(-1)
    torch.testing.assert_close(found.similarity, similarity, atol=1e-5, rtol=0)
    summed = found.patches.sum((1, 2))
    torch.testing.assert_close(summed, similarity, atol=1e-5, rtol=0)
    assert found.patches.abs().max() > 1e-3


def test_each_patch_adds_its_projected_token(ragged):
    model = make_model().double()
    batch = double(ragged)
    found = similarity_map(model, batch)
    with torch.no_grad():
        out = model(batch)
        weight = model.image_projection.weight
        for b in range(3):
            real = out.image.mask[b]
            z = out.image.patches[b]
            length = real.sum() * (weight @ z[real].mean(0)).norm()
            for i in range(len(z)):
                expected = (weight @ z[i]) @ out.gene_embedding[b] / length * real[i]
                torch.testing.assert_close(found.patches[b].flatten()[i], expected)


def test_padded_patches_have_no_similarity(ragged):
    found = similarity_map(make_model(), ragged)
    assert found.patches.shape == (3, 4, 4)
    assert found.patches[1, 3:].eq(0).all()
    assert found.patches[2, 2:].eq(0).all()  # 19 px hold two whole patches
    assert found.patches[2, :2, :3].ne(0).all()


@pytest.mark.parametrize("index", range(3))
def test_a_region_alone_has_the_maps_it_has_in_a_ragged_batch(ragged, index):
    model, side = make_model().double(), SIDES[index]
    alone = double(collate_regions([make_region(index, side)]))
    together = double(ragged)
    height, width = (-(-length // PATCH) for length in side)
    for maps in (
        lambda batch: similarity_map(model, batch).patches,
        lambda batch: cross_attention(model, batch).fragment(2),
    ):
        found = maps(together)[index]
        torch.testing.assert_close(found[:height, :width], maps(alone)[0])
        assert found.sum().item() == pytest.approx(maps(alone)[0].sum().item())


def test_autocast_leaves_the_similarity_map_exact(ragged):
    model = make_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = similarity_map(model, ragged)
    summed = found.patches.sum((1, 2))
    torch.testing.assert_close(summed, found.similarity, atol=1e-5, rtol=0)


def test_rows_of_the_cross_attention_sum_to_1(ragged):
    found = cross_attention(make_model(fusion_layers=2), ragged)
    assert found.weights.shape == (3, 16, TOKENS)
    summed = found.weights.sum(-1)
    torch.testing.assert_close(summed, found.real.float())
    assert found.real.sum(1).tolist() == [16, 12, 6]


def test_a_pixel_and_a_fragment_read_the_same_attention(ragged):
    found = cross_attention(make_model(), ragged)
    profile = found.profile(1, 17, 30)  # row 2, column 3
    assert torch.equal(profile, found.weights[1, 2 * 4 + 3])
    for token in range(TOKENS):
        map_of_token = found.fragment(token)
        assert map_of_token.shape == (3, 4, 4)
        assert map_of_token[1, 2, 3] == profile[token]


def test_a_pixel_outside_is_refused(ragged):
    found = cross_attention(make_model(), ragged)
    for place in ((32, 0), (0, 32), (-1, 0)):
        with pytest.raises(BatchError, match="outside the region"):
            found.profile(0, *place)


def test_fusion_without_attention_has_no_map(ragged):
    with pytest.raises(ConfigError, match="'film'"):
        cross_attention(make_model(fusion="film"), ragged)


def test_fragment_relevance_equals_plain_loops_and_sums_to_1(ragged):
    model = make_model()
    attention = cross_attention(model, ragged)
    p = mask_probabilities(model, ragged)[:, 0]
    found = fragment_relevance(attention, p)
    torch.testing.assert_close(found.sum(1), torch.ones(3))
    for b, (height, width) in enumerate(SIDES):
        total, weight = torch.zeros(TOKENS), torch.zeros(())
        for row in range(height // PATCH):
            for column in range(width // PATCH):
                y, x = row * PATCH, column * PATCH
                mean = p[b, y : y + PATCH, x : x + PATCH].mean()
                total += mean * attention.profile(b, y, x)
                weight += mean
        torch.testing.assert_close(found[b], total / weight)


def test_a_region_without_tumour_has_no_relevance(ragged):
    attention = cross_attention(make_model(), ragged)
    found = fragment_relevance(attention, torch.zeros(3, 32, 32))
    assert found.eq(0).all()


def test_relevance_follows_the_tumour(ragged):
    attention = cross_attention(make_model(), ragged)
    p = torch.zeros(3, 32, 32)
    p[:, 8:16, 16:24] = 0.7
    expected = attention.weights[:, 1 * 4 + 2]
    torch.testing.assert_close(fragment_relevance(attention, p), expected)


def test_entropy_is_0_where_certain_and_1_where_undecided():
    p = torch.tensor([0.0, 0.5, 1.0, 0.11]).view(1, 1, 2, 2)
    expected = torch.tensor([[0, 1], [0, 0.4999]])
    torch.testing.assert_close(entropy_map(p)[0], expected, atol=1e-3, rtol=0)
    even = torch.full((1, 3, 1, 1), 1 / 3)
    torch.testing.assert_close(entropy_map(even), torch.ones(1, 1, 1))
    assert entropy_map(torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)).item() == 0


def test_area_is_pixels_times_their_size():
    mask = torch.zeros(50, 40).bool()
    mask[:10, :20] = True
    assert area_mm2(mask, mpp=2.0) == pytest.approx(200 * 4e-6)


@pytest.mark.parametrize("classes", [1, 3])
def test_probabilities_are_those_of_the_logits_on_real_pixels(ragged, classes):
    model = make_model(classes)
    found = mask_probabilities(model, ragged)
    with torch.no_grad():
        logits = model(ragged).logits
    expected = logits.sigmoid() if classes == 1 else logits.softmax(1)
    torch.testing.assert_close(found, expected * ragged.pixels[:, None])


def test_the_table_agrees_with_similarity_maps_and_retrieval():
    names = ["a", "b", "a", "c", "d"]
    profile = dict(zip("abcd", profiles_of(4), strict=True))
    regions = [
        replace(make_region(i, patient=n), genes=profile[n])
        for i, n in enumerate(names)
    ]
    model = make_model()
    table = similarity_table(model, regions, at_once=2)
    assert table.patients == ("a", "b", "c", "d")
    batch = collate_regions(regions)
    own = similarity_map(model, batch).similarity
    torch.testing.assert_close(table.matrix[table.own], own)
    with torch.no_grad():
        out = model(batch)
    expected = retrieval(out.image_embedding, out.gene_embedding, batch.patients)
    assert table.retrieval == expected
    for row, rank, mine in zip(table.matrix, table.rank, table.own, strict=True):
        assert rank == 1 + (row > row[mine]).sum()


def test_patients_without_a_profile_are_left_out_of_the_table():
    regions = [
        make_region(0, patient="a"),
        make_region(1, genes=False, patient="b"),
        make_region(2, genes=False, patient="a"),
        make_region(3),
    ]
    table = similarity_table(make_model(), regions)
    assert table.patients == ("a", "region 3")
    assert table.own.tolist() == [[True, False], [True, False], [False, True]]
    with pytest.raises(BatchError, match="None of the 1 regions"):
        similarity_table(make_model(), regions[1:2])


def test_evidence_leaves_the_model_as_it_was(ragged):
    model = make_model(dropout=0.5).train()
    similarity_map(model, ragged)
    first, second = (cross_attention(model, ragged).weights for _ in range(2))
    assert torch.equal(first, second)  # no dropout
    assert model.training


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_shows_the_same_maps(ragged):
    here, there = make_model(), make_model().cuda()
    moved, p = ragged.to("cuda"), mask_probabilities(here, ragged)
    maps = similarity_map(there, moved).patches.cpu()
    torch.testing.assert_close(
        maps, similarity_map(here, ragged).patches, atol=1e-4, rtol=0
    )
    relevance = fragment_relevance(cross_attention(there, moved), p[:, 0].cuda())
    expected = fragment_relevance(cross_attention(here, ragged), p[:, 0])
    torch.testing.assert_close(relevance.cpu(), expected, atol=1e-4, rtol=0)
    table = similarity_table(there, [make_region(i) for i in range(3)])
    assert table.matrix.is_cuda
    assert table.retrieval.profiles.queries == 3
    alone = collate_regions([make_region(0)])
    found = last_of(similarity_attributions(there, alone.to("cuda"))).attribution
    right = last_of(similarity_attributions(here, alone)).attribution
    torch.testing.assert_close(found.cpu(), right, atol=1e-4, rtol=0)


def segment(model, images):
    several = collate_regions([Region(image, genes=PROFILE) for image in images])
    return mask_probabilities(model, several)


def test_one_tile_is_the_whole_region():
    model, image = make_model(), make_region(0).image
    found = run_tiled(lambda images: segment(model, images), image, tile_px=32)
    torch.testing.assert_close(found, segment(model, image[None])[0])


def test_where_one_tile_lies_the_map_is_that_tiles_own():
    model, image = make_model(), make_region(0, (56, 80)).image
    found = run_tiled(lambda images: segment(model, images), image, tile_px=32)
    plan = plan_tiles(56, 80, 32)
    count = torch.zeros(56, 80)
    for tile in plan.tiles:
        count[tile.rows, tile.columns] += 1
    assert len(plan.tiles) == 6
    for tile in plan.tiles:
        inside = count[tile.rows, tile.columns] == 1
        assert inside.any()
        alone = segment(model, image[None, :, tile.rows, tile.columns])[0]
        there = found[:, tile.rows, tile.columns]
        torch.testing.assert_close(there[:, inside], alone[:, inside])
