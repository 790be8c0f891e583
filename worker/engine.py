"""The one thread that steps. States join and leave between forward passes; batch mates share the network only."""

from collections.abc import Mapping, MutableMapping, Sequence

import torch

from jobs.loras import LoraFolder
from jobs.pace import Pace, pace_at
from worker.adapters import Adapters
from worker.batcher import pick_batch
from worker.families.base import Family
from worker.state import AdapterSet, BatchKey, DenoiseState


class Engine:
    """Runs denoising states of any loaded model, one forward pass at a time.

    Args:
        models: the loaded models by name; a state's key says which is its own.
        max_rows: images in one forward pass at most.
        adapters: the adapters that states may name in their keys; without them there are none.
        paces: what was measured of the models; a pass is no larger than is worth it. Nothing is known of the others.
    """

    def __init__(
        self,
        models: Mapping[str, Family],
        max_rows: int,
        adapters: Adapters | None = None,
        paces: MutableMapping[str, Sequence[Pace]] | None = None,
    ) -> None:
        self.models = models
        self.max_rows = max_rows
        self.adapters = adapters or Adapters(LoraFolder(None), 0)
        self.paces = {} if paces is None else paces
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
        batch = pick_batch(self.live, self.limit)
        if not batch:
            return []
        self.turn += 1
        family = self.models[batch[0].key.model]
        self._step(family, batch)
        for state in batch:
            state.last_turn = self.turn
        self.leave([state for state in batch if state.done])
        return batch

    def limit(self, key: BatchKey) -> int:
        """Images in one forward pass: as many as its model gains from, of two rows each where guidance is computed.

        Two rows are always allowed: a turn costs something beside the network, which the profile has not seen.
        """
        measured = self.paces.get(key.model)
        knee = pace_at(measured, self.area_px(key)).knee if measured else None
        if knee is None:
            return self.max_rows
        return min(self.max_rows, max(2, round(knee)) // (2 if key.guided else 1))

    def area_px(self, key: BatchKey) -> int:
        """Of the canvas that a state of this key paints."""
        height, width = key.latent_shape[-2:]
        return int(height * width * self.models[key.model].latent_factor ** 2)

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
