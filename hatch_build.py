"""Put the top-level ``napari.yaml`` inside the package, where npe2 looks for it.

A wheel gets it by ``force_include``. An editable install imports the source
folder itself, so there a git-ignored symbolic link (a copy where links are
refused) stands in ``napari_gimp/``; ``force_include`` alone would break it.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManifestHook(BuildHookInterface):  # type: ignore[type-arg] # untyped upstream
    """Place the plugin manifest for wheels and editable installs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the manifest to the build; `version` is "standard" or "editable"."""
        manifest = Path(self.root) / "napari.yaml"
        if version == "editable":
            link_or_copy(manifest, Path(self.root) / "napari_gimp" / "napari.yaml")
        else:
            build_data["force_include"][str(manifest)] = "napari_gimp/napari.yaml"


def link_or_copy(manifest: Path, target: Path) -> None:
    """Make `target` show the content of `manifest`."""
    target.unlink(missing_ok=True)
    try:
        target.symlink_to(Path("..") / manifest.name)
    except OSError:  # symbolic links refused (Windows without the right)
        shutil.copyfile(manifest, target)
