"""Inject: a folder of photos through many sounds."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.adapt.token import AudioToken
from .host.base import shown
from .host.base.folders import folder_fingerprint
from .host.base.schema import schema
from .host.base.types import AudioTokenType, CAVTModel, expect
from .host.inject import photo
from .host.inject.batch_words import name_words
from .host.inject.sound_files import sound_files, sounds_fingerprint
from .host.inject.stylize import SAMPLERS, SCHEDULERS, StylizeConfig, output_fingerprint, stylize
from .inject import CATEGORY

PERCENT = {"min": 0.0, "max": 1.0, "step": 0.01}


class AAI_BatchStylize(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_BatchStylize",
            display_name="Stylise a Folder",
            search_aliases=["style transfer", "batch img2img", "folder"],
            category=CATEGORY,
            description=(
                "Makes a picture of every photo in a folder with every sound at every scale. A "
                "stopped batch continues with what is missing."
            ),
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that samples."),
                io.Clip.Input("clip", tooltip="The text encoder of the same checkpoint."),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
                io.String.Input(
                    "folder",
                    default="",
                    tooltip=(
                        "A folder of photos: a full path, or a name inside ComfyUI's input folder. "
                        "`pocket photos` come with the pack, to try it."
                    ),
                ),
                io.String.Input("output", default="stylised", tooltip="A folder below ComfyUI's output folder."),
                io.String.Input(
                    "scales", default="1", tooltip="How loud, from 0 to 2, separated by commas: `0.5, 1, 1.5`."
                ),
                io.Boolean.Input(
                    "plan_only",
                    default=True,
                    tooltip="Only show the plan as a table. Switch it off to make the pictures.",
                ),
                io.String.Input("source_prompt", default="a photo", tooltip="What the photos show."),
                io.String.Input(
                    "target_prompt", default="a photo in the style of <A*>", tooltip="The same with the sound's word."
                ),
                io.String.Input("negative_prompt", default="", tooltip="What the pictures should not show."),
                io.Combo.Input(
                    "method", options=list(photo.METHODS), default="virtual", tooltip="As in Photo as Source."
                ),
                io.Float.Input(
                    "cross_end",
                    default=0.6,
                    tooltip="How long words keep the photo's layout: 0 never, 1 the whole run.",
                    **PERCENT,
                ),
                io.Float.Input(
                    "self_end",
                    default=0.25,
                    tooltip="How long shapes are copied from the photo; lower it for more style.",
                    **PERCENT,
                ),
                io.Int.Input("steps", default=25, min=1, max=1000, tooltip="Steps of the sampler."),
                io.Float.Input(
                    "cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="How closely prompts are followed."
                ),
                io.Combo.Input("sampler_name", options=SAMPLERS, default="euler", tooltip="The sampler."),
                io.Combo.Input("scheduler", options=SCHEDULERS, default="normal", tooltip="The scheduler."),
                io.Float.Input(
                    "denoise", default=0.8, tooltip="How much of the photo is redrawn: 1 is all of it.", **PERCENT
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,
                    tooltip="The same seed and settings give the same pictures.",
                ),
                io.Int.Input(
                    "longest_side",
                    default=768,
                    min=64,
                    max=4096,
                    step=8,
                    tooltip="Photos with a longer side are scaled down to this many pixels.",
                ),
                AudioTokenType.Input(
                    "audio_token",
                    optional=True,
                    lazy=True,
                    tooltip="A word or a list of words. With plan_only they need not be made yet.",
                ),
                io.String.Input(
                    "saved_words", default="", optional=True, tooltip="Names of saved words, separated by commas."
                ),
                io.String.Input(
                    "sounds",
                    default="",
                    optional=True,
                    tooltip=(
                        "A folder of recordings, each of which becomes a word without training: a full "
                        "path, or a name inside ComfyUI's input folder."
                    ),
                ),
                CAVTModel.Input(
                    "cavt",
                    optional=True,
                    tooltip="For a folder of sounds: the audio encoder, from Load Audio Encoder (AAI).",
                ),
                io.Int.Input(
                    "vocabulary",
                    default=0,
                    min=0,
                    max=100000,
                    optional=True,
                    tooltip="For a folder of sounds: as in Word from Sound.",
                ),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet", tooltip="A contact sheet of the first 64 pictures."),
                io.String.Output(
                    "report", display_name="report", tooltip="The plan as a table, and what failed and why."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder=None, sounds=None, output=None, **_):
        # Lists of one, as all inputs of this node. A batch is asked again each time its photos, sounds or results changed.
        photos, recordings, target = (v[0] if isinstance(v, list) else v for v in (folder, sounds, output))
        return folder_fingerprint(photos) + sounds_fingerprint(recordings) + output_fingerprint(target)

    @classmethod
    def check_lazy_status(cls, audio_token=None, plan_only=None, **_) -> list[str]:
        # A word that is connected and not made yet arrives as (None,).
        is_missing = audio_token is not None and None in audio_token
        return ["audio_token"] if is_missing and not (plan_only or [True])[0] else []

    @classmethod
    def execute(
        cls, audio_token=None, saved_words=None, sounds=None, cavt=None, vocabulary=None, **lists
    ) -> io.NodeOutput:
        one = {name: values[0] for name, values in lists.items()}
        tokens = [
            None if token is None else expect(token, AudioToken, "audio_token", "Train Audio Token")
            for token in audio_token or []
        ]
        names = [name.strip() for text in saved_words or [] for name in text.split(",") if name.strip()]
        recordings = {}
        for folder in filter(str.strip, sounds or []):
            recordings |= sound_files(folder, (cavt or [None])[0], one["clip"], (vocabulary or [0])[0])
        shared = {name: one.pop(name) for name in ("model", "clip", "vae", "folder", "output", "scales", "plan_only")}
        config = StylizeConfig(sampler=one.pop("sampler_name"), **one)
        batch = stylize(words=name_words(tokens, names, recordings), config=config, **shared)
        return io.NodeOutput(batch.sheet, batch.report, ui={"text": [batch.report], **shown.pictures(batch.sheet)})


NODES = [AAI_BatchStylize]
