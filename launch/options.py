"""The commands of ``infill`` and their options. Nothing is imported for it that takes time."""

import os
from argparse import ArgumentParser
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

URL = "http://127.0.0.1:8000"
EPILOG = "Settings are INFILL_* variables (docs/settings.md); options override them."


def parser() -> ArgumentParser:
    made = ArgumentParser(prog="infill", description="Inpainting over HTTP.", epilog=EPILOG)
    made.add_argument("--version", action="version", version=f"infill {_version()}")
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (
        _up_and_demo,
        _processes,
        _edit,
        _batch,
        _mask,
        _jobs,
        _models,
        _loras,
        _keys,
        _config,
        _train,
        _completion,
    ):
        add(lambda name, text: commands.add_parser(name, help=text, description=text))
    return made


def _version() -> str:
    try:
        return version("infill")
    except PackageNotFoundError:
        return "from a checkout that is not installed"


Add = Callable[[str, str], ArgumentParser]


def _up_and_demo(add: Add) -> None:
    for name, text in (
        ("up", "start Redis, the API and workers, and serve until Ctrl-C"),
        ("demo", "start the same, remove a straw from a photo, extend it, show the times, stop"),
    ):
        _stack(add(name, text))


def _config(add: Add) -> None:
    _stack(add("config", "print every setting, its value and where that comes from; secrets are hidden"))


def _stack(command: ArgumentParser) -> None:
    command.add_argument("--workers", type=int, help="worker processes (1)")
    command.add_argument("--host", help="address the API listens on (127.0.0.1)")
    command.add_argument("--port", type=int, help="port of the API (without it 8000, or the next free one)")


def _processes(add: Add) -> None:
    add("api", "run one API process; INFILL_REDIS_URL names its Redis")
    add("worker", "run one worker process; INFILL_REDIS_URL names its Redis")


def _edit(add: Add) -> None:
    command = add("edit", "repaint photos by a running service")
    command.add_argument("photos", nargs="+", type=Path, metavar="PHOTO")
    command.add_argument("-m", "--mask", type=Path, help="what to repaint is white; for each of the photos")
    command.add_argument("--box", action="append", metavar="L,T,R,B", help="repaint this box; may be repeated")
    command.add_argument("--extend", metavar="L,T,R,B", help="paint new borders, in pixels or percent: 0,25%%,0,25%%")
    command.add_argument("--aspect", metavar="W:H", help="paint new borders up to this aspect, as in 16:9")
    _subject(command)
    command.add_argument("-p", "--prompt", help="what to paint; without it, whatever fits the surroundings")
    command.add_argument("--negative-prompt", metavar="TEXT", help="what to keep out")
    command.add_argument("--prompt-syntax", choices=("plain", "a1111"), help="a1111: (word:1.3) weights a word")
    command.add_argument("-o", "--out", type=Path, help="file, whose name says the format, or folder (NAME-infill.png)")
    command.add_argument("--model", metavar="NAME", help="as `infill models list` names them")
    command.add_argument("--preset", metavar="NAME", help="of the model")
    command.add_argument("--seed", metavar="NUMBER", help="the same seed paints the same")
    command.add_argument("-n", metavar="NUMBER", help="images of each photo")
    command.add_argument("--steps", dest="num_inference_steps", metavar="NUMBER")
    command.add_argument("--guidance", dest="guidance_scale", metavar="NUMBER")
    command.add_argument("--strength", metavar="NUMBER")
    command.add_argument("--hires", metavar="off|tile", help="a large hole small and enlarged, or then in tiles")
    command.add_argument("--format", dest="output_format", metavar="NAME", help="of the result: png, jpeg, webp, avif")
    command.add_argument("--set", action="append", metavar="NAME=VALUE", help="any other field of POST /v1/inpaint")
    command.add_argument("--timeout", type=float, default=300, metavar="SECONDS", help="wait so long (300)")
    command.add_argument("--json", action="store_true", help="print each job as a line of JSON")
    command.add_argument("--timings", action="store_true", help="print where the time went")
    _service(command)


def _batch(add: Add) -> None:
    command = add("batch", "repaint many photos, a line of JSON each; the same command again does what is missing")
    command.add_argument("lines", type=Path, metavar="LINES.jsonl", help="a line: custom_id, image, mask, other fields")
    command.add_argument("-o", "--out", type=Path, required=True, help="folder for the pictures and results.jsonl")
    command.add_argument(
        "--at-once",
        type=int,
        choices=range(1, 65),
        default=16,
        metavar="NUMBER",
        help="lines under way at a time (16)",
    )
    _service(command)


def _mask(add: Add) -> None:
    command = add("mask", "find the mask of a photo's subject by a running service")
    command.add_argument("photo", type=Path, metavar="PHOTO")
    command.add_argument("--box", metavar="L,T,R,B", help="the subject lies in it")
    _subject(command)
    command.add_argument("-o", "--out", type=Path, help="file (NAME-mask.png beside the photo)")
    _service(command)


def _subject(command: ArgumentParser) -> None:
    command.add_argument(
        "--point", action="append", metavar="X,Y[,0]", help="on the subject; with 0 beside it; may be repeated"
    )
    command.add_argument(
        "--subject", choices=("foreground", "background"), help="repaint the subject (in --box), or all but it"
    )


def _service(command: ArgumentParser) -> None:
    url, key = os.environ.get("INFILL_URL") or URL, os.environ.get("INFILL_API_KEY") or None
    command.add_argument("--url", default=url, help=f"of the service (INFILL_URL, or {URL})")
    command.add_argument("--key", default=key, help="API key (INFILL_API_KEY, which other users cannot see)")


def _jobs(add: Add) -> None:
    actions = _actions(add("jobs", "look at a service's jobs, and cancel them"))
    listing = actions.add_parser("list", help="your API key's jobs, newest first")
    listing.add_argument("--status", choices=("queued", "running", "succeeded", "failed", "canceled"))
    listing.add_argument("--limit", type=int, default=20, metavar="NUMBER", help="jobs at most (20)")
    show = actions.add_parser("show", help="a job as JSON")
    show.add_argument("id")
    cancel = actions.add_parser("cancel", help="cancel jobs that wait or run")
    cancel.add_argument("ids", nargs="+", metavar="ID")
    for action in (listing, show, cancel):
        _service(action)


def _models(add: Add) -> None:
    actions = _actions(add("models", "list a service's models; check a catalog, add to it, download its models"))
    _service(actions.add_parser("list", help="what a service serves"))
    check = actions.add_parser("check", help="read a catalog file, and say what is wrong with it")
    check.add_argument("catalog", nargs="?", type=Path, help="without it, the catalog that ships")
    adding = actions.add_parser("add", help="append a model to a catalog file, which is made if need be")
    adding.add_argument("name", help="what requests will call it")
    adding.add_argument("source", help="a diffusers folder, a .safetensors file, or org/name on the hub")
    adding.add_argument(
        "--family", choices=("sd", "sdxl", "sd3", "flux", "qwen-image", "feedforward"), help="a folder says it itself"
    )
    fetching = actions.add_parser("fetch", help="download models of a catalog from the hub, before a worker needs them")
    fetching.add_argument("names", nargs="+", metavar="NAME", help="of models in the catalog")
    for action in (adding, fetching):
        action.add_argument("--catalog", metavar="FILE", help="catalog file (INFILL_CATALOG)")


def _loras(add: Add) -> None:
    _service(_actions(add("loras", "list a service's adapters")).add_parser("list", help="what a request may name"))


def _keys(add: Add) -> None:
    actions = _actions(add("keys", "make, list and revoke API keys, while the service runs"))
    create = actions.add_parser("create", help="print a new key; it is shown this once")
    create.add_argument("tenant", help="whose it is; several keys of a tenant see the same jobs")
    create.add_argument(
        "--scope", action="append", choices=("submit", "read", "admin"), help="may be repeated (submit and read)"
    )
    actions.add_parser("list", help="ids, tenants and scopes; secrets are stored nowhere")
    revoke = actions.add_parser("revoke", help="a revoked key is refused within a second")
    revoke.add_argument("id", help="the key's id, or the key itself")


def _train(add: Add) -> None:
    kinds = add("train", "train a LoRA adapter or a model on a folder of photos").add_subparsers(
        dest="action", required=True, metavar="lora | model"
    )
    kinds.add_parser("lora", add_help=False, help="an adapter; infill train lora --help lists the options")
    kinds.add_parser("model", add_help=False, help="the network itself; infill train model --help")


def _completion(add: Add) -> None:
    add("completion", "print what makes a shell complete these commands").add_argument(
        "shell", choices=("bash", "zsh", "tcsh")
    )


def _actions(command: ArgumentParser) -> Any:
    return command.add_subparsers(dest="action", required=True, metavar="ACTION")
