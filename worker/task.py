"""One job's story: opened (decoded, cropped), prepared, stepped, finished (decoded), closed (pasted, encoded).

``open`` and ``close`` run on the codec threads, ``prepare`` and ``finish`` on the engine's thread, one after another.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from jobs import mask_values
from jobs.catalog import ModelEntry
from jobs.errors import Undecodable
from jobs.regions import SURROUNDINGS_PX, plan_region
from jobs.schema import Approximation, ImageInfo, InpaintParameters, JobReport, MaskReport, RegionReport
from worker import masks, regions
from worker.decoding import Decode, decode_here
from worker.families.base import Canvas, Family, Pixels
from worker.fill import soft_fill
from worker.png import PngWriter
from worker.state import AdapterSet, DenoiseState
from worker.stopwatch import Stopwatch


@dataclass(eq=False)
class Task:
    """A job in this worker. ``outcome`` is set when it has ended here: a report to be stored, or the reason why not."""

    job_id: str
    parameters: InpaintParameters
    entry: ModelEntry
    stopwatch: Stopwatch
    approximate: Sequence[Approximation] = ()  # what its request gives up for speed, as its caller was told
    deadline_s: float = math.inf  # of its own time
    published: tuple[int, bool, bool] = (0, False, False)  # what ``Desk.publish`` has last made known
    area_px: int = 0  # of the canvas; 0 until it has been opened
    states: list[DenoiseState] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    outcome: JobReport | Exception | None = None

    # ---- codec threads

    def open(self, image: bytes | None, mask: bytes | None, decode: Decode = decode_here) -> Canvas:
        """Decode the upload, settle the effective mask, cut out the region."""
        self.stopwatch.enter("decode")
        if image is None or mask is None:
            raise Undecodable("The job's uploads have expired.")
        self.picture, uploaded = decode(image, mask, self.parameters.output_color)
        self.approximate = [*self.approximate, *self.picture.approximate]
        if uploaded.shape != self.picture.rgb.shape[:2]:
            raise Undecodable(f"The settled mask is {uploaded.shape} and the image {self.picture.rgb.shape[:2]}.")
        self.stopwatch.enter("crop")
        parameters = self.parameters
        self.mask = masks.effective_mask(uploaded, parameters.mask_grow, parameters.mask_feather)
        canvas = self._cut()
        self.stopwatch.enter("wait")
        return canvas

    def _cut(self) -> Canvas:
        """The region, widened until it holds something that is known, and its canvas."""
        parameters, entry = self.parameters, self.entry
        box = masks.bounding_box(self.mask)
        if box is None:
            raise Undecodable("The settled mask is empty.")
        sides = (entry.size_px, entry.max_size_px)
        self.bbox, padding_px, crop = box, parameters.crop_padding, parameters.crop == "auto"
        self.region = plan_region(self.picture.size, box, padding_px, crop, sides)
        known = regions.known(self.mask, self.picture.alpha)
        while not regions.holds(known, self.region.box) and self.region.size != self.picture.size:
            padding_px = 2 * padding_px + SURROUNDINGS_PX
            self.region = plan_region(self.picture.size, box, padding_px, crop, sides)
        self.area_px = self.region.canvas[0] * self.region.canvas[1]
        image, hidden = self._shown()
        canvas = Canvas(image, hidden, start_filled=parameters.masked_content == "fill")
        _ = canvas.start, canvas.digests  # made here, on a codec thread
        return canvas

    def _shown(self) -> tuple[Pixels, Pixels]:
        """The canvas's image and mask. What is transparent is unknown: filled over, or all hidden."""
        region, rgb, alpha = self.region, self.picture.rgb, self.picture.alpha
        hidden = mask_values.hidden(regions.cut_mask(self.mask, region))
        weight = None
        if region.scale < 1:  # where several pixels become one, the known ones count
            weight = 255 - self.mask if alpha is None else np.minimum(255 - self.mask, alpha)
        image = regions.cut(rgb, region, weight)
        if alpha is None:
            return image, hidden
        opacity = regions.cut(alpha, region)
        unknown = mask_values.hidden(255 - opacity)
        missing = np.maximum(unknown, hidden)
        if missing.min() == 255:  # of what is faint the least faint is known
            part = np.minimum(opacity, 255 - hidden)
            missing = unknown = np.where((part == part.max()) & (part > 0), np.uint8(0), np.uint8(255))
            missing = np.maximum(missing, hidden)
        if missing.min() == 255:
            return image, missing
        return masks.blended(image, soft_fill(image, missing), unknown), hidden

    def close(self, canvases: Pixels) -> JobReport:
        """Paste every canvas over the untouched original and write the PNGs."""
        self.stopwatch.enter("paste")
        original = self.picture.pixels
        painted = [self.picture.in_its_mode(canvas) for canvas in canvases]
        results = [regions.paste(original, canvas, self.region, self.mask) for canvas in painted]
        report = self._mask_report(original, results)
        self.stopwatch.enter("png")
        writers = [PngWriter(self.picture.channels_of(result), self.picture.chunks) for result in results]
        timings = self.stopwatch.timings(self.steps)
        self.images = [
            writer.finish({"infill": self._metadata(index, report, timings.model_dump())})
            for index, writer in enumerate(writers)
        ]
        width, height = self.picture.size
        self.stopwatch.enter("wait")
        return JobReport(
            seeds=self.seeds,
            mask=report,
            images=[
                ImageInfo(width=width, height=height, content_type="image/png", size_bytes=len(image))
                for image in self.images
            ],
            timings=timings,
            approximate=self.given_up,
            region=self._region_report,
            picture=self.picture.report,
        )

    def _mask_report(self, original: Pixels, results: Sequence[Pixels]) -> MaskReport:
        return MaskReport(
            mode=self.parameters.mask_mode,
            coverage=mask_values.coverage(self.mask),
            bbox=self.bbox,
            soft=masks.is_soft(self.mask),
            changed_outside_mask=sum(regions.changed_outside(original, result, self.mask) for result in results),
        )

    @property
    def _region_report(self) -> RegionReport:
        return RegionReport(box=self.region.box, run_px=self.region.run_px, scale=round(self.region.scale, 6))

    @property
    def given_up(self) -> list[Approximation]:
        """All that the result is less by than the model's best."""
        shrunk: list[Approximation] = ["shrunk"] if self.region.scale < 1 else []
        return list(dict.fromkeys([*self.approximate, *shrunk]))

    def _metadata(self, index: int, mask: MaskReport, timings: dict[str, float]) -> str:
        """What the PNG says of itself; the timings end with the PNG's own encoding."""
        seed = self.seeds[index]
        effective = mask.model_dump(exclude={"scale", "snapped"})  # of the upload: the API alone knows them
        described = {"model": self.parameters.model, "seed": seed, "mask": effective}
        given_up = {"region": self._region_report.model_dump(), "approximate": self.given_up}
        return json.dumps({**described, **given_up, "timings": timings})

    # ---- engine thread

    def prepare(self, canvas: Canvas, family: Family, adapters: AdapterSet = ()) -> list[DenoiseState]:
        self.family = family
        self.states = family.prepare(canvas, self.parameters, self.stopwatch.enter, adapters)
        self.stopwatch.enter("text_encode")
        if family.prompts_cut(self.parameters, guided=self.states[0].negative_text is not None):
            self.approximate = [*self.approximate, "prompt_cut"]
        self.stopwatch.enter("denoise")
        return self.states

    def finish(self) -> Pixels:
        self.stopwatch.enter("vae_decode")
        pixels = self.family.finish(self.states)
        self.stopwatch.enter("wait")
        return pixels

    # ---- at the boundaries

    @property
    def model(self) -> str:
        return self.parameters.model

    @property
    def loading(self) -> bool:
        """Whether it waits for a model to be loaded, and has not begun."""
        return self.stopwatch.phase == "load"

    @property
    def overdue(self) -> bool:
        return self.outcome is None and self.stopwatch.own_s > self.deadline_s

    @property
    def seeds(self) -> list[int]:
        return [self.parameters.seed + k for k in range(self.parameters.n)]

    @property
    def steps(self) -> int:
        return self.states[0].steps if self.states else self.parameters.num_inference_steps

    @property
    def step(self) -> int:
        """Steps done by the image that has done the fewest."""
        return min((state.steps_done for state in self.states), default=0)

    @property
    def eta_ms(self) -> float:
        return round((self.steps - self.step) * self.stopwatch.step_s() * 1000, 1)

    @property
    def stepped_out(self) -> bool:
        """Whether every image has been stepped to its end, or one of them has failed."""
        return all(state.done for state in self.states) or self.failure() is not None

    def failure(self) -> Exception | None:
        return next((state.error for state in self.states if state.error), None)

    def fail(self, error: Exception) -> None:
        self.outcome = error
