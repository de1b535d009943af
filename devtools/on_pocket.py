"""Example workflows on the pocket models: loaders and files exchanged for the pocket's nodes, sizes for its size."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

from .client import Client
from .report import DevError

SIDE, STEPS, CFG = 128, 20, 5.0
SOUND, REFERENCE, LEARNING = "sound_", "reference_", "learning_"  # how files begin that show what went in, and how
LEARNS = 25  # where the pocket world learns a new thing, its word is drawn every so many steps
TRAINING = {"steps": 150, "learning_rate": 0.02, "batch_size": 4, "resolution": SIDE}
# A thing's word begins where its sound is; a saved word shall take other sounds without a CLIP.
BRIDGED = {"start": "zero", "bridge": "auto"}
GENTLY = {"learning_rate": 0.005}  # a style begins at a word, which a faster rate leaves
EDIT = {"cross_end": 0.2, "self_end": 0.1}  # in so small a picture a new thing needs room early
PLACES = ("beach", "meadow", "snow", "city", "desert", "forest")
COLOURS = ("red", "blue", "yellow", "green", "purple")
SEED = 6  # of an edit's noise; in one of ten, docs/pocket.md says, an edit shows no thing
THINGS = ("rooster", "dog", "cat", "fire", "bell", "train", "bird", "clock", "drum", "rain")  # in a folder of pictures
DRAWN = "photo"  # how reference pictures are drawn that show a thing and no style
STYLED = ("cat", "train", "bird")  # things on the references of a style
PHOTO = "nothing"  # on the photo of a forest
# Words that the pocket world does not know, in its own.
WORDS = {
    "blurry, text, watermark": "",
    "a castle in the style of <A*>": "a photo of a <A*> in the snow",
    "a photo of <A*>": "a photo of a <A*>",
    # Of a style it speaks in pictures, not in photos.
    "a picture in the style of <A*>": "a picture of a thing in the style of a <A*>",
    "a photo of a forest in the style of <A*>": "a picture of a forest in the style of a <A*>",
    "a photo in the style of <A*>": "a picture of a thing in the style of a <A*>",
}


def on_pocket(prompt: dict) -> dict:
    """The same graph with the pocket models in place of a checkpoint and an encoder, its sounds and scenes in place of
    files."""
    prompt = copy.deepcopy(prompt)
    every = LEARNS if _of_class(prompt, "AAI_PocketModels") else 0
    thing, style = _sounding(prompt)
    encoders, models = _of_class(prompt, "AAI_LoadCAVT"), _of_class(prompt, "CheckpointLoaderSimple")
    models = models or encoders[:1]
    for key in models:
        prompt[key] = {"class_type": "AAI_PocketModels", "inputs": {}}
    _draw_pictures(prompt, thing, style)
    bridged = style == DRAWN and not _of_class(prompt, "AAI_SaveAudioToken")
    edits = style == DRAWN and bool(_of_class(prompt, "AAI_P2PAttentionInject"))
    for node in prompt.values():
        if node["class_type"] == "AAI_LoadAudio":
            inputs = {"thing": thing, "loudness": 0.7, "seed": 1, "seconds": 2.56}
            node.update({"class_type": "AAI_PocketSound", "inputs": inputs})
        _resize(node)
        if node["class_type"] == "AAI_TrainAudioToken":
            node["inputs"].update(GENTLY if style != DRAWN else BRIDGED if bridged else {})
        elif node["class_type"] == "AAI_P2PAttentionInject" and edits:
            node["inputs"].update(EDIT)
        elif node["class_type"] == "KSampler" and edits:
            node["inputs"]["seed"] = SEED
    _tell_edits(prompt)
    for key in encoders:
        if key not in models:
            del prompt[key]
    rewired = {key: _rewired(node, encoders, models) for key, node in prompt.items()}
    return rewired | _shown(rewired) | _watched(rewired, every)


def _of_class(prompt: dict, class_type: str) -> list[str]:
    return [key for key, node in prompt.items() if node["class_type"] == class_type]


def _sounding(prompt: dict) -> tuple[str, str]:
    """What sounds in a graph, and how its reference pictures are drawn: a style if a word learns one, else a thing; what
    is put into a scene, softly or loudly, is a fire."""
    trained = [prompt[key]["inputs"]["prompt"] for key in _of_class(prompt, "AAI_TrainAudioToken")]
    if any("style" in text for text in trained):
        return "bell", "mosaic"
    if _of_class(prompt, "AAI_P2PAttentionInject") or _of_class(prompt, "AAI_LoudnessScale"):
        return "fire", DRAWN
    return "rooster", DRAWN


def _draw_pictures(prompt: dict, thing: str, style: str) -> None:
    """Scenes in place of picture files: references show the thing, or several in the style; another picture is a photo."""
    referenced = {
        value[0]
        for node in prompt.values()
        for slot, value in node["inputs"].items()
        if slot.startswith("references") and isinstance(value, list)
    }
    for number, key in enumerate(_of_class(prompt, "LoadImage")):
        shown = STYLED[number % len(STYLED)] if style != DRAWN else thing
        prompt[key].update(_scene(shown, style, number) if key in referenced else _scene(PHOTO, "photo", 5))


def _tell_edits(prompt: dict) -> None:
    """Write out the prompts of edits: this world's captions have an article before every thing."""
    builders = {key: node["inputs"] for key, node in prompt.items() if node["class_type"] == "AAI_PromptBuilder"}
    for node in prompt.values():
        wire = node["inputs"].get("text")
        if isinstance(wire, list) and wire[1] == 1 and builders.get(wire[0], {}).get("use") == "edit":
            node["inputs"]["text"] = f"{builders[wire[0]]['scene']} with a <A*>"


def in_a_place(thing: str, told: str, prompt: dict) -> dict:
    """The graph of an example that makes a word of a sound, with another thing, told to be somewhere."""
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        if node["class_type"] == "AAI_PocketSound":
            node["inputs"]["thing"] = thing
        elif node["class_type"] == "AAI_AudioTokenConditioning":
            node["inputs"]["text"] = f"a photo of a <A*> {told}"
    return {key: node for key, node in prompt.items() if not key.startswith("shown")} | _shown(prompt)


def _watched(prompt: dict, every: int) -> dict:
    """Nodes that save how a word is learned, drawn `every` so many steps (0: none)."""
    trainings = _of_class(prompt, "AAI_TrainAudioToken") if every else []
    for key in trainings:
        prompt[key]["inputs"]["preview_every"] = every
    return {
        f"learning{key}": {
            "class_type": "SaveImage",
            "inputs": {"images": [key, 3], "filename_prefix": LEARNING.rstrip("_")},
        }
        for key in trainings
    }


def _shown(prompt: dict) -> dict:
    """Nodes that save the sounds and pictures which the pocket's nodes make."""
    extra = {}
    for key, node in prompt.items():
        if node["class_type"] == "AAI_PocketSound":
            inputs = {"audio": [key, 0], "filename_prefix": f"{SOUND}{node['inputs']['thing']}"}
            extra[f"shown{key}"] = {"class_type": "SaveAudio", "inputs": inputs}
        elif node["class_type"] == "AAI_PocketScene":
            inputs = {"images": [key, 0], "filename_prefix": f"{REFERENCE}{node['inputs']['thing']}"}
            extra[f"shown{key}"] = {"class_type": "SaveImage", "inputs": inputs}
    return extra


def _scene(thing: str, style: str, number: int) -> dict:
    inputs = {"thing": thing, "place": PLACES[number % 6], "colour": COLOURS[number % 5], "style": style}
    inputs |= {"loudness": 0.6, "seed": number, "count": 1, "side": "middle", "second": "nothing"}
    return {"class_type": "AAI_PocketScene", "inputs": inputs}


def _resize(node: dict) -> None:
    inputs = node["inputs"]
    match node["class_type"]:
        case "AAI_TrainAudioToken":
            inputs.update(TRAINING)
        case "EmptyLatentImage":
            inputs["width"] = inputs["height"] = SIDE
        case "KSampler":
            inputs["steps"], inputs["cfg"] = STEPS, CFG
        case "AAI_BatchStylize":
            inputs.update({"longest_side": SIDE, "steps": STEPS, "cfg": CFG})
        case "AAI_WordFromSound":
            inputs["vocabulary"] = 3000
    for slot in ("text", "prompt", "target_prompt"):
        if isinstance(inputs.get(slot), str):
            inputs[slot] = WORDS.get(inputs[slot], inputs[slot])


def _rewired(node: dict, encoders: list[str], models: list[str]) -> dict:
    """Wires of an encoder's loader now come from the pocket models' fourth output."""
    inputs = {
        slot: [models[0], 3] if isinstance(value, list) and value[0] in encoders and value[1] == 0 else value
        for slot, value in node["inputs"].items()
    }
    return {**node, "inputs": inputs}


def write_pictures(client: Client, folder: Path, each: int = 2) -> None:
    """Scenes drawn by the pocket's own node in place of what a folder holds, for examples that look into it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    graph = {}
    for number, thing in enumerate(THINGS):
        scene = _scene(thing, DRAWN, number)
        scene["inputs"]["count"] = each
        graph[f"1{number}"] = scene
        inputs = {"images": [f"1{number}", 0], "filename_prefix": thing}
        graph[f"2{number}"] = {"class_type": "SaveImage", "inputs": inputs}
    run = client.run(graph)
    if run.status != "success":
        raise DevError(f"The pocket scenes could not be drawn: {run.message}")
    for shown in run.outputs.values():
        for file in shown.get("images", []):
            (folder / file["filename"]).write_bytes(client.fetch(file))
