"""Inject: prompts for each use, loudness over time, and series of scales."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.audio.loudness import MAPPINGS
from ..aai_models.audio.waveform import as_waveform
from ..aai_models.inject.templates import USES, build_prompts
from .host.base.schema import schema
from .host.inject import loudness
from .inject import CATEGORY


class AAI_PromptBuilder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_PromptBuilder",
            display_name="Prompts for a Use",
            search_aliases=["prompt template"],
            category=CATEGORY,
            description="Writes source and target prompts to generate, edit or stylise with a sound.",
            inputs=[
                io.Combo.Input(
                    "use",
                    options=list(USES),
                    default="edit",
                    tooltip="generate: a picture of the sound. edit: add it to a scene. stylise: a scene in its style.",
                ),
                io.String.Input(
                    "scene",
                    multiline=True,
                    default="a photo of a beach",
                    tooltip=(
                        "What the picture shows. Write <A*> where the sound belongs; without it, it is "
                        "added at the end."
                    ),
                ),
            ],
            outputs=[
                io.String.Output("source", display_name="source", tooltip="The prompt without the word."),
                io.String.Output("target", display_name="target", tooltip="The prompt with the word."),
                io.Float.Output("cross_end", display_name="cross_end", tooltip="For Edit with Sound."),
                io.Float.Output("self_end", display_name="self_end", tooltip="For Edit with Sound."),
            ],
        )

    @classmethod
    def execute(cls, use, scene) -> io.NodeOutput:
        return io.NodeOutput(*build_prompts(use, scene))


class AAI_LoudnessCurve(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_LoudnessCurve",
            display_name="Loudness Curve",
            search_aliases=["audio reactive", "amplitude", "envelope", "animation"],
            category=CATEGORY,
            description="A sound's loudness at each frame of an animation, as a list of scales.",
            inputs=[
                io.Audio.Input("audio", tooltip="The sound that the animation shall follow."),
                io.Float.Input(
                    "fps", default=8.0, min=0.1, max=120.0, step=0.1, tooltip="Frames in a second of sound."
                ),
                io.Int.Input(
                    "frames", default=0, min=0, max=10000, tooltip="How many frames; 0 for as many as the sound has."
                ),
                io.Combo.Input(
                    "mapping",
                    options=[mapping for mapping in MAPPINGS if mapping != "manual"],
                    default="sone",
                    tooltip="How loudness becomes a scale, as in Loudness Scale.",
                ),
                io.Float.Input(
                    "reference",
                    default=-23.0,
                    min=-70.0,
                    max=0.0,
                    step=0.1,
                    tooltip="The loudness in LUFS that gives 1.",
                ),
            ],
            outputs=[
                io.Float.Output(
                    "scales",
                    display_name="scales",
                    is_output_list=True,
                    tooltip="A scale for each frame: to `scale` of Loudness Scale, or to any pack that takes a list.",
                )
            ],
        )

    @classmethod
    def execute(cls, audio, fps, frames, mapping, reference) -> io.NodeOutput:
        return io.NodeOutput(loudness.curve(*as_waveform(audio), fps, frames, mapping, reference))


class AAI_LoudnessSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_LoudnessSweep",
            display_name="Loudness Sweep",
            search_aliases=["XY plot", "scale series"],
            category=CATEGORY,
            description="A series of scales from soft to loud, to see what loudness does to a word.",
            inputs=[
                io.Float.Input("first", default=0.0, min=0.0, max=2.0, step=0.05, tooltip="The first scale."),
                io.Float.Input("last", default=2.0, min=0.0, max=2.0, step=0.05, tooltip="The last scale."),
                io.Int.Input("count", default=5, min=1, max=100, tooltip="How many scales. 1 gives only the first."),
            ],
            outputs=[
                io.Float.Output(
                    "scales",
                    display_name="scales",
                    is_output_list=True,
                    tooltip="To `scale` of Loudness Scale, whose mapping is then manual; a picture for each.",
                )
            ],
        )

    @classmethod
    def execute(cls, first, last, count) -> io.NodeOutput:
        return io.NodeOutput(loudness.sweep(first, last, count))


class AAI_ScaleList(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_ScaleList",
            display_name="Scales from Numbers",
            search_aliases=["audio reactive", "schedule", "float list"],
            category=CATEGORY,
            description="Turns numbers from audio-reactive or scheduling packs into scales.",
            is_input_list=True,
            inputs=[
                io.Float.Input(
                    "values", force_input=True, tooltip="Numbers: several values, or one wire that carries a list."
                ),
                io.Float.Input("low", default=0.0, min=0.0, max=2.0, step=0.05, tooltip="The softest scale."),
                io.Float.Input("high", default=2.0, min=0.0, max=2.0, step=0.05, tooltip="The loudest scale."),
                io.Boolean.Input(
                    "stretch",
                    default=True,
                    tooltip=(
                        "On: the smallest number becomes `low` and the largest `high`. Off: the numbers "
                        "are the scales, cut to `low` and `high`."
                    ),
                ),
            ],
            outputs=[
                io.Float.Output(
                    "scales", display_name="scales", is_output_list=True, tooltip="To `scale` of Loudness Scale."
                )
            ],
        )

    @classmethod
    def execute(cls, values, low, high, stretch) -> io.NodeOutput:
        return io.NodeOutput(loudness.scales_of_numbers(values, low[0], high[0], stretch[0]))


NODES = [AAI_PromptBuilder, AAI_LoudnessCurve, AAI_LoudnessSweep, AAI_ScaleList]
