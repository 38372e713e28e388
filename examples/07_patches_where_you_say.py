"""Say where patches lie, encode them once, and find those that look like one.

You will see how much tissue the sample slide has and what was left out of it, how
many patches lie in a circle such as QuPath exports, what it takes to encode them, and
where the patches most like the one in the middle are. A second run only reads.

Run it with: python examples/07_patches_where_you_say.py [STORE]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from napari_gimp.patches.encoders import load_encoder
from napari_gimp.patches.estimate import estimate
from napari_gimp.patches.features import plan_features
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.patches.store import FeatureStore
from napari_gimp.sample_data import sample_slide
from napari_gimp.slide.source import open_slide


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    encoder, store = load_encoder(), FeatureStore(folder)
    with open_slide(sample_slide()) as slide:
        circle = draw(folder / "circle.geojson", slide.levels[0].shape)
        everywhere = PatchPlan().find_tissue(slide)
        left_out = {why: f"{mm2:.2f}" for why, mm2 in everywhere.excluded.items()}
        print(f"tissue: {everywhere.area_mm2:.1f} mm2; left out, mm2: {left_out}")
        plan = PatchPlan(stride_um=64, min_tissue=0.7, include=(circle,))
        wanted = plan_features(slide, encoder, plan, store)
        count = len(wanted.patches)
        cost = estimate(count, encoder, store=store)
        time = "?" if cost.seconds is None else f"{cost.seconds:.1f}"
        print(f"in the circle: {count} patches, {time} s, {cost.disk_bytes:,} bytes")
        features, centres = wanted.read(), wanted.patches.coords_um
    middle = np.hypot(*(centres - centres.mean(axis=0)).T).argmin()
    alike = np.linalg.norm(features - features[middle], axis=1).argsort()[1:4]
    print("most like the middle one, um (y, x):", centres[alike].round().tolist())


def draw(path: Path, shape_px: tuple[int, int]) -> Path:
    """Write a circle of a quarter of the slide's height, as QuPath exports one."""
    turn = np.linspace(0, 2 * np.pi, 60)
    middle, radius = np.divide(shape_px, 2), shape_px[0] / 4
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius + middle[::-1]
    shape = {"type": "Polygon", "coordinates": [ring.tolist()]}
    path.write_text(json.dumps({"type": "Feature", "geometry": shape}))
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("features"))
