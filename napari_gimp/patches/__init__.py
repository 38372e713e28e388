"""Patches: tissue, patch grid, encoders, feature extraction and store."""
