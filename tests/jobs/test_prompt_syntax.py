"""A prompt's weights are read as A1111's web UI reads them; what cannot be followed is refused by name."""

import subprocess
import sys
import time
from contextlib import suppress
from typing import Any, get_args

import pytest

from jobs.errors import InvalidField
from jobs.families import FAMILIES, Family
from jobs.prompt_syntax import MAX_WEIGHT, MOST_BRACKETS, parts_of, with_checked_prompts
from tests.factories import inpaint_parameters

SD: Family = "sd"


def checked(family: Family = SD, **fields: Any) -> Any:
    return with_checked_prompts(inpaint_parameters(prompt_syntax="a1111", **fields), family)


@pytest.mark.parametrize(
    ("prompt", "pieces"),
    [  # those of the web UI's own documentation of its parser
        ("normal text", [("normal text", 1.0)]),
        ("an (important) word", [("an ", 1.0), ("important", 1.1), (" word", 1.0)]),
        ("(unbalanced", [("unbalanced", 1.1)]),
        (r"\(literal\]", [("(literal]", 1.0)]),
        ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
        (
            "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
            [
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1),
            ],
        ),
    ],
)
def test_weights_are_read_as_the_web_ui_documents_them(prompt: str, pieces: list[tuple[str, float]]) -> None:
    (found,) = parts_of(prompt, "a1111")
    assert [text for text, _ in found] == [text for text, _ in pieces]
    assert [weight for _, weight in found] == pytest.approx([weight for _, weight in pieces])


def test_plain_brackets_are_text() -> None:
    assert parts_of("(a:1.3) [b] BREAK \\(", "plain") == ((("(a:1.3) [b] BREAK \\(", 1.0),),)


def test_break_parts_a_prompt() -> None:
    assert parts_of("a BREAK b", "a1111") == ((("a", 1.0),), (("b", 1.0),))
    assert len(parts_of("(a BREAK b:1.2)", "a1111")) == 2


@pytest.mark.parametrize("field", ["prompt", "negative_prompt"])
@pytest.mark.parametrize(
    ("prompt", "why"),
    [
        ("(cat:1.2.3)", "a weight is no number"),
        ("(cat:.)", "a weight is no number"),
        ("(cat:-1)", "'cat' has the weight -1"),
        ("(cat:10.1)", "'cat' has the weight 10.1"),
        (f"(cat:{'9' * 400})", "'cat' has the weight inf"),
        ("(" * 100 + "cat" + ")" * 100, "'cat' has the weight 1.38e+04"),
        ("[cat:dog:0.5]", "'[cat:dog:0.5]' is not done"),
        ("[cat|dog]", "'[cat|' is not done"),
        ("a cat AND a dog", "'AND' is not done"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(field: str, prompt: str, why: str) -> None:
    with pytest.raises(InvalidField) as refused:
        checked(SD, **{field: prompt})
    assert str(refused.value).startswith(f"{field}: {why}")


def test_the_bounds_of_a_weight_are_taken() -> None:
    for weight in (0, MAX_WEIGHT):
        assert checked(prompt=f"(cat:{weight})").prompt == f"(cat:{weight})"


@pytest.mark.parametrize("family", get_args(Family))
def test_a_family_that_cannot_weight_takes_prompts_without_weights_alone(family: Family) -> None:
    taken = checked(family, prompt=r"a cat \(animal\)", negative_prompt="(a)[b]" if family in ("sd", "sdxl") else "")
    if FAMILIES[family].weights_prompts:
        assert (taken.prompt, taken.prompt_syntax) == (r"a cat \(animal\)", "a1111")
        return
    assert (taken.prompt, taken.prompt_syntax) == ("a cat (animal)", "plain")
    for field, prompt in (("prompt", "a (cat)"), ("negative_prompt", "a BREAK b")):
        with pytest.raises(InvalidField, match=f"prompt_syntax, {field}: models of the families sd and sdxl"):
            checked(family, **{field: prompt})


@pytest.mark.parametrize("piece", ["(", "[", ")", "(a:1.1)", ":", "\\", " ", "[:", ": 1", "BREAK ", "[a ", ".1:"])
def test_the_longest_prompts_are_read_in_no_time(piece: str) -> None:
    prompt = (piece * 2_000)[:2_000]
    parts_of("a", "a1111")  # the parser is loaded
    begun = time.process_time()
    with suppress(InvalidField):
        parts_of(prompt, "a1111")
    assert time.process_time() - begun < 0.03  # of a batch's 20,000 prompts each


@pytest.mark.parametrize("blanks", ["", " ", " \n\t " * 9])
def test_breaks_part_a_prompt_whatever_blanks_are_around(blanks: str) -> None:
    found = parts_of(f"{blanks}a{blanks or ' '}BREAK{blanks}, BREAK BREAK{blanks}.b{blanks}", "a1111")
    assert found == (((f"{blanks}a", 1.0),), ((",", 1.0),), (("", 1.0),), ((f".b{blanks}", 1.0),))


@pytest.mark.parametrize("bracket", ["(", "["])
def test_brackets_are_nested_so_deep_and_no_deeper(bracket: str) -> None:
    shut = {"(": ":1)", "[": "]"}[bracket]
    deep = f"{bracket * MOST_BRACKETS}a{shut * MOST_BRACKETS}"
    text = f"\\{bracket}" * 2 * MOST_BRACKETS + f"{bracket}a{shut}" * 2 * MOST_BRACKETS + shut * 9
    assert parts_of(deep + text + deep, "a1111")
    with pytest.raises(InvalidField, match=f"more than {MOST_BRACKETS} brackets are open at once"):
        parts_of(f"{text}{bracket}{deep}", "a1111")


def test_reading_weights_loads_no_torch() -> None:
    code = "import sys; from jobs.prompt_syntax import parts_of as p; p('(a)', 'a1111'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert done.stdout == "False\n"
