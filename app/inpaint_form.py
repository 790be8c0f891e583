"""The fields of ``POST /v1/inpaint``, as a multipart form and as JSON."""

from typing import Annotated, Any, Literal

from fastapi import UploadFile
from fastapi.exceptions import HTTPException
from pydantic import BeforeValidator, ConfigDict, FailFast, Field, Json, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.examples import FORM, JSON_BODY
from app.form_fields import FormFields
from app.json_bodies import parsed
from jobs.addresses import MAX_URL
from jobs.errors import InvalidField
from jobs.mask_fields import MaskBoxes, MaskPoints, MaskPolygons
from jobs.schema import InpaintRequest, Loras

FILES = {"image", "mask"}
ABOUT_THE_CALL = {"on_disconnect"}
MASK = "Of the image's size; mask_mode says how it is read. Without it, mask_box, mask_points, ... are the mask."
BOX = "[left, top, right, bottom] in pixels of the upright photo, or a list of these, to be repainted"
POINTS = "[[x, y, 1], ...] on the subject, [x, y, 0] beside it, in pixels of the upright photo"
POLYGON = "[[x, y], ...] in pixels of the upright photo, or a list of these, to be repainted"
TEXT = {"type": "string"}
ONE_OR_MORE = {"anyOf": [TEXT, {"type": "array", "items": TEXT, "maxItems": 8}]}
PHOTO = "The photo: PNG, JPEG, WebP, TIFF or AVIF; HEIC where it is installed."
PICTURES = "image/png, image/jpeg, image/webp, image/tiff, image/avif, image/heic"
"""Their media types."""
BASE64 = "In base64, alone or as a data URL."


def each_name_once(text: object) -> object:
    """Refuse JSON text in which a name comes twice, of which pydantic would take the last; it judges all else."""
    try:
        parsed(text) if isinstance(text, str) else None
    except HTTPException:
        pass
    except InvalidField as error:
        raise PydanticCustomError("not_once", "{sentence}", {"sentence": str(error).removesuffix(".")}) from None
    return text


def _listed(value: object) -> object:
    """An address by itself as a list of one. In a form, a list is JSON text, of which FastAPI makes a list of one."""
    if isinstance(value, list) and len(value) == 1:
        (value,) = value
    if isinstance(value, str) and value.lstrip().startswith("["):
        value = parsed(value)
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(value) if isinstance(value, list) else value


Url = Annotated[str, Field(max_length=MAX_URL)]
Urls = Annotated[tuple[Url, ...], FailFast(), Field(max_length=8), BeforeValidator(_listed)]


class InpaintCall(InpaintRequest):
    """The fields that do not depend on the kind of body."""

    image_url: Url | None = Field(
        None, examples=[""], description="Where the photo is, in place of image; if the service allows it."
    )
    mask_url: Url | None = Field(
        None, examples=[""], description="Where the mask is, in place of mask; if the service allows it."
    )
    output_url: Annotated[Urls, WithJsonSchema(ONE_OR_MORE)] = Field(
        (), description="Presigned addresses, one for each image, to which the results are PUT."
    )
    webhook_url: Url | None = Field(
        None, examples=[""], description="Is called when the job has ended; signed by Standard Webhooks."
    )

    on_disconnect: Literal["continue", "cancel"] = Field(
        "continue", description="What becomes of the job if the caller leaves while the call waits (Prefer: wait)."
    )

    @property
    def given(self) -> dict[str, Any]:
        """The fields that were sent and say what is asked for."""
        return self.model_dump(exclude_unset=True, exclude=FILES | ABOUT_THE_CALL)


class InpaintForm(InpaintCall):
    """The multipart form of ``POST /v1/inpaint``. An empty value counts as absent."""

    model_config = ConfigDict(json_schema_extra={"example": FORM})

    loras: Annotated[Json[Loras], BeforeValidator(each_name_once)] = Field(
        (),
        json_schema_extra={"default": "[]"},
        description='Adapters for this request only: [{"name": "...", "scale": 0.8}, ...]',
    )
    mask_box: Annotated[Json[MaskBoxes], BeforeValidator(each_name_once), WithJsonSchema(TEXT)] = Field(
        (), json_schema_extra={"default": "[]"}, description=f"{BOX}: JSON."
    )
    mask_polygon: Annotated[Json[MaskPolygons], BeforeValidator(each_name_once), WithJsonSchema(TEXT)] = Field(
        (), json_schema_extra={"default": "[]"}, description=f"{POLYGON}: JSON."
    )
    mask_points: Annotated[Json[MaskPoints], BeforeValidator(each_name_once), WithJsonSchema(TEXT)] = Field(
        (), json_schema_extra={"default": "[]"}, description=f"{POINTS}: JSON."
    )
    output_url: Annotated[Urls, WithJsonSchema(TEXT)] = Field(
        (),
        json_schema_extra={"default": "[]"},
        description="A presigned address to which the result is PUT, or JSON: a list of one for each image.",
    )
    image: UploadFile | None = Field(None, description=PHOTO)
    mask: UploadFile | None = Field(None, description=MASK)


class InpaintJson(InpaintCall):
    """The JSON body of ``POST /v1/inpaint``. ``null`` and an empty text count as absent."""

    model_config = ConfigDict(json_schema_extra={"example": JSON_BODY})

    image: str | None = Field(None, description=f"The photo. {BASE64}", json_schema_extra={"contentEncoding": "base64"})
    mask: str | None = Field(None, description=f"{MASK} {BASE64}", json_schema_extra={"contentEncoding": "base64"})


INPAINT = FormFields(InpaintForm, InpaintJson, frozenset(FILES))
ADDRESSES = {"image_url", "mask_url", "output_url", "webhook_url"}
