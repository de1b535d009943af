"""Align, used for search: a sound finds its pictures."""

from __future__ import annotations

from comfy_api.latest import io

from .host.base import folders, shown
from .host.base.schema import schema
from .host.base.types import AudioFeature, AudioFeatureType, CAVTModel, expect
from .host.hear import pictures
from .host.hear.encoders import HOSTED


class AAI_RetrieveImages(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_RetrieveImages",
            display_name="Find Pictures for Sound",
            search_aliases=["image search", "audio to image retrieval", "similar pictures"],
            has_intermediate_output=True,  # what it shows is there again after the page is reloaded
            category="AAI/Align",
            description="Finds the pictures in a folder that fit a sound best. Each picture is encoded once and remembered.",
            inputs=[
                CAVTModel.Input(
                    "cavt",
                    tooltip="The audio encoder that heard the sound. It must have an image tower too, or be ImageBind.",
                ),
                AudioFeatureType.Input("audio_feature", tooltip="The sound, from Encode Sound."),
                io.String.Input(
                    "folder",
                    default="pictures",
                    tooltip=(
                        "A folder of pictures: a full path, or a name inside ComfyUI's input folder. "
                        "Subfolders are searched too. `pocket pictures` come with the pack, to try it."
                    ),
                ),
                io.Int.Input(
                    "k", default=4, min=1, max=64, tooltip="How many pictures to find. 3 to 5 are good for training."
                ),
                io.Float.Input(
                    "minimum_similarity",
                    default=-1.0,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="Leave out pictures with a lower cosine similarity; -1 keeps all.",
                ),
                io.Boolean.Input(
                    "one_per_source",
                    default=True,
                    tooltip="Take only the best frame of one video (storm_frame01.png, storm#2.png, ...).",
                ),
                io.Image.Input(
                    "own_pictures",
                    optional=True,
                    tooltip="Your own pictures come first; the folder adds more until there are k.",
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="Only for ImageBind: CLIP-ViT-H-14 from Load CLIP Vision, which sees what ImageBind hears. "
                    "Other encoders see by themselves.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    "images", display_name="images", is_output_list=True, tooltip="The pictures, for Train Audio Token."
                ),
                io.Image.Output(
                    "sheet", display_name="sheet", tooltip="All of them in one picture, with their scores."
                ),
                io.Float.Output(
                    "scores",
                    display_name="scores",
                    is_output_list=True,
                    tooltip="Cosine of each picture with the sound; 1 for your own.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, folder=None, **_):
        return folders.folder_fingerprint(folder)

    @classmethod
    def execute(
        cls, cavt, audio_feature, folder, k, minimum_similarity, one_per_source, own_pictures=None, clip_vision=None
    ) -> io.NodeOutput:
        encoder = expect(cavt, HOSTED, "cavt", "Load Audio Encoder (AAI)")
        feature = expect(audio_feature, AudioFeature, "audio_feature", "Encode Sound")
        own = [] if own_pictures is None else list(own_pictures)
        found = pictures.find_for_sound(
            encoder, feature, folder, k, minimum_similarity, one_per_source, own, clip_vision
        )
        return io.NodeOutput(found.images, found.sheet, found.scores, ui=shown.pictures(found.sheet))


NODES = [AAI_RetrieveImages]
