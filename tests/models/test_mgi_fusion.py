"""How genes reach MGI's image tokens, and the decoder that follows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from gimp_models.fusion import CrossAttention, Fusion
from gimp_models.mamba import GeneSequence
from gimp_models.mask_decoder import MaskDecoder, MaskedGroupNorm
from gimp_models.mgi_config import MgiConfig
from gimp_models.vit import ImageGrid
from torch import Tensor, nn

CONFIG = MgiConfig(
    **{"genes": 90, "classes": 2, "image_px": 64, "width": 32, "depth": 4, "heads": 4},
    **{"fragment": 16, "gene_width": 24, "decoder_width": 32},
)
B, N, T, D, DG = 3, 16, 6, 32, 24


def close(a: Tensor, b: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=1e-4)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def z() -> Tensor:
    return torch.randn(B, N, D)


@pytest.fixture
def genes() -> GeneSequence:
    """Sequences of 6, 4 and 1 real tokens."""
    mask = torch.arange(T) < torch.tensor([[6], [4], [1]])
    return GeneSequence(torch.randn(B, T, DG), mask, torch.randn(B, DG))


def test_cross_attention_is_torchs_multi_head_attention(z, genes):
    ours = CrossAttention(D, DG, heads=4)
    theirs = nn.MultiheadAttention(D, 4, kdim=DG, vdim=DG, batch_first=True)
    theirs.load_state_dict(
        {
            "q_proj_weight": ours.query.weight,
            "k_proj_weight": ours.key.weight,
            "v_proj_weight": ours.value.weight,
            "in_proj_bias": torch.cat(
                [ours.query.bias, torch.zeros(D), ours.value.bias]
            ),
            "out_proj.weight": ours.out.weight,
            "out_proj.bias": ours.out.bias,
        }
    )
    keys = ours.norm_genes(genes.tokens)
    expected, weights = theirs(
        ours.norm_image(z), keys, keys, key_padding_mask=~genes.mask
    )
    close(ours(z, genes), expected)
    close(ours.weights(z, genes), weights)


def test_each_row_of_cross_attention_sums_to_one_and_leaves_padding_out(z, genes):
    _, weights = Fusion(replace(CONFIG, fusion_layers=2)).with_attention(z, genes)
    assert weights is not None
    close(weights.sum(-1), torch.ones(B, N))
    assert weights.transpose(1, 2)[~genes.mask].eq(0).all()


def test_padded_gene_tokens_change_nothing(z, genes):
    fusion = Fusion(CONFIG)
    junk = torch.where(genes.mask[..., None], genes.tokens, 1e3)
    close(fusion(z, replace(genes, tokens=junk)), fusion(z, genes), atol=0)


@pytest.mark.parametrize("kind", ["cross_attention", "concat", "film", "none"])
def test_reading_the_attention_changes_no_token(z, genes, kind):
    fusion = Fusion(replace(CONFIG, fusion=kind, fusion_layers=2))
    tokens, weights = fusion.with_attention(z, genes)
    close(tokens, fusion(z, genes), atol=0)
    assert (weights is not None) == (kind == "cross_attention")


@pytest.mark.parametrize("kind", ["concat", "film"])
def test_the_profile_reaches_every_token(z, genes, kind):
    fusion = Fusion(replace(CONFIG, fusion=kind))
    other = fusion(z, replace(genes, pooled=genes.pooled.flip(0)))
    moved = (other - fusion(z, genes)).abs().amax(-1)
    assert moved[[0, 2]].min() > 1e-3
    assert moved[1].max() == 0


@pytest.mark.parametrize(
    ("kind", "last"),
    [("cross_attention", "out"), ("concat", "join"), ("film", "modulation")],
)
def test_both_parts_of_a_fusion_layer_add_to_the_tokens(z, genes, kind, last):
    fusion = Fusion(replace(CONFIG, fusion=kind))
    layer = fusion.layers[0]
    mixed = z + layer.mix(z, genes)
    expected = mixed + layer.feedforward(layer.norm(mixed))
    close(fusion(z, genes), expected, atol=0)
    for silent in (getattr(layer.mix, last), layer.feedforward[-1]):
        nn.init.zeros_(silent.weight)
        nn.init.zeros_(silent.bias)
    close(fusion(z, genes), z, atol=0)


def test_without_fusion_tokens_stay_as_they_are(z, genes):
    fusion = Fusion(replace(CONFIG, fusion="none"))
    assert fusion(z, genes) is z
    assert not list(fusion.parameters())


def image_grid(pixels: Tensor) -> ImageGrid:
    """Random tokens of 4 x 4 patches of 16 pixels."""
    taps = tuple(torch.randn(len(pixels), N, D) for _ in range(3))
    mask = torch.ones(len(pixels), N, dtype=torch.bool)
    return ImageGrid(torch.randn(len(pixels), N, D), mask, (4, 4), mask, taps, pixels)


def every_pixel() -> Tensor:
    return torch.ones(1, 64, 64, dtype=torch.bool)


@pytest.mark.parametrize("skips", [True, False])
@pytest.mark.parametrize("patch", [2, 4, 16])
def test_the_decoder_doubles_back_to_pixels(skips, patch):
    sizes = {"patch_px": patch, "image_px": 4 * patch, "skips": skips}
    decoder = MaskDecoder(replace(CONFIG, **sizes))
    pixels = torch.ones(1, 4 * patch, 4 * patch, dtype=torch.bool)
    image = image_grid(pixels)
    assert decoder(image.patches, image).shape == (1, 2, 4 * patch, 4 * patch)


def reach_px(before: Tensor, after: Tensor) -> int:
    """How far beyond the patch at rows 16:32, columns 32:48 a change is seen."""
    moved = (after - before).abs().amax((0, 1))
    assert moved[16:32, 32:48].min() > 0
    rows, columns = moved.amax(1).nonzero()[:, 0], moved.amax(0).nonzero()[:, 0]
    sides = (16 - rows[0], rows[-1] - 31, 32 - columns[0], columns[-1] - 47)
    assert len(set(map(int, sides))) == 1
    return int(sides[0])


def test_a_token_and_its_taps_are_decoded_where_they_lie():
    """The deepest tap joins the coarsest step: it reaches 4 + 2 + 1 pixels further."""
    decoder, image = MaskDecoder(CONFIG).eval(), image_grid(every_pixel())
    for norm in decoder.modules():
        if isinstance(norm, MaskedGroupNorm):
            norm.forward = lambda x, real=None: x  # its statistics see the whole image
    before = decoder(image.patches, image)
    change = torch.zeros(1, N, D)
    change[0, 6] = 5 * torch.randn(D)  # second row, third column
    assert reach_px(before, decoder(image.patches + change, image)) == 15
    for index, reach in enumerate((1, 3, 7)):
        taps = list(image.taps)
        taps[index] = taps[index] + change
        after = decoder(image.patches, replace(image, taps=tuple(taps)))
        assert reach_px(before, after) == reach


def test_without_skips_taps_are_not_read():
    decoder, image = (
        MaskDecoder(replace(CONFIG, skips=False)),
        image_grid(every_pixel()),
    )
    other = replace(image, taps=tuple(-tap for tap in image.taps))
    close(decoder(image.patches, image), decoder(image.patches, other), atol=0)


def test_masked_group_norm_of_real_cells_only_is_torchs():
    norm, x = MaskedGroupNorm(4, 32), torch.randn(2, 32, 6, 5)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    everything = torch.ones(2, 1, 6, 5, dtype=torch.bool)
    expected = nn.functional.group_norm(x, 4, norm.weight, norm.bias, norm.eps)
    close(norm(x, everything), expected)
    close(norm(x), expected, atol=0)
    part = torch.zeros_like(everything)
    part[..., :4, :3] = True
    expected = nn.functional.group_norm(
        x[..., :4, :3], 4, norm.weight, norm.bias, norm.eps
    )
    close(norm(x, part)[..., :4, :3], expected)


def test_masked_group_norm_keeps_the_variance_of_half_precision():
    norm = MaskedGroupNorm(1, 8)
    x = (10 + torch.randn(1, 8, 64, 64)).bfloat16()
    real = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    real[..., -1] = False
    found = norm(x, real)[..., :-1]
    assert abs(float(found.std()) - 1) < 1e-2
