"""Weights of timm's ViTs in MGI's image encoder: equal tokens, honest report."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from gimp_models.errors import ConfigError, GimpError
from gimp_models.mgi_config import MgiConfig
from gimp_models.timm_weights import load_timm
from gimp_models.vit import ViT
from torch import Tensor, nn

WIDTH, DEPTH, HEADS, PATCH = 24, 2, 3, 16


class Plain(nn.Module):
    """Names and arithmetic of timm's VisionTransformer, as far as it is documented.

    With LayerScale, attention through `multi_head_attention_forward`, no query, key
    and value bias, and positions of the patches only: the variants timm has.
    """

    def __init__(
        self, image_px: int = 64, *, patch: int = PATCH, mlp: int = 4 * WIDTH
    ) -> None:
        super().__init__()
        side = image_px // patch
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, WIDTH, patch, patch)
        self.patch_embed.grid_size = (side, side)
        self.cls_token = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.randn(1, side**2, WIDTH))
        self.blocks = nn.Sequential(*(PlainBlock(mlp) for _ in range(DEPTH)))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.head = nn.Linear(WIDTH, 5)
        self.pretrained_cfg = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.4)}

    def forward(self, image: Tensor) -> Tensor:
        x = self.patch_embed.proj(image).flatten(2).transpose(1, 2) + self.pos_embed
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        return self.norm(self.blocks(x))


class PlainBlock(nn.Module):
    def __init__(self, mlp: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = (nn.LayerNorm(WIDTH, eps=1e-6) for _ in range(2))
        self.attn = nn.Module()
        self.attn.num_heads = HEADS
        self.attn.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.attn.proj = nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Module()
        self.mlp.act = nn.GELU()
        self.mlp.fc1, self.mlp.fc2 = nn.Linear(WIDTH, mlp), nn.Linear(mlp, WIDTH)
        self.ls1, self.ls2 = LayerScale(), LayerScale()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1.gamma * self.attend(self.norm1(x))
        hidden = self.mlp.act(self.mlp.fc1(self.norm2(x)))
        return x + self.ls2.gamma * self.mlp.fc2(hidden)

    def attend(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        mixed, _ = F.multi_head_attention_forward(
            *(x, x, x, WIDTH, HEADS, self.attn.qkv.weight, None, None, None),
            *(False, 0.0, self.attn.proj.weight, self.attn.proj.bias),
            need_weights=False,
        )
        return mixed.transpose(0, 1)


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(WIDTH))


def make_vit(**options: Any) -> ViT:
    sizes = {"image_px": 64, "width": WIDTH, "depth": DEPTH, "heads": HEADS}
    return ViT(MgiConfig(**{"genes": 90, "classes": 1, **sizes, **options})).eval()


@pytest.fixture
def vit() -> ViT:
    torch.manual_seed(0)
    return make_vit()


def tokens(vit: ViT, images: Tensor) -> Tensor:
    found: Tensor = vit(images, torch.ones_like(images[:, 0], dtype=torch.bool)).patches
    return found


def test_tokens_are_those_of_the_source(vit, rng):
    source, images = Plain().eval(), torch.rand(2, 3, 64, 64, generator=rng)
    report = load_timm(vit, source)
    mean, std = (
        torch.tensor(source.pretrained_cfg[name])[:, None, None]
        for name in ("mean", "std")
    )
    expected = source((images - mean) / std)[:, 1:]
    torch.testing.assert_close(tokens(vit, images), expected, atol=1e-5, rtol=1e-4)
    assert report.exact
    assert report.left_out == ("head.weight", "head.bias")
    assert set(report.taken) == set(vit.state_dict())


def test_a_source_of_another_image_size_gives_interpolated_positions(vit):
    source = Plain(128)
    ramp = torch.arange(8.0)[:, None].expand(8, 8)  # rises downwards
    with torch.no_grad():
        source.pos_embed.copy_(ramp.reshape(1, 64, 1).expand(-1, -1, WIDTH))
    report = load_timm(vit, source)
    found = vit.pos_embed[0, 1:, 0].reshape(4, 4)
    centres = torch.tensor([2.5, 4.5])
    torch.testing.assert_close(found[1:3, 0], centres, atol=0.05, rtol=0)
    assert found.std(dim=1).max() < 1e-5
    assert vit.pos_embed[0, 0].eq(0).all()  # the source's class token has no place
    assert report.positions == ((8, 8), (4, 4))
    assert not report.exact


def test_a_source_of_smaller_patches_embeds_an_enlarged_image_alike(vit, rng):
    """DINOv2's patches have 14 pixels, ours 16."""
    source = Plain(56, patch=14)
    report = load_timm(vit, source)
    patches = torch.rand(5, 3, 14, 14, generator=rng)
    enlarged = F.interpolate(patches, (16, 16), mode="bicubic", antialias=True)
    expected, found = source.patch_embed.proj(patches), vit.patch_embed(enlarged)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert report.patch_px == (14, 16)
    assert not report.exact


def test_what_has_no_place_is_told(vit):
    source = Plain()
    source.reg_token = nn.Parameter(torch.zeros(1, 4, WIDTH))
    source.norm = nn.Identity()
    before = vit.norm.weight.clone()
    report = load_timm(vit, source)
    assert "reg_token" in report.left_out
    assert report.fresh == ("norm.weight", "norm.bias")
    assert not report.exact
    assert vit.norm.weight.equal(before)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"width": 48}, "width 24 instead of 48"),
        ({"depth": 3}, "depth 2 instead of 3"),
        ({"heads": 4}, "heads 3 instead of 4"),
    ],
)
def test_a_source_of_other_sizes_is_refused(options, text):
    with pytest.raises(ConfigError, match=text):
        load_timm(make_vit(**options), Plain())


def test_a_source_with_another_mlp_is_refused(vit):
    with pytest.raises(ConfigError, match=r"blocks.0.mlp.fc1.weight \(48, 24\)"):
        load_timm(vit, Plain(mlp=48))
    other = Plain()
    for block in other.blocks:
        block.mlp.act = nn.ReLU()
    with pytest.raises(ConfigError, match="ReLU instead of exact GELU"):
        load_timm(vit, other)


def test_what_is_no_vision_transformer_is_refused(vit):
    with pytest.raises(ConfigError, match=r"Linear is no vision transformer.*vit\*"):
        load_timm(vit, nn.Linear(2, 2))


def test_without_timm_the_error_says_what_to_install(vit, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(GimpError, match=r"'vit_tiny_patch16_224' need timm.*install"):
        load_timm(vit, "vit_tiny_patch16_224")


@pytest.mark.parametrize("reason", [RuntimeError, ConnectionError])
def test_a_model_that_timm_cannot_give_is_said_with_what_to_do(
    vit, monkeypatch, reason
):
    def refuse(name, *, pretrained):
        raise reason("no such thing")

    timm = SimpleNamespace(create_model=refuse)
    monkeypatch.setitem(sys.modules, "timm", timm)
    with pytest.raises(GimpError, match=r"no weights of 'vit_x'.*check the name"):
        load_timm(vit, "vit_x")


def test_tokens_are_those_of_timm():
    try:
        timm = pytest.importorskip("timm", reason="timm is not installed")
    except RuntimeError as error:
        pytest.skip(f"timm is installed but does not load: {error}")
    torch.manual_seed(0)
    source = timm.create_model("vit_tiny_patch16_224", pretrained=False).eval()
    vit = make_vit(image_px=224, width=192, depth=12, heads=3)
    assert load_timm(vit, source).exact
    images = torch.rand(1, 3, 224, 224)
    expected = source.forward_features((images - 0.5) / 0.5)[:, 1:]
    torch.testing.assert_close(tokens(vit, images), expected, atol=1e-5, rtol=1e-4)
