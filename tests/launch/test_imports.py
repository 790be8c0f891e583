import subprocess
import sys

CODE = """
import importlib, pkgutil, sys
import launch
for module in pkgutil.iter_modules(launch.__path__, "launch."):
    if module.name != "launch.__main__":
        importlib.import_module(module.name)
print(*sorted({"torch", "diffusers", "transformers", "fastapi", "app", "worker"} & set(sys.modules)))
"""


def test_the_launcher_loads_neither_torch_nor_the_packages_it_starts() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
