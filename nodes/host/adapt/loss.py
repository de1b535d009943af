"""Eq. 6 on the host's frozen models."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import comfy.model_sampling
import latent_preview
import torch
import torch.utils.checkpoint
from PIL import Image
from torch import Tensor

from ....aai_models.adapt.objective import NoisySample, diffusion_loss
from ....aai_models.inject.words import replace_words
from ..base.prompt_words import spell, with_words
from .autograd import pytorch_attention
from .frozen import FrozenModels

GUIDANCE = 5.0
REMEMBERED = 32  # encoded prompts, as many as there are neutral sentences


class DiffusionLoss:
    """Eq. 6 on the host's models: vectors of A* and a noisy sample in, a scalar with gradients out."""

    def __init__(self, models: FrozenModels):
        self.models, diffusion = models, models.diffusion
        self._model, self._device = diffusion.model, models.device
        sampling = self._model.model_sampling
        self._flow = isinstance(sampling, comfy.model_sampling.CONST)
        self._options = {**diffusion.model_options.get("transformer_options", {})}
        self._options["optimized_attention_override"] = pytorch_attention
        self._known: list[tuple[list[Tensor], str, tuple[Tensor, Tensor | None]]] = []  # rows, prompt, what they gave

    def __call__(self, vectors: dict[str, Tensor], sample: NoisySample) -> Tensor:
        names = ("latents", "noise", "sigmas", "mask")
        moved = {n: t.to(self._device) for n in names if (t := getattr(sample, n)) is not None}
        sample = replace(sample, **moved)
        noisy = self._model.model_sampling.noise_scaling(sample.sigmas, sample.noise.clone(), sample.latents)
        denoised = self.denoise(vectors, sample.prompt, noisy, sample.sigmas)
        return diffusion_loss(noisy, denoised, sample, flow=self._flow)

    def denoise(self, vectors: dict[str, Tensor], prompt: str, noisy: Tensor, sigmas: Tensor) -> Tensor:
        """The model's estimate of x_0 for a prompt with A*; `noisy` (B, C, H, W), `sigmas` (B,), on the model's device.

        Where no gradient is asked for, the same vectors and prompt are encoded once.
        """
        conditions = self._conditions(*self._encoded(vectors, prompt), noisy)
        options = {**self._options, "sigmas": sigmas}
        return self._model.apply_model(noisy, sigmas, transformer_options=options, **conditions)

    def _encoded(self, vectors: dict[str, Tensor], prompt: str) -> tuple[Tensor, Tensor | None]:
        if torch.is_grad_enabled():
            self._known.clear()
            return self._encode(vectors, prompt)
        rows = [vectors[key] for key in sorted(vectors)]
        for known_rows, known_prompt, found in self._known:
            if known_prompt == prompt and all(a is b for a, b in zip(rows, known_rows, strict=True)):
                return found
        self._known.append((rows, prompt, self._encode(vectors, prompt)))
        del self._known[:-REMEMBERED]
        return self._known[-1][2]

    def _encode(self, vectors: dict[str, Tensor], prompt: str) -> tuple[Tensor, Tensor | None]:
        def encode(*rows: Tensor) -> tuple[Tensor, Tensor | None]:
            self.models.text_ready()
            table = dict(zip(vectors, rows, strict=True))
            tokens = with_words(self.models.clip, {1: table}).tokenize(replace_words(prompt, spell))
            # Not clip.encode_from_tokens: that would load the text encoder anew in each step and may evict the UNet.
            return self.models.encoder.encode_token_weights(tokens)[:2]

        if not self.models.releases_text:
            return encode(*vectors.values())
        # As a whole it is computed again on the way back: nothing of it stays while the diffusion model works.
        found = torch.utils.checkpoint.checkpoint(
            encode, *vectors.values(), use_reentrant=False, preserve_rng_state=False
        )
        self.models.text_released()
        return found

    def _conditions(self, cond: Tensor, pooled: Tensor | None, noisy: Tensor) -> dict:
        height, width = noisy.shape[-2:]
        prepared = self._model.extra_conds(
            cross_attn=cond.to(self._device),
            pooled_output=None if pooled is None else pooled.to(self._device),
            noise=noisy,
            device=self._device,
            width=8 * width,
            height=8 * height,
            prompt_type="positive",
        )
        return {key: c.process_cond(batch_size=noisy.shape[0], area=None).cond for key, c in prepared.items()}

    @torch.no_grad()
    def draw(self, vectors: dict[str, Tensor], prompt: str, shape, settings) -> Tensor:
        """A latent (1, C, h, w) of a prompt with A*, on the CPU: Euler steps with guidance from a noise that is fixed.

        `shape` (C, h, w); `settings` has `steps` and the run's `config`.
        """
        sampling = self._model.model_sampling
        levels = torch.linspace(len(sampling.sigmas) - 1, 0, settings.steps).round().long()
        sigmas = [*sampling.sigmas.detach().float().cpu()[levels].tolist(), 0.0]
        generator = torch.Generator().manual_seed(settings.config.seed)
        noise = torch.randn(1, *shape, generator=generator).to(self._device)
        first = torch.tensor([sigmas[0]], device=self._device)
        x = sampling.noise_scaling(first, noise, torch.zeros_like(noise), max_denoise=True)
        for now, after in pairwise(sigmas):
            sigma = torch.tensor([now], device=self._device)
            plain = self.denoise(vectors, "", x, sigma)
            denoised = plain + GUIDANCE * (self.denoise(vectors, prompt, x, sigma) - plain)
            x = x + (after - now) * (x - denoised) / now
        return x.float().cpu()

    def quick_look(self, latent: Tensor) -> Image.Image:
        """A latent (1, C, h, w) as a small picture, without the VAE."""
        space = self._model.latent_format
        factors, bias = space.latent_rgb_factors, getattr(space, "latent_rgb_factors_bias", None)
        previewer = latent_preview.Latent2RGBPreviewer(factors, bias)
        with torch.no_grad():
            return previewer.decode_latent_to_preview(latent)
