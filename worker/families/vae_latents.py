"""A model's VAE: pixels to latents and back, and its encodings of pictures, kept for requests that bring them again."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

from jobs.errors import NotFinite
from worker.denoise.modes import Shown
from worker.denoise.transfer import to_device
from worker.families.compiled_calls import CompiledCalls, grid_of
from worker.families.encodings import Encodings
from worker.pixels.canvas import Canvas, Pixels

LATENTS_NOT_FINITE = (
    "The picture of model {name!r} has come out as infinite or no numbers. Try it without adapters, or with smaller "
    "scales of theirs and of the guidance. If that does not help, {cure}."
)
CURES = {
    torch.float16: 'the model overflows in float16: give it dtype = "bfloat16" or "float32" in the catalog',
    torch.bfloat16: 'try the model with dtype = "float32" in the catalog',
}
PIXELS_NOT_FINITE = (
    "The VAE of model {name!r} makes infinite or no numbers of a finite picture, in float32 too: its weights are "
    "damaged or of another model. Give the model another VAE."
)


class VaeLatents:
    """What every family does with its VAE; one whose VAE is of another kind overrides it in its own file."""

    name: str
    vae: Any
    device: torch.device
    dtype: torch.dtype
    """Of the network, and so of the latents."""
    latent_factor: int
    encodings: Encodings
    compiled: CompiledCalls

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    @property
    def tile_px(self) -> float:
        if self.vae.use_tiling:
            return math.inf
        return float(getattr(self.vae, "tile_sample_min_size", 0) or self.vae.tile_sample_min_height)

    @contextmanager
    def tiled(self) -> Iterator[None]:
        """See ``Family``. Nothing encoded so is kept, and what was kept makes room."""
        self.encodings.clear()
        self.vae.enable_tiling()
        try:
            yield
        finally:
            self.vae.disable_tiling()
            self.encodings.clear()

    def moments(self, image: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W), -1 to 1, to what the VAE predicts of it, before anything is drawn.

        Returns:
            Mean and log variance of the latents, (1, 2 C, h, w); the latents, (1, C, h, w), of a deterministic VAE.
        """
        encoded = self.vae.encode(image.to(self.vae.dtype))
        return torch.as_tensor(encoded.latent_dist.parameters if "latent_dist" in encoded else encoded.latents)

    def scaled(self, drawn: torch.Tensor) -> torch.Tensor:
        """The VAE's own latents to ones of about unit variance, (1, C, h, w)."""
        shifted = drawn - (self.vae.config.get("shift_factor") or 0)
        return torch.as_tensor(shifted * self.vae.config.scaling_factor)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """(rows, C, h, w) to (rows, 3, H, W), -1 to 1."""
        unscaled = latents / self.vae.config.scaling_factor + (self.vae.config.get("shift_factor") or 0)
        return torch.as_tensor(self.vae.decode(unscaled.to(self.vae.dtype), return_dict=False)[0])

    def decode_finite(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode; in float32 where a VAE of half precision overflows.

        Nothing is waited for but the decoding itself: whether the latents are finite is read after it.

        Raises:
            NotFinite: the latents are not, or the pixels are not even then.
        """
        given = latents.isfinite().all()
        decoded = self._decoded(latents)
        if (given & decoded.isfinite().all()).item():
            return decoded
        if not given.item():
            cure = CURES.get(self.dtype, "the model's weights are damaged")
            raise NotFinite(LATENTS_NOT_FINITE.format(name=self.name, cure=cure))
        if self.vae.dtype != torch.float32:
            decoded = self._decode_in_float32(latents)
            if decoded.isfinite().all().item():
                return decoded
        raise NotFinite(PIXELS_NOT_FINITE.format(name=self.name))

    def _decoded(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode by the compiled decoder where there is one, one image at a time. Tiles are none of its shapes."""
        decode = self.compiled.decode
        if decode is None or grid_of(latents) not in self.compiled.decoded:
            return self.decode(latents)
        return torch.cat([decode(row.contiguous()) for row in latents.split(1)])

    def _decode_in_float32(self, latents: torch.Tensor) -> torch.Tensor:
        """The VAE's weights in float32 for one call: from half precision and back, they lose nothing."""
        dtype = self.vae.dtype
        self._cast_vae(torch.float32)
        try:
            return self.decode(latents)
        finally:
            self._cast_vae(dtype)

    def _cast_vae(self, dtype: torch.dtype) -> None:
        with torch.inference_mode(False):  # weights cast inside could never again be used outside
            self.vae.to(dtype)

    def encode(self, image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """(1, 3, H, W), -1 to 1, to latents of about unit variance, (1, C, h, w)."""
        return self._drawn(self.moments(image), generator)

    def encoded(self, shown: Shown, canvas: Canvas, generator: torch.Generator) -> torch.Tensor:
        """Latents of one of a canvas's pictures, (1, C, h, w): each seed draws its own from the same moments."""
        return self._drawn(self._moments(shown, canvas), generator)

    def _moments(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        image, hole = canvas.digests
        key = (shown, image) if shown == "image" else (shown, image, hole)
        return self.encodings.recall(key, lambda: self.moments(self._picture(shown, canvas)))

    def likeliest(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        """The likeliest latents of one of a canvas's pictures, (1, C, h, w)."""
        return self.scaled(self._moments(shown, canvas).narrow(1, 0, self.latent_channels)).to(self.dtype)

    def decoding_error(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        """A canvas's picture minus its decoded likeliest latents, (1, 3, H, W)."""
        return self.encodings.recall(
            ("lost", shown, *canvas.digests),
            lambda: self._picture(shown, canvas) - self.decode_finite(self.likeliest(shown, canvas)).float(),
        )

    def _drawn(self, moments: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        if moments.shape[1] > self.latent_channels:
            posterior = DiagonalGaussianDistribution(moments)
            noise = torch.randn(posterior.mean.shape, generator=generator, dtype=moments.dtype)
            moments = posterior.mean + posterior.std * to_device(noise, self.device)
        return self.scaled(moments).to(self.dtype)

    def _picture(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        """The picture that the VAE encodes, (1, 3, H, W), -1 to 1; the hole of a masked image is 0."""
        picture = self._image(canvas.filled if shown == "filled" else canvas.image)
        return picture * (1 - self.uploaded(canvas.mask) / 255) if shown == "masked" else picture

    def uploaded(self, pixels: Pixels) -> torch.Tensor:
        """An array on the device."""
        return to_device(torch.tensor(pixels), self.device)

    def _image(self, pixels: Pixels) -> torch.Tensor:
        """(H, W, 3), uint8, to (1, 3, H, W), -1 to 1."""
        return self.uploaded(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1

    def draw(self, canvas: Canvas, generator: torch.Generator) -> torch.Tensor:
        """Noise for one image, (1, C, h, w)."""
        height, width = (side // self.latent_factor for side in canvas.mask.shape)
        shape = (1, self.latent_channels, height, width)
        return to_device(torch.randn(shape, generator=generator, dtype=self.dtype), self.device)
