"""Prompts with weights, as AUTOMATIC1111's web UI writes them: which words weigh how much, and what is refused."""

import re
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any, get_args

from jobs.errors import InvalidField
from jobs.families import FAMILIES, Family
from jobs.schema import InpaintParameters, PromptSyntax

Piece = tuple[str, float]
"""A text and its weight."""
Parts = tuple[tuple[Piece, ...], ...]
"""A prompt: between two parts stood ``BREAK``, from where on the text is encoded apart."""

MAX_WEIGHT = 10.0
MOST_BRACKETS = 100
"""Open at once: what is in a bracket is weighted anew at its end."""
BREAK = "BREAK"
NOT_DONE = re.compile(r"(?<!\\)\[[^\[\]]*(?:\||:\s*[\d.]+\s*(?<!\\)\])|\bAND\b")
"""``[from:to:when]``, ``[a|b]`` and ``AND``: the web UI changes the prompt from step to step, or paints several."""
AT_BREAK = re.compile(r"(?:(?<!\s)\s++)?\bBREAK\b\s*+")
"""``BREAK`` and the blanks around it. The parser's own pattern looks at each blank once for each one before it."""
LITERAL = re.compile(r"\\[()\[\]\\]")


def parts_of(prompt: str, syntax: PromptSyntax) -> Parts:
    """Read a prompt: one piece of weight 1 if it is ``plain``. Raises InvalidField without the field's name."""
    if syntax == "plain":
        return (((prompt, 1.0),),)
    if unsupported := NOT_DONE.search(prompt):
        raise InvalidField(
            f"{unsupported.group()[:40]!r} is not done by this service: it knows (word), (word:1.3), [word] and BREAK. "
            "Leave it out, or write \\ before a bracket that is text."
        )
    if _most_open(prompt) > MOST_BRACKETS:
        raise InvalidField(f"more than {MOST_BRACKETS} brackets are open at once. Close them, or nest fewer.")
    try:
        pieces = [(str(text), float(weight)) for text, weight in _parser()(prompt)]
    except ValueError:
        raise InvalidField("a weight is no number. Write it as in (word:1.3).") from None
    parts: list[list[Piece]] = [[]]
    for text, weight in pieces:
        if text == BREAK and weight < 0:
            parts.append([])
        elif 0 <= weight <= MAX_WEIGHT or not text.strip():
            parts[-1].append((text, weight))
        else:
            raise InvalidField(
                f"{text.strip()[:40]!r} has the weight {weight:.3g}, brackets around it included. "
                f"Weights go from 0 to {MAX_WEIGHT:g}."
            )
    return tuple(map(tuple, parts))


def _most_open(prompt: str) -> int:
    """How many brackets of a kind are open at once, at the most."""
    most, open_now = 0, {"(": 0, "[": 0}
    for mark in LITERAL.sub("", prompt):
        if mark in open_now:
            open_now[mark] += 1
            most = max(most, open_now[mark])
        elif mark in ")]":
            kind = "(" if mark == ")" else "["
            open_now[kind] = max(0, open_now[kind] - 1)
    return most


def is_weighted(parts: Parts) -> bool:
    """Whether it takes more than a plain text to follow the prompt."""
    return len(parts) > 1 or any(weight != 1 and text.strip() for text, weight in parts[0])


def with_checked_prompts(parameters: InpaintParameters, family: Family) -> InpaintParameters:
    """The parameters; for a family that cannot weight, with plain prompts.

    Raises InvalidField for a weight that is no number or out of bounds, and where the family would have to weight.
    """
    if parameters.prompt_syntax == "plain":
        return parameters
    plain: dict[str, Any] = {"prompt_syntax": "plain"}
    for name in ("prompt", "negative_prompt"):
        try:
            parts = parts_of(getattr(parameters, name), parameters.prompt_syntax)
        except InvalidField as error:
            raise InvalidField(f"{name}: {error}") from None
        if is_weighted(parts) and not FAMILIES[family].weights_prompts:
            raise InvalidField(
                f"prompt_syntax, {name}: models of the families {' and '.join(_weighting())} can weight words, and "
                f"model {parameters.model!r} is of {family!r}. Leave out the weights and BREAK, or send "
                "prompt_syntax=plain, with which brackets are text."
            )
        plain[name] = "".join(text for text, _ in parts[0])
    return parameters if FAMILIES[family].weights_prompts else parameters.model_copy(update=plain)


def syntaxes_of(family: Family) -> list[PromptSyntax]:
    """The syntaxes whose weights a family follows."""
    return list(get_args(PromptSyntax)) if FAMILIES[family].weights_prompts else ["plain"]


def _weighting() -> list[str]:
    return [name for name, facts in FAMILIES.items() if facts.weights_prompts]


@cache
def _parser() -> Callable[[str], list[list[str | float]]]:
    """The web UI's syntax as ``diffusion_prompt_embedder`` reads it.

    The package itself imports torch, which the API does without: its parser is loaded alone, which imports ``re``.
    """
    package = find_spec("diffusion_prompt_embedder")
    assert package and package.submodule_search_locations
    file = Path(package.submodule_search_locations[0]) / "core" / "parser.py"
    found = spec_from_file_location("diffusion_prompt_embedder_parser", file)
    assert found and found.loader
    module = module_from_spec(found)
    found.loader.exec_module(module)
    vars(module)["re_break"] = AT_BREAK
    parse: Callable[[str], list[list[str | float]]] = module.parse_prompt_attention
    return parse
