"""Build sdist and wheel, install the wheel afresh, and look at what is there.

The fresh environment borrows the dependencies of the one that runs this script
(a .pth file), so that only the wheel itself is put to the test.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT_MB = 20.0
PROBE = """
import importlib, npe2, pathlib, gimp_models, napari_gimp
site = pathlib.Path(napari_gimp.__file__).parents[1]
assert site in pathlib.Path(gimp_models.__file__).parents, gimp_models.__file__
assert "fresh" in str(site), f"imported from {site}, not from the wheel"
manager = npe2.PluginManager.instance()
manager.discover(include_npe1=False)
manifest = manager.get_manifest("napari-gimp")
assert manifest.contributions.readers, "the manifest names no reader"
from napari_gimp.explain.models import resolve_model
assert (resolve_model("demo") / "card.json").is_file()
from gimp_models.gene_lists import default_gene_lists
assert default_gene_lists().tumour, "Subspace's gene lists are not in the wheel"
print("wheel: plugin found,", len(manifest.contributions.commands), "commands")
"""


def main() -> None:
    """Run the check; an assertion or a failed command ends it with an error."""
    with tempfile.TemporaryDirectory() as folder:
        wheel, sdist = build(Path(folder))
        check_sdist(sdist)
        check_wheel(wheel)
        check_installed(wheel, Path(folder) / "fresh")


def build(folder: Path) -> tuple[Path, Path]:
    """Return wheel and sdist; the wheel is made from the sdist, as a user's is."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder)]
    subprocess.run([*command, str(ROOT)], check=True, stdout=subprocess.DEVNULL)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def check_sdist(sdist: Path) -> None:
    """The source archive holds the manifest once and nothing of the environment."""
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert "napari.yaml" in names
    assert "napari_gimp/napari.yaml" not in names
    assert not [name for name in names if name.startswith((".venv", ".ci", "dist"))]


def check_wheel(wheel: Path) -> None:
    """The wheel holds exactly two packages and stays small."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        size_mb = sum(i.file_size for i in archive.infolist() if is_weight(i)) / 1e6
    tops = {name.partition("/")[0] for name in names}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"napari_gimp", "gimp_models"}, packages
    assert "napari_gimp/napari.yaml" in names
    assert size_mb <= LIMIT_MB, f"weights of {size_mb:.1f} MB, allowed {LIMIT_MB} MB"
    print(f"wheel: {len(names)} files, weights {size_mb:.1f} MB")


def is_weight(info: zipfile.ZipInfo) -> bool:
    """Whether a file of the wheel holds weights."""
    return info.filename.endswith(".safetensors")


def check_installed(wheel: Path, fresh: Path) -> None:
    """In a fresh environment npe2 finds the plugin and the demo model is there."""
    venv.create(fresh, with_pip=False, symlinks=True)
    python = fresh / "bin" / "python"
    site = next(fresh.glob("lib/python3*/site-packages"))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", str(site), str(wheel)], check=True)
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    subprocess.run([python, "-c", PROBE], check=True, cwd=fresh)
    top = {line.partition("/")[0] for line in record(site)}
    installed = {name for name in top if not name.endswith(".dist-info")}
    assert installed - {"bin", ".."} == {"napari_gimp", "gimp_models"}, installed


def record(site: Path) -> list[str]:
    """Return the files that the installed wheel says it owns."""
    return next(site.glob("napari_gimp-*.dist-info/RECORD")).read_text().splitlines()


if __name__ == "__main__":
    main()
