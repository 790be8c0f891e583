"""The deep features of a U-Net, taken from one call and used in the next ones (DeepCache: Ma, Fang & Wang 2024).

From step to step a U-Net's deep layers find nearly the same. A shallow call therefore takes what they found in an
earlier call, and computes the first convolution, the last layer on the way up, which joins the two, and the output.
That is the smallest of the branches of the paper's figure 3. When to do so is the caller's: on a fixed schedule of each
image's own.
"""

import threading
from typing import Any

import torch


class DeepCache:
    """Of one ``UNet2DConditionModel``, which may be called on several threads at once."""

    def __init__(self, unet: Any) -> None:
        self.unet = unet
        self._here = threading.local()
        self._last.register_forward_pre_hook(self._record)

    @property
    def _last(self) -> Any:
        """The last up-sampling layer; its inputs are the deep features and the first convolution's output."""
        return self.unet.up_blocks[-1].resnets[-1]

    def _record(self, _: Any, inputs: tuple[torch.Tensor, ...]) -> None:
        if not torch.compiler.is_compiling() and getattr(self._here, "wanted", False):  # no compiled call is full
            self._here.found = inputs[0][:, : -self.unet.conv_in.out_channels]

    def full(self, *inputs: torch.Tensor, **conditioning: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """A call of the whole U-Net: its output (rows, C, h, w) and its deep features (rows, F, h, w)."""
        self._here.wanted = True
        try:
            output = self.unet(*inputs, **conditioning, return_dict=False)[0]
            return output, self._here.found
        finally:
            self._here.__dict__.clear()

    def shallow(
        self,
        deep: torch.Tensor,
        sample: torch.Tensor,
        timesteps: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep_cond: torch.Tensor | None = None,
        added_cond_kwargs: dict[str, torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """The U-Net's output, (rows, C, h, w), if its deep layers computed ``deep``, (rows, F, h, w), again.

        The other arguments are the U-Net's. Where ``deep`` is of the same arguments, so is the result, to the bit.
        """
        unet, block, added = self.unet, self.unet.up_blocks[-1], added_cond_kwargs or {}
        if hook := getattr(unet, "_hf_hook", None):
            hook.pre_forward(unet)  # an offloaded model comes when it is called itself, not its parts
        time = unet.time_embedding(unet.get_time_embed(sample, timesteps), timestep_cond)
        beside = unet.get_aug_embed(time, encoder_hidden_states, added)
        time = time if beside is None else time + beside
        time = unet.time_embed_act(time) if unet.time_embed_act else time
        hidden = self._last(torch.cat([deep, unet.conv_in(sample)], 1), time)
        if getattr(block, "has_cross_attention", False):
            text = unet.process_encoder_hidden_states(encoder_hidden_states, added)
            hidden = block.attentions[-1](hidden, encoder_hidden_states=text, return_dict=False)[0]
        return torch.as_tensor(unet.conv_out(unet.conv_act(unet.conv_norm_out(hidden))))
