"""`python -m recipe`: makes the pocket model: latents, then vae and unet (side by side), then export and attribution.

Its defaults lie inside the repository: photos in ``corpus/`` (`python -m recipe.rebuild`), checkpoints in ``runs/``.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch

from recipe.attribution import write_attribution
from recipe.export import export_pipeline
from recipe.latent_space import LatentSpace, fit_latent_space
from recipe.painter import Painter
from recipe.parts import make_vae
from recipe.perceptual import PerceptualLoss
from recipe.tokens import train_tokenizer
from recipe.unet import Source, UnetRecipe, train_unet
from recipe.vae import VaeRecipe, train_vae
from recipe.vgg_hed import VggHed
from worker.training.corpus import Corpus
from worker.training.run import take_averages
from worker.training.targets import DiffusionLaw

TARGETS = {"export": Path("worker/pocket/model"), "attribution": Path("worker/pocket")}


def main() -> None:
    arguments = _parser().parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    sys.exit(arguments.command(arguments))


def _latents(arguments: argparse.Namespace) -> None:
    corpus = Corpus.load(arguments.corpus)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    fit_latent_space(corpus, arguments.seed).save(arguments.runs / "latent_space.pt")
    train_tokenizer(photo.title for photo in corpus.photos).save_pretrained(arguments.runs / "tokenizer")


def _vae(arguments: argparse.Namespace) -> None:
    space = LatentSpace.load(arguments.runs / "latent_space.pt")
    train_vae(Corpus.load(arguments.corpus), space, arguments.runs / "vae", _recipe(VaeRecipe, arguments))


def _unet(arguments: argparse.Namespace) -> None:
    from transformers import CLIPTokenizer

    space = LatentSpace.load(arguments.runs / "latent_space.pt")
    painter = Painter.fresh(space, CLIPTokenizer.from_pretrained(arguments.runs / "tokenizer"), arguments.seed)
    recipe: UnetRecipe = _recipe(UnetRecipe, arguments)
    source = Source.of(Corpus.load(arguments.corpus), space, recipe)
    look = _perceptual_loss(arguments.runs, space, source.law) if recipe.perceptual else None
    train_unet(source, painter, arguments.runs / "unet", recipe, begin_from=arguments.begin_from, look=look)


def _perceptual_loss(runs: Path, space: LatentSpace, law: DiffusionLaw) -> PerceptualLoss:
    """Through the decoder that the same folder holds."""
    vae = make_vae(space)
    take_averages(runs / "vae" / "checkpoint.pt", {"decoder": vae.decoder})
    return PerceptualLoss(vae.decoder.requires_grad_(False), law, VggHed.load())


def _export(arguments: argparse.Namespace) -> None:
    export_pipeline(arguments.runs, arguments.to)


def _attribution(arguments: argparse.Namespace) -> None:
    write_attribution(arguments.corpus, arguments.runs, arguments.to)


def _recipe(kind: type[Any], arguments: argparse.Namespace) -> Any:
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in vars(arguments).items() if name in names})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m recipe", description=__doc__)
    commands = parser.add_subparsers(required=True)
    for name, command, recipe in (
        ("latents", _latents, None),
        ("vae", _vae, VaeRecipe),
        ("unet", _unet, UnetRecipe),
        ("export", _export, None),
        ("attribution", _attribution, None),
    ):
        sub = commands.add_parser(name)
        sub.set_defaults(command=command)
        sub.add_argument("--corpus", type=Path, default=Path("corpus"))
        sub.add_argument("--runs", type=Path, default=Path("runs"), help="folder of checkpoints")
        sub.add_argument("--threads", type=int, default=2)
        if name == "unet":
            sub.add_argument("--begin-from", type=Path, help="checkpoint whose averaged weights a new run starts with")
        if name in TARGETS:
            sub.add_argument("--to", type=Path, default=TARGETS[name])
        if recipe is None:
            sub.add_argument("--seed", type=int, default=0)
        else:
            for field in dataclasses.fields(recipe):
                flag = "--" + field.name.replace("_", "-")
                sub.add_argument(flag, type=type(field.default), default=field.default)
    return parser


if __name__ == "__main__":
    main()
