"""Slides: sources, tiles, exact pyramids and progressive display levels."""
