"""Reading foreign model files without running what is in their pickles.

safetensors hold tensors only. A .pt of weights is read with `weights_only=True`.
TorchScript is parsed by torch's own C++ reader, which knows no Python classes.
torch.export.load unpickles some members of its archive, so an archive is opened only
if it holds nothing but plain tensors and JSON.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from napari_gimp.errors import EncoderError

if TYPE_CHECKING:
    import torch

PLAIN_MEMBERS = re.compile(
    r"(data/weights/(weight_\d+|[^/]*_weights_config\.json)"
    r"|data/constants/(tensor_\d+|[^/]*_constants_config\.json)"
    r"|data/sample_inputs/[^/]+\.pt|models/[^/]+\.json"
    r"|archive_format|archive_version|version|byteorder|\.data/[^/]+)"
)
"""Members of a torch.export archive that carry no pickled object and no library."""


def kind_of(path: Path) -> str:
    """Return "weights", "torchscript" or "export", judged by content.

    Raises
    ------
    EncoderError
        If the file is missing, damaged or of no known kind.
    """
    _check_there(path)
    if path.suffix == ".safetensors":
        return "weights"
    if not zipfile.is_zipfile(path):
        raise EncoderError(
            f"{path} is neither safetensors nor an archive of torch.save, "
            "torch.jit.save or torch.export.save; if it is an old .pt, load and save "
            "it again with a current torch, or write it as safetensors"
        )
    with zipfile.ZipFile(path) as archive:
        members = [_inner(name) for name in archive.namelist()]
    if "archive_format" in members:
        return "export"
    scripted = any(name.startswith("code/") for name in members)
    return "torchscript" if scripted else "weights"


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise EncoderError(f"there is no encoder file {path}; check the path")


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return the named tensors of a safetensors file or of a .pt.

    A checkpoint of training may nest them under "state_dict", "model" or "teacher".

    Raises
    ------
    EncoderError
        If the file is damaged, or holds more than tensors.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _check_there(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EncoderError(
            f"{path} holds pickled Python objects, which are not opened because they "
            "may run any code; save its state_dict() alone, as safetensors"
        ) from error
    except (OSError, SafetensorError, RuntimeError, ValueError, EOFError) as error:
        raise EncoderError(
            f"the weights {path} cannot be read ({error}); copy or download them again"
        ) from error
    return _tensors(held, path)


def _tensors(held: object, path: Path) -> dict[str, torch.Tensor]:
    import torch

    for key in ("state_dict", "model", "teacher"):
        if isinstance(held, dict) and isinstance(held.get(key), dict):
            held = held[key]
    if not isinstance(held, dict) or not held:
        raise EncoderError(
            f"{path} holds a {type(held).__name__}, not named tensors; save the "
            "network's state_dict()"
        )
    if wrong := [k for k, v in held.items() if not isinstance(v, torch.Tensor)]:
        raise EncoderError(
            f"{path} holds other things than tensors ({wrong[0]!r}, ...); save the "
            "network's state_dict() alone"
        )
    return held


def read_torchscript(path: Path) -> torch.nn.Module:
    """Return the module of a TorchScript file, on the CPU.

    Raises
    ------
    EncoderError
        If it is damaged.
    """
    import torch

    try:
        module: torch.nn.Module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError) as error:
        raise EncoderError(
            f"the TorchScript file {path} cannot be read ({error}); export it again"
        ) from error
    return module.eval()


def read_exported(path: Path) -> torch.nn.Module:
    """Return the module of a torch.export file, on the CPU.

    Raises
    ------
    EncoderError
        If it is damaged, or holds pickled objects or compiled libraries.
    """
    import torch

    _refuse_pickles(path)
    try:
        return torch.export.load(path).module()
    except (RuntimeError, ValueError, AssertionError, KeyError) as error:
        raise EncoderError(
            f"the torch.export file {path} cannot be read ({error}); export it again "
            f"with a torch no newer than {torch.__version__}"
        ) from error


def _refuse_pickles(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            inner = _inner(name)
            if not PLAIN_MEMBERS.fullmatch(inner) or _pickled(archive, name, inner):
                raise EncoderError(
                    f"the torch.export file {path} holds {inner!r}, a pickled object "
                    "or a compiled library, which is not opened because it may run "
                    "any code; export a network of plain dense tensors"
                )


def _pickled(archive: zipfile.ZipFile, name: str, inner: str) -> bool:
    """Return whether torch would unpickle a member, or what it lists, unguarded."""
    import torch

    if inner.endswith("_config.json"):
        config = json.loads(archive.read(name)).get("config", {})
        return any(payload.get("use_pickle") for payload in config.values())
    if inner.startswith("data/sample_inputs/"):
        try:
            torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError):
            return True
    return False


def file_digest(path: Path, settings: dict[str, object]) -> str:
    """Return the hex digest (64 letters) of a file's bytes and of what else counts."""
    summed = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    with path.open("rb") as file:
        summed.update(hashlib.file_digest(file, "sha256").digest())
    return summed.hexdigest()


def _inner(name: str) -> str:
    """Return a member's name without the archive's own folder."""
    return name.partition("/")[2]
