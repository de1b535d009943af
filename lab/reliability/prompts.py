"""Graphs that the runs send: every example, so small that it takes a fraction of a second, and an ordinary workflow."""

from __future__ import annotations

import copy
import random

from ...devtools import workflows

SIDE, STEPS = 64, 2  # of every picture: its pixels and its sampler's steps
TRAINING = {"steps": 3, "batch_size": 1, "resolution": SIDE, "preview_every": 0, "words": "cat, mosaic"}
SMALL = {
    "AAI_TrainAudioToken": TRAINING,
    "EmptyLatentImage": {"width": SIDE, "height": SIDE, "batch_size": 1},
    "KSampler": {"steps": STEPS},
    "AAI_BatchStylize": {"steps": STEPS, "scales": "1", "longest_side": SIDE},
    "AAI_WordFromSound": {"vocabulary": 300},
    "AAI_LoudnessSweep": {"count": 2},
    "AAI_PocketScene": {"count": 1},
    "AAI_PocketSound": {"seconds": 0.64},
    "AAI_LoudnessCurve": {"frames": 2},
}
THINGS = ("rooster", "dog", "cat", "fire", "bell", "train", "bird", "clock", "drum", "rain")


def examples() -> dict[str, dict]:
    """Name -> graph of each example on the pocket models, small."""
    return {name: example(name) for name in workflows.names()}


def example(name: str) -> dict:
    return smaller(workflows.load_api(name))


def smaller(graph: dict) -> dict:
    """The same graph with the fewest steps and the smallest pictures."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        node["inputs"].update(SMALL.get(node["class_type"], {}))
    return graph


def varied(graph: dict, rng: random.Random) -> dict:
    """The same graph with other seeds, so that nothing comes from the host's cache; what it saves, it saves over."""
    graph = copy.deepcopy(graph)
    for node in graph.values():
        inputs = node["inputs"]
        if isinstance(inputs.get("seed"), int):
            inputs["seed"] = rng.randrange(2**31)
        if node["class_type"] == "AAI_PocketSound":
            inputs["thing"] = rng.choice(THINGS)
        elif node["class_type"] == "AAI_SaveAudioToken":
            inputs["if_exists"] = "replace"
    return graph


def ordinary(seed: int = 7) -> dict:
    """A workflow of ComfyUI's own nodes on the pocket models; node 6 saves its latent."""
    return {
        "1": {"class_type": "AAI_PocketModels", "inputs": {}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "a photo of a dog on a beach"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": ""}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": SIDE, "height": SIDE, "batch_size": 2}},
        "5": _sampled(["1", 0], ["2", 0], ["4", 0], "euler_ancestral", seed),
        "6": {"class_type": "SaveLatent", "inputs": {"samples": ["5", 0], "filename_prefix": "ordinary"}},
    }


def picture(text: str) -> dict:
    """The picture of a prompt; node 9 saves its latent."""
    return {**_begun(text), "8": _sampled(["1", 0], ["2", 0], ["4", 0]), "9": _saved_latent()}


def edited(source: str, target: str, windows: float) -> dict:
    """A picture and its edit, whose attention is injected for that share of the steps; node 9 saves their latents."""
    inputs = {"model": ["1", 0], "source": ["2", 0], "target": ["5", 0], "latent": ["4", 0], "memory": "auto"}
    inputs |= {"cross_end": windows, "self_end": windows, "controller": "AttentionRefine"}
    return {
        **_begun(source),
        "5": _prompt(target),
        "6": {"class_type": "AAI_P2PAttentionInject", "inputs": inputs},
        "8": _sampled(["6", 0], ["6", 1], ["6", 2]),
        "9": _saved_latent(),
    }


def _begun(text: str) -> dict:
    """The pocket models (node 1), a prompt (2), an empty one (3), an empty picture (4)."""
    return {
        "1": {"class_type": "AAI_PocketModels", "inputs": {}},
        "2": _prompt(text),
        "3": _prompt(""),
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": SIDE, "height": SIDE, "batch_size": 1}},
    }


def _prompt(text: str) -> dict:
    return {"class_type": "AAI_AudioTokenConditioning", "inputs": {"clip": ["1", 1], "text": text}}


def _sampled(model: list, positive: list, latent: list, sampler: str = "euler", seed: int = 7) -> dict:
    inputs = {"model": model, "positive": positive, "negative": ["3", 0], "latent_image": latent, "seed": seed}
    inputs |= {"steps": 3, "cfg": 5.0, "sampler_name": sampler, "scheduler": "normal", "denoise": 1.0}
    return {"class_type": "KSampler", "inputs": inputs}


def _saved_latent() -> dict:
    return {"class_type": "SaveLatent", "inputs": {"samples": ["8", 0], "filename_prefix": "edit"}}


def training(steps: int, seed: int = 0, name: str = "trained") -> dict:
    """A sound, a picture, a training (node 5), its word saved (node 6)."""
    graph = heard("rooster")
    graph["4"] = _scene("rooster", 1)
    inputs = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "audio_feature": ["3", 0], "references": ["4", 0]}
    inputs |= {**TRAINING, "steps": steps, "seed": seed, "learning_rate": 0.02, "prompt": "a photo of a <A*>"}
    graph["5"] = {"class_type": "AAI_TrainAudioToken", "inputs": inputs}
    graph["6"] = saved(["5", 0], name)
    return graph


def heard(thing: str) -> dict:
    """The pocket models (node 1), a sound (2) and its feature (3)."""
    sound = {"thing": thing, "loudness": 0.7, "seed": 1, "seconds": 0.64}
    feature = {"cavt": ["1", 3], "audio": ["2", 0], "short_clip": "tile", "long_clip": "first", "level": "as_recorded"}
    return {
        "1": {"class_type": "AAI_PocketModels", "inputs": {}},
        "2": {"class_type": "AAI_PocketSound", "inputs": sound},
        "3": {"class_type": "AAI_CAVTEncode", "inputs": feature},
    }


def bridged(thing: str, vocabulary: int = 300) -> dict:
    """A word without training: node 4, after the sound."""
    graph = heard(thing)
    inputs = {"clip": ["1", 1], "audio_feature": ["3", 0], "audio_gain": 1.0, "vocabulary": vocabulary}
    graph["4"] = {"class_type": "AAI_WordFromSound", "inputs": {**inputs, "bridge": "ridge", "nearest_words": 1.0}}
    return graph


def saved(word: list, name: str) -> dict:
    inputs = {"audio_token": word, "name": name, "if_exists": "replace"}
    return {"class_type": "AAI_SaveAudioToken", "inputs": inputs}


def saves(count: int) -> dict:
    """One word under `count` names: nodes 20, 21, ..."""
    return bridged("dog") | {f"2{number}": saved(["4", 0], f"saved-{number}") for number in range(count)}


def batch(folder: str, output: str) -> dict:
    """A folder of photos in the style of a sound (node 8)."""
    graph = bridged("bell")
    inputs = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2], "audio_token": ["4", 0], "folder": folder}
    inputs |= {"output": output, "scales": "1", "plan_only": False, "source_prompt": "a picture of a thing"}
    inputs |= {"target_prompt": "a picture of a thing in the style of a <A*>", "negative_prompt": ""}
    inputs |= {"method": "virtual", "cross_end": 0.6, "self_end": 0.25, "steps": STEPS, "cfg": 5.0, "seed": 0}
    inputs |= {"sampler_name": "euler", "scheduler": "normal", "denoise": 0.8, "longest_side": SIDE}
    graph["8"] = {"class_type": "AAI_BatchStylize", "inputs": inputs}
    graph["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 0]}}
    return graph


def finds(folder: str, seed: int = 1) -> dict:
    """Pictures of a folder for a sound: builds the folder's library (node 8)."""
    graph = heard("dog")
    graph["2"]["inputs"]["seed"] = seed
    inputs = {"cavt": ["1", 3], "audio_feature": ["3", 0], "folder": folder, "k": 2, "minimum_similarity": -1.0}
    graph["8"] = {"class_type": "AAI_RetrieveImages", "inputs": {**inputs, "one_per_source": True}}
    graph["9"] = {"class_type": "PreviewImage", "inputs": {"images": ["8", 1]}}
    return graph


def _scene(thing: str, seed: int) -> dict:
    inputs = {"thing": thing, "place": "beach", "colour": "red", "style": "photo", "loudness": 0.6, "seed": seed}
    return {"class_type": "AAI_PocketScene", "inputs": {**inputs, "count": 1, "side": "middle", "second": "nothing"}}
