"""Clients that other programs generate from ``/openapi.json`` of the running service make a real edit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.edits import Pixels, assert_only_the_hole_changed
from tests.e2e.stack import MASK, PHOTO, ROOT, Stack
from tests.programs import program

TSC = ["--strict", "--target", "es2022", "--module", "nodenext", "--lib", "es2022,dom", "--skipLibCheck"]
OPTIONAL = ["--default-non-nullable", "false"]
"""What has a default may be left out."""

IN_NODE = """
import fs from "node:fs";
import { edit } from "./edit.js";
const [url, image, mask] = process.argv.slice(1);
const [photo, hole] = [image, mask].map((file) => fs.readFileSync(file).toString("base64"));
fs.writeFileSync("result.png", await edit(url, photo, hole));
"""

IN_PYTHON = """
import sys
from generated import Client
from generated.api.catalog import capabilities_v1_capabilities_get as capabilities
from generated.api.jobs import image_v1_jobs_job_id_images_index_get as image
from generated.api.jobs import inpaint_v1_inpaint_post as inpaint
from generated.api.jobs import job_v1_jobs_job_id_get as job
from generated.models import InpaintForm, Problem
from generated.types import File

url, photo, mask = sys.argv[1:]
client = Client(base_url=url, timeout=60)
files = {name: File(open(path, "rb"), path, "image/png") for name, path in (("image", photo), ("mask", mask))}
form = InpaintForm(**files, prompt="sea", num_inference_steps=1, seed=5)
made = inpaint.sync(client=client, body=form, prefer="wait=60")
assert made.status == "succeeded" and made.mask.changed_outside_mask == 0, made
open("result.png", "wb").write(image.sync_detailed(made.id, 0, client=client).content)
missing = job.sync("0", client=client)
assert isinstance(missing, Problem) and missing.code == "job_not_found"
assert capabilities.sync(client=client).models
"""


@pytest.fixture
def description(stack: Stack, tmp_path: Path) -> Path:
    file = tmp_path / "openapi.json"
    with stack.client() as client:
        file.write_text(json.dumps(client.get("/openapi.json").raise_for_status().json()))
    return file


def run(folder: Path, *command: str | Path, **environment: str) -> str:
    """What the command prints."""
    made = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return made.stdout + made.stderr


def check_result(folder: Path, photo: Pixels, hole: Pixels) -> None:
    with Image.open(folder / "result.png") as result:
        assert_only_the_hole_changed(np.asarray(result.convert("RGB")), photo, hole)


def test_a_typescript_client_is_generated_type_checked_and_edits(
    stack: Stack, tmp_path: Path, installed: Path, description: Path, photo: Pixels, hole: Pixels
) -> None:
    (tmp_path / "node_modules").symlink_to(installed / "node_modules")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "edit.ts").write_bytes((ROOT / "tests" / "clients" / "edit.ts").read_bytes())
    node, packages = program("node"), installed / "node_modules"
    run(tmp_path, node, packages / "openapi-typescript/bin/cli.js", description, "-o", "schema.d.ts", *OPTIONAL)
    run(tmp_path, node, packages / "typescript/bin/tsc", *TSC, "edit.ts")
    run(tmp_path, node, "--input-type=module", "-e", IN_NODE, stack.urls[0], PHOTO, MASK)
    check_result(tmp_path, photo, hole)


def test_a_python_client_is_generated_whole_and_edits(
    stack: Stack, tmp_path: Path, installed: Path, description: Path, photo: Pixels, hole: Pixels
) -> None:
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(installed / "python")])}
    generate = ("-m", "openapi_python_client", "generate", "--path", description, "--meta", "none")
    said = run(tmp_path, sys.executable, *generate, "--output-path", "generated", **path)
    assert "will not be generated" not in said
    run(tmp_path, sys.executable, "-c", IN_PYTHON, stack.urls[0], PHOTO, MASK, **path)
    check_result(tmp_path, photo, hole)
