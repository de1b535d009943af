"""Adapt: a feature and a few pictures become a word."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.adapt.formats import EXPORTS
from ..aai_models.adapt.token import AudioToken
from ..aai_models.errors import TrainingError
from . import words
from .host.adapt import embeddings
from .host.adapt.preview import Options
from .host.adapt.training import train
from .host.base import shown
from .host.base.schema import schema
from .host.base.types import AudioFeature, AudioFeatureType, AudioTokenType, expect
from .training_options import read_settings, training_options

CATEGORY = "AAI/Adapt"
MORE_REFERENCES = ("references_2", "references_3", "references_4", "references_5")


def group_by_sound(groups: list[list], sounds: int) -> list[list]:
    """All pictures for one sound; for several, `references` for the first, `references_2` for the second..."""
    if sounds == 1:
        return [[picture for group in groups for picture in group]]
    filled = [group for group in groups if group]
    if len(filled) != sounds:
        raise TrainingError(
            f"There are {sounds} sounds, and pictures at {len(filled)} inputs",
            "Each of up to 5 sounds needs its own pictures: `references` for the first, `references_2` for the second...",
            "Connect a single sound, or pictures for each sound",
        )
    return filled


class AAI_TrainAudioToken(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_TrainAudioToken",
            display_name="Train Audio Token",
            search_aliases=["textual inversion", "train embedding", "learn a word", "personalisation"],
            has_intermediate_output=True,  # what it shows is there again after the page is reloaded
            category=CATEGORY,
            description=(
                "Learns a word A* for a sound from 3 to 5 pictures of what makes the sound. The "
                "model itself is not changed."
            ),
            # Pictures of different sizes arrive as a list; they are one training set, not one run each.
            is_input_list=True,
            inputs=[
                io.Model.Input("model", tooltip="The model that learns to read the word. Its weights are not changed."),
                io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint. Its weights are not changed."),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint. It encodes the pictures."),
                AudioFeatureType.Input("audio_feature", tooltip="The sound, from Encode Sound."),
                io.Image.Input("references", tooltip="3 to 5 pictures of what makes the sound, as a batch or a list."),
                io.Int.Input(
                    "steps",
                    default=500,
                    min=1,
                    max=20000,
                    tooltip="Training steps: 100 for a first look, 300 to 500 for a good word.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.005,
                    min=0.000001,
                    max=1.0,
                    step=0.0001,
                    round=0.000001,
                    tooltip="How large each step is. Lower it if the loss jumps.",
                ),
                io.Int.Input(
                    "batch_size",
                    default=1,
                    min=1,
                    max=64,
                    tooltip="Pictures in each step. More is steadier, slower, and needs more memory.",
                ),
                io.Int.Input(
                    "resolution",
                    default=512,
                    min=64,
                    max=2048,
                    step=8,
                    tooltip=(
                        "Pictures are cropped to a square of this many pixels: 512 for SD1.x, 768 for "
                        "SD2.x, 1024 for SDXL."
                    ),
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=2**63 - 1,
                    control_after_generate=False,
                    tooltip="The same seed, sound, pictures and settings give the same word on a CPU, and nearly the same on "
                    "a GPU.",
                ),
                io.String.Input(
                    "prompt",
                    default="a photo of <A*>",
                    tooltip=(
                        'The prompt that the word is learned in; <A*> marks its place. For a style: "a '
                        'painting in the style of <A*>".'
                    ),
                ),
                *(
                    io.Image.Input(name, optional=True, tooltip="More pictures, of any size.")
                    for name in MORE_REFERENCES
                ),
                *training_options(),
            ],
            outputs=[
                AudioTokenType.Output("audio_token", display_name="AUDIO_TOKEN", tooltip="The word A*."),
                io.LossMap.Output("loss_map", display_name="LOSS_MAP", tooltip="For the node Plot Loss Graph."),
                io.String.Output("report", display_name="report", tooltip="The training in numbers."),
                io.Image.Output(
                    "sheet",
                    display_name="sheet",
                    tooltip="The references, the previews and the loss curve in one picture.",
                ),
            ],
        )

    @classmethod
    def execute(cls, audio_feature, references, masks=None, **lists) -> io.NodeOutput:
        groups = [list(references), *(list(lists.pop(name, None) or []) for name in MORE_REFERENCES)]
        one = {name: values[0] for name, values in lists.items()}
        features = [expect(f, AudioFeature, "audio_feature", "Encode Sound") for f in audio_feature]
        sounds = AudioFeature.joined(features)
        groups = group_by_sound(groups, sounds.vectors.shape[0])
        models = [one.pop(name) for name in ("model", "clip", "vae")]
        vision, resume_from = one.pop("clip_vision", None), one.pop("resume_from", "")
        options = Options(preview_every=one.pop("preview_every", 0))
        config = read_settings(one)
        rest = {"masks": list(masks or []), "resume_from": resume_from, "options": options, "vision": vision}
        done = train(*models, sounds, groups, config, **rest)
        text = done.report.text()
        told = {"aai_losses": [done.losses], "text": [text], **shown.pictures(done.sheet)}
        return io.NodeOutput(done.token, {"loss": done.losses}, text, done.sheet, ui=told)


class AAI_SaveAudioToken(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_SaveAudioToken",
            display_name="Save Audio Token",
            search_aliases=["textual inversion", "save embedding"],
            category=CATEGORY,
            description=(
                "Saves the word in models/embeddings, so that ` embedding:name ` works in every "
                "prompt. Write a space before and after it."
            ),
            is_output_node=True,
            inputs=[
                AudioTokenType.Input("audio_token", tooltip="The word, from Train Audio Token."),
                io.String.Input(
                    "name",
                    default="my-sound",
                    tooltip="The name to write after `embedding:`. Letters, digits, '-', '_', '.' and '+'.",
                ),
                io.Combo.Input(
                    "if_exists",
                    options=list(embeddings.IF_EXISTS),
                    default="number",
                    tooltip="If the name is taken: add a number, replace the old word, or stop.",
                ),
                io.Combo.Input(
                    "export",
                    options=list(EXPORTS),
                    default="none",
                    optional=True,
                    tooltip="Also save a copy for diffusers or AUTOMATIC1111 in output/aai_tokens.",
                ),
            ],
            outputs=[
                io.String.Output(
                    "embedding",
                    display_name="embedding",
                    tooltip="What to write in a prompt: embedding:name, with a space before and after it.",
                )
            ],
        )

    @classmethod
    def execute(cls, audio_token, name, if_exists, export="none") -> io.NodeOutput:
        token = expect(audio_token, AudioToken, "audio_token", "Train Audio Token")
        saved = embeddings.save(token, name, if_exists)
        exported = embeddings.export(token, saved, export)
        return io.NodeOutput(f"embedding:{saved}", ui={"text": [f"embedding:{saved}", *exported]})


NODES = [AAI_TrainAudioToken, AAI_SaveAudioToken, *words.NODES]
