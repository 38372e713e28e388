"""Errors a user can mend, by the room in which they arise.

The command line prints the text of a `GimpError` and exits with 2; docks show
it in place. Each text says what happened, the value, what would be right and
what to do.
"""

from gimp_models.errors import BatchError, CheckpointError, GimpError

__all__ = [
    "BatchError",
    "CheckpointError",
    "ClusterError",
    "CohortError",
    "EncoderError",
    "GeneError",
    "GimpError",
    "PatchError",
    "ResolutionError",
    "ResultError",
    "RunError",
    "SlideError",
    "StoreError",
    "TileError",
]


class SlideError(GimpError):
    """A file is no slide, or a slide cannot be read."""


class TileError(SlideError):
    """The bytes of one tile are there but cannot be decoded."""


class ResolutionError(SlideError):
    """A slide's um/px is missing or implausible and nobody said what it is."""


class PatchError(GimpError):
    """No patch is left, or a patch lies outside the slide."""


class EncoderError(GimpError):
    """An encoder is unknown, damaged, or not the one that is needed."""


class StoreError(GimpError):
    """A feature store is damaged or belongs to something else."""


class GeneError(GimpError):
    """A gene table, a sample of it, or a gene set cannot be used."""


class ClusterError(GimpError):
    """A cluster does not answer, has no worker, or cannot be started."""


class CohortError(GimpError):
    """A cohort manifest has missing files, leaks patients, or lacks labels."""


class RunError(GimpError):
    """A training run's configuration or folder cannot be used."""


class ResultError(GimpError):
    """A result or report cannot be written where it was asked for."""
