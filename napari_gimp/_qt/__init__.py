"""Docks: the only place that imports Qt, magicgui or the viewer of napari."""
