"""The models by name: what a checkpoint's card calls its architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from gimp_models.errors import CheckpointError
from gimp_models.gimp import Gimp, choices
from gimp_models.gimp_config import GimpConfig

__all__ = ["MODELS", "Architecture", "build", "name_of"]


@dataclass(frozen=True, slots=True)
class Architecture:
    """One registered model.

    Parameters
    ----------
    name
        What cards and run files call it.
    title
        What people call it.
    source
        Paper it re-implements.
    model
        Its class; has an attribute `config`.
    config
        Its config class, with `from_dict` and `as_dict`.
    choices
        Lists what the paper leaves open, from a config.
    """

    name: str
    title: str
    source: str
    model: Callable[[Any], nn.Module]
    config: type[GimpConfig]
    choices: Callable[[Any], tuple[str, ...]]


MODELS: Mapping[str, Architecture] = {
    "gimp": Architecture(
        name="gimp",
        title="GiMP, gene-induced multimodal pre-training",
        source="Jin et al., MICCAI 2023, doi:10.1007/978-3-031-43987-2_49",
        model=Gimp,
        config=GimpConfig,
        choices=choices,
    )
}


def find(name: str) -> Architecture:
    """Look an architecture up.

    Raises
    ------
    CheckpointError
        If there is none of that name.
    """
    if name not in MODELS:
        raise CheckpointError(
            f"There is no architecture {name!r}: it must be one of "
            f"{', '.join(MODELS)}; update napari-gimp or choose another model."
        )
    return MODELS[name]


def build(name: str, config: Mapping[str, Any]) -> nn.Module:
    """Build a model with fresh weights from its name and a config of plain values.

    Raises
    ------
    CheckpointError
        If the architecture is unknown.
    ConfigError
        If the config does not fit it.
    """
    architecture = find(name)
    return architecture.model(architecture.config.from_dict(config))


def name_of(model: nn.Module) -> str:
    """Return the registered name of a model.

    Raises
    ------
    CheckpointError
        If the model's class is not registered.
    """
    for name, architecture in MODELS.items():
        if type(model) is architecture.model:
            return name
    raise CheckpointError(
        f"{type(model).__name__} is no registered architecture: it must be one of "
        f"{', '.join(MODELS)}; add it to the registry."
    )
