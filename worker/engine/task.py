"""One job's story: opened (decoded, cropped), prepared, stepped, finished (decoded), closed (pasted, encoded).

``open`` and ``close`` run on the codec threads, ``prepare`` and ``finish`` on the engine's thread, one after another.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from jobs import passes
from jobs.approximations import approximations_of
from jobs.catalog import ModelEntry
from jobs.errors import Undecodable
from jobs.outputs import MEDIA_TYPES
from jobs.regions import Region
from jobs.schema import (
    Approximation,
    ImageInfo,
    InpaintParameters,
    InputName,
    JobReport,
    PictureReport,
    PromptTokens,
    Timings,
)
from worker.denoise.device import raise_if_lost, released
from worker.denoise.state import AdapterSet, State
from worker.engine.device_room import in_halves, tiled_at_need
from worker.engine.finding import Search
from worker.engine.previews import Previews
from worker.engine.reports import mask_report, metadata, region_report, tokens_of, xmp_packet
from worker.engine.stopwatch import Stopwatch
from worker.families.base import Family
from worker.families.clipseg import ClipSeg, Floats
from worker.pixels import masks, regions
from worker.pixels.canvas import Canvas, Pixels, shown
from worker.pixels.decoding import Decode, decode_here
from worker.pixels.encoding import writer_of
from worker.pixels.extension import extended
from worker.pixels.painting import Painting
from worker.pixels.passes import planned, tile_canvases
from worker.pixels.pictures import Values
from worker.pixels.signing import Sign, Statement, signed

Done = TypeVar("Done")


@dataclass(eq=False)
class Task:
    """A job in this worker. ``outcome`` is set when it has ended here: a report to be stored, or the reason why not."""

    job_id: str
    parameters: InpaintParameters
    entry: ModelEntry
    stopwatch: Stopwatch
    search: Search | None = None  # where the request names words in place of a mask
    marks: bool = True  # whether results are marked as changed by a model
    sign: Sign | None = None
    deadline_s: float = math.inf  # of its own time
    published: tuple[int, bool, bool] = (0, False, False)  # what ``Reporter.publish`` last published
    passes: Sequence[Region] = ()  # in order, the first one and its tiles; known once it has been opened
    begun: int = 0  # which of them it is at
    steps_before: int = 0  # steps of the passes before
    states: list[State] = field(default_factory=list)
    images: list[bytes] = field(default_factory=list)
    found: list[Approximation] = field(default_factory=list)  # what only the worker can see that the result lacks
    painting: Painting | None = None  # of a job of several passes, once the first one has been decoded
    tokens: dict[str, PromptTokens] = field(default_factory=dict)  # of each prompt, by its name in the report
    previews: Previews = field(default_factory=Previews)
    outcome: JobReport | Exception | None = None

    # ---- codec threads

    def open(self, inputs: Mapping[InputName, bytes | None], decode: Decode = decode_here) -> list[Canvas]:
        """Decode the upload; the first pass's canvas, or nothing where ``find`` comes first."""
        self.stopwatch.enter("decode")
        asked = self.parameters
        present = {name: data for name, data in inputs.items() if data is not None}
        if present.keys() != inputs.keys():
            raise Undecodable("The job's uploads have expired.")
        decoded, uploaded = decode(present, asked.output_color, asked.metadata, asked.bit_depth)
        self.picture = extended(decoded, self.parameters.extend, uploaded)
        self.upload = present["image"] if self.sign else b""
        self.found += self.picture.approximate
        if self.search is None:
            return self._cut(uploaded)
        self.search.show(self.picture)
        self.stopwatch.enter("wait")
        return []

    def cut_found(self, logits: Floats) -> list[Canvas]:
        """The first pass's canvas, from what ``find`` has returned. Raises MaskNotFound."""
        self.stopwatch.enter("crop")
        assert self.search, "without words, nothing is found"
        return self._cut(self.search.settle(logits, self.picture.size))

    def _cut(self, uploaded: Pixels) -> list[Canvas]:
        """Compute the effective mask, plan the passes; the first one's canvas."""
        asked = self.parameters
        self.stopwatch.enter("crop")
        self.mask = masks.effective_mask(uploaded, self.parameters.mask_grow, self.parameters.mask_feather)
        box = masks.bounding_box(self.mask)
        if box is None:
            raise Undecodable("The mask is empty.")
        self.bbox = box
        self.passes = planned(self.picture, self.mask, box, uploaded, asked, self.entry)
        image, hidden = shown(self.picture, self.mask, self.passes[0])
        fill, extends = self.parameters.masked_content == "fill", self.parameters.extend is not None
        canvas = Canvas(image, hidden, fill, continued=extends)
        _ = canvas.start, canvas.digests  # made here, on a codec thread
        self.stopwatch.enter("wait")
        return [canvas]

    def go_on(self, canvases: Pixels) -> list[Canvas]:
        """Keep what a pass has painted, (n, h, w, 3); the next one's canvases, one for each image."""
        self.stopwatch.enter("paste")
        painting = self._keep(canvases)
        self.stopwatch.enter("crop")
        made = tile_canvases(self.picture, self.mask, painting, self.region, self.parameters.n)
        self.stopwatch.enter("wait")
        return made

    def _keep(self, canvases: Pixels) -> Painting:
        """Add what the last pass has painted to what there is."""
        if self.painting is None:
            self.painting = Painting(self.passes[0], canvases)
        else:
            self.painting.add(self.passes[len(self.painting.tiles) + 1], canvases)
        return self.painting

    def close(self, canvases: Pixels) -> JobReport:
        """Paste every canvas over the untouched original and write the files."""
        writers, changed = [], 0
        if self.tiles:
            self._keep(canvases)
        for index, canvas in enumerate(
            canvases
        ):  # one result at a time, so that no more than one lies there beside its file
            self.stopwatch.enter("paste")
            original = self.picture.pixels
            result = self._pasted(original, index, canvas)
            changed += regions.changed_outside(original, result, self.mask)
            self.stopwatch.enter("png")
            writers.append(writer_of(self.parameters, self.picture.channels_of(result), self.picture.chunks))
        score = self.search.score if self.search else None
        report = mask_report(self.parameters.mask_mode, self.mask, self.bbox, changed, score)
        region, timings = region_report(self.passes), self.stopwatch.timings(self.steps)
        told: dict[str, Any] = {"region": region, "approximate": self.given_up, **self.tokens, "timings": timings}
        packet = xmp_packet(self.picture.xmp, self.model if self.marks else None)
        self.images = [
            writer.finish({"infill": metadata(self.parameters, index, report, told)}, packet)
            for index, writer in enumerate(writers)
        ]
        picture = self._signed(self.picture.reported(writers[0].states_colours))
        (w, h), kind = self.picture.size, MEDIA_TYPES[self.parameters.output_format]
        self.stopwatch.enter("wait")
        return JobReport(
            seeds=self.parameters.seeds,
            mask=report,
            images=[ImageInfo(width=w, height=h, content_type=kind, size_bytes=len(file)) for file in self.images],
            timings=timings,
            approximate=self.given_up,
            region=region,
            picture=picture,
            **self.tokens,
        )

    def _pasted(self, original: Values, index: int, canvas: Pixels) -> Values:
        """A result. Where there are tiles, each pixel of the hole lies in one of them."""
        in_its_mode, painting = self.picture.in_its_mode, self.painting
        if painting is None:
            return regions.paste(original, in_its_mode(canvas), self.region, self.mask)
        result = original.copy()
        for tile in self.tiles:
            painted = in_its_mode(painting.layer(index, tile.box))
            regions.paste_onto(result, original, painted, tile.box, self.mask)
        return result

    def _signed(self, picture: PictureReport) -> PictureReport:
        """The report, with what became of the upload's manifest once the images are signed. Raises SigningFailed."""
        if self.sign is None:
            return picture
        statement = Statement(self.parameters, picture.format, self.bbox)
        self.images, action = signed(self.sign, self.images, self.upload, statement)
        return picture.with_manifest(action)

    @property
    def given_up(self) -> list[Approximation]:
        """All that the result lacks of the model's best."""
        asked = approximations_of(self.parameters, self.entry.num_inference_steps, self.passes[0], len(self.tiles))
        return list(dict.fromkeys([*asked, *self.found]))

    # ---- engine thread

    def find(self, segmenter: ClipSeg) -> Floats:
        """What ``cut_found`` takes. Raises MaskNotFound, NotFinite."""
        assert self.search, "without words, nothing is found"
        self.stopwatch.enter("crop")
        logits = self.search.ask(segmenter)
        self.stopwatch.enter("wait")
        return logits

    def prepare(self, canvases: Sequence[Canvas], family: Family, adapters: AdapterSet = ()) -> list[State]:
        """The pass's states, from its canvases: of the first one there is a single canvas for all images."""
        self.family = family
        asked = passes.asked_of(self.parameters, self.begun)
        self.states = [
            state
            for canvas, parameters in zip(canvases, asked, strict=True)
            for state in self._tiled_at_need(
                partial(family.prepare, canvas, parameters, self.stopwatch.enter, adapters)
            )
        ]
        self.stopwatch.enter("text_encode")
        self.tokens, cut = tokens_of(family, self.parameters, guided=self.states[0].key.guided)
        self.found += ["prompt_cut"] if cut else []
        self.stopwatch.enter("denoise")
        return self.states

    def finish(self) -> Pixels:
        self.stopwatch.enter("vae_decode")
        pixels = in_halves(self._decoded, self.states)
        self.stopwatch.enter("wait")
        return pixels

    def _decoded(self, states: Sequence[State]) -> Pixels:
        finish = partial(self.family.finish, states)
        return finish() if len(states) > 1 else self._tiled_at_need(finish)

    def _tiled_at_need(self, call: Callable[[], Done]) -> Done:
        done, given_up = tiled_at_need(call, self.family, max(self.region.canvas))
        self.found += given_up
        return done

    # ---- at the boundaries

    @property
    def region(self) -> Region:
        """Of the pass that it is at."""
        return self.passes[self.begun]

    @property
    def tiles(self) -> Sequence[Region]:
        return self.passes[1:]

    @property
    def area_px(self) -> int:
        """Of the pass's canvas; 0 until it has been opened."""
        return self.region.canvas[0] * self.region.canvas[1] if self.passes else 0

    @property
    def has_more(self) -> bool:
        """Whether another pass comes after this one."""
        return self.begun + 1 < len(self.passes)

    def leave_pass(self) -> None:
        """It is at the next pass, whose canvases ``go_on`` makes."""
        self.steps_before, self.states = self.step, []
        self.begun += 1

    def enter(self, phase: str) -> None:
        """From now on the job's time counts for ``phase``."""
        self.stopwatch.enter(phase)

    @property
    def timings(self) -> Timings:
        return self.stopwatch.timings(self.steps)

    @property
    def model(self) -> str:
        return self.parameters.model

    @property
    def next_model(self) -> str:
        """What has to be on the device next: the segmenter, until it has found the mask."""
        return self.search.wanted.model if self.search and self.search.pending else self.model

    @property
    def loading(self) -> bool:
        """Whether it waits for a model to be loaded, and has not begun."""
        return self.stopwatch.phase == "load"

    @property
    def overdue(self) -> bool:
        return self.outcome is None and self.stopwatch.own_s > self.deadline_s

    @property
    def steps(self) -> int:
        if self.tiles or (self.parameters.tiles and not self.passes):
            return passes.steps_of(self.parameters, len(self.tiles))
        return self.states[0].steps if self.states else self.parameters.num_inference_steps

    @property
    def step(self) -> int:
        """Steps done by the image that has done the fewest, over all passes."""
        return self.steps_before + min((state.steps_done for state in self.states), default=0)

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
        raise_if_lost(error)
        self.outcome = released(error)
