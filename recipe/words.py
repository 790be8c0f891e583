"""Words for the captions and the tokenizer: colours by hue, saturation and lightness, and common things in photos."""

from __future__ import annotations

import colorsys
import re
from pathlib import Path

HUES = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink")
SHADES = ("dark", "", "bright", "light", "pale")
HUE_ENDS = (0.03, 0.115, 0.185, 0.44, 0.53, 0.70, 0.82, 0.95)
"""Where each hue's span ends, in turns of the colour circle; red goes on from the last end to 1."""
GREYS = ("black", "dark grey", "grey", "light grey", "white")


def things() -> list[str]:
    """Common nouns of photos and the small words between them, from `things.txt`."""
    return Path(__file__).with_name("things.txt").read_text(encoding="utf-8").split()


def colour_words(rgb: tuple[float, float, float]) -> str:
    """A name for a colour given as red, green and blue in [0, 1], such as "dark blue" or "light grey"."""
    hue, lightness, saturation = colorsys.rgb_to_hls(*rgb)
    chroma = saturation * (1 - abs(2 * lightness - 1))
    if chroma < 0.08:
        return GREYS[min(int(lightness * 5), 4)]
    name = _hue_name(hue)
    if name == "orange" and (lightness < 0.4 or chroma < 0.3):
        name = "brown" if lightness < 0.6 else "beige"
    if chroma > 0.55 and lightness > 0.35:
        return f"bright {name}"
    if lightness < 0.25:
        return f"dark {name}"
    return f"light {name}" if lightness > 0.68 else name


def _hue_name(hue: float) -> str:
    for name, below in zip(HUES, HUE_ENDS, strict=True):
        if hue < below:
            return name
    return "red"


def plain_title(title: str) -> str:
    """The words of a title, without numbers, marks and what stands in brackets."""
    words = re.findall(r"[^\W\d_]{2,}", re.sub(r"\(.*?\)", " ", title).lower())
    return " ".join(words[:6])


def all_colour_words() -> list[str]:
    names = (*HUES, "brown", "beige")
    return [*GREYS, *(f"{shade} {name}".strip() for name in names for shade in SHADES)]
