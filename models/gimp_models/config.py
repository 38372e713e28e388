"""What the configs of all models share: presets, plain values, checks.

A config is one frozen dataclass of sizes and options that is saved in the
checkpoint; see `gimp_config.py`, `mgi_config.py` and `subspace_config.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, ClassVar, Self

from gimp_models.errors import ConfigError

__all__ = ["Config"]


class Config:
    """Base of a model's config, itself a frozen dataclass."""

    __slots__ = ()

    MODEL: ClassVar[str]
    """What people call the model, for error messages."""
    SIZES: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Named sizes: what each sets, beside the defaults."""

    @classmethod
    def size(cls, name: str) -> Mapping[str, Any]:
        """Return what a named size sets.

        Raises
        ------
        ConfigError
            If the size is unknown.
        """
        if name not in cls.SIZES:
            raise ConfigError(
                f"There is no size {name!r} of {cls.MODEL}: choose one of "
                f"{', '.join(cls.SIZES)}."
            )
        return cls.SIZES[name]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Rebuild a config from what `as_dict` wrote.

        Raises
        ------
        ConfigError
            If a field is unknown or missing.
        """
        unknown = sorted(set(values) - {f.name for f in _fields(cls)})
        if unknown:
            raise ConfigError(
                f"{cls.MODEL}'s config has no {', '.join(unknown)}: the model was "
                "written by a newer version; update napari-gimp."
            )
        try:
            return cls(**{name: _frozen(value) for name, value in values.items()})
        except TypeError as error:
            raise ConfigError(f"{cls.MODEL}'s config is incomplete: {error}.") from (
                error
            )

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        plain: dict[str, Any] = asdict(self)  # type: ignore[call-overload]  # a dataclass
        return plain

    def require(self, holds: bool, name: str, right: str) -> None:
        """Refuse a field's value unless a condition holds.

        Parameters
        ----------
        holds
            The condition.
        name
            The field.
        right
            What the value must be.

        Raises
        ------
        ConfigError
            If it does not hold.
        """
        if not holds:
            raise ConfigError(
                f"{self.MODEL}'s {name} is {getattr(self, name)!r}, it must be {right}."
            )

    def require_choices(self, choices: Mapping[str, tuple[str, ...]]) -> None:
        """Refuse a field whose value is not among its choices."""
        for name, allowed in choices.items():
            right = f"one of {', '.join(allowed)}"
            self.require(getattr(self, name) in allowed, name, right)

    def require_positive(self, *names: str) -> None:
        """Refuse a field below 1."""
        for name in names:
            self.require(getattr(self, name) >= 1, name, "at least 1")


def _fields(kind: Any) -> tuple[Any, ...]:
    return fields(kind)


def _frozen(value: Any) -> Any:
    """JSON lists back to tuples."""
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
