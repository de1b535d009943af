"""The embedded default: models, scenes and sounds of a small world that came with the pack."""

from __future__ import annotations

from comfy_api.latest import io

from .host.base import shown
from .host.base.folders import listed_fingerprint
from .host.base.pocket_menus import COLOURS, NOTHING, PLACES, SHIPPED, SIDES, STYLES, THINGS
from .host.base.schema import schema
from .host.base.types import CAVTModel
from .host.pocket import saved

CATEGORY = "AAI/Pocket"
LOUDNESS = {"min": 0.0, "max": 1.0, "step": 0.01}


class AAI_PocketModels(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_PocketModels",
            display_name="Pocket Models",
            search_aliases=["demo models", "tiny model", "checkpoint", "example"],
            category=CATEGORY,
            description=(
                "Small models that come with the pack. They draw and hear a world of simple things "
                "on any computer, without a download. To use real models, replace this node by Load "
                "Checkpoint and Load Audio Encoder (AAI)."
            ),
            inputs=[
                io.Combo.Input(
                    "weights",
                    options=[SHIPPED, *saved.names()],
                    default=SHIPPED,
                    optional=True,
                    tooltip=(
                        "The weights that come with the pack, or a file that Save Checkpoint wrote from "
                        "this node's models, with their LoRAs and merges."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="Draws pictures of 128 x 128 pixels."),
                io.Clip.Output(display_name="CLIP", tooltip="Understands the words of the pocket world."),
                io.Vae.Output(display_name="VAE", tooltip="Encodes and decodes the pictures."),
                CAVTModel.Output(
                    "cavt_model",
                    display_name="CAVT_MODEL",
                    tooltip="The audio encoder, for Encode Sound and Find Pictures for Sound.",
                ),
                io.ClipVision.Output(
                    display_name="CLIP_VISION",
                    tooltip="The encoder's image tower, for the warm start of Train Audio Token and for CLIP Vision Encode.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, weights=SHIPPED) -> str:
        return listed_fingerprint("checkpoints", weights)

    @classmethod
    def execute(cls, weights=SHIPPED) -> io.NodeOutput:
        from .host.pocket.models import load_pocket

        return io.NodeOutput(*load_pocket(weights))


class AAI_PocketScene(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_PocketScene",
            display_name="Pocket Scene",
            search_aliases=["demo picture", "example image"],
            has_intermediate_output=True,  # what it shows is there again after the page is reloaded
            category=CATEGORY,
            description="Draws a picture of the pocket world: references for training, a photo to edit, a mask to compare.",
            inputs=[
                io.Combo.Input("thing", options=[*THINGS, NOTHING], tooltip="What stands in the picture."),
                io.Combo.Input("place", options=list(PLACES), tooltip="Where it stands."),
                io.Combo.Input("colour", options=list(COLOURS), tooltip="The thing's colour."),
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    tooltip="How it is drawn: plain (photo), in lines (sketch), in squares (mosaic), in dots (poster).",
                ),
                io.Float.Input(
                    "loudness",
                    default=0.5,
                    **LOUDNESS,
                    tooltip="0 to 1: how dense rain is, how high flames, waves and wind are, how big everything else is.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=True,
                    tooltip=(
                        "Chooses details such as clouds, windows and the exact place. The same seed "
                        "draws the same picture."
                    ),
                ),
                io.Int.Input("count", default=1, min=1, max=64, tooltip="How many pictures; each has the next seed."),
                io.Combo.Input(
                    "side", options=list(SIDES), optional=True, tooltip="On which side of the picture it stands."
                ),
                io.Combo.Input(
                    "second",
                    options=[NOTHING, *THINGS],
                    optional=True,
                    tooltip="A second thing, to the right of the first.",
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="IMAGE", tooltip="The pictures, 128 x 128 pixels."),
                io.Mask.Output("mask", display_name="MASK", tooltip="Where the things are."),
            ],
        )

    @classmethod
    def execute(
        cls, thing, place, colour, style, loudness, seed, count, side="middle", second=NOTHING
    ) -> io.NodeOutput:
        from .host.pocket.scenes import draw_scene

        images, masks = draw_scene(thing, place, colour, style, loudness, side, second, seed, count)
        return io.NodeOutput(images, masks, ui=shown.pictures(images))


class AAI_PocketSound(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_PocketSound",
            display_name="Pocket Sound",
            search_aliases=["demo sound", "example audio", "synthesise audio"],
            has_intermediate_output=True,  # what it shows is there again after the page is reloaded
            category=CATEGORY,
            description="Makes the sound of a thing in the pocket world.",
            inputs=[
                io.Combo.Input("thing", options=list(THINGS), tooltip="What makes the sound."),
                io.Float.Input(
                    "loudness",
                    default=0.5,
                    **LOUDNESS,
                    tooltip="0 to 1, from -38 to -10 dB of full scale. Rain, fire, waves, wind and thunder also get denser.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**31 - 1,
                    control_after_generate=True,
                    tooltip="Chooses pitch, tempo, timbre, room and noise. The same seed makes the same sound.",
                ),
                io.Float.Input(
                    "seconds", default=2.56, min=0.5, max=30.0, step=0.01, optional=True, tooltip="How long it lasts."
                ),
                io.Combo.Input(
                    "second",
                    options=[NOTHING, *THINGS],
                    optional=True,
                    tooltip="A second thing that makes a sound at the same time.",
                ),
            ],
            outputs=[io.Audio.Output("audio", display_name="AUDIO", tooltip="The sound, mono at 16 kHz.")],
        )

    @classmethod
    def execute(cls, thing, loudness, seed, seconds=2.56, second=NOTHING) -> io.NodeOutput:
        from .host.pocket.scenes import sound_of

        audio = sound_of(thing, loudness, seed, seconds, second)
        return io.NodeOutput(audio, ui=shown.sound(audio))


NODES = [AAI_PocketModels, AAI_PocketScene, AAI_PocketSound]
