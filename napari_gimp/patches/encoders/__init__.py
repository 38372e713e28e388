"""Frozen encoders: a patch's pixels become a feature vector.

`load_encoder` takes a name (an included encoder, a preset, one of timm's, or a path)
and returns an `Encoder`. Its fingerprint names its content, so features of different
encoders are never mixed up. Nothing is fetched at import, and nothing is unpickled.
"""

from napari_gimp.patches.encoders.embedded import (
    CPU_BATCH,
    WEIGHTS,
    EncoderCard,
    PatchNetEncoder,
    fingerprint,
    load_embedded,
    read_card,
    read_weights,
)
from napari_gimp.patches.encoders.protocol import Encoder
from napari_gimp.patches.encoders.registry import (
    EncoderFacts,
    encoder_facts,
    list_encoders,
    load_encoder,
)

__all__ = [
    "CPU_BATCH",
    "WEIGHTS",
    "Encoder",
    "EncoderCard",
    "EncoderFacts",
    "PatchNetEncoder",
    "encoder_facts",
    "fingerprint",
    "list_encoders",
    "load_embedded",
    "load_encoder",
    "read_card",
    "read_weights",
]
