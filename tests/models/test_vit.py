"""MGI's image encoder: padding, positions, taps, and a library's ViT."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.errors import BatchError
from gimp_models.mgi_config import MgiConfig
from gimp_models.region import Region, RegionBatch, collate_regions
from gimp_models.vit import ImageGrid, ViT, tap_depths
from torch import Tensor

CONFIG = MgiConfig(
    **{"genes": 90, "classes": 1, "image_px": 64, "width": 32, "depth": 4, "heads": 2}
)


def close(a: Tensor, b: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


@pytest.fixture
def vit() -> ViT:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ViT(CONFIG).eval()


@pytest.fixture
def regions(rng: torch.Generator) -> list[Region]:
    """Whole patches, a side that is none, one patch, more than half a patch over."""
    sides = ((64, 64), (48, 39), (16, 16), (25, 64))
    return [Region(torch.rand(3, h, w, generator=rng)) for h, w in sides]


def encode(vit: ViT, batch: RegionBatch) -> ImageGrid:
    grid: ImageGrid = vit(batch.images, batch.pixels)
    return grid


def corner(tokens: Tensor, grid: tuple[int, int], part: tuple[int, int]) -> Tensor:
    """Tokens (N,D) of the top left part of a grid."""
    return tokens.reshape(*grid, -1)[: part[0], : part[1]].flatten(0, 1)


def test_a_padded_batch_equals_its_members_one_by_one(vit, regions):
    many = encode(vit, collate_regions(regions))
    for row, region in enumerate(regions):
        one = encode(vit, collate_regions([region]))
        close(many.cls[row], one.cls[0])
        close(corner(many.patches[row], many.grid, one.grid), one.patches[0])
        for all_taps, own in zip(many.taps, one.taps, strict=True):
            close(corner(all_taps[row], many.grid, one.grid), own[0])
        assert many.mask[row].sum() == one.mask[0].sum()


def test_what_lies_in_padding_changes_nothing(vit, regions):
    batch = collate_regions(regions)
    junk = torch.where(batch.pixels[:, None], batch.images, torch.nan)
    clean, dirty = encode(vit, batch), encode(vit, replace(batch, images=junk))
    torch.testing.assert_close(dirty.patches, clean.patches, atol=0, rtol=0)


def test_sides_that_are_no_whole_patches_are_padded_inside(vit, regions):
    image = encode(vit, collate_regions([regions[1]]))  # 48 x 39: 3 x 2.4 patches
    assert image.grid == (3, 3)
    assert image.mask[0].reshape(3, 3).tolist() == [[True, True, False]] * 3
    assert image.pixels.shape == (1, 48, 48)
    assert image.pixels.sum() == 48 * 39


def test_a_patch_that_is_not_wholly_real_looks_but_is_not_seen(vit, regions):
    batch = collate_regions([regions[1]])
    other = batch.images.clone()
    other[..., 36] = 1 - other[..., 36]  # a real column of the last patches
    before, after = encode(vit, batch), encode(vit, replace(batch, images=other))
    whole = before.mask[0]
    close(after.patches[0, whole], before.patches[0, whole], atol=1e-6)
    assert (after.patches[0, ~whole] - before.patches[0, ~whole]).abs().min() > 0


def test_positions_count_from_the_top_left(vit):
    grid = vit.pos_embed[0, 1:].reshape(4, 4, -1)
    close(vit.positions((2, 3))[0], grid[:2, :3].reshape(6, -1), atol=0)
    close(vit.positions((4, 4)), vit.pos_embed[:, 1:], atol=0)


def test_patch_tokens_know_where_they_are(vit):
    flat = torch.full((1, 3, 64, 64), 0.7)
    image = encode(vit, collate_regions([Region(flat[0])]))
    distances = torch.cdist(image.patches[0], image.patches[0]).fill_diagonal_(9)
    assert distances.min() > 0.01


@pytest.mark.parametrize(
    ("depth", "after"), [(12, (3, 6, 9)), (4, (1, 2, 3)), (2, (1, 1, 2)), (1, (1,) * 3)]
)
def test_taps_follow_a_quarter_a_half_and_three_quarters_of_the_layers(depth, after):
    assert tap_depths(depth) == after


def test_taps_are_what_those_layers_returned(vit, regions):
    kept: list[Tensor] = []
    for block in vit.blocks:
        block.register_forward_hook(lambda _m, _x, out: kept.append(out[:, 1:]))
    image = encode(vit, collate_regions(regions))
    for tap, depth in zip(image.taps, (1, 2, 3), strict=True):
        close(tap, kept[depth - 1], atol=0)


def test_an_image_larger_than_the_model_is_refused(vit):
    with pytest.raises(BatchError, match=r"64 x 65 pixels.*at most 64.*tiles"):
        vit(torch.zeros(1, 3, 64, 65), torch.ones(1, 64, 65, dtype=torch.bool))


def test_a_region_without_a_whole_patch_is_refused(vit):
    small = [Region(torch.zeros(3, 15, 40)), Region(torch.zeros(3, 32, 32))]
    batch = collate_regions(small)
    with pytest.raises(BatchError, match="1 of 2 regions hold no whole patch"):
        encode(vit, batch)


def test_float32_is_close_to_float64(vit, regions):
    batch = collate_regions(regions)
    single = encode(vit, batch).patches
    double = encode(vit.double(), replace(batch, images=batch.images.double())).patches
    assert double.dtype == torch.float64
    close(single.double(), double)


@pytest.mark.slow  # its import
def test_tokens_of_the_transformers_library_are_equal(vit, regions):
    transformers = pytest.importorskip("transformers", minversion="5")
    sizes = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=2,
        intermediate_size=128,
        image_size=64,
        patch_size=16,
        layer_norm_eps=1e-6,
    )
    theirs = transformers.ViTModel(sizes, add_pooling_layer=False).eval()
    theirs.load_state_dict(_hugging_face_names(vit.state_dict(), depth=4))
    image = collate_regions(regions[:1])
    expected = theirs(image.images * 2 - 1).last_hidden_state
    ours = encode(vit, image)
    close(ours.patches, expected[:, 1:])
    close(ours.cls, expected[:, 0])


def _hugging_face_names(own: dict[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Our weights under the names of transformers 5."""
    named = {
        "embeddings.cls_token": own["cls_token"],
        "embeddings.position_embeddings": own["pos_embed"],
    }
    for kind in ("weight", "bias"):
        projection = own[f"patch_embed.{kind}"]
        named[f"embeddings.patch_embeddings.projection.{kind}"] = projection
        named[f"layernorm.{kind}"] = own[f"norm.{kind}"]
        for block in range(depth):
            theirs, ours = f"layers.{block}.", f"blocks.{block}."
            joint = own[f"{ours}attn.qkv.{kind}"].chunk(3)
            for letter, part in zip("qkv", joint, strict=True):
                named[f"{theirs}attention.{letter}_proj.{kind}"] = part
            for there, here in _PARTS.items():
                named[f"{theirs}{there}.{kind}"] = own[f"{ours}{here}.{kind}"]
    return named


_PARTS = {
    "attention.o_proj": "attn.proj",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
