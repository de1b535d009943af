"""A sound in a picture's place: what unCLIP models and IP-Adapters take instead of a picture."""

from __future__ import annotations

from comfy_api.latest import io

from .host.base.schema import schema
from .host.base.types import AudioFeature, AudioFeatureType, expect
from .host.hear.image_embedding import SOUNDS, image_embedding

Embeds = io.Custom("EMBEDS")  # of IP-Adapter packs: a tensor (rows, values)


class AAI_SoundImageEmbedding(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_SoundImageEmbedding",
            display_name="Sound as Image Embedding",
            search_aliases=["unCLIP", "IP-Adapter", "ImageBind", "audio to image"],
            category="AAI/Align",
            description=(
                "Puts a sound where a picture goes: unCLIPConditioning with an SD2.1-unCLIP-h checkpoint, or an IP-Adapter "
                "on SD1.5 or SDXL. No training. Needs ImageBind, whose licence forbids commercial use."
            ),
            inputs=[
                AudioFeatureType.Input(
                    "audio_feature",
                    tooltip="The sound, from Encode Sound with ImageBind. Several sounds are one batch.",
                ),
                io.Float.Input(
                    "norm",
                    default=20.0,
                    min=0.0,
                    max=200.0,
                    step=0.5,
                    tooltip="How long the embedding is: 20 is as strong as a picture. Raise it for more of the sound, and "
                    "leave `strength` of unCLIPConditioning at 1.",
                ),
                io.Combo.Input(
                    "sounds",
                    options=list(SOUNDS),
                    default="mean",
                    tooltip="Of several sounds: mean mixes them into one embedding, each gives one embedding of each sound "
                    "(for IP-Adapters; unCLIP adds them up, which is too strong).",
                ),
                io.ClipVisionOutput.Input(
                    "picture",
                    optional=True,
                    tooltip="A picture to mix in, from CLIP Vision Encode with ViT-H.",
                ),
                io.Float.Input(
                    "picture_share",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="How much of `picture` is in the embedding: 0 is the sound alone, 1 the picture as it is.",
                ),
            ],
            outputs=[
                io.ClipVisionOutput.Output(
                    "embedding", display_name="CLIP_VISION_OUTPUT", tooltip="For unCLIPConditioning."
                ),
                Embeds.Output(
                    "embeds",
                    display_name="EMBEDS",
                    tooltip="The same numbers for the node IPAdapter Embeds of IP-Adapter packs.",
                ),
            ],
        )

    @classmethod
    def execute(cls, audio_feature, norm, sounds, picture=None, picture_share=0.5) -> io.NodeOutput:
        feature = expect(audio_feature, AudioFeature, "audio_feature", "Encode Sound")
        output = image_embedding(feature, norm, sounds, picture, picture_share)
        return io.NodeOutput(output, output.image_embeds)


NODES = [AAI_SoundImageEmbedding]
