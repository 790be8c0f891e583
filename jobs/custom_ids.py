"""The names that callers give to the lines of a batch: safe as names of files, everywhere."""

import re

MOST_CHARACTERS = 128
RULE = f"1 to {MOST_CHARACTERS} letters, digits, '.', '_' and '-' of ASCII, a letter or digit first and no '.' last"
_SAFE = re.compile(rf"(?=.{{1,{MOST_CHARACTERS}}}\Z)[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9_-])?\Z", re.ASCII)
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?\Z", re.IGNORECASE)
"""Names that Windows takes for devices, with any suffix."""


def fault_of(custom_id: object) -> str | None:
    """What is wrong with it, as a sentence; None: nothing."""
    if custom_id is None:
        return f"custom_id: This field is missing. It is {RULE}."
    if not isinstance(custom_id, str):
        return f"custom_id: This field must be text: {RULE}."
    if not _SAFE.match(custom_id):
        return f"custom_id: {custom_id[:100]!r} is not allowed. It is {RULE}."
    if _DEVICES.match(custom_id):
        return f"custom_id: {custom_id!r} is the name of a device. Take another one."
    return None
