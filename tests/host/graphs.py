"""API prompts that several tests build on."""

from __future__ import annotations


def stock(stand_ins, *, seed: int = 7, text: str = "a photo of a storm", batch: int = 1) -> dict:
    """An ordinary SD1.5-class workflow without any node of ours; saves its latent."""
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": stand_ins.checkpoint}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": text}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": ["1", 1], "text": "blurry"}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 96, "height": 64, "batch_size": batch}},
        "5": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["3", 0],
                "latent_image": ["4", 0],
                "seed": seed,
                "steps": 4,
                "cfg": 7.0,
                "sampler_name": "euler_ancestral",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "6": {"class_type": "SaveLatent", "inputs": {"samples": ["5", 0], "filename_prefix": "stock"}},
    }


def hear(stand_ins, *, sound: str | None = None, start: float = 0.0, duration: float = 10.24) -> dict:
    """Sound -> feature (node 13)."""
    return {
        "11": {
            "class_type": "AAI_LoadAudio",
            "inputs": {"audio": sound or stand_ins.sound, "start": start, "duration": duration},
        },
        "12": {"class_type": "AAI_LoadCAVT", "inputs": {"checkpoint": stand_ins.cavt}},
        "13": {
            "class_type": "AAI_CAVTEncode",
            "inputs": {
                "cavt": ["12", 0],
                "audio": ["11", 0],
                "short_clip": "tile",
                "long_clip": "first",
                "level": "as_recorded",
            },
        },
    }


def train(stand_ins, *, steps: int = 1, seed: int = 0, name: str = "test-word", pictures: int = 1, **sound) -> dict:
    """Sound -> feature -> word (node 20) -> file (node 21)."""
    graph = hear(stand_ins, **sound)
    graph["14"] = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": stand_ins.checkpoint}}
    inputs = {
        "model": ["14", 0],
        "clip": ["14", 1],
        "vae": ["14", 2],
        "audio_feature": ["13", 0],
        "steps": steps,
        "learning_rate": 0.005,
        "batch_size": 1,
        "resolution": 64,
        "seed": seed,
        "prompt": "a photo of <A*>",
    }
    for index in range(pictures):
        picture = stand_ins.references[index]
        graph[str(15 + index)] = {"class_type": "LoadImage", "inputs": {"image": picture}}
        inputs["references" if index == 0 else f"references_{index + 1}"] = [str(15 + index), 0]
    graph["20"] = {"class_type": "AAI_TrainAudioToken", "inputs": inputs}
    graph["21"] = {
        "class_type": "AAI_SaveAudioToken",
        "inputs": {"audio_token": ["20", 0], "name": name, "if_exists": "replace"},
    }
    return graph
