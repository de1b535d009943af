"""Settings with which an example is short enough for a test, by type of node."""

from __future__ import annotations

import copy

SHORT = {
    "AAI_TrainAudioToken": {"steps": 2, "batch_size": 1},
    "AAI_WordFromSound": {"vocabulary": 300},
    "AAI_LoudnessCurve": {"frames": 2},
    "AAI_LoudnessSweep": {"count": 2},
    "AAI_BatchStylize": {"steps": 2, "scales": "1"},
    "KSampler": {"steps": 2},
}


def shortened(prompt: dict) -> dict:
    prompt = copy.deepcopy(prompt)
    for node in prompt.values():
        node["inputs"] |= {
            name: value
            for name, value in SHORT.get(node["class_type"], {}).items()
            if not isinstance(node["inputs"].get(name), list)
        }
    return prompt
