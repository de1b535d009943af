"""View: where words act, and what an edit changed."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..aai_models.audio.overview import draw_overview
from ..aai_models.audio.waveform import as_waveform
from .host.base import shown
from .host.base.schema import schema
from .host.base.types import WordMapsType, expect
from .host.hear import pictures
from .host.inject import sheets
from .host.inject.watch import WordMaps, watched

CATEGORY = "AAI/View"


class AAI_WatchWords(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_WatchWords",
            display_name="Watch Words",
            search_aliases=["attention maps", "DAAM", "cross attention"],
            category=CATEGORY,
            description="Records, while the model samples, where in the picture each word of the prompt acts.",
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with. The picture stays exactly the same."),
                io.String.Input("words", default="<A*>", tooltip="Words of the prompt, separated by commas."),
                io.Int.Input(
                    "windows",
                    default=1,
                    min=1,
                    max=10,
                    tooltip="Divide the run into this many parts and record maps for each.",
                ),
                io.Int.Input(
                    "downsample",
                    default=2,
                    min=1,
                    max=8,
                    tooltip=(
                        "Which layers to record, by how much smaller than the latent they are: 2 is "
                        "detailed, 4 is what prompt-to-prompt uses."
                    ),
                ),
            ],
            outputs=[
                io.Model.Output("model_out", display_name="MODEL", tooltip="To the sampler."),
                WordMapsType.Output("word_maps", display_name="WORD_MAPS", tooltip="To Word Heat Map."),
            ],
        )

    @classmethod
    def execute(cls, model, words, windows, downsample) -> io.NodeOutput:
        return io.NodeOutput(*watched(model, words, windows, downsample))


class AAI_AttentionHeatmap(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_AttentionHeatmap",
            display_name="Word Heat Map",
            search_aliases=["heat map", "attention maps", "DAAM", "word mask"],
            category=CATEGORY,
            description="Draws where each watched word acted, over the picture.",
            is_output_node=True,
            inputs=[
                WordMapsType.Input("word_maps", tooltip="From Watch Words, whose MODEL sampled the picture."),
                io.Image.Input("image", tooltip="The pictures that were sampled, decoded."),
                io.Float.Input(
                    "strength",
                    default=0.8,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How opaque the map is over the picture.",
                ),
            ],
            outputs=[
                io.Image.Output("overlay", display_name="overlay", tooltip="A picture for each word."),
                io.Mask.Output("mask", display_name="mask", tooltip="The same maps as masks in 0..1."),
                io.Image.Output(
                    "sheet",
                    display_name="sheet",
                    tooltip="All maps in one picture, one row for each part of the run.",
                ),
            ],
        )

    @classmethod
    def execute(cls, word_maps, image, strength) -> io.NodeOutput:
        maps = expect(word_maps, WordMaps, "word_maps", "Watch Words")
        overlays, masks, sheet = sheets.heat_maps(maps, image, strength)
        return io.NodeOutput(overlays, masks, sheet, ui=shown.pictures(sheet))


class AAI_EditSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_EditSheet",
            display_name="Edit Sheet",
            search_aliases=["before and after", "contact sheet", "compare"],
            category=CATEGORY,
            description="Source, edits and their differences side by side, with prompts, scale and sound.",
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The decoded output of a sampler behind Edit with Sound."),
                io.Int.Input("edits", default=1, min=1, max=8, tooltip="How many targets Edit with Sound has."),
                io.String.Input(
                    "captions",
                    default="",
                    multiline=True,
                    tooltip="A line for the source and one for each edit, for instance their prompts.",
                ),
                io.Float.Input("scale", optional=True, force_input=True, tooltip="From Loudness Scale, to be shown."),
                io.Audio.Input("audio", optional=True, tooltip="The sound, drawn beside the pictures."),
                WordMapsType.Input(
                    "word_maps",
                    optional=True,
                    tooltip="From Watch Words: where the watched words acted, beside each edit.",
                ),
            ],
            outputs=[io.Image.Output("sheet", display_name="sheet", tooltip="One picture.")],
        )

    @classmethod
    def execute(cls, image, edits, captions, scale=None, audio=None, word_maps=None) -> io.NodeOutput:
        sound = None
        if audio is not None:
            sound = torch.cat([pictures.to_image(p) for p in draw_overview(*as_waveform(audio), 640, 640)])
        lines = [line.strip() for line in captions.splitlines() if line.strip()]
        maps = None if word_maps is None else expect(word_maps, WordMaps, "word_maps", "Watch Words")
        sheet = sheets.edit_sheet(image, 1 + edits, lines, scale, sound, maps)
        return io.NodeOutput(sheet, ui=shown.pictures(sheet))


class AAI_LoudnessStrip(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_LoudnessStrip",
            display_name="Loudness Strip",
            search_aliases=["contact sheet", "image grid"],
            category=CATEGORY,
            description="Pictures from soft to loud in one row, each with its scale.",
            is_output_node=True,
            is_input_list=True,
            inputs=[
                io.Image.Input("image", tooltip="The pictures, as a list or a batch."),
                io.Float.Input(
                    "scales", default=1.0, force_input=True, tooltip="From Loudness Sweep or Loudness Curve."
                ),
            ],
            outputs=[io.Image.Output("strip", display_name="strip", tooltip="One picture.")],
        )

    @classmethod
    def execute(cls, image, scales) -> io.NodeOutput:
        strip = sheets.loudness_strip(image, scales)
        return io.NodeOutput(strip, ui=shown.pictures(strip))


NODES = [AAI_WatchWords, AAI_AttentionHeatmap, AAI_EditSheet, AAI_LoudnessStrip]
