"""The workflows of a comparison, in ComfyUI's API format: what differs between two methods is the word alone."""

from __future__ import annotations

import copy

from .plan import ADAPTER, INVERSION, PLACE, UNTRAINED, WORD, Plan, Sound

A_STAR = "<A*>"
MODES = {INVERSION: "adapter_only", ADAPTER: "sound_and_adapter"}
# The keys that nodes have in every graph, so that ComfyUI keeps what two graphs share.
MODELS, ENCODER, SOUND, FEATURE, TOKEN, PICTURE = "models", "encoder", "sound", "feature", "word", "picture"
HELD_OUT = "held_out"


def picture_graph(plan: Plan, sound: Sound, kind: str, prompt: int, seed: int, files: dict[str, str]) -> dict:
    """The graph of one picture. `files`: names in the plan -> names in ComfyUI's input folder; numbers count from 0."""
    graph = _models(plan)
    text = plan.prompts[prompt]
    if kind == WORD:
        inputs = {"clip": [MODELS, 1], "text": text.replace(PLACE, sound.word)}
        graph["positive"] = _node("CLIPTextEncode", inputs)
    else:
        graph |= _token(plan, sound, kind, files)
        inputs = {"clip": [MODELS, 1], "text": text.replace(PLACE, A_STAR), "audio_token": [TOKEN, 0]}
        graph["positive"] = _node("AAI_AudioTokenConditioning", inputs)
    width, height = plan.size
    graph["negative"] = _node("CLIPTextEncode", {"clip": [MODELS, 1], "text": plan.negative})
    graph["latent"] = _node("EmptyLatentImage", {"width": width, "height": height, "batch_size": 1})
    wires = {
        "model": [MODELS, 0],
        "positive": ["positive", 0],
        "negative": ["negative", 0],
        "latent_image": ["latent", 0],
    }
    settings = {"seed": plan.seeds[seed], "denoise": 1.0, **plan.sampler}
    graph["sampler"] = _node("KSampler", {**wires, **settings})
    graph["decoded"] = _node("VAEDecode", {"samples": ["sampler", 0], "vae": [MODELS, 2]})
    graph[PICTURE] = _node("PreviewImage", {"images": ["decoded", 0]})
    return graph


def material_graph(sound: Sound, files: dict[str, str]) -> dict:
    """The graph that gives the sound as it is heard, and the pictures beside it."""
    graph = {SOUND: _heard(sound, files), "played": _node("PreviewAudio", {"audio": [SOUND, 0]})}
    for group, pictures in (("references", sound.references), (HELD_OUT, sound.held_out)):
        for number, picture in enumerate(pictures):
            key = f"{group}_{number + 1}"
            graph[key] = _picture(picture, files)
            graph[f"{key}_shown"] = _node("PreviewImage", {"images": [key, 0]})
    return graph


def files_of(sound: Sound) -> list[str]:
    """Names of the files that a sound's graphs read."""
    pictures = [picture for picture in (*sound.references, *sound.held_out) if isinstance(picture, str)]
    return ([sound.audio["file"]] if "file" in sound.audio else []) + pictures


def _node(class_type: str, inputs: dict) -> dict:
    return {"class_type": class_type, "inputs": copy.deepcopy(inputs)}


def _models(plan: Plan) -> dict:
    if "pocket" in plan.models:
        return {MODELS: _node("AAI_PocketModels", plan.models["pocket"])}
    return {MODELS: _node("CheckpointLoaderSimple", {"ckpt_name": plan.models["checkpoint"]})}


def _token(plan: Plan, sound: Sound, kind: str, files: dict[str, str]) -> dict:
    """Nodes from the sound to its word A*."""
    graph: dict[str, dict] = {}
    encoder = [MODELS, 3]
    if "encoder" in plan.models:
        graph[ENCODER] = _node("AAI_LoadCAVT", {"checkpoint": plan.models["encoder"]})
        encoder = [ENCODER, 0]
    graph[SOUND] = _heard(sound, files)
    policies = {"short_clip": "tile", "long_clip": "first", "level": "as_recorded"}
    graph[FEATURE] = _node("AAI_CAVTEncode", {"cavt": encoder, "audio": [SOUND, 0], **policies})
    if kind == UNTRAINED:
        settings = {"audio_gain": 1.0, "vocabulary": 0, **plan.untrained}
        graph[TOKEN] = _node("AAI_WordFromSound", {"clip": [MODELS, 1], "audio_feature": [FEATURE, 0], **settings})
        return graph
    settings: dict = {"steps": 300, "learning_rate": 0.005, "batch_size": 1, "resolution": min(plan.size), "seed": 0}
    settings |= {"prompt": f"a photo of {A_STAR}", **plan.training, "mode": MODES[kind]}
    wires = {"model": [MODELS, 0], "clip": [MODELS, 1], "vae": [MODELS, 2], "audio_feature": [FEATURE, 0]}
    for number, picture in enumerate(sound.references):
        key = f"references_{number + 1}"
        graph[key] = _picture(picture, files)
        wires["references" if number == 0 else key] = [key, 0]
    graph[TOKEN] = _node("AAI_TrainAudioToken", {**wires, **settings})
    return graph


def _heard(sound: Sound, files: dict[str, str]) -> dict:
    if "pocket" in sound.audio:
        return _node("AAI_PocketSound", sound.audio["pocket"])
    part = {"start": float(sound.audio["start"]), "duration": float(sound.audio["duration"])}
    return _node("AAI_LoadAudio", {"audio": files[sound.audio["file"]], **part})


def _picture(picture, files: dict[str, str]) -> dict:
    if isinstance(picture, dict):
        return _node("AAI_PocketScene", picture["pocket"])
    return _node("LoadImage", {"image": files[picture]})
