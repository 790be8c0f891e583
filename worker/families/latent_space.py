"""A model's VAE: pixels to latents and back, and what it made of a picture kept for requests that bring it again."""

from typing import Any, Literal

import torch
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.utils.torch_utils import randn_tensor

from jobs.errors import NotFinite
from worker.encodings import Encodings
from worker.families.base import Canvas, Pixels

Shown = Literal["image", "filled", "masked"]
"""A canvas's pictures that are encoded."""

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


class LatentSpace:
    """What every family does with its VAE; one whose VAE is of another kind says so in its own file."""

    name: str
    vae: Any
    device: torch.device
    dtype: torch.dtype
    """Of the network, and so of the latents."""
    latent_factor: int
    encodings: Encodings

    @property
    def latent_channels(self) -> int:
        return int(self.vae.config.latent_channels)

    def moments(self, image: torch.Tensor) -> torch.Tensor:
        """(1, 3, H, W), -1 to 1, to all that the VAE says of it, before anything is drawn.

        Returns:
            Mean and log variance of the latents, (1, 2 C, h, w); the latents, (1, C, h, w), of a VAE without doubt.
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
        decoded = self.decode(latents)
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

    def _encoded(self, shown: Shown, canvas: Canvas, generator: torch.Generator) -> torch.Tensor:
        """Latents of one of a canvas's pictures, (1, C, h, w): each seed draws its own from the same moments."""
        return self._drawn(self._moments(shown, canvas), generator)

    def _moments(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        image, hole = canvas.digests
        key = (shown, image) if shown == "image" else (shown, image, hole)
        return self.encodings.recall(key, lambda: self.moments(self._picture(shown, canvas)))

    def _settled(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        """The likeliest latents of one of a canvas's pictures, (1, C, h, w)."""
        return self.scaled(self._moments(shown, canvas).narrow(1, 0, self.latent_channels)).to(self.dtype)

    def _lost(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        """What a canvas's picture loses when its likeliest latents are decoded, (1, 3, H, W)."""
        return self.encodings.recall(
            ("lost", shown, *canvas.digests),
            lambda: self._picture(shown, canvas) - self.decode_finite(self._settled(shown, canvas)).float(),
        )

    def _drawn(self, moments: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        in_doubt = moments.shape[1] > self.latent_channels
        drawn = DiagonalGaussianDistribution(moments).sample(generator) if in_doubt else moments
        return self.scaled(drawn).to(self.dtype)

    def _picture(self, shown: Shown, canvas: Canvas) -> torch.Tensor:
        """What the VAE is shown of a canvas, (1, 3, H, W), -1 to 1; the hole of a masked image is 0."""
        picture = self._image(canvas.filled if shown == "filled" else canvas.image)
        return picture * (1 - torch.tensor(canvas.mask, device=self.device) / 255) if shown == "masked" else picture

    def _image(self, pixels: Pixels) -> torch.Tensor:
        """(H, W, 3), uint8, to (1, 3, H, W), -1 to 1."""
        return torch.tensor(pixels, device=self.device).permute(2, 0, 1)[None].float() / 127.5 - 1

    def _draw(self, canvas: Canvas, generator: torch.Generator) -> torch.Tensor:
        """Noise for one image, (1, C, h, w)."""
        height, width = (side // self.latent_factor for side in canvas.mask.shape)
        shape = (1, self.latent_channels, height, width)
        return torch.as_tensor(randn_tensor(shape, generator=generator, device=self.device, dtype=self.dtype))
