"""The request's parameters and the job's public JSON. White / 1 means repaint everywhere inside the code."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from jobs.extend_fields import Anchor, Aspect, Extend, ExtendedSize
from jobs.mask_fields import MaskBoxes, MaskPoints, MaskPolygons, MaskPrompt, MaskSubject, MaskThreshold

MAX_SEED = 2**32 - 1
MAX_STEPS = 200


class Record(BaseModel):
    """Frozen, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


InputName = Literal["image", "mask"]
"""What a job is submitted with, beside its parameters."""
INPUTS: tuple[InputName, ...] = get_args(InputName)

MaskMode = Literal["white", "black", "alpha", "alpha_inverted", "auto", "drawn"]
"""The last two are wishes. Where the file has transparent pixels, ``auto`` is alpha and ``drawn`` alpha_inverted; else
both are white. Reports name what was read."""
MaskScale = Literal["full", "binary"]
MaskSource = Literal["file", "box", "polygon", "border", "points", "subject", "prompt"]
"""The last three are of a mask that was found: ``prompt`` by words, ``points`` by points, ``subject`` by neither."""
MaskedContent = Literal["original", "noise", "fill"]
Scheduler = Literal[
    "ddim",
    "ddpm",
    "euler",
    "euler_a",
    "heun",
    "dpmpp_2m",
    "dpmpp_2m_karras",
    "dpmpp_sde",
    "unipc",
    "lcm",
    "flow_euler",
    "flow_euler_karras",
    "flow_heun",
    "none",
]
Task = Literal["fill", "remove", "extend", "replace_background"]
"""The last one is known to the API alone: a fill of what is behind the subject."""
Crop = Literal["auto", "off"]
Priority = Literal["normal", "low"]
"""A job of low priority waits behind all of normal priority."""
Hires = Literal["off", "tile"]
OutputFormat = Literal["png", "jpeg", "webp", "avif"]
OutputColor = Literal["auto", "rgb"]
BitDepth = Literal["8", "keep"]
PictureFormat = Literal["png", "jpeg", "webp", "tiff", "avif", "heic"]
PromptSyntax = Literal["plain", "a1111"]
MetadataChoice = Literal["keep", "keep_gps", "strip"]
MetadataAction = Literal["kept", "dropped", "too_large", "unreadable", "none"]
ManifestAction = Literal["kept", "invalid", "dropped", "too_large", "unreadable", "none"]
ColorStatement = Literal["icc", "cicp", "srgb", "gama_chrm", "exif", "none"]
ColorAction = Literal["carried", "converted", "ignored", "none"]
Approximation = Literal[
    "fewer_steps", "cached_features", "shrunk", "prompt_cut", "depth_reduced", "tiled", "lossy_format"
]
"""What a result can be less by than its model's best; ``jobs/approximations.py``."""

Prompt = Annotated[str, Field(max_length=2_000)]
MaskGrow = Annotated[int, Field(ge=0, le=256)]
Seed = Annotated[int, Field(ge=0, le=MAX_SEED)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]
Guidance = Annotated[float, Field(ge=0, le=50, allow_inf_nan=False)]
Strength = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
OutputQuality = Annotated[int, Field(ge=1, le=100)]
CacheInterval = Annotated[int, Field(ge=1, le=10)]
LoraScale = Annotated[float, Field(ge=-10, le=10, allow_inf_nan=False)]


class LoraChoice(Record):
    """A LoRA adapter and how strongly it acts."""

    name: str = Field(min_length=1, max_length=200, description="A name from /v1/loras.")
    scale: LoraScale = Field(1.0, description="1: as trained; 0: not at all; below 0: the other way.")


def _each_once(choices: tuple[LoraChoice, ...]) -> tuple[LoraChoice, ...]:
    names = [choice.name for choice in choices]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PydanticCustomError(
            "lora_twice", "Each adapter may come once; more than once: {names}", {"names": ", ".join(map(repr, twice))}
        )
    return choices


Loras = Annotated[tuple[LoraChoice, ...], Field(max_length=8), AfterValidator(_each_once)]


class Common(Record):
    """Fields whose defaults do not depend on the model."""

    # left out where it is the default: workers of an older version refuse a field that they do not know
    task: Task = Field(
        "fill",
        description="fill: paint what the prompt says. remove: leave what surrounds it; the model's recipe applies. "
        "extend: paint new borders. replace_background: paint behind the subject.",
        exclude_if=lambda task: task == "fill",
    )
    prompt: Prompt = Field("", description="What to paint. Empty: whatever fits the surroundings.")
    negative_prompt: Prompt = Field("", description="What to keep out; acts only where guidance_scale is above 1.")
    prompt_syntax: PromptSyntax = Field(
        "plain",
        description="plain: brackets are text. a1111: (word:1.3), (word) and [word] weight words, in both prompts.",
        exclude_if=lambda syntax: syntax == "plain",
    )
    n: int = Field(1, ge=1, le=8, description="How many images; image k uses seed + k.")
    mask_mode: MaskMode = Field(
        "white",
        description="Which mask pixels are repainted. auto: transparent ones; drawn: opaque ones; both: else white.",
    )
    mask_grow: MaskGrow = Field(0, description="Pixels by which the mask is dilated.")
    mask_feather: int = Field(0, ge=0, le=256, description="Radius in pixels over which the mask's edge is softened.")
    crop: Crop = Field("auto", description="auto: only the surroundings of the mask are run. off: the whole picture.")
    crop_padding: int = Field(32, ge=0, le=1024, description="Pixels of surroundings taken in around the mask.")
    output_format: OutputFormat = Field("png", description="png, and webp of quality 100, keep every value exactly.")
    output_quality: OutputQuality | None = Field(
        None,
        description="Of jpeg, webp and avif, by their encoders' scales; 90 where absent. A png has none.",
        exclude_if=lambda quality: quality is None,
    )
    output_color: OutputColor = Field(
        "auto",
        description="auto: a grey photo comes back grey, any other in colour. rgb: always in colour.",
        exclude_if=lambda color: color == "auto",
    )
    bit_depth: BitDepth = Field(
        "8",
        description="Of a photo of 16 bits a channel. 8: results have 8, rounded. keep: they have 16; only as png.",
        exclude_if=lambda depth: depth == "8",
    )
    metadata: MetadataChoice = Field(
        "keep",
        description="What results carry of the photo's EXIF and XMP; keep_gps: also where it was taken.",
        exclude_if=lambda choice: choice == "keep",
    )
    loras: Loras = Field((), description="Adapters for this request only, up to 8, each once.")


class InpaintRequest(Common):
    """What a caller may ask; ``None`` means the model's default (seed: a random one)."""

    model: str | None = Field(None, max_length=200, description="A name from /v1/models.")
    preset: str | None = Field(
        None, max_length=200, description="A preset of the model; fields that are sent win over it."
    )
    mask_scale: MaskScale = Field(
        "full", description="full: 1 is the largest value of the file's type. binary: every value above 0 is 1."
    )
    mask_threshold: MaskThreshold | None = Field(
        None, description="Makes a grey mask hard: what is at least so strong is repainted wholly, all else stays."
    )
    mask_box: MaskBoxes = Field(
        (), description="[left, top, right, bottom] in pixels of the upright photo, or a list of these: repainted too."
    )
    mask_polygon: MaskPolygons = Field(
        (), description="[[x, y], ...] in pixels of the upright photo, or a list of these: repainted too."
    )
    mask_points: MaskPoints = Field(
        (), description="[[x, y, 1], ...] on the subject, [x, y, 0] beside it; what is repainted is found by them."
    )
    mask_subject: MaskSubject | None = Field(
        None,
        examples=[""],
        description="foreground: repaint the subject, which lies in mask_box if one is sent. background: all but it.",
    )
    mask_prompt: MaskPrompt | None = Field(
        None,
        examples=[""],
        description="Words for the subject, as in: the red car. A segmenter finds it; mask_subject says its side.",
    )
    mask_model: str | None = Field(
        None,
        max_length=200,
        examples=[""],
        description="The segmenter that finds mask_prompt: a name from /v1/models; null: the only one.",
    )
    extend: Extend | None = Field(
        None, examples=[""], description="Of task=extend: left,top,right,bottom in pixels or percent: 0,25%,0,25%."
    )
    aspect: Aspect | None = Field(None, examples=[""], description="Of task=extend: that of the result, as in 16:9.")
    size: ExtendedSize | None = Field(
        None, examples=[""], description="Of task=extend: WIDTHxHEIGHT of the result, in pixels."
    )
    anchor: Anchor | None = Field(
        None,
        examples=[""],
        description="Of task=extend, with aspect or size: where in the result the photo stands; null: center.",
    )
    seed: Seed | None = Field(None, description="As torch.Generator('cpu').manual_seed; random when absent.")
    num_inference_steps: Steps | None = None
    guidance_scale: Guidance | None = None
    strength: Strength | None = Field(None, description="Share of the schedule that is run; 1 starts from noise.")
    scheduler: str | None = Field(None, max_length=50, description="A name from /v1/schedulers.")
    masked_content: MaskedContent | None = Field(
        None, description="What the denoising starts from under the mask; matters where strength is below 1."
    )
    hires: Hires | None = Field(
        None,
        description="A hole larger than the model's size. off: painted small and enlarged. tile: then once more in "
        "overlapping tiles, at the photo's own pixels. null: tile where few are enough.",
    )
    cache_interval: CacheInterval | None = Field(
        None, description="Of so many network calls one computes the deep features, the others reuse them; 1: exact."
    )
    priority: Priority = Field(
        "normal", description="low: the job waits behind all jobs of normal priority, also those that come later."
    )


class Extension(Record):
    """A photo that is extended: the borders that it gets, and the size of the result, in pixels."""

    left: int = Field(ge=0)
    top: int = Field(ge=0)
    right: int = Field(ge=0)
    bottom: int = Field(ge=0)
    width: int = Field(ge=1, description="Of the result.")
    height: int = Field(ge=1)

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    @property
    def photo(self) -> tuple[int, int, int, int]:
        """Where the photo stands in the result: [left, top, right, bottom]."""
        return self.left, self.top, self.width - self.right, self.height - self.bottom


class Tiles(Record):
    """What is run after a first, shrunk pass (``jobs/tiles.py``)."""

    count: int = Field(ge=1)
    strength: Strength


class FindMask(Record):
    """What a segmenter is to find before the job's region is known (``jobs/segmenters.py``)."""

    model: str
    prompt: MaskPrompt
    subject: MaskSubject = "foreground"


class TextRequest(Record):
    """The part of a request that a model's text encoders receive; it is their cache's key, so they can miss none."""

    prompt: Prompt
    negative_prompt: Prompt
    guidance_scale: Guidance
    prompt_syntax: PromptSyntax = "plain"

    @property
    def guides(self) -> bool:
        """Whether guidance makes a difference: its scale is above 1 and the two prompts differ."""
        return self.guidance_scale > 1 and self.prompt != self.negative_prompt


class InpaintParameters(Common):
    """A request with every default resolved: what the job runs on, also when it is tried again."""

    model: str
    seed: Seed
    num_inference_steps: Steps
    guidance_scale: Guidance
    strength: Strength
    scheduler: str
    masked_content: MaskedContent
    # left out where it says nothing, for workers of an older version refuse a field that they do not know
    cache_interval: CacheInterval = Field(1, exclude_if=lambda interval: interval == 1)
    extend: Extension | None = Field(None, exclude_if=lambda extend: extend is None)
    instead_of: str | None = Field(None, exclude_if=lambda model: model is None)
    """The model whose catalog entry leaves the task to ``model``."""
    find: FindMask | None = Field(None, exclude_if=lambda find: find is None)
    tiles: Tiles | None = Field(None, exclude_if=lambda tiles: tiles is None)

    @property
    def seeds(self) -> list[int]:
        """Image k of n uses seed + k."""
        return [self.seed + k for k in range(self.n)]

    @property
    def text(self) -> "TextRequest":
        """All that reaches a text encoder."""
        return TextRequest.model_validate(self.model_dump(include=set(TextRequest.model_fields)))


class JobStatus(StrEnum):
    QUEUED = "queued"
    LOADING = "loading"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"

    @property
    def ended(self) -> bool:
        return self in (JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED)


class MaskReport(Record):
    """How the mask was understood.

    Before the job has ended it describes the uploaded mask; afterwards the effective one (grown and feathered). A mask
    that is found by words is the whole picture until then.
    """

    mode: MaskMode = Field(description="Which pixels of the file were repainted; white where there was none.")
    scale: MaskScale = "full"
    threshold: float | None = Field(None, description="The mask_threshold by which the file was read.")
    sources: list[MaskSource] = Field(["file"], description="What the mask was made of.")
    coverage: float = Field(description="Share of the picture that is repainted; a grey pixel counts in part.")
    bbox: tuple[int, int, int, int] = Field(
        description="[left, top, right, bottom] in pixels of the upright input: all that is above 0."
    )
    soft: bool = Field(description="Whether the mask has values between 0 and 1.")
    snapped: int = Field(0, description="Pixels of the upload so near 0 or 1 that they were read as 0 or 1.")
    subject: MaskSubject | None = Field(
        None, description="Of a mask that was found: what is repainted.", exclude_if=lambda subject: subject is None
    )
    score: float | None = Field(
        None,
        description="Of a mask that was found: how far it can be relied on, 0 to 1.",
        exclude_if=lambda score: score is None,
    )
    prompt: str | None = Field(
        None, description="Of a mask that was found by words: these.", exclude_if=lambda prompt: prompt is None
    )
    model: str | None = Field(
        None, description="Of a mask that was found by words: the segmenter.", exclude_if=lambda model: model is None
    )
    changed_outside_mask: int | None = Field(None, description="Pixels changed where the effective mask is 0: counted.")


class Progress(Record):
    step: int
    steps: int
    eta_ms: float | None = None
    preview_step: int | None = Field(None, description="Step of the latest preview; null: nobody has asked for one.")


class RegionReport(Record):
    """The part of the picture that was run, and the pixels it was run at."""

    box: tuple[int, int, int, int] = Field(description="[left, top, right, bottom] in pixels of the upright input.")
    run_px: tuple[int, int] = Field(description="Width and height that the box had while the network painted it.")
    scale: float = Field(description="Pixels run over pixels of the input, a side; below 1 the result was enlarged.")
    tiles: int = Field(
        0,
        description="How many tiles were then run over it at the input's own pixels; absent: none.",
        exclude_if=lambda tiles: not tiles,
    )


class PromptTokens(Record):
    """How much of a prompt a text encoder reads, in its tokens; those that it adds itself are not counted."""

    used: int = Field(description="Tokens of the prompt.")
    limit: int = Field(description="Tokens that are read at most.")
    cut: int = Field(description="Tokens of the prompt that are not read.")


class MetadataReport(Record):
    """What became of what the photo says of itself."""

    exif: MetadataAction = Field(description="Of the camera, the shot, the author; none: it says nothing of these.")
    xmp: MetadataAction = Field(description="Of the author, what is shown, the rights.")
    gps: MetadataAction = Field(description="Where it was taken, as EXIF or XMP have it.")
    c2pa: ManifestAction = Field(
        "none", description="Its C2PA manifest. kept, invalid: an ingredient of the result's own, which says so."
    )


class PictureReport(Record):
    """The uploaded photo as it was read, and what became of the statement that says how its values look."""

    format: PictureFormat
    input_bytes: int
    mode: Literal["grey", "rgb", "cmyk"] = Field(
        description="Of the upload; a palette is rgb, black and white is grey."
    )
    alpha: bool = Field(description="Whether it has an alpha channel or a transparent colour.")
    bits: int = Field(description="Bits a channel of the upload.")
    bit_depth: int = Field(8, description="Bits a channel of the results.")
    color: ColorStatement = Field(
        description="Which statement holds: an ICC profile, chunks of a PNG, or tags of EXIF or TIFF."
    )
    color_action: ColorAction = Field(
        description="carried: the result has the statement. converted: the values became sRGB. ignored: it is unusable."
    )
    metadata: MetadataReport | None = Field(None, description="null: a worker of an older version dropped all of it.")

    def with_manifest(self, action: ManifestAction) -> "PictureReport":
        """The same photo, and what became of its C2PA manifest."""
        metadata = self.metadata and self.metadata.model_copy(update={"c2pa": action})
        return self.model_copy(update={"metadata": metadata})


class ImageInfo(Record):
    width: int
    height: int
    content_type: str
    size_bytes: int


class Timings(Record):
    """Where the time went, in milliseconds; the parts follow one another and add up to ``total``.

    ``load`` is the time in which it could not go on because its worker loaded a model, its own or another job's.
    ``wait`` is the time the job stood ready while the worker was busy with its batch mates' encoding or decoding, or
    did not reach Redis.
    """

    queue: float
    fetch: float
    decode: float
    crop: float
    load: float = 0.0  # workers of an older version do not tell it apart
    text_encode: float
    vae_encode: float
    denoise: float
    vae_decode: float
    paste: float
    png: float
    store: float
    wait: float
    total: float
    steps: int = Field(description="Denoising steps run, for each image.")
    step_p50: float = Field(description="Median time from one step's end to the next, in ms.")
    batch_mean: float = Field(description="Mean number of images in this job's forward passes.")


class JobReport(Record):
    """What the worker says of a job that succeeded; RQ keeps it as the job's result."""

    seeds: list[int]
    mask: MaskReport
    images: list[ImageInfo]
    timings: Timings
    approximate: list[Approximation] | None = Field(None, description="None: a worker of an older version.")
    region: RegionReport | None = None
    picture: PictureReport | None = Field(None, description="None: a worker of an older version.")
    prompt_tokens: PromptTokens | None = Field(None, description="Of the text encoder that reads least of it.")
    negative_prompt_tokens: PromptTokens | None = Field(None, description="None: it was not used.")


class JobProblem(Record):
    """Why a job failed: a code of ``jobs/errors.py`` and a sentence."""

    code: str
    message: str


class WorkerPresence(Record):
    """What a living worker says of itself at every heartbeat."""

    name: str
    models: list[str] = Field(description="Models it serves: those of its catalog.")
    loaded: list[str] = Field([], description="Those that lie on its device now; the others are loaded on first use.")
    seats: int
    jobs: list[str]
    device: str
    device_memory_bytes: int
    last_beat_at: datetime
