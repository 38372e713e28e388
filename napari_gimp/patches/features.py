"""Which patches of a slide are looked at, and their features: one way for all.

Analysis, training and cohorts ask here. Features are made by an encoder and kept,
or they were brought from another tool (`imported:NAME:WIDTH`); who asks sees no
difference but that imported patches lie where the other tool has cut them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, replace
from math import isnan
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_gimp.errors import StoreError
from napari_gimp.patches.encoders.imported import ImportedEncoder
from napari_gimp.patches.extract import Extracted, Features, extract
from napari_gimp.patches.grid import PatchGrid
from napari_gimp.patches.imported import ImportedFeatures, find_imported, imports
from napari_gimp.patches.plan import PatchPlan
from napari_gimp.patches.store import FeatureKey, FeatureStore
from napari_gimp.patches.store_entry import StoredFeatures
from napari_gimp.slide.source import SlideSource

if TYPE_CHECKING:
    from napari_gimp.patches.encoders import Encoder
    from napari_gimp.patches.tissue import Tissue

_log = logging.getLogger(__name__)

ALIKE = 0.1
"""Part by which um/px and patch sizes of one model may differ: tools count in whole
pixels, so 128 um are 127.7 um on one scanner and 128.3 um on another."""
PLAIN = PatchPlan()


@dataclass(frozen=True, slots=True, eq=False)
class PatchFeatures:
    """The patches of a slide and where their features come from.

    `plan_features` makes it; nothing is computed before `extract` or `read`.

    Parameters
    ----------
    source
        The open slide.
    patches
        Its N patches.
    tissue
        The tissue they were laid on; None where another tool chose them.
    encoder
        What makes the features, or stands for what made them; side of a patch and
        um/px are known.
    store
        Where they are kept; None keeps nothing.
    key
        Names them in the store; None without one.
    imported
        Those of another tool; None where `encoder` makes them.
    """

    source: SlideSource
    patches: PatchGrid
    tissue: Tissue | None
    encoder: Encoder
    store: FeatureStore | None
    key: FeatureKey | None
    imported: ImportedFeatures | None = None

    @property
    def stride_um(self) -> float:
        """Distance of neighbours, um, also where patches lie on several lattices."""
        return self.imported.key.stride_um if self.imported else self.patches.stride_um

    @property
    def stored(self) -> bool:
        """Whether all of them are in the store, undamaged."""
        if self.store is None or self.key is None:
            return False
        return self.store.has(self.key)

    def extract(
        self, *, batch_size: int | None = None, device: str = "cpu"
    ) -> Generator[Extracted, None, None]:
        """Yield the features as they are made; imported ones come in one step.

        It is `patches.extract.extract` otherwise, but that stored features which are
        damaged are made again first, and no others.
        """
        if self.imported is not None:
            count = len(self.patches)
            features = self.imported.features
            yield Extracted(count, count, slice(0, count), features)
            return
        how: dict[str, Any] = {"batch_size": batch_size, "device": device}
        if self.store and self.key and self.store.path(self.key).exists():
            yield from self._mend(self.store.open(self.key), how)
        source, patches, encoder = self.source, self.patches, self.encoder
        yield from extract(source, patches, encoder, store=self.store, **how)

    def _mend(
        self, stored: StoredFeatures, how: dict[str, Any]
    ) -> Generator[Extracted, None, None]:
        """Make damaged rows again, yielding all rows up to the next of them."""
        lost = stored.lost()
        if not len(lost):
            return
        features = stored.read()
        _log.warning(
            "%d of %d stored features of %s were damaged and are made again (%s)",
            *(len(lost), len(features), self.source.path.name, stored.path),
        )
        total, upto = len(self.patches), np.append(lost, len(features))
        if lost[0]:
            yield Extracted(int(lost[0]), total, slice(0, int(lost[0])), features)
        for step in extract(self.source, self._only(lost), self.encoder, **how):
            if self.source.damage:
                return
            rows = lost[step.rows]
            features[rows] = step.features[step.rows]
            stored.write_rows(rows, features[rows])
            new = slice(int(upto[step.rows.start]), int(upto[step.done]))
            yield Extracted(new.stop, total, new, features)

    def _only(self, rows: NDArray[np.intp]) -> PatchGrid:
        tissue = self.patches.tissue[rows]
        return replace(self.patches, index=self.patches.index[rows], tissue=tissue)

    def read(self, *, batch_size: int | None = None, device: str = "cpu") -> Features:
        """Return all features (N, P) float32, made now or found."""
        steps = self.extract(batch_size=batch_size, device=device)
        return deque(steps, maxlen=1).pop().features


def plan_features(
    source: SlideSource,
    encoder: Encoder,
    plan: PatchPlan = PLAIN,
    store: FeatureStore | None = None,
) -> PatchFeatures:
    """Find a slide's patches, and where their features are or will be.

    Parameters
    ----------
    source
        The open slide.
    encoder
        What makes the features; of imported ones, what stands for it.
    plan
        Where patches lie. Imported ones lie where they are.
    store
        Where features are looked for and kept; None keeps nothing.

    Raises
    ------
    PatchError, SlideError
        If no patch is left, or the slide or a file of the plan cannot be used.
    StoreError
        If the features are imported and the store does not hold them, holds several,
        or a plan other than the plain one is given.
    """
    if isinstance(encoder, ImportedEncoder):
        return _plan_imported(source, encoder, plan, store)
    tissue = plan.find_tissue(source)
    patches = plan.lay(tissue, encoder.patch_um)
    key = None if store is None else FeatureKey.of(source, patches, encoder)
    return PatchFeatures(source, patches, tissue, encoder, store, key)


def settle(encoder: Encoder, store: FeatureStore) -> Encoder:
    """Return an encoder whose um/px and side of a patch are known.

    An encoder of imported features gets them from the imports of a store, which must
    be alike; any other knows them.

    Raises
    ------
    StoreError
        If the store holds no such imports, or they are not alike.
    """
    if not isinstance(encoder, ImportedEncoder) or not isnan(encoder.patch_um):
        return encoder
    found = [one for one in imports(store) if _is_of(one, encoder)]
    if not found:
        raise StoreError(
            f"{store.root} holds no imported features {encoder.name}; bring them in "
            "with `napari-gimp import-features`"
        )
    looks = [(one.key.mpp, one.key.patch_um) for one in found]
    mpp, patch_um = (median(side) for side in zip(*looks, strict=True))
    settled = replace(encoder, mpp=mpp, patch_um=patch_um)
    unlike = [one for one in found if not _fits(one, settled)]
    if unlike:
        raise StoreError(
            f"the imported features {encoder.name} in {store.root} are not alike: "
            f"patches of {_look(found[0])}, but also of {_look(unlike[-1])}; "
            f"{_choose(encoder)}"
        )
    return settled


def _plan_imported(
    source: SlideSource,
    encoder: ImportedEncoder,
    plan: PatchPlan,
    store: FeatureStore | None,
) -> PatchFeatures:
    if plan != PLAIN:
        raise StoreError(
            f"the patches of {encoder.fingerprint} are where another tool has laid "
            "them, so tissue, stride, include and exclude change nothing; leave them "
            "out"
        )
    if store is None:
        raise StoreError(
            f"{encoder.fingerprint} needs features that were imported; say in which "
            "folder they are kept (--store)"
        )
    found = _the_import(source, encoder, store)
    known = replace(encoder, mpp=found.key.mpp, patch_um=found.key.patch_um)
    return PatchFeatures(source, found.patches, None, known, store, found.key, found)


def _the_import(
    source: SlideSource, encoder: ImportedEncoder, store: FeatureStore
) -> ImportedFeatures:
    """Return the one import of a slide that is meant."""
    of_slide = find_imported(store, source.fingerprint, encoder=encoder.label)
    found = [one for one in of_slide if _is_of(one, encoder)]
    fitting = [one for one in found if _fits(one, encoder)]
    if not found:
        raise StoreError(
            f"{store.root} holds no features {encoder.fingerprint} of "
            f"{source.path.name}; bring them in with `napari-gimp import-features`"
        )
    if not fitting:
        raise StoreError(
            f"the imported features of {source.path.name} are of patches of "
            f"{_look(found[0])}, they must be of {encoder.patch_um:.4g} um at "
            f"{encoder.mpp:.3g} um/px; import those"
        )
    if len(fitting) > 1:
        looks = "; ".join(sorted(map(_look, fitting)))
        raise StoreError(
            f"{store.root} holds {len(fitting)} imports {encoder.name} of "
            f"{source.path.name} ({looks}); {_choose(encoder)}"
        )
    _check_mpp(source, fitting[0])
    return fitting[0]


def _is_of(found: ImportedFeatures, encoder: ImportedEncoder) -> bool:
    """Whether an import is of an encoder, and of its um/px where that is named."""
    same = found.key.encoder == encoder.fingerprint
    return same and (isnan(encoder.mpp) or _near(found.key.mpp, encoder.mpp))


def _fits(found: ImportedFeatures, encoder: ImportedEncoder) -> bool:
    return isnan(encoder.patch_um) or (
        _near(found.key.patch_um, encoder.patch_um)
        and _near(found.key.mpp, encoder.mpp)
    )


def _near(value: float, wanted: float) -> bool:
    return abs(value - wanted) <= ALIKE * wanted


def _look(found: ImportedFeatures) -> str:
    key = found.key
    return f"{key.patch_um:.4g} um every {key.stride_um:.4g} um at {key.mpp:.3g} um/px"


def _choose(encoder: ImportedEncoder) -> str:
    return (
        f"name one by its um/px, as in {encoder.fingerprint}@0.5, or keep them in "
        "stores of their own"
    )


def _check_mpp(source: SlideSource, found: ImportedFeatures) -> None:
    """Refuse a slide opened with another um/px: the patches would lie elsewhere."""
    then, now = found.key.slide_mpp, source.mpp
    if any(abs(a - b) > 1e-6 * b for a, b in zip(then, now, strict=True)):
        raise StoreError(
            f"the features of {source.path.name} were imported at {then[1]:.6g} um/px, "
            f"the slide is opened at {now[1]:.6g}; give --mpp {then[1]:.6g}, or import "
            "them again"
        )
