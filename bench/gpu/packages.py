"""Which of the packages that a section needs this machine lacks: it is left out, by name, and the others run."""

from importlib.util import find_spec

ENGINE = ("pydantic", "pydantic_settings", "isal", "cv2", "peft", "safetensors", "httpx")
NAIVE = ("fastapi", "uvicorn", "multipart", "httpx")
NEEDED = {
    "networks": ("diffusers", "transformers"),
    "service": (*ENGINE, *NAIVE, "redis", "rq", "prometheus_client", "fastapi_offline"),
    "engine": ENGINE,
    "b": NAIVE,
    "c": (*NAIVE, "litserve"),
    "clients": ("httpx",),
    "plot": ("matplotlib",),
}
"""What is measured or drawn -> the modules it imports, beside torch, numpy and PIL."""


def missing(section: str) -> str | None:
    """What keeps ``section`` from running here, as a sentence; None where nothing does."""
    if absent := [name for name in NEEDED[section] if find_spec(name) is None]:
        return f"no module {', '.join(absent)}"
    return _without_redis() if section == "service" else None


def _without_redis() -> str | None:
    from launch.errors import LaunchError
    from launch.redis_server import find_binary

    try:
        find_binary()
    except LaunchError as error:
        return str(error)
    return None
