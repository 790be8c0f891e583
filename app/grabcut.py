"""The subject of a small picture by OpenCV's GrabCut (Rother, Kolmogorov and Blake, 2004), and how sure that is.

GrabCut starts from a guess. Three guesses of different sizes are tried; the answer is the mask that agrees best with
the other two. The score is that agreement times how far the subject's colours differ from those around it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.selections import Selection
from jobs.errors import InvalidField
from jobs.mask_fields import SubjectPoint

Bytes = NDArray[np.uint8]

ITERATIONS = 3
BOX_INSETS = (0.02, 0.06, 0.12)
"""Shares of a box's sides by which a guess lies inside it."""
FRAMES = (0.03, 0.08, 0.15)
"""Without box and points: shares of the picture's shorter side that a guess leaves out along the edges."""
RIM = 0.02
"""The same, of what is background for sure, but at the bottom, where people are cut off; the subject is continued into
it at the end."""
RADII = (1 / 12, 1 / 6, 1 / 3)
"""Of a guess around a point on the subject, in shorter sides; less where a point beside it is near."""
TOWARDS = 0.6
"""So far such a guess reaches towards a point beside the subject."""
SEED = 0.012
"""Radius of what is sure around a point, in shorter sides."""
SPECK = 0.02
"""Parts of the subject, and holes in it, that are smaller than this share of its largest part are none."""
LEAST_SHARE = 0.002
"""Of the picture: what is smaller is no subject, or no background."""
GRAIN = 2
"""Levels of 255."""
BINS = (8, 16, 16)
"""Of L, a and b, for comparing colours."""
AROUND = 1 / 8
"""How far from the subject its colours are compared, in shorter sides."""


@dataclass(frozen=True)
class Found:
    """``subject``: (H, W), 1 where it is, else 0. ``score``: 0 to 1."""

    subject: Bytes
    score: float


def find(picture: Bytes, selection: Selection) -> Found:
    """``picture``: (H, W, 3), RGB. Seconds of processor time grow with its area: shrink it first.

    The same input has the same answer. Raises InvalidField for points that contradict one another.
    """
    size = picture.shape[:2]
    if selection.box and _pixels(selection.box, size) == (0, 0, size[1], size[0]):
        selection = replace(selection, box=None)  # it leaves nothing out, so it says nothing
    guesses = list(_guesses(size, selection))
    if not all((guess & 1).any() and not (guess & 1).all() for guess in guesses):
        return Found(np.zeros(size, np.uint8), 0.0)
    grained = _grained(picture)
    answers = [_cut(grained, guess) for guess in guesses]
    agreements = [float(np.mean([_iou(one, other) for other in answers if other is not one])) for one in answers]
    best = int(np.argmax(agreements))
    subject = _cleaned(answers[best], selection)
    if not LEAST_SHARE < subject.mean() < 1 - LEAST_SHARE:
        return Found(subject, 0.0)
    return Found(subject, round(agreements[best] * _separation(picture, subject), 3))


def _grained(picture: Bytes) -> Bytes:
    """With ``GRAIN``: pixels that are all alike, as in drawings, make GrabCut take minutes in place of a second."""
    grain = np.random.default_rng(1).integers(-GRAIN, GRAIN + 1, picture.shape, np.int16)
    return np.asarray((picture + grain).clip(0, 255), np.uint8)


def _guesses(size: tuple[int, int], selection: Selection) -> Iterator[Bytes]:
    """(H, W) of OpenCV's four values: GC_BGD and GC_FGD where it is sure, GC_PR_BGD and GC_PR_FGD where it is not."""
    height, width = size
    short = min(size)
    seeds = _seeds(selection, size)
    if selection.box:
        left, top, right, bottom = _pixels(selection.box, size)
        for inset in BOX_INSETS:
            across, down = int(inset * (right - left)), int(inset * (bottom - top))
            guess = np.full(size, cv2.GC_BGD, np.uint8)
            guess[top:bottom, left:right] = cv2.GC_PR_BGD
            guess[top + down : bottom - down, left + across : right - across] = cv2.GC_PR_FGD
            yield _seeded(guess, seeds)
    elif selection.on_subject():
        for radius in RADII:
            guess = np.full(size, cv2.GC_PR_BGD, np.uint8)
            for point in selection.on_subject():
                reach = min(radius * short, TOWARDS * _distance(point, selection))
                cv2.circle(guess, (int(point[0]), int(point[1])), int(reach), cv2.GC_PR_FGD, -1)
            yield _seeded(guess, seeds)
    else:
        rim = max(1, int(RIM * short))
        for frame in FRAMES:
            left = max(rim, int(frame * short))
            guess = np.full(size, cv2.GC_BGD, np.uint8)
            guess[rim:, rim : width - rim] = cv2.GC_PR_BGD
            guess[left : height - left, left : width - left] = cv2.GC_PR_FGD
            yield _seeded(guess, seeds)


def _pixels(box: tuple[float, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """A box in whole pixels, those included that it covers in part."""
    left, top = int(box[0]), int(box[1])
    return left, top, min(size[1], -int(-box[2] // 1)), min(size[0], -int(-box[3] // 1))


def _distance(point: SubjectPoint, selection: Selection) -> float:
    """To the nearest point of the other side."""
    others = [np.hypot(point[0] - x, point[1] - y) for x, y, side in selection.points if side != point[2]]
    return float(min(others, default=np.inf))


def _seeds(selection: Selection, size: tuple[int, int]) -> list[tuple[tuple[int, int], int, int]]:
    """Centre, radius and value of what is sure by the points. Raises InvalidField."""
    seeds, taken = [], dict[tuple[int, int], int]()
    for point in selection.points:
        x, y, side = int(point[0]), int(point[1]), point[2]
        if taken.setdefault((x, y), side) != side:
            raise InvalidField(
                "mask_points: a point on the subject and one beside it are too close to each other to be told apart."
            )
        near = min(max(2.0, SEED * min(size)), _distance(point, selection) / 2 - 1)
        seeds.append(((x, y), max(0, int(near)), cv2.GC_FGD if side else cv2.GC_BGD))
    return seeds


def _seeded(guess: Bytes, seeds: list[tuple[tuple[int, int], int, int]]) -> Bytes:
    for centre, radius, value in seeds:
        cv2.circle(guess, centre, radius, value, -1)
    return guess


def _cut(picture: Bytes, guess: Bytes) -> Bytes:
    """GrabCut's answer to a guess, (H, W) of 0 and 1."""
    cv2.setRNGSeed(1)
    models: list[Any] = [np.zeros((1, 65)), np.zeros((1, 65))]
    cv2.grabCut(picture, guess, None, *models, ITERATIONS, cv2.GC_INIT_WITH_MASK)  # type: ignore[call-overload]
    return np.asarray(guess & 1, np.uint8)


def _iou(one: Bytes, other: Bytes) -> float:
    union = cv2.countNonZero(one | other)
    return cv2.countNonZero(one & other) / union if union else 0.0


def _cleaned(subject: Bytes, selection: Selection) -> Bytes:
    """Only the parts with a point on them, if there are any; no specks; no small holes but those with a point."""
    if selection.box is None and not selection.points:
        rim = max(1, int(RIM * min(subject.shape)))
        inner = subject[rim:, rim:-rim]
        subject = np.asarray(cv2.copyMakeBorder(inner, rim, 0, rim, rim, cv2.BORDER_REPLICATE), np.uint8)
    on, beside = ([(int(y), int(x)) for x, y, of in selection.points if of == side] for side in (1, 0))
    count, parts, stats, _ = cv2.connectedComponentsWithStats(subject, connectivity=4)
    areas = stats[1:, cv2.CC_STAT_AREA]
    if not areas.size:
        return subject
    kept = np.zeros(count, np.uint8)
    kept[1:] = areas >= SPECK * areas.max()
    if on:
        kept[:] = 0
        kept[[parts[at] for at in on]] = 1
        kept[0] = 0
    subject = kept[parts]
    count, holes, stats, _ = cv2.connectedComponentsWithStats(1 - subject, connectivity=4)
    filled = np.asarray(stats[:, cv2.CC_STAT_AREA] < SPECK * cv2.countNonZero(subject), np.uint8)
    filled[0] = 1  # the subject itself
    filled[[holes[at] for at in beside]] = 0
    return np.asarray(filled[holes] | subject, np.uint8)


def _separation(picture: Bytes, subject: Bytes) -> float:
    """1 less the Bhattacharyya coefficient of the colours of the subject and of what is around it; 0: the same."""
    reach = 2 * max(2, int(AROUND * min(subject.shape))) + 1
    around = cv2.dilate(subject, np.ones((reach, reach), np.uint8)) & (1 - subject)
    if not (subject.any() and around.any()):
        return 0.0
    lab = cv2.cvtColor(picture, cv2.COLOR_RGB2LAB)
    colours = [cv2.calcHist([lab], [0, 1, 2], np.asarray(mask), BINS, [0, 256] * 3) for mask in (subject, around)]
    one, other = (found / found.sum() for found in colours)
    return max(0.0, 1 - float(np.sqrt(one * other).sum()))
