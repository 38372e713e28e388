"""Damage done to copies of slides: bits flipped, files cut off, blanked or deleted.

Half of the damage goes where the structure is (directories, headers, metadata): in
the pixels, which are most of a file, it would nearly always be the same story.
"""

from __future__ import annotations

import random
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

KINDS = (
    "one bit", "some bits", "structure", "extreme", "cut", "blank", "noise", "shift",
)  # fmt: skip
EXTREMES = (0, 1, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
TIFF_MAGIC = (b"II", b"MM")
HEAD_BYTES = 700
DIRECTORY_BYTES = 400


@dataclass(frozen=True)
class Mutation:
    """One case: which format, which damage, which draw of it."""

    form: str
    kind: str
    seed: int

    @property
    def name(self) -> str:
        """What a failure is called."""
        return f"{self.form}, {self.kind}, seed {self.seed}"

    def damaged_copy(self, sound: Path, folder: Path) -> Path:
        """Copy a slide and all beside it into a folder, damage one file of it."""
        shutil.copytree(sound.parent, folder / "copy")
        dice = random.Random(self.name)
        files = sorted(p for p in (folder / "copy").rglob("*") if p.is_file())
        victim = dice.choice(files)
        content = bytearray(victim.read_bytes())
        if self.kind == "gone":
            victim.unlink()
        else:
            victim.write_bytes(_damaged(content, self.kind, dice))
        return folder / "copy" / sound.name


def mutations(form: str, count: int, *, several_files: bool) -> list[Mutation]:
    """Return cases of a format, the kinds of damage in turn."""
    kinds = (*KINDS, "gone") if several_files else KINDS
    return [Mutation(form, kinds[n % len(kinds)], n) for n in range(count)]


def _damaged(content: bytearray, kind: str, dice: random.Random) -> bytes:
    if not content:
        return b"\0"
    damage = {
        "cut": _cut,
        "blank": _blanked,
        "noise": _noisy,
        "shift": _shifted,
        "extreme": _extreme,
    }
    damage.get(kind, partial(_flipped, kind=kind))(content, dice)
    return bytes(content)


def _cut(content: bytearray, dice: random.Random) -> None:
    del content[dice.randrange(len(content)) :]


def _blanked(content: bytearray, dice: random.Random) -> None:
    span = _span(content, dice)
    content[span] = bytes(len(content[span]))


def _noisy(content: bytearray, dice: random.Random) -> None:
    span = _span(content, dice)
    content[span] = dice.randbytes(len(content[span]))


def _span(content: bytearray, dice: random.Random) -> slice:
    start = dice.randrange(len(content))
    return slice(start, start + dice.choice((8, 64, 4096)))


def _shifted(content: bytearray, dice: random.Random) -> None:
    """Take some bytes out, or put some in: all behind them is in the wrong place."""
    start = dice.randrange(len(content))
    content[start : start + dice.choice((0, 1, 7))] = b"0" * dice.choice((0, 1, 5))


def _extreme(content: bytearray, dice: random.Random) -> None:
    """Write a number that programs trip over where the structure is."""
    start, stop = dice.choice(structure(content))
    at, size = dice.randrange(start, stop), dice.choice((2, 4))
    value = dice.choice(EXTREMES) & (256**size - 1)
    number = value.to_bytes(size, dice.choice(("little", "big")))
    content[at : at + size] = number[: len(content) - at]


def _flipped(content: bytearray, dice: random.Random, kind: str) -> None:
    spans = structure(content) if kind == "structure" else [(0, len(content))]
    for _ in range(1 if kind == "one bit" else dice.choice((2, 6, 20))):
        start, stop = dice.choice(spans)
        content[dice.randrange(start, stop)] ^= 1 << dice.randrange(8)


def structure(content: bytes | bytearray) -> list[tuple[int, int]]:
    """Return where a file tells of itself: TIFF directories, else its head."""
    whole = len(content)
    spans = [(0, min(HEAD_BYTES, whole))]
    if bytes(content[:2]) not in TIFF_MAGIC:
        return spans
    return [
        (start, min(start + DIRECTORY_BYTES, whole)) for start in _directories(content)
    ]


def _directories(content: bytes | bytearray) -> list[int]:
    """Return where the directories of a TIFF start, SubIFDs left out."""
    order = "little" if content[:2] == b"II" else "big"
    big = int.from_bytes(content[2:4], order) == 43
    word, count_bytes, entry = (8, 8, 20) if big else (4, 2, 12)
    found: list[int] = []
    link = 8 if big else 4
    while link + word <= len(content):
        start = int.from_bytes(content[link : link + word], order)
        if not 0 < start < len(content) or start in found:
            break
        found.append(start)
        count = int.from_bytes(content[start : start + count_bytes], order)
        link = start + count_bytes + entry * count
    return found or [0]
