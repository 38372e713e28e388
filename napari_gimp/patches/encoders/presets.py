"""Foundation models of pathology: what each is shown, gives and asks for.

Every number was read from the model's own card or from the settings that TRIDENT
(github.com/mahmoodlab/TRIDENT, README and trident/patch_encoder_models/load.py) uses;
`source` says where. Where the published recipe cuts 256 px at 0.5 um/px and resizes to
224 px, the um/px here is 0.5 * 256 / 224, so a patch covers the same tissue. No weights
are shipped: a preset is loaded through its hub when the user has access.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_gimp.patches.encoders.look import IMAGENET_MEAN, IMAGENET_SD, Look

RESIZED = 0.5 * 256 / 224
"""um/px when 256 px at 0.5 um/px are shown as 224 px."""
NC_ND = "CC BY-NC-ND 4.0"
H_OPTIMUS_MEAN = (0.707223, 0.578729, 0.703617)
H_OPTIMUS_SD = (0.211883, 0.230117, 0.177517)
TRIDENT = "TRIDENT README and load.py"


@dataclass(frozen=True, slots=True)
class Preset:
    """A published encoder.

    Parameters
    ----------
    name
        What `--encoder` takes.
    title
        Its name in print.
    model
        What its hub call takes: "hf-hub:OWNER/NAME" of timm, a name of timm, or
        "OWNER/NAME" of transformers.
    look
        What it is shown and what is taken from it.
    width
        P, features per patch.
    licence
        Of the weights.
    gated
        Whether access must be asked for.
    page
        Where to read about it and to ask for access.
    source
        Where the numbers come from.
    loader
        "timm", "transformers" or "titan".
    hub_arguments
        Of timm's hub call.
    architecture, arguments
        timm's name and sizes, for weights in a local file; "" where there is none.
    """

    name: str
    title: str
    model: str
    look: Look
    width: int
    licence: str
    gated: bool
    page: str
    source: str
    loader: str = "timm"
    hub_arguments: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)


def _imagenet(mpp: float, pooling: str = "vector", prefix: int = 1) -> Look:
    return Look(224, mpp, IMAGENET_MEAN, IMAGENET_SD, pooling, prefix)


def _h_optimus(version: int, licence: str, source: str) -> Preset:
    return Preset(
        name=f"h-optimus-{version}",
        title=f"H-optimus-{version}",
        model=f"hf-hub:bioptimus/H-optimus-{version}",
        look=Look(224, 0.5, H_OPTIMUS_MEAN, H_OPTIMUS_SD),
        width=1536,
        licence=licence,
        gated=True,
        page=f"https://huggingface.co/bioptimus/H-optimus-{version}",
        source=source,
        hub_arguments={"init_values": 1e-5, "dynamic_img_size": False},
        architecture="vit_giant_patch14_reg4_dinov2",
        arguments={
            "img_size": 224,
            "global_pool": "token",
            "init_values": 1e-5,
            "dynamic_img_size": False,
        },
    )


def _virchow(name: str, title: str, licence: str, prefix: int) -> Preset:
    swiglu = {"mlp_layer": "SwiGLUPacked", "act_layer": "SiLU"}
    registers = {"reg_tokens": prefix - 1} if prefix > 1 else {}
    return Preset(
        name=name,
        title=title,
        model=f"hf-hub:paige-ai/{title}",
        look=_imagenet(0.5, "class+mean", prefix),
        width=2560,
        licence=licence,
        gated=True,
        page=f"https://huggingface.co/paige-ai/{title}",
        source=f"model card; {TRIDENT}: 224 px at 20x, class token and patch mean",
        hub_arguments=swiglu,
        architecture="vit_huge_patch14_224",
        arguments={
            "img_size": 224,
            "init_values": 1e-5,
            "mlp_ratio": 5.3375,
            "global_pool": "",
            "dynamic_img_size": True,
            **registers,
            **swiglu,
        },
    )


_UNI_ARGUMENTS = {"init_values": 1e-5, "dynamic_img_size": True}
_UNI2_ARGUMENTS = {
    "img_size": 224,
    "patch_size": 14,
    "depth": 24,
    "num_heads": 24,
    "init_values": 1e-5,
    "embed_dim": 1536,
    "mlp_ratio": 2.66667 * 2,
    "num_classes": 0,
    "no_embed_class": True,
    "mlp_layer": "SwiGLUPacked",
    "act_layer": "SiLU",
    "reg_tokens": 8,
    "dynamic_img_size": True,
}
_RESNET_ARGUMENTS = {"features_only": True, "out_indices": [3]}

_ALL = (
    Preset(
        name="uni",
        title="UNI",
        model="hf-hub:MahmoodLab/uni",
        look=_imagenet(RESIZED),
        width=1024,
        licence=NC_ND,
        gated=True,
        page="https://huggingface.co/MahmoodLab/UNI",
        source=f"{TRIDENT}: 256 px at 20x, resized to 224",
        hub_arguments=_UNI_ARGUMENTS,
        architecture="vit_large_patch16_224",
        arguments={"img_size": 224, "patch_size": 16, **_UNI_ARGUMENTS},
    ),
    Preset(
        name="uni2-h",
        title="UNI2-h",
        model="hf-hub:MahmoodLab/UNI2-h",
        look=_imagenet(RESIZED),
        width=1536,
        licence=NC_ND,
        gated=True,
        page="https://huggingface.co/MahmoodLab/UNI2-h",
        source=f"UNI README; {TRIDENT}: 256 px at 20x, resized to 224",
        hub_arguments=_UNI2_ARGUMENTS,
        architecture="vit_giant_patch14_224",
        arguments=_UNI2_ARGUMENTS,
    ),
    Preset(
        name="conch-v1.5",
        title="CONCH v1.5",
        model="MahmoodLab/TITAN",
        look=Look(448, 0.5 * 512 / 448, IMAGENET_MEAN, IMAGENET_SD),
        width=768,
        licence=NC_ND,
        gated=True,
        page="https://huggingface.co/MahmoodLab/TITAN",
        source=f"{TRIDENT}: 512 px at 20x, resized to 448",
        loader="titan",
    ),
    _virchow("virchow", "Virchow", "Apache-2.0", 1),
    _virchow("virchow2", "Virchow2", NC_ND, 5),
    Preset(
        name="gigapath",
        title="Prov-GigaPath",
        model="hf_hub:prov-gigapath/prov-gigapath",
        look=_imagenet(0.5),
        width=1536,
        licence="Apache-2.0",
        gated=True,
        page="https://huggingface.co/prov-gigapath/prov-gigapath",
        source=f"{TRIDENT}: 256 px at 20x, of which the central 224 px are shown",
        architecture="vit_giant_patch14_dinov2",
        arguments={
            "img_size": 224,
            "patch_size": 16,
            "embed_dim": 1536,
            "depth": 40,
            "num_heads": 24,
            "mlp_ratio": 5.33334,
        },
    ),
    _h_optimus(0, "Apache-2.0", "model card: 224 px at 0.5 um/px"),
    _h_optimus(1, NC_ND, f"{TRIDENT}: 224 px at 20x"),
    Preset(
        name="phikon-v2",
        title="Phikon-v2",
        model="owkin/phikon-v2",
        look=_imagenet(0.5, "class"),
        width=1024,
        licence="Owkin non-commercial",
        gated=False,
        page="https://huggingface.co/owkin/phikon-v2",
        source=f"model card; {TRIDENT}: 224 px at 20x, class token",
        loader="transformers",
    ),
    Preset(
        name="ctranspath",
        title="CTransPath",
        model="hf-hub:1aurent/swin_tiny_patch4_window7_224.CTransPath",
        look=_imagenet(1.0 * 256 / 224),
        width=768,
        licence="GPL-3.0",
        gated=False,
        page="https://github.com/Xiyue-Wang/TransPath",
        source=f"{TRIDENT}: 256 px at 10x, resized to 224; re-hosted weights",
        hub_arguments={"embed_layer": "ConvStem", "num_classes": 0},
        architecture="swin_tiny_patch4_window7_224",
        arguments={"embed_layer": "ConvStem"},
    ),
    Preset(
        name="resnet50-1024",
        title="ResNet-50 of ImageNet, truncated after its third stage",
        model="resnet50.tv_in1k",
        look=_imagenet(RESIZED, "map"),
        width=1024,
        licence="BSD-3-Clause",
        gated=False,
        page="https://huggingface.co/timm/resnet50.tv_in1k",
        source=f"{TRIDENT}: 256 px at 20x, resized to 224; as CLAM has it",
        hub_arguments=_RESNET_ARGUMENTS,
        architecture="resnet50",
        arguments=_RESNET_ARGUMENTS,
    ),
)
PRESETS: Mapping[str, Preset] = {preset.name: preset for preset in _ALL}
