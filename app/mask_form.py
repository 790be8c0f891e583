"""The fields of ``POST /v1/masks``, as a multipart form and as JSON."""

from typing import Annotated, Any

from fastapi import UploadFile
from pydantic import BeforeValidator, ConfigDict, Field, Json, WithJsonSchema

from app.examples import PICTURE
from app.form_fields import FormFields
from app.inpaint_form import BASE64, PHOTO, POINTS, TEXT, Url, each_name_once
from jobs.mask_fields import MaskBoxes, MaskPoints, MaskSubject
from jobs.schema import Record

BOX = "[left, top, right, bottom] in pixels of the upright photo; the subject lies in it"
FORM: dict[str, Any] = {"image": "(the file photo.jpg)", "mask_box": "[4, 4, 60, 60]"}


class MaskCall(Record):
    """The fields that do not depend on the kind of body."""

    image_url: Url | None = Field(
        None, examples=[""], description="Where the photo is, in place of image; if the service allows it."
    )
    mask_subject: MaskSubject | None = Field(
        None, description="foreground, which it is if left out: the subject is white. background: all but it."
    )


class MaskForm(MaskCall):
    """The multipart form of ``POST /v1/masks``. An empty value counts as absent."""

    model_config = ConfigDict(json_schema_extra={"example": FORM})

    mask_points: Annotated[Json[MaskPoints], BeforeValidator(each_name_once), WithJsonSchema(TEXT)] = Field(
        (), json_schema_extra={"default": "[]"}, description=f"{POINTS}: JSON."
    )
    mask_box: Annotated[Json[MaskBoxes], BeforeValidator(each_name_once), WithJsonSchema(TEXT)] = Field(
        (), json_schema_extra={"default": "[]"}, description=f"{BOX}: JSON."
    )
    image: UploadFile | None = Field(None, description=PHOTO)


class MaskJson(MaskCall):
    """The JSON body of ``POST /v1/masks``. ``null`` and an empty text count as absent."""

    model_config = ConfigDict(json_schema_extra={"example": {"image": PICTURE, "mask_box": [4, 4, 60, 60]}})

    mask_points: MaskPoints = Field((), description=POINTS)
    mask_box: MaskBoxes = Field((), description=BOX)
    image: str | None = Field(None, description=f"The photo. {BASE64}", json_schema_extra={"contentEncoding": "base64"})


MASKS = FormFields(MaskForm, MaskJson, frozenset({"image"}))
