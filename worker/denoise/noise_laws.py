"""Which noise schedulers return a model's pictures: each is run with a network that is almost perfect.

For data that are normally distributed the best prediction at every noise level is known in closed form (a Wiener
filter), for whichever noise levels the network was trained at. A scheduler that such a network cannot lead back to the
data ruins the pictures of a real one. What is found that way:

- Steps between the noise levels of the training, where the network takes noise for the picture: Karras' sigmas and the
  midpoints of DPM++ SDE, where the law has a gap (the pocket model's goes from sigma 0.045 straight to pure noise).
- Steps that multiply an error: Heun's mean of two slopes, one of them taken at a far smaller sigma.
- A picture that is lost in the difference of two large numbers: noise prediction from a sigma of thousands.
- Divisions by a signal of zero: noise prediction on a law whose last step is pure noise.
"""

import json
import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import torch
from diffusers import SchedulerMixin

from jobs.families import Law
from jobs.schedulers import SCHEDULERS
from worker.denoise.sampling import begin, network_scaled, new_scheduler, pure_noise, step_arguments

log = logging.getLogger("worker.denoise.noise_laws")

STEPS = (8, 20)
"""Numbers of steps with which a scheduler has to return the data. With fewer, some ask for a distilled network."""
MEAN, SPREADS = 1.0, (0.1, 0.3, 1.0)
"""Mean and standard deviation of the data: latents of about unit variance."""
NETWORK_ERROR = 0.01
"""Standard deviation of the error that is added to each prediction, beside its rounding to ``DTYPE``."""
DTYPE = torch.bfloat16
"""Of latents and predictions: the coarsest that a worker runs."""
LIMIT = 2.5
"""How far from the mean the result may lie, in standard deviations of the data (root mean square).

Over both numbers of steps, Stable Diffusion's law and those of flows stay below 2.3 with every scheduler, the pocket
model's below 0.8 with those that fit and above 20 with the others.
"""
SIDE = 16

GRID = (64, 64)
"""The latents' size for which a flow's shift is computed."""


@dataclass(frozen=True)
class PublishedLaw:
    """The noise levels that a model was trained at, and how its family lays out a schedule."""

    law: Law
    settings: str  # of the scheduler that the model was published with
    schedules: str  # arguments of ``set_timesteps`` by the number of steps
    scheduler: SchedulerMixin = field(compare=False, repr=False)


Schedule = Callable[[int, tuple[int, int]], Mapping[str, Any]]
"""Arguments of ``set_timesteps`` for a number of steps and the latents' (h, w), as a family has it."""


def fitting(law: Law, scheduler: SchedulerMixin, schedule: Schedule) -> tuple[str, ...]:
    """Names of the schedulers that return the pictures of a model; empty if none follows its law.

    Args:
        law: the family's.
        scheduler: that the model was published with.
        schedule: the family's.
    """
    schedules = {steps: schedule(steps, GRID) for steps in STEPS}
    settings = json.dumps([type(scheduler).__name__, scheduler.config], default=str)
    return _fitting(PublishedLaw(law, settings, json.dumps(schedules), scheduler))


@lru_cache(maxsize=32)
def _fitting(published: PublishedLaw) -> tuple[str, ...]:
    names = [name for name, entry in SCHEDULERS.items() if entry.law == published.law]
    return tuple(name for name in names if _fits(name, published))


def _fits(name: str, published: PublishedLaw) -> bool:
    schedules = json.loads(published.schedules).values()
    try:
        return all(float(deviations(name, published, schedule).max()) <= LIMIT for schedule in schedules)
    except Exception as error:  # whatever diffusers raises of settings that it cannot follow
        log.info("scheduler %s cannot be run on %s: %s", name, type(published.scheduler).__name__, error)
        return False


@torch.inference_mode()
def deviations(name: str, published: PublishedLaw, schedule: Mapping[str, Any]) -> torch.Tensor:
    """Run a scheduler from pure noise to its end with the network described above.

    Returns:
        Of each row, root mean square of the result less ``MEAN``, in its own ``SPREADS``; inf where it is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    scheduler = new_scheduler(name, published.scheduler, seed=0)
    timesteps = begin(scheduler, schedule, 0)
    arguments = step_arguments(scheduler, generator)
    network = IdealNetwork(published)
    shape = (len(network.spread), 1, SIDE, SIDE)
    latents = pure_noise(scheduler, torch.randn(shape, generator=generator)).to(DTYPE)
    for timestep in timesteps:
        inputs = network_scaled(scheduler, latents, timestep).to(DTYPE)
        wrong = NETWORK_ERROR * torch.randn(shape, generator=generator)
        output = (network.predict(inputs, float(timestep)) + wrong).to(DTYPE)
        latents = scheduler.step(output, timestep, latents, **arguments, return_dict=False)[0].to(DTYPE)
    squares = (latents.double() - MEAN).square().mean((1, 2, 3))
    return (squares.sqrt() / network.spread.flatten()).nan_to_num(nan=math.inf)


class IdealNetwork:
    """The best predictions for normally distributed data, from the timestep that it is given and its input alone.

    Its rows are each of the ``SPREADS`` twice: of a timestep between two of the training it believes that it is the
    one before, and the one after.
    """

    def __init__(self, published: PublishedLaw) -> None:
        self.spread = torch.tensor(SPREADS, dtype=torch.float64).repeat_interleave(2).view(-1, 1, 1, 1)
        config = published.scheduler.config
        self.flow, self.trained_steps = published.law == "flow", int(config.num_train_timesteps)
        self.kind = "flow" if self.flow else config.prediction_type
        self.signal_power = None if self.flow else published.scheduler.alphas_cumprod.double()

    def predict(self, inputs: torch.Tensor, timestep: float) -> torch.Tensor:
        """(rows, 1, h, w) -> (rows, 1, h, w), float64."""
        signal, noise = self._levels(timestep)
        variance = (signal * self.spread).square() + noise.square()
        surprise = (inputs.double() - signal * MEAN) / variance
        clean, noisy = MEAN + self.spread.square() * signal * surprise, noise * surprise
        predictions = {
            "epsilon": noisy,
            "v_prediction": signal * noisy - noise * clean,
            "sample": clean,
            "flow": noisy - clean,
        }
        return predictions[self.kind]

    def _levels(self, timestep: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights of clean latents and noise at each row's timestep, (rows, 1, 1, 1)."""
        if self.signal_power is None:
            noise = torch.full_like(self.spread, timestep / self.trained_steps)
            return 1 - noise, noise
        last = len(self.signal_power) - 1
        known = [min(max(int(near), 0), last) for near in (math.floor(timestep), math.ceil(timestep))]
        power = self.signal_power[known].repeat(len(SPREADS)).view_as(self.spread)
        return power.sqrt(), (1 - power).sqrt()
