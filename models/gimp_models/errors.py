"""Errors a user can mend.

Every text says what happened, the value, what would be right and what to do.
This module imports nothing, so that every package can share its base class.
"""


class GimpError(Exception):
    """A problem the user can mend; the text is shown as it stands, no traceback."""


class CheckpointError(GimpError):
    """A model folder is missing, damaged, or made for something else."""


class BatchError(GimpError, ValueError):
    """Tensors handed to a model do not fit it or each other."""


class ConfigError(GimpError, ValueError):
    """Sizes or options of a model contradict each other."""
