"""Inject: the word goes into prompts and acts on pictures."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.adapt.token import AudioToken
from .host import text as prompts
from .host.types import AudioTokenType, expect

CATEGORY = "AAI/Inject"
MORE_TOKENS = ("audio_token_2", "audio_token_3", "audio_token_4")


class AAI_AudioTokenConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        more = [
            AudioTokenType.Input(name, optional=True, tooltip=f"Another sound's word; write <A{number}> for it.")
            for number, name in enumerate(MORE_TOKENS, start=2)
        ]
        return io.Schema(
            node_id="AAI_AudioTokenConditioning",
            display_name="Prompt with Sounds",
            category=CATEGORY,
            description="Encodes a prompt in which <A*> stands for a sound. Without <A*> it is an ordinary text encode.",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder that the word was trained with."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a photo of <A*>",
                    tooltip="Write <A*> where the sound shall be, anywhere; weights work: (<A*>:1.2).",
                ),
                AudioTokenType.Input("audio_token", tooltip="The word for <A*> (the same as <A1>)."),
                *more,
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="CONDITIONING",
                    tooltip="The encoded prompt; it knows where the words stand.",
                )
            ],
        )

    @classmethod
    def execute(cls, clip, text, audio_token, **more) -> io.NodeOutput:
        connected = {1: audio_token, **{n: more.get(name) for n, name in enumerate(MORE_TOKENS, start=2)}}
        tokens = {
            number: expect(token, AudioToken, "audio_token", "Train Audio Token")
            for number, token in connected.items()
            if token is not None
        }
        return io.NodeOutput(prompts.encode(clip, text, tokens))


NODES = [AAI_AudioTokenConditioning]
