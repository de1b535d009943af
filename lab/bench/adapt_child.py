"""One side of the benchmark of Adapt in a process of its own, so that its memory can be told: prints a line of JSON.

    python adapt_child.py ours|peer|overhead|modules ARGUMENTS_AS_JSON

The working folder is a ComfyUI tree. Memory is the peak of the resident set over what it was before training; on a GPU it
is the peak of what PyTorch allocated there, with the weights.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import sys
import time
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ON_GPU = os.environ.get("AAI_DEVICE", "cpu") != "cpu"  # as devtools/device.py says it
STEPS, SIDE = (24, 512) if ON_GPU else (8, 256)


def boot(folder: str) -> None:
    """ComfyUI without a server, and the pack as `aai_pack`."""
    sys.path.insert(0, str(Path.cwd()))
    spec = importlib.util.spec_from_file_location(
        "aai_pack", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    sys.modules["aai_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["aai_pack"])
    importlib.import_module("aai_pack.devtools.in_process").boot(Path(folder))


def clock() -> float:
    """Seconds of the processor; on a GPU those of the wall, once it has done all that it was given."""
    if not ON_GPU:
        return time.process_time()
    import torch

    torch.cuda.synchronize()
    return time.perf_counter()


class PeakOnGPU:
    """Peak of what PyTorch allocated since `start`, in bytes."""

    def start(self) -> None:
        import comfy.model_management as mm
        import torch

        mm.unload_all_models()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()

    def stop(self) -> int:
        import torch

        return torch.cuda.max_memory_allocated()


class Peak:
    """Peak of the resident set since `start`, in bytes above what it was then; Linux."""

    def start(self) -> None:
        import gc

        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
        self._before = self._read("VmRSS")

    def stop(self) -> int:
        return self._read("VmHWM") - self._before

    @staticmethod
    def _read(name: str) -> int:
        (line,) = (s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith(f"{name}:"))
        return 1024 * int(line.split()[1])


def references(side: int = SIDE, count: int = 5):
    """Drawings of a bright thing on dark ground, each (1, side, side, 3)."""
    import torch

    generator = torch.Generator().manual_seed(5)
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    pictures = []
    for _ in range(count):
        centre = 0.6 * torch.rand(2, generator=generator) - 0.3
        glow = torch.exp(-8 * ((x - centre[0]) ** 2 + (y - centre[1]) ** 2))
        pictures.append((glow[..., None] * torch.tensor([1.0, 0.8, 0.4]) + 0.08).clamp(0, 1)[None])
    return pictures


def train(models, seconds: list | None = None, options=None, **settings):
    """One training of the pack; `seconds` takes the processor's time at each step."""
    import comfy.utils
    import torch
    from aai_pack.aai_models.adapt.config import from_preset
    from aai_pack.nodes.host.adapt import training

    if seconds is not None:
        comfy.utils.set_progress_bar_global_hook(lambda *_, **__: seconds.append(clock()))
    sound = torch.nn.functional.normalize(torch.randn(1, 768, generator=torch.Generator().manual_seed(1)), dim=-1)
    pictures = settings.pop("pictures", None) or references(settings["resolution"])
    with torch.inference_mode():
        config = from_preset(settings.pop("preset", "as_set"), **settings)
        return training.train(*models, sound, [pictures], config, options=options)


def ours(_) -> dict:
    from adapt_models import build

    models, moments, peak = build(), [], (PeakOnGPU if ON_GPU else Peak)()
    peak.start()
    done = train(models, moments, steps=STEPS + 1, resolution=SIDE, evaluate_every=10**6, held_out=1)
    return {"step": statistics.median(between(moments)[-STEPS:]), "peak": peak.stop(), "loss": done.losses[-1]}


def between(moments: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(moments)]


def peer(_) -> dict:
    """The loop of diffusers' examples/textual_inversion/textual_inversion.py with latents made before (which it does
    not do, and which spares it a pass of the VAE in each step)."""
    from adapt_models import build

    models = build()
    unet, text, latents, tokens = as_peer(models, SIDE)
    same = agreement(*models[:2], unet, text, tokens)
    del models
    peak, seconds = (PeakOnGPU if ON_GPU else Peak)(), []
    peak.start()
    loss = textual_inversion(unet, text, latents, tokens, STEPS + 1, lambda: seconds.append(clock()))
    return {"step": statistics.median(between(seconds)), "peak": peak.stop(), "loss": loss, "same": same}


def as_peer(models, side: int):
    """What diffusers' loop takes: (UNet, text encoder, latents of the references, tokens of a prompt)."""
    import torch
    from adapt_models import as_diffusers

    model, clip, vae = models
    with torch.inference_mode():
        latents = torch.cat([model.model.process_latent_in(vae.encode(p)) for p in references(side)])
        tokens = [entry[0] for entry in clip.tokenize("a photo of")["l"][0]]
    return *as_diffusers(model, clip), latents.clone(), tokens


def textual_inversion(unet, text, latents, tokens: list[int], steps: int, after_step) -> float:
    """diffusers' loop with a new word before the end of the prompt; the last loss."""
    import comfy.model_management as mm
    import torch
    import torch.nn.functional as F
    from diffusers import DDPMScheduler

    device, end = mm.get_torch_device(), tokens.index(49407)
    ids = torch.tensor([[*tokens[:end], 49408, *tokens[end:]][:77]])
    scheduler = DDPMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000
    )
    text.resize_token_embeddings(49409, mean_resizing=False)
    unet, text, latents, ids = (x.to(device) for x in (unet, text.float(), latents.float(), ids))
    rows = text.get_input_embeddings().weight
    unet.requires_grad_(False), text.requires_grad_(False)
    rows.requires_grad_(True)
    text.train()
    optimizer = torch.optim.AdamW([rows], lr=5e-4, betas=(0.9, 0.999), weight_decay=1e-2, eps=1e-8)
    original, others = rows.data.clone(), torch.arange(49409, device=device) != 49408
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        z = latents[torch.randint(0, len(latents), (1,), generator=generator).to(device)]
        noise = torch.randn(z.shape, generator=generator).to(device)
        t = torch.randint(0, 1000, (1,), generator=generator).to(device)
        noisy = scheduler.add_noise(z, noise, t)
        # As its command with --mixed_precision fp16: frozen weights of half precision, the text encoder's of full.
        with torch.autocast(device.type, torch.float16, enabled=ON_GPU):
            predicted = unet(noisy, t, text(ids)[0]).sample
        loss = F.mse_loss(predicted.float(), noise)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            rows[others] = original[others]
        after_step()
    return float(loss.detach())


def agreement(model, clip, unet, text, tokens) -> float:
    """Largest difference of the two sides' noise predictions for a prompt, relative to their size."""
    import comfy.model_management as mm
    import torch

    device, dtype = mm.get_torch_device(), next(unet.parameters()).dtype
    generator = torch.Generator().manual_seed(3)
    x, t = torch.randn(1, 4, 32, 32, generator=generator).to(device, dtype), torch.tensor([500], device=device)
    with torch.inference_mode():
        told = clip.encode_from_tokens(clip.tokenize("a photo of")).to(device, dtype)
        mm.load_models_gpu([model])
        mine = model.model.diffusion_model(x, t, told).float()
        told = text(torch.tensor([tokens]))[0].to(device, dtype)
        theirs = unet.to(device)(x, t, told).sample.float()
        unet.cpu()
    return float((mine - theirs).abs().max() / theirs.abs().max())


def overhead(_) -> dict:
    """Seconds of a step, and of each thing that watches or keeps a training."""
    from aai_pack.aai_models.adapt.trainer import AdapterTrainer
    from aai_pack.nodes.host.adapt.loss import DiffusionLoss
    from aai_pack.nodes.host.adapt.preview import Options
    from aai_pack.nodes.host.adapt.run_files import RunFiles
    from adapt_models import build

    found: dict[str, list[float]] = {"step": [], "look": [], "checkpoint": [], "preview": []}
    for owner, method, name in (
        (AdapterTrainer, "_train_one_step", "step"),
        (AdapterTrainer, "_look", "look"),
        (RunFiles, "save", "checkpoint"),
        (DiffusionLoss, "draw", "preview"),
    ):
        setattr(owner, method, timed(getattr(owner, method), found[name]))
    options = Options(checkpoint_every=2, preview_every=3)
    train(build(), None, options, steps=STEPS, resolution=SIDE, evaluate_every=3)
    return {name: statistics.median(seconds[1:]) for name, seconds in found.items()}


def modules(_) -> dict:
    """Seconds of a step on latents of 8 x 8, where the host's and our own work weighs most, and of what cannot be spared:
    the forward and backward of the same modules, called by hand with the same shapes."""
    import torch
    from aai_pack.aai_models.adapt.trainer import AdapterTrainer
    from aai_pack.nodes.host.adapt.autograd import pytorch_attention
    from aai_pack.nodes.host.adapt.frozen import frozen
    from adapt_models import build

    models, steps, alone = build(), [], []
    AdapterTrainer._train_one_step = timed(AdapterTrainer._train_one_step, steps)
    train(models, steps=3 * STEPS, resolution=64, evaluate_every=10**6, held_out=1)
    with frozen(*models[:2]) as whole:
        text, device = whole.encoder.clip_l.transformer, whole.device
        options = {"optimized_attention_override": pytorch_attention}
        x, t = torch.randn(1, 4, 8, 8, device=device), torch.tensor([500.0], device=device)
        x = x.to(whole.diffusion.model.get_dtype())

        def by_hand() -> None:
            rows = torch.randn(1, 77, 768, device=device, requires_grad=True)
            states = text(None, embeds=rows, num_tokens=[77], dtype=torch.float32)[0]
            whole.network(x, t, states.to(x.dtype), transformer_options=options).square().mean().backward()

        by_hand = timed(by_hand, alone)
        for _ in range(3 * STEPS):
            by_hand()
    return {"step": statistics.median(steps[2:]), "modules": statistics.median(alone[2:])}


def timed(function, seconds: list[float]):
    """`function`, which adds the time of each call to `seconds`."""

    def run(*args, **kwargs):
        started = clock()
        try:
            return function(*args, **kwargs)
        finally:
            seconds.append(clock() - started)

    return run


def answer(*commands) -> None:
    """The command that the arguments name, in a ComfyUI; prints its result as the last line."""
    command, arguments = sys.argv[1], json.loads(sys.argv[2])
    boot(arguments["folder"])
    print("\n" + json.dumps({f.__name__: f for f in commands}[command](arguments)))


if __name__ == "__main__":
    answer(ours, peer, overhead, modules)
