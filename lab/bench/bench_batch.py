"""Stylise a Folder of 100 photos against a loop of stock runs that hold the same sampling."""

from __future__ import annotations

import numpy as np
from PIL import Image

from .serving import Served, loaded, sampler, served

PHOTOS, SIDE, STEPS, DENOISE = 100, 64, 4, 0.8
SOURCE, TARGET = "a photo", "a photo in the style of <A*>"


def write_photos(at: Served) -> list[str]:
    folder = at.workspace.input / "batch"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        noise = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((SIDE, SIDE)).save(folder / f"photo_{number:03}.png")
    return sorted(path.name for path in folder.iterdir())


def batch(at: Served) -> dict:
    graph = loaded(at.stand_ins, [], SIDE, SIDE)
    graph["4"] = {
        "class_type": "AAI_LoadAudio",
        "inputs": {"audio": at.stand_ins.sound, "start": 0.0, "duration": 10.24},
    }
    graph["5"] = {"class_type": "AAI_LoadCAVT", "inputs": {"checkpoint": at.stand_ins.cavt}}
    inputs = {"cavt": ["5", 0], "audio": ["4", 0], "short_clip": "tile", "long_clip": "first", "level": "as_recorded"}
    graph["6"] = {"class_type": "AAI_CAVTEncode", "inputs": inputs}
    inputs = {"clip": ["1", 1], "audio_feature": ["6", 0], "audio_gain": 1.0, "vocabulary": at.stand_ins.vocabulary}
    graph["7"] = {"class_type": "AAI_WordFromSound", "inputs": inputs}
    inputs = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "audio_token": ["7", 0], "folder": "batch"}
    inputs |= {"output": "batch", "scales": "1", "plan_only": False, "source_prompt": SOURCE, "target_prompt": TARGET}
    inputs |= {"negative_prompt": "blurry", "method": "virtual", "cross_end": 0.6, "self_end": 0.25, "steps": STEPS}
    inputs |= {"cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": DENOISE, "seed": 0}
    graph["8"] = {"class_type": "AAI_BatchStylize", "inputs": {**inputs, "longest_side": SIDE}}
    return graph


def stock(at: Served, name: str, number: int) -> dict:
    """A photo through VAE and sampler twice, once for each prompt; the second picture is saved."""
    graph = loaded(at.stand_ins, [SOURCE, f"a photo in the style of a storm {number}"], SIDE, SIDE)
    graph["4"] = {"class_type": "LoadImage", "inputs": {"image": f"batch/{name}"}}
    graph["5"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["4", 0], "vae": ["1", 2]}}
    graph["6"] = sampler(["1", 0], ["10", 0], ["5", 0], number, STEPS, DENOISE)
    graph["7"] = sampler(["1", 0], ["11", 0], ["5", 0], number, STEPS, DENOISE)
    graph["8"] = {"class_type": "VAEDecode", "inputs": {"samples": ["7", 0], "vae": ["1", 2]}}
    graph["9"] = {"class_type": "SaveImage", "inputs": {"images": ["8", 0], "filename_prefix": "stock"}}
    graph["12"] = {"class_type": "PreviewAny", "inputs": {"source": ["6", 0]}}  # or the source would not be sampled
    return graph


def measure(version: str) -> dict:
    with served(version) as at:
        names = write_photos(at)
        warm = {**batch(at)}
        warm["8"] = {**warm["8"], "inputs": {**warm["8"]["inputs"], "plan_only": True}}
        at.seconds(warm)
        at.seconds(stock(at, names[0], 10_000))
        peer = sum(at.seconds(stock(at, name, number)) for number, name in enumerate(names))
        ours = at.seconds(batch(at))
    return {
        "title": f"batch: {PHOTOS} photos on ComfyUI {version}, {STEPS} steps, {SIDE} px",
        "columns": ["", "ours (s)", "stock runs (s)", "ratio"],
        "rows": [[f"{PHOTOS} photos", f"{ours:.1f}", f"{peer:.1f}", f"{ours / peer:.2f}"]],
        "goal": "at most 1.15 of the plain runs that it contains",
    }
