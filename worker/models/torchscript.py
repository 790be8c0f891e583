"""Networks in TorchScript files: a program with its weights, which only a trusted one may be (``docs/security.md``)."""

import warnings
from pathlib import Path

import torch

from jobs.catalog import ModelEntry
from jobs.errors import BadModel


def read_network(name: str, entry: ModelEntry) -> torch.jit.ScriptModule:
    """Read a TorchScript file into main memory, in float32. Raises BadModel, whatever is wrong with the file."""
    file = Path(entry.source).expanduser()
    if not entry.allow_pickle:  # the catalog asks too; here it is not left to that
        raise BadModel(f"Model {name!r} ({entry.source}): TorchScript is a program, and allow_pickle is not set.")
    try:
        if not file.is_file():
            raise BadModel("there is no such file")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
            network: torch.jit.ScriptModule = torch.jit.load(str(file), map_location="cpu")
        return network.float().eval()
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadModel(f"Model {name!r} ({entry.source}): no TorchScript network can be read: {reason}.") from error
