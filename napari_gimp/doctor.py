"""What this machine has, what is missing, and how to get it.

What could take the interpreter down with it (Qt, OpenGL) is tried in a process of
its own. Nothing is downloaded and nothing is changed.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from napari_gimp import __version__, doctor_probes
from napari_gimp.errors import GimpError

Status = Literal["ok", "warn", "missing"]

PACKAGES = (
    "napari", "torch", "zarr", "dask", "tifffile", "imagecodecs",
    "openslide-python", "openslide-bin", "wsidicom", "safetensors", "lightning-fabric",
    "psygnal", "superqt", "matplotlib", "scikit-image", "pandas",
)  # fmt: skip
QT_LIBRARIES = (
    "libgl1 libegl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 "
    "libxcb-keysyms1 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 "
    "libdbus-1-3 libfontconfig1 libglib2.0-0"
)
APT = "apt-get install --yes --no-install-recommends"
PROBE_S = 60
LEAST_RAM_GB, LEAST_FREE_GB = 8, 2


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Parameters
    ----------
    name
        What was looked at.
    status
        "ok", "warn" (works, but) or "missing".
    value
        What was found.
    remedy
        How to get it; empty where nothing is to be done.
    """

    name: str
    status: Status
    value: str
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at everything the plugin needs; takes some seconds."""
    windows = _window_libraries()
    return [
        _python(),
        _packages(),
        _plugin(),
        _qt(),
        windows,
        _display(),
        _opengl(windows),
        _gpu(),
        _openslide(),
        _encoder(),
        *_models(),
        _cache(),
        _tile_cache(),
        _memory(),
        _disk(),
    ]


def as_text(findings: Iterable[Finding]) -> str:
    """Return the findings for a terminal: one line each, the remedy below."""
    marks = {"ok": "  ok    ", "warn": "  warn  ", "missing": "MISSING "}
    lines = [f"napari-gimp {__version__}"]
    for finding in findings:
        lines.append(f"{marks[finding.status]}{finding.name:<17} {finding.value}")
        if finding.remedy:
            lines.append(f"{'':26}-> {finding.remedy}")
    return "\n".join(lines)


def as_json(findings: Iterable[Finding]) -> str:
    """Return the findings for a program."""
    return json.dumps([asdict(f) for f in findings], indent=1)


def _python() -> Finding:
    value = f"{platform.python_version()} ({platform.system()} {platform.machine()})"
    return Finding("Python", "ok", value)  # an older one could not import this file


def _packages() -> Finding:
    found = {name: _version(name) for name in PACKAGES}
    absent = [name for name, version in found.items() if version is None]
    listed = ", ".join(f"{name} {v}" for name, v in found.items() if v)
    if not absent:
        return Finding("packages", "ok", listed)
    remedy = f"{sys.executable} -m pip install {' '.join(absent)}"
    return Finding("packages", "missing", f"no {', '.join(absent)}", remedy)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _plugin() -> Finding:
    groups = importlib.metadata.entry_points(group="napari.manifest")
    if any(entry.name == "napari-gimp" for entry in groups):
        return Finding("plugin", "ok", "napari finds it")
    remedy = f"{sys.executable} -m pip install napari-gimp"
    return Finding("plugin", "missing", "napari does not find it", remedy)


def _qt() -> Finding:
    answer = _probe(doctor_probes.QT, QT_QPA_PLATFORM="offscreen")
    if answer.ok:
        return Finding("Qt", "ok", answer.text)
    binding = next((v for v in ("PySide6", "PyQt6") if _version(v)), None)
    if binding is None:
        remedy = f"{sys.executable} -m pip install 'napari-gimp[all]'"
        return Finding("Qt", "missing", "no Qt binding is installed", remedy)
    value = f"{binding} does not load: {answer.text}"
    return Finding("Qt", "missing", value, _apt(QT_LIBRARIES))


def _window_libraries() -> Finding:
    """Try to load Qt's X11 plugin, which names the first library it misses."""
    name = "window libraries"
    if platform.system() != "Linux":
        return Finding(name, "ok", "part of the system")
    answer = _probe(doctor_probes.XCB, QT_QPA_PLATFORM="offscreen")
    if answer.ok:
        return Finding(name, "ok", answer.text)
    return Finding(name, "missing", answer.text, _apt(QT_LIBRARIES))


def _display() -> Finding:
    if platform.system() in {"Darwin", "Windows"}:
        return Finding("display", "ok", "of the system")
    named = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
    if named:
        return Finding("display", "ok", named)
    virtual = "; Xvfb is there for tests" if shutil.which("Xvfb") else ""
    return Finding(
        "display",
        "warn",
        f"none: the viewer cannot open, the command line works{virtual}",
        "log in with a desktop, or ssh -X"
        + ("" if virtual else f"; for tests: {_apt('xvfb xauth')}"),
    )


def _opengl(windows: Finding) -> Finding:
    if windows.status != "ok":
        value = "not tried: without the window libraries Qt ends the process"
        return Finding("OpenGL", "missing", value, windows.remedy)
    command = _with_display([sys.executable, "-c", doctor_probes.OPENGL])
    if command is None:
        value = "not tried: neither a display nor Xvfb"
        return Finding("OpenGL", "warn", value, _apt("xvfb xauth"))
    answer = _run(command, {})
    if not answer.ok:
        remedy = _apt("libgl1 libegl1 libgl1-mesa-dri") + ", or a graphics driver"
        return Finding("OpenGL", "missing", answer.text, remedy)
    software = "llvmpipe" in answer.text or "softpipe" in answer.text
    note = " (in software: panning is slower)" if software else ""
    return Finding("OpenGL", "ok", answer.text + note)


def _with_display(command: list[str]) -> list[str] | None:
    """Return the command as it can reach a display, None where it cannot."""
    if platform.system() != "Linux":
        return command
    if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return command
    runner = shutil.which("xvfb-run")
    return [runner, "--auto-servernum", *command] if runner else None


def _gpu() -> Finding:
    """Say what torch computes on and, where a GPU lies idle, why."""
    try:
        import torch
    except (ImportError, OSError) as error:
        remedy = f"{sys.executable} -m pip install torch"
        return Finding("GPU", "missing", f"torch does not load: {error}", remedy)
    if torch.cuda.is_available():
        return Finding("GPU", "ok", f"CUDA, {torch.cuda.get_device_name(0)}")
    if torch.backends.mps.is_available():
        return Finding("GPU", "ok", "Apple MPS")
    if not (Path("/dev/nvidiactl").exists() or shutil.which("nvidia-smi")):
        return Finding("GPU", "ok", "none; models run on the processor")
    return _unused_gpu(torch.version.cuda)


def _unused_gpu(built_for: str | None) -> Finding:
    if built_for is None:
        value = "an NVIDIA GPU is there, but this torch is built for the CPU only"
        remedy = f"{sys.executable} -m pip install --force-reinstall torch"
    else:
        value = f"an NVIDIA GPU is there, but torch's CUDA {built_for} cannot use it"
        remedy = "update the NVIDIA driver; see what nvidia-smi says"
    return Finding("GPU", "warn", value, remedy)


def _openslide() -> Finding:
    try:
        import openslide
    except (ImportError, OSError) as error:
        remedy = f"{sys.executable} -m pip install openslide-bin openslide-python"
        return Finding("OpenSlide", "missing", f"does not load: {error}", remedy)
    return Finding("OpenSlide", "ok", f"library {openslide.__library_version__}")


def _encoder() -> Finding:
    from napari_gimp.patches.encoders import load_encoder

    return _try(
        "patch encoder",
        lambda: f"default, fingerprint {load_encoder().fingerprint[:12]}",
    )


def _models() -> list[Finding]:
    from napari_gimp.explain.models import SHIPPED

    folders = sorted(p.parent for p in SHIPPED.glob("*/card.json"))
    if not folders:
        value, remedy = f"none in {SHIPPED}", "install the package again"
        return [Finding("models", "missing", value, remedy)]
    return [_model(folder) for folder in folders]


def _model(folder: Path) -> Finding:
    from gimp_models.checkpoint import load

    return _try(
        f"model {folder.name}", lambda: f"hash agrees, {load(folder).card.architecture}"
    )


def _try(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", look())
    except (GimpError, ImportError, OSError) as error:
        return Finding(name, "missing", str(error), "install the package again")


def _cache() -> Finding:
    from napari_gimp.sample_data import cache_folder

    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return Finding("cache folder", "ok", str(folder))
    except OSError as error:
        remedy = f"make {folder} writable"
        return Finding("cache folder", "missing", f"{folder}: {error}", remedy)


def _tile_cache() -> Finding:
    """Say how much memory decoded tiles may take, and who said so."""
    from napari_gimp.slide.tiles import MB, VARIABLE, tile_cache

    try:
        budget = tile_cache().budget_bytes // MB
    except GimpError as error:
        remedy = f"unset {VARIABLE} or give it a number"
        return Finding("tile cache", "missing", str(error), remedy)
    stated = os.environ.get(VARIABLE, "").strip()
    whose = VARIABLE if stated else f"a quarter of memory or 4 GB; or set {VARIABLE}"
    return Finding("tile cache", "ok", f"up to {budget:,} MB ({whose})")


def _memory() -> Finding:
    import psutil

    memory = psutil.virtual_memory()
    total, free = memory.total / 2**30, memory.available / 2**30
    cores = psutil.cpu_count(logical=False) or os.cpu_count()
    value = f"{total:.0f} GB memory, {free:.0f} GB free; {cores} cores"
    if total >= LEAST_RAM_GB * 0.9:  # a part of it is always the firmware's
        return Finding("memory", "ok", value)
    return Finding("memory", "warn", value, f"{LEAST_RAM_GB} GB are comfortable")


def _disk() -> Finding:
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    value = f"{free:.0f} GB free in {tempfile.gettempdir()}"
    if free >= LEAST_FREE_GB:
        return Finding("disk", "ok", value)
    return Finding("disk", "warn", value, f"free {LEAST_FREE_GB} GB for features")


@dataclass(frozen=True, slots=True)
class _Answer:
    ok: bool
    text: str


def _probe(code: str, **environment: str) -> _Answer:
    return _run([sys.executable, "-c", code], environment)


def _run(command: list[str], environment: dict[str, str]) -> _Answer:
    """Run a probe; its last line is the answer, or the reason of its failure."""
    try:
        ended = subprocess.run(
            command,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PROBE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _Answer(False, str(error))
    said = (ended.stdout if ended.returncode == 0 else ended.stderr).strip()
    last = said.splitlines()[-1] if said else f"ended with code {ended.returncode}"
    return _Answer(ended.returncode == 0, last)


def _apt(packages: str) -> str:
    """Return the command that installs Debian packages, as this user needs it."""
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    return f"on Debian or Ubuntu: {'' if root else 'sudo '}{APT} {packages}"
