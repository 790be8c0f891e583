"""A mask that words name: what a segmenter is shown of a photo, and what its answer comes to."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jobs import mask_values
from jobs.errors import MaskNotFound
from jobs.schema import FindMask
from worker.families.clipseg import ClipSeg, Floats
from worker.pixels.pictures import Picture, Pixels

SEEN_PX = 1024
"""The longer side of what a segmenter is shown, at most; networks run at less."""
CLEAR = 128
"""Grey under what is transparent, whose colour is unknown."""
LEAST_PROBABLE = 0.5
"""Of a pixel that is found."""


@dataclass(eq=False)
class Search:
    """A job's search for its mask: ``show``, ``ask``, ``settle``, in this order. ``pending``: until it has asked."""

    wanted: FindMask
    least_score: float
    pending: bool = True
    png: bytes | None = None  # of the mask, once it is found
    score: float | None = None

    def show(self, picture: Picture) -> None:
        """Keep what the segmenter is to see. On a codec thread."""
        self._seen = seen(picture)

    def ask(self, segmenter: ClipSeg) -> Floats:
        """Its logits, (h, w). On the engine's thread. Raises MaskNotFound, NotFinite."""
        logits = segmenter.find(self._seen, self.wanted.prompt)
        self.pending = False
        return logits

    def settle(self, logits: Floats, size: tuple[int, int]) -> Pixels:
        """The mask at the photo's ``size`` (width, height): (H, W) of 0 and 255. On a codec thread.

        Raises MaskNotFound.
        """
        prompt, side = self.wanted.prompt, self.wanted.subject
        self.score = score_of(logits)
        if self.score < self.least_score or not (logits > 0).any():
            raise MaskNotFound(
                f"mask_prompt: {prompt!r} is found with a score of {self.score:g}; "
                f"{max(self.least_score, LEAST_PROBABLE):g} is needed. Send other words, mask_points, mask_box with "
                "mask_subject, or a mask."
            )
        subject = cv2.resize(logits, size, interpolation=cv2.INTER_LINEAR) > 0
        repainted = subject if side == "foreground" else ~subject
        if not repainted.any():
            raise MaskNotFound(
                f"mask_prompt: with mask_subject={side}, {prompt!r} leaves nothing to repaint; its score is "
                f"{self.score:g}. Send other words, or a mask."
            )
        mask = np.where(repainted, np.uint8(255), np.uint8(0))
        self.png = mask_values.encoded(mask)
        return mask


def seen(picture: Picture) -> Pixels:
    """The photo as a segmenter is shown it, (h, w, 3): shrunk if it is large."""
    rgb = picture.rgb
    if picture.alpha is not None:
        share = picture.alpha[..., None] / np.float32(255)
        rgb = np.asarray(rgb * share + CLEAR * (1 - share), np.uint8)
    width, height = picture.size
    if (longer := max(width, height)) <= SEEN_PX:
        return rgb
    size = (max(1, width * SEEN_PX // longer), max(1, height * SEEN_PX // longer))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def score_of(logits: NDArray[Any]) -> float:
    """The mean probability of the pixels that are found; where none is, the largest probability there is."""
    probable = 1 / (1 + np.exp(-logits.astype(np.float64)))
    found = probable[logits > 0]
    return round(float(found.mean() if found.size else probable.max()), 4)
