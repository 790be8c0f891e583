"""The model that every compared server loads, as catalog entry and as options of the baselines."""

import argparse
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ServedModel:
    """Without a folder, the pocket model that ships. ``size_px`` is the side it is run at."""

    name: str = "pocket"
    folder: Path | None = None
    family: str = "sd"
    size_px: int = 256
    scheduler: str = "ddim"
    guidance_scale: float = 1.0
    device: str = "cpu"
    dtype: str = "float32"

    def options(self) -> list[str]:
        """Arguments of ``bench.baselines``' programs, as ``add_options`` reads them."""
        folder = ["--folder", str(self.folder)] if self.folder else []
        settings = {"--guidance-scale": self.guidance_scale, "--device": self.device, "--dtype": self.dtype}
        return [*folder, *(word for name, value in settings.items() for word in (name, str(value)))]

    def catalog(self) -> str | None:
        """A catalog file's text with this model alone; None for the one that ships."""
        if self.folder is None:
            return None
        lines = {
            "family": self.family,
            "source": str(self.folder.resolve()),
            "num_inference_steps": 20,
            "guidance_scale": self.guidance_scale,
            "strength": 1.0,
            "scheduler": self.scheduler,
            "size_px": self.size_px,
            "max_size_px": max(self.size_px, 1024),
        }
        written = [
            f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {value}" for name, value in lines.items()
        ]
        return "\n".join([f"[models.{self.name}]", *written, ""])

    def entry(self) -> dict[str, Any]:
        """The catalog's lines about this model."""
        text = self.catalog()
        shipped = Path(__file__).parents[1] / "jobs" / "catalog.toml"
        models: dict[str, Any] = tomllib.loads(text if text else shipped.read_text())["models"]
        return dict(models[self.name])


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--folder", type=Path, help="a diffusers folder; without it, the pocket model")
    parser.add_argument("--guidance-scale", type=float, default=1.0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")


def from_options(chosen: argparse.Namespace) -> ServedModel:
    return ServedModel(
        folder=chosen.folder, guidance_scale=chosen.guidance_scale, device=chosen.device, dtype=chosen.dtype
    )
