"""The text in which the web UI's tools read how a picture was made, and the PNG chunk that carries it."""

import re
from collections.abc import Iterator, Mapping

from app.dialects.a1111.fields import Translated
from app.uploads import Size
from jobs import png_chunks
from jobs.job_view import JobView

KEYWORD = b"parameters"
SETTING = re.compile(r'\s*+(\w[\w \-/+]++):\s*+("(?:\\.|[^\\"])*+"|[^,]*+)(?:,|$)')
"""One of the last line: the web UI's own pattern, which looks at each character a few times at most."""
FEWEST_SETTINGS = 3
"""In a line that is one of settings."""
END = png_chunks.chunk(b"IEND", b"")


def infotext(asked: Translated, view: JobView, index: int, size: Size) -> str:
    """Of image ``index``: prompt, negative prompt, and a line of settings. ``size``: as it is sent."""
    fields = asked.fields
    settings: dict[str, object] = {
        "Steps": fields.steps,
        "Sampler": asked.sampler,
        "CFG scale": asked.request.guidance_scale,
        "Seed": view.seeds[index],
        "Size": f"{size[0]}x{size[1]}",
        "Model": view.model,
        "Denoising strength": fields.denoising_strength,
        "Mask blur": fields.blur,
        **asked.notes,
        "Version": "Infill",
    }
    lines = [fields.prompt]
    if fields.negative_prompt:
        lines.append(f"Negative prompt: {fields.negative_prompt}")
    lines.append(", ".join(f"{name}: {_quoted(str(value))}" for name, value in settings.items()))
    return "\n".join(lines).replace("\0", " ")  # which no PNG's text may hold


def _quoted(value: str) -> str:
    """As the web UI does where a value has the separators in it."""
    if not any(mark in value for mark in ',:"\n'):
        return value
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", " ") + '"'


def with_infotext(png: bytes, text: str) -> bytes:
    """The same picture with the text in it: tEXt where it is Latin-1, else iTXt (PNG specification, 11.3.3).

    A C2PA manifest, which holds for the file without the text, is left out.
    """
    try:
        chunk = png_chunks.chunk(b"tEXt", KEYWORD + b"\0" + text.encode("latin-1"))
    except UnicodeEncodeError:
        chunk = png_chunks.chunk(b"iTXt", KEYWORD + b"\0\0\0\0\0" + text.encode("utf-8", "replace"))
    assert png.endswith(END)
    return png_chunks.without(png, png_chunks.MANIFEST)[: -len(END)] + chunk + END


def parsed(text: str) -> Mapping[str, str]:
    """The settings that an infotext names. ``{}`` where it is none."""
    *prompts, last = text.strip().split("\n")
    settings = dict(_settings(last))
    if len(settings) < FEWEST_SETTINGS:
        return {}
    at = next((number for number, line in enumerate(prompts) if line.startswith("Negative prompt:")), len(prompts))
    negative = "\n".join(prompts[at:]).removeprefix("Negative prompt:").strip()
    return {"Prompt": "\n".join(prompts[:at]), "Negative prompt": negative, **settings}


def _settings(line: str) -> Iterator[tuple[str, str]]:
    """Names and values; what lies between two commas and is no setting is passed over."""
    at = 0
    while 0 <= at < len(line):
        if found := SETTING.match(line, at):
            yield found[1], _unquoted(found[2])
            at = found.end()
        else:
            at = line.find(",", at) + 1 or len(line)


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if len(value) > 1 and value[0] == value[-1] == '"' else value
