"""The examples of ``docs/clients.md``, run as they stand but for the address: other services' clients, real sockets."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.e2e.edits import Pixels, assert_only_the_hole_changed
from tests.e2e.stack import MASK, PHOTO, ROOT, Stack
from tests.programs import program


@dataclass(frozen=True)
class Example:
    language: str
    code: str

    @property
    def package(self) -> str:
        """The client that it shows."""
        names: list[str] = re.findall(
            {"js": r'from "(.+)"', "python": r"^import base64, (.+)$"}[self.language], self.code, re.M
        )
        return next(name for name in names if name not in ("node:fs", "ai"))


PAGE = (ROOT / "docs" / "clients.md").read_text().partition("## OpenAI's image edits")[2].partition("\n## ")[0]
EXAMPLES = [Example(*found) for found in re.findall(r"```(python|js)\n(.*?)```", PAGE, re.DOTALL)]


def test_each_client_has_an_example_of_ten_lines_at_most() -> None:
    node = ["openai", "@ai-sdk/openai", "@ai-sdk/openai-compatible"]
    assert [example.package for example in EXAMPLES] == ["openai", *node, "litellm"]
    for example in EXAMPLES:
        lines = [line for line in example.code.splitlines() if line not in ("", ")")]
        assert len(lines) <= 10, example.code


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: f"{example.language}-{example.package}")
def test_an_example_of_the_documents_edits_the_hole_and_nothing_else(
    stack: Stack, tmp_path: Path, photo: Pixels, hole: Pixels, example: Example, request: pytest.FixtureRequest
) -> None:
    for path in (PHOTO, MASK):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    code = example.code.replace("http://127.0.0.1:8000", stack.urls[0])
    command, environment = [sys.executable, "-c", code], dict(os.environ)
    if example.language == "js":
        (tmp_path / "node_modules").symlink_to(request.getfixturevalue("installed") / "node_modules")
        command = [program("node"), "--input-type=module", "-e", code]
    if example.package == "litellm":
        path = request.getfixturevalue("installed") / "python"
        environment |= {"PYTHONPATH": str(path), "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stderr
    with Image.open(tmp_path / "result.png") as result:
        assert_only_the_hole_changed(np.asarray(result.convert("RGB")), photo, hole)
