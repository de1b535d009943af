"""A photo as the source of an edit (direct and virtual inversion, and DDIM inversion as a baseline)."""

from __future__ import annotations

import bisect
from dataclasses import dataclass

import comfy.model_management as mm
import comfy.samplers
import torch
from torch import Tensor

from ....aai_models.errors import EditError

METHODS = ("virtual", "direct", "ddim")
PHOTO_KEY = "aai_photo"  # on the source's conditioning: its `Photo`


@dataclass(frozen=True, eq=False)
class Photo:
    """How a photo takes the place of a generated source."""

    method: str  # one of METHODS
    latent: Tensor | None = None  # (B, C, h, w) as the VAE gave it, for runs that go on from a noisy latent

    def __post_init__(self):
        if self.method not in METHODS:
            raise EditError(
                f"The photo's method is {self.method!r}", f"It must be one of {', '.join(METHODS)}", "Choose one"
            )


def make_photo_source(photo: Photo | None) -> PhotoSource | None:
    """The source that a conditioning's tag asks for."""
    return None if photo is None else PhotoSource(photo)


class PhotoSource:
    """Makes the source's run end at a photo.

    virtual: the model's answer is replaced by the photo itself, at every call. direct: by what leads along the photo's own
    DDIM inversion (teacher forcing). In both the edit gets the same correction, so that an unedited prompt gives the photo.
    ddim: the run only starts where the inversion ends.
    """

    def __init__(self, photo: Photo):
        self.forces = photo.method != "ddim"
        self._inverts = photo.method != "virtual"
        self._given = photo.latent
        self._goes_on = False
        self._photo: Tensor | None = None
        self._noise: Tensor | None = None
        self._path: list[tuple[float, Tensor]] = []  # (sigma, latent), rising

    def prepare(
        self, guider, source: list[dict], sigmas: Tensor, extra_args: dict, noise: Tensor, photo: Tensor
    ) -> None:
        """Called before the source's run with the photo's latent as the model sees it.

        A run without noise of its own goes on from a latent that another run left noisy: the photo is then the one that
        the conditioning came with, and the start stays as it is.
        """
        self._goes_on = self._given is not None and self._given.shape == photo.shape and not bool(noise.any())
        self._photo = guider.inner_model.process_latent_in(self._given).to(photo) if self._goes_on else photo.clone()
        self._noise = noise
        if self._inverts:
            self._path = invert(guider, source, sigmas, extra_args, self._photo)
            sampling = guider.inner_model.model_sampling
            if not self._goes_on:
                self._noise = noise_that_starts_at(sampling, sigmas, self._path[-1][1], self._photo)

    def starting_noise(self, noise: Tensor) -> Tensor:
        """The noise that every branch starts from."""
        return self._noise.to(noise) if self._inverts and not self._goes_on else noise

    def latent(self, sampled: Tensor) -> Tensor:
        """The photo's own latent, of a run that was given the latent `sampled`."""
        return self._given if self._goes_on else sampled

    def denoised(self, sigma: float) -> Tensor:
        """What the source's model is made to answer."""
        if not self._inverts:
            return self._photo
        index = bisect.bisect_left([s for s, _ in self._path], sigma * (1 - 1e-5))
        index = min(index, len(self._path) - 1)
        if index <= 1:
            return self._photo
        (low, before), (high, here) = self._path[index - 1], self._path[index]
        return here - high * (here - before) / (high - low)


def invert(guider, source: list[dict], sigmas: Tensor, extra_args: dict, photo: Tensor) -> list[tuple[float, Tensor]]:
    """DDIM inversion: the ODE of the source's prompt without guidance from the photo up to the first sigma."""
    options = extra_args["model_options"]
    x, path, last = photo, [(0.0, photo)], 0.0
    for sigma in sorted({float(s) for s in sigmas if s > 0}):
        mm.throw_exception_if_processing_interrupted()
        timestep = torch.full((x.shape[0],), sigma, device=x.device, dtype=torch.float32)
        (denoised,) = comfy.samplers.calc_cond_batch(guider.inner_model, [source], x, timestep, options)
        x = x + (sigma - last) * (x - denoised) / sigma
        path.append((sigma, x))
        last = sigma
    return path


def noise_that_starts_at(sampling, sigmas: Tensor, start: Tensor, photo: Tensor) -> Tensor:
    """The noise from which the host's sampler begins at the latent `start`."""
    most = float(sampling.sigma_max)
    is_most = abs(most - float(sigmas[0])) <= 1e-5 * most or float(sigmas[0]) > most
    ones = torch.ones_like(photo)
    shift = sampling.noise_scaling(sigmas[0], torch.zeros_like(photo), photo, is_most)
    scale = sampling.noise_scaling(sigmas[0], ones, torch.zeros_like(photo), is_most)
    return (start - shift) / scale


def tagged(prompt: list, method: str, latent: Tensor | None = None) -> list:
    """The conditioning as the source of an edit that begins from a photo."""
    photo = Photo(method, latent)
    return [[cond, {**extra, PHOTO_KEY: photo}] for cond, extra in prompt]


def encode_photo(vae, image: Tensor) -> Tensor:
    """IMAGE (B, H, W, C), any channels -> latents; sides are cut to multiples of 8, grey becomes colour, alpha is dropped."""
    height, width = (side // 8 * 8 for side in image.shape[1:3])
    if not height or not width:
        raise EditError(
            f"The photo is {image.shape[2]} x {image.shape[1]}", "A photo must have at least 8 x 8 pixels", "Enlarge it"
        )
    if not bool(torch.isfinite(image).all()):
        raise EditError("The photo contains NaN or infinity", "Pixels must lie between 0 and 1", "Replace it")
    colour = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].expand(*image.shape[:-1], 3)
    top, left = (image.shape[1] - height) // 2, (image.shape[2] - width) // 2
    return vae.encode(colour[:, top : top + height, left : left + width].clamp(0.0, 1.0))
