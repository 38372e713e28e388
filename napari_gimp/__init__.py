"""napari-gimp: slides and gene expression, seen together through three models."""

__version__ = "0.1.0"
