"""The fields of a route that takes a multipart form or JSON, as its two models have them."""

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from jobs.errors import InvalidField, UnknownField


@dataclass(frozen=True)
class FormFields:
    """``files``: names of those that are pictures, sent as files or in base64. Both models have the same names."""

    form: type[BaseModel]
    json: type[BaseModel]
    files: frozenset[str]

    @property
    def texts(self) -> set[str]:
        return set(self.form.model_fields) - self.files

    def check_names(self, names: Sequence[str]) -> None:
        """Raise UnknownField, or InvalidField for a field that came twice: which one was meant would be a guess."""
        unknown = sorted(set(names) - set(self.form.model_fields))
        if unknown:
            quoted = ", ".join(repr(name[:100]) for name in unknown[:10])
            raise UnknownField(f"There is no field {quoted}. The fields are {', '.join(self.form.model_fields)}.")
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InvalidField(f"{', '.join(twice)}: sent more than once. Send each field once.")
