"""How long a gene table takes from file to a model's panel.

A table of 1,000 samples and 20,000 genes is written in each format, then read and
aligned to a panel of 2,000 genes. The peer is the same file read into one array of
numbers by pandas (h5ad: by h5py), without looking at names, scale or panel.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from napari_gimp.genes.panel import Panel, align_table
from napari_gimp.genes.sets import hallmarks
from napari_gimp.genes.table import read_table

LIMIT_S = 3.0


def made(samples: int, genes: int) -> pd.DataFrame:
    """Return expression (samples, genes), the first of which are known symbols."""
    sets = hallmarks().values()
    known = list(dict.fromkeys(gene for members in sets for gene in members))
    names = [*known, *(f"LOC{k}" for k in range(genes))][:genes]
    values = np.random.default_rng(0).gamma(2, 3, (samples, genes)).round(3)
    rows = [f"P{k}" for k in range(samples)]
    return pd.DataFrame(values.astype(np.float32), index=rows, columns=names)


def written(frame: pd.DataFrame, folder: Path) -> dict[Path, Callable[[Path], object]]:
    """Write the table in each format; return the files with pandas' way to read."""
    turned = frame.T
    write_text(frame.reset_index(names="sample"), folder / "genes in columns.csv", ",")
    write_text(turned.reset_index(names="gene"), folder / "genes in rows.tsv", "\t")
    frame.to_parquet(folder / "genes in columns.parquet")
    turned.to_parquet(folder / "genes in rows.parquet")
    zipped = folder / "genes in rows.tsv.gz"
    zipped.write_bytes(gzip.compress((folder / "genes in rows.tsv").read_bytes(), 6))
    write_h5ad(frame, folder / "genes in columns.h5ad")
    return {
        folder / "genes in columns.csv": lambda p: pd.read_csv(p, index_col=0),
        folder / "genes in rows.tsv": lambda p: pd.read_csv(p, sep="\t", index_col=0),
        zipped: lambda p: pd.read_csv(p, sep="\t", index_col=0),
        folder / "genes in columns.parquet": pd.read_parquet,
        folder / "genes in rows.parquet": pd.read_parquet,
        folder / "genes in columns.h5ad": read_x,
    }


def read_x(path: Path) -> pd.DataFrame:
    """Return the numbers of an h5ad file."""
    import h5py

    with h5py.File(path) as file:
        return pd.DataFrame(file["X"][()], copy=False)


def write_h5ad(frame: pd.DataFrame, path: Path) -> None:
    """Write X and names."""
    from anndata import AnnData

    obs = pd.DataFrame(index=pd.Index(list(frame.index), dtype=object))
    var = pd.DataFrame(index=pd.Index(list(frame.columns), dtype=object))
    AnnData(frame.to_numpy(), obs=obs, var=var).write_h5ad(path)


def write_text(frame: pd.DataFrame, path: Path, mark: str) -> None:
    """Write a table of text; pandas would take most of a minute."""
    from pyarrow import Table, csv

    options = csv.WriteOptions(delimiter=mark, quoting_style="none")
    csv.write_csv(Table.from_pandas(frame, preserve_index=False), path, options)


def panel_of(frame: pd.DataFrame) -> Panel:
    """Return a panel of every tenth gene."""
    genes = tuple(frame.columns[::10])
    count = len(genes)
    return Panel(genes, np.full(count, 2, np.float32), np.ones(count, np.float32))


def seconds(call: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the least time and processor time of a call, s."""
    times = []
    for _ in range(rounds):
        start, processor = time.perf_counter(), time.process_time()
        call()
        used = time.process_time() - processor
        times.append((time.perf_counter() - start, used))
    return min(t for t, _ in times), min(p for _, p in times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--genes", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    frame = made(args.samples, args.genes)
    panel = panel_of(frame)
    print(f"\n### Gene tables: {args.samples:,} samples x {args.genes:,} genes\n")
    print("| file | ours, s | ours, processor s | peer, s | of the limit |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for path, peer in written(frame, Path(folder)).items():
            ours = seconds(
                lambda p=path: align_table(read_table(p), panel), args.rounds
            )
            theirs = seconds(lambda p=path, r=peer: r(p).to_numpy(), args.rounds)
            print(row(path.name, ours, theirs), flush=True)


def row(name: str, ours: tuple[float, float], theirs: tuple[float, float]) -> str:
    """Return a line of the table; the ratio is of the time by the clock."""
    ratio = f"{ours[0] / LIMIT_S:.2f}x of {LIMIT_S:.0f} s"
    return f"| {name} | {ours[0]:.2f} | {ours[1]:.2f} | {theirs[0]:.2f} | {ratio} |"


if __name__ == "__main__":
    main()
