"""pydantic's faults as sentences for callers, in the words of HTTP forms: what a value must be."""

from collections.abc import Mapping
from typing import Any

WHOLE = "This field must be a whole number."
NUMBER = "This field must be a number."
TEXT = "This field must be text."
LIST = "This field must be a list."
OBJECT = "This must be a JSON object."
JSON = "This field is not valid JSON."
BOOL = "This field must be true or false."

SENTENCES: dict[str, str] = {
    "missing": "This field is missing.",
    "extra_forbidden": "There is no such field.",
    "literal_error": "This field must be {expected}.",
    "int_parsing": WHOLE,
    "int_type": WHOLE,
    "int_from_float": WHOLE,
    "int_parsing_size": "This number has too many digits.",
    "float_parsing": NUMBER,
    "float_type": NUMBER,
    "finite_number": "This field must be a finite number.",
    "greater_than": "This field must be greater than {gt}.",
    "greater_than_equal": "This field must be greater than or equal to {ge}.",
    "less_than": "This field must be less than {lt}.",
    "less_than_equal": "This field must be less than or equal to {le}.",
    "bool_parsing": BOOL,
    "bool_type": BOOL,
    "string_type": TEXT,
    "string_unicode": "This text is not Unicode: it has half of a surrogate pair.",
    "string_too_short": "This field's length must be at least {min_length}.",
    "string_too_long": "This field's length must be at most {max_length} characters.",
    "tuple_type": LIST,
    "list_type": LIST,
    "enum": "This field must be {expected}.",
    "too_long": "This list may have at most {max_length} items.",
    "too_short": "This list must have at least {min_length} items.",
    "model_type": OBJECT,
    "model_attributes_type": OBJECT,
    "dict_type": OBJECT,
    "json_invalid": JSON,
    "json_type": JSON,
}
"""pydantic's type of a fault -> the sentence; names in braces are those of the fault's ``ctx``."""


def sentence_of(fault: Mapping[str, Any]) -> str:
    """The sentence about one item of ``ValidationError.errors()``; pydantic's own for types that are not known here."""
    sentence = SENTENCES.get(fault["type"])
    return f"{fault['msg']}." if sentence is None else sentence.format_map(fault.get("ctx", {}))
