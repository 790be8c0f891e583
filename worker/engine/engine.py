"""The one thread that steps. States join and leave between forward passes; batch mates share the network only."""

from collections.abc import Mapping, MutableMapping, Sequence

import torch

from jobs.lora_layers import Width
from jobs.loras import LoraFolder
from jobs.speed import Speed, speed_at
from worker.denoise.device import is_out_of_memory, raise_if_lost, release_cache
from worker.denoise.state import AdapterSet, BatchKey, State
from worker.engine.batcher import pick_batch
from worker.engine.fitting_rows import FittingRows
from worker.engine.passes_ahead import passes_ahead
from worker.families.base import Family
from worker.models.adapters import Adapters


class Engine:
    """Runs denoising states of any loaded model, one forward pass at a time.

    Args:
        models: the loaded models by name; a state's key names its model.
        max_rows: images in one forward pass at most.
        adapters: the adapters that states may name in their keys; without them there are none.
        speeds: the measured models. A pass has no more rows than bring a gain; others have ``max_rows`` alone.
        device: where the models are.
    """

    def __init__(
        self,
        models: Mapping[str, Family],
        max_rows: int,
        adapters: Adapters | None = None,
        speeds: MutableMapping[str, Sequence[Speed]] | None = None,
        device: torch.device = torch.device("cpu"),
    ) -> None:
        self.models = models
        self.device = device
        self.max_rows = max_rows
        self.adapters = adapters or Adapters(LoraFolder(None), 0)
        self.speeds = {} if speeds is None else speeds
        self.fitting = FittingRows()
        self.ahead = passes_ahead(device)
        self.live: list[State] = []
        self.turn = 0

    @property
    def device_name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    def device_memory_bytes(self) -> int:
        """Memory the device holds for this process; 0 on a CPU."""
        return torch.cuda.memory_reserved(self.device) if self.device.type == "cuda" else 0

    @property
    def adapter_bytes(self) -> int:
        """Bytes of loaded adapters."""
        return self.adapters.size_bytes

    def widths(self, model: str) -> dict[str, Width]:
        """How wide the layers of a loaded model are that an adapter can change."""
        return self.adapters.widths(self.models[model])

    def schedulers(self, model: str) -> list[str]:
        """The noise schedulers that fit a loaded model."""
        return list(self.models[model].schedulers)

    def set_adapters(self, family: Family, wanted: AdapterSet) -> None:
        """Activate exactly these adapters; those of live states stay loaded. Raises BadLora."""
        self.adapters.set_adapters(
            family, wanted, {adapter.digest for state in self.live for adapter in state.key.adapters}
        )

    def join(self, states: Sequence[State]) -> None:
        """Let states take part from the next step on."""
        for state in states:
            state.last_turn = self.turn
        self.live += states

    def leave(self, states: Sequence[State]) -> None:
        """Take states out, finished or not."""
        leaving = {id(state) for state in states}
        self.live = [state for state in self.live if id(state) not in leaving]

    def step(self) -> list[State]:
        """One forward pass and one scheduler step for each state in it; finished and failed states leave.

        On a GPU it has only been queued then, and the pass before it has ended.

        Returns:
            The states that were in the pass. One that cannot be stepped has its ``error`` set.
        """
        batch = pick_batch(self.live, self.limit)
        if not batch:
            return []
        self.turn += 1
        family = self.models[batch[0].key.model]
        self._step(family, batch)
        self.ahead.launched()
        for state in batch:
            state.last_turn = self.turn
        self.leave([state for state in batch if state.done])
        self.fitting.keep({state.key for state in self.live})
        return batch

    def limit(self, key: BatchKey) -> int:
        """Images in one forward pass: as many as bring a gain, of two rows each where guidance is computed.

        Two rows are always allowed: a turn also costs time outside the network, which the profile does not measure.
        Where calls are compiled, the most that need no padding.
        """
        times = 2 if key.guided else 1
        measured = self.speeds.get(key.model)
        best_rows = speed_at(measured, self.area_px(key)).best_rows if measured else None
        worth_it = self.max_rows if best_rows is None else max(2, round(best_rows)) // times
        images = self.fitting.limit(key, min(self.max_rows, worth_it))
        grid = (key.latent_shape[-2], key.latent_shape[-1])
        compiled = [] if key.shallow else self.models[key.model].compiled.rows.get(grid, [])
        return max((rows // times for rows in compiled if times <= rows <= images * times), default=images)

    def area_px(self, key: BatchKey) -> int:
        """Of the canvas that a state of this key paints."""
        height, width = key.latent_shape[-2:]
        return int(height * width * self.models[key.model].latent_factor ** 2)

    def _step(self, family: Family, states: list[State]) -> None:
        """Step all. Where the network fails, step each half, so that a bad state or a full device fails only itself."""
        try:
            self.set_adapters(family, states[0].key.adapters)
            noise_pred = family.predict(states)
        except Exception as error:
            raise_if_lost(error)
            if len(states) == 1:
                states[0].fail(error)
                return
            if is_out_of_memory(error):
                self.fitting.failed(states[0].key, len(states))
        else:
            self.fitting.ran(states[0].key, len(states))
            self._advance(family, states, noise_pred)
            return
        release_cache()
        half = len(states) // 2
        self._step(family, states[:half])
        self._step(family, states[half:])

    def _advance(self, family: Family, states: list[State], noise_pred: torch.Tensor) -> None:
        try:
            family.advance(states, noise_pred)
        except Exception as error:
            raise_if_lost(error)
            for state in states:
                if state.error is None:
                    state.fail(error)
