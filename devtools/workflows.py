"""Example workflows: reads the API copies, and makes those for real models small for stand-ins."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EDITOR_FOLDER = ROOT / "example_workflows"
API_FOLDER = EDITOR_FOLDER / "api"  # what Run queues of each example: on the pocket models, on any computer
REAL = "real_models"  # the folder, in both, of the same examples with a checkpoint, an encoder and files


@dataclass(frozen=True)
class StandIns:
    """Names of the files that stand in for what the examples name."""

    checkpoint: str
    cavt: str
    sound: str
    references: tuple[str, ...]
    pictures: str  # folder in ComfyUI's input folder
    # Settings that make a run of an example short enough for a processor.
    steps: int = 40
    resolution: int = 128
    sampler_steps: int = 8
    vocabulary: int = 1000


def names() -> list[str]:
    """The examples, in the order in which they build on each other."""
    return sorted(path.stem for path in API_FOLDER.glob("*.json"))


def real_names() -> list[str]:
    """Those of them that also lie there with real models."""
    return sorted(path.stem for path in (API_FOLDER / REAL).glob("*.json"))


def load_api(name: str) -> dict:
    return json.loads((API_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def load_real(name: str) -> dict:
    return load_api(f"{REAL}/{name}")


def load_editor(name: str) -> dict:
    return json.loads((EDITOR_FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def shrink(prompt: dict, stand_ins: StandIns) -> dict:
    """The same graph on the stand-in models, with small pictures and few steps."""
    prompt = copy.deepcopy(prompt)
    references = iter(stand_ins.references)
    for node in prompt.values():
        inputs = node["inputs"]
        match node["class_type"]:
            case "CheckpointLoaderSimple":
                inputs["ckpt_name"] = stand_ins.checkpoint
            case "AAI_LoadCAVT":
                inputs["checkpoint"] = stand_ins.cavt
            case "AAI_LoadAudio":
                inputs["audio"] = stand_ins.sound
            case "LoadImage":
                inputs["image"] = next(references)
            case "AAI_TrainAudioToken":
                inputs["steps"], inputs["resolution"] = stand_ins.steps, stand_ins.resolution
                if inputs.get("start") == "best_word":
                    inputs["words"] = "fog, neon"  # each word that it chooses from costs some passes of the model
            case "AAI_RetrieveImages":
                inputs["folder"] = stand_ins.pictures
            case "AAI_LoudnessSweep":
                inputs["count"] = 3
            case "AAI_WordFromSound":
                inputs["vocabulary"] = stand_ins.vocabulary
            case "EmptyLatentImage":
                inputs["width"] = inputs["height"] = stand_ins.resolution
            case "AAI_BatchStylize":
                inputs["folder"], inputs["longest_side"] = stand_ins.pictures, stand_ins.resolution
                inputs["steps"], inputs["scales"] = 2, "1"
            case "KSampler":
                inputs["steps"] = stand_ins.sampler_steps
    return prompt
