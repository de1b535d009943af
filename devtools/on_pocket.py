"""What the demo's page needs beside an example: nodes that save its sounds, its references, and how a word is learned."""

from __future__ import annotations

import copy

SOUND, REFERENCE, LEARNING, COMPARED = "sound_", "reference_", "learning_", "compared_"  # how files begin that show it
LEARNS = 25  # where a new thing is learned, its word is drawn every so many steps
EDIT = {"cross_end": 0.2, "self_end": 0.1}  # in so small a picture a new thing needs room early
SHEETS = ("AAI_EditSheet", "AAI_LoudnessStrip")  # put pictures together that the thumbnails want one by one


def shown(prompt: dict, every: int = 0) -> dict:
    """An example's graph and nodes that save what goes into it; a word that is learned is drawn `every` so many steps."""
    prompt = copy.deepcopy(prompt)
    return prompt | _inputs(prompt) | _compared(prompt) | _watched(prompt, every)


def in_a_place(thing: str, told: str, prompt: dict) -> dict:
    """The graph of an example that makes a word of a sound, with another thing, told to be somewhere."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        if node["class_type"] == "AAI_PocketSound":
            node["inputs"]["thing"] = thing
        elif node["class_type"] == "AAI_AudioTokenConditioning":
            node["inputs"]["text"] = f"a photo of a <A*> {told}"
    return shown({key: node for key, node in prompt.items() if key.isdigit()})


def _save(images: list, start: str) -> dict:
    return {"class_type": "SaveImage", "inputs": {"images": images, "filename_prefix": start.rstrip("_")}}


def _inputs(prompt: dict) -> dict:
    """Nodes that save the sounds and pictures which the pocket's nodes make."""
    extra = {}
    for key, node in prompt.items():
        if node["class_type"] == "AAI_PocketSound":
            inputs = {"audio": [key, 0], "filename_prefix": f"{SOUND}{node['inputs']['thing']}"}
            extra[f"shown{key}"] = {"class_type": "SaveAudio", "inputs": inputs}
        elif node["class_type"] == "AAI_PocketScene":
            extra[f"shown{key}"] = _save([key, 0], f"{REFERENCE}{node['inputs']['thing']}")
    return extra


def _compared(prompt: dict) -> dict:
    sheets = {key: node["inputs"]["image"] for key, node in prompt.items() if node["class_type"] in SHEETS}
    return {f"compared{key}": _save(images, COMPARED) for key, images in sheets.items()}


def _watched(prompt: dict, every: int) -> dict:
    """Nodes that save how a word is learned."""
    trainings = [key for key, node in prompt.items() if node["class_type"] == "AAI_TrainAudioToken"] if every else []
    for key in trainings:
        prompt[key]["inputs"]["preview_every"] = every
    return {f"learning{key}": _save([key, 3], LEARNING) for key in trainings}
