"""The one thread that steps. States join and leave between forward passes; batch mates share the network only."""

from collections.abc import Mapping, Sequence

import torch

from jobs.loras import LoraFolder
from worker.adapters import Adapters
from worker.batcher import pick_batch
from worker.families.base import Family
from worker.state import AdapterSet, DenoiseState


class Engine:
    """Runs denoising states of any loaded model, one forward pass at a time.

    Args:
        models: the loaded models by name; a state's key says which is its own.
        max_rows: images in one forward pass at most.
        adapters: the adapters that states may name in their keys; without them there are none.
    """

    def __init__(self, models: Mapping[str, Family], max_rows: int, adapters: Adapters | None = None) -> None:
        self.models = models
        self.max_rows = max_rows
        self.adapters = adapters or Adapters(LoraFolder(None), 0)
        self.live: list[DenoiseState] = []
        self.turn = 0

    @property
    def device_name(self) -> str:
        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"

    def device_memory_bytes(self) -> int:
        """Memory the device holds for this process; 0 on a CPU."""
        return torch.cuda.memory_reserved() if torch.cuda.is_available() else 0

    def wear(self, family: Family, wanted: AdapterSet) -> None:
        """Have exactly these adapters act on a model; those of live states stay loaded. Raises BadLora."""
        self.adapters.wear(family, wanted, {adapter.digest for state in self.live for adapter in state.key.adapters})

    def join(self, states: Sequence[DenoiseState]) -> None:
        """Let states take part from the next step on."""
        for state in states:
            state.last_turn = self.turn
        self.live += states

    def leave(self, states: Sequence[DenoiseState]) -> None:
        """Take states out, finished or not."""
        leaving = {id(state) for state in states}
        self.live = [state for state in self.live if id(state) not in leaving]

    def step(self) -> list[DenoiseState]:
        """One forward pass and one scheduler step for each state in it; finished and failed states leave.

        Returns:
            The states that were in the pass. One that cannot be stepped has its ``error`` set.
        """
        batch = pick_batch(self.live, self.max_rows)
        if not batch:
            return []
        self.turn += 1
        family = self.models[batch[0].key.model]
        self._step(family, batch)
        for state in batch:
            state.last_turn = self.turn
        self.leave([state for state in batch if state.done])
        return batch

    def _step(self, family: Family, states: list[DenoiseState]) -> None:
        """Step all; where the network fails, each half, so that a bad state or a full device hurts it alone."""
        try:
            self.wear(family, states[0].key.adapters)
            noise_pred = family.predict(states)
        except Exception as error:
            if len(states) == 1:
                states[0].error = error
                return
        else:
            self._advance(family, states, noise_pred)
            return
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        half = len(states) // 2
        self._step(family, states[:half])
        self._step(family, states[half:])

    def _advance(self, family: Family, states: list[DenoiseState], noise_pred: torch.Tensor) -> None:
        try:
            family.advance(states, noise_pred)
        except Exception as error:
            for state in states:
                state.error = state.error or error
