"""The models in plain PyTorch: usable without napari, Qt or a slide.

Importing this package is cheap; torch is loaded by the modules that need it.
"""
