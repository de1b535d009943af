"""Words that exist already: loaded from a file, or given another sound."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.adapt.config import require_policy
from ..aai_models.adapt.token import AudioToken
from ..aai_models.errors import TokenError
from .host.adapt import embeddings
from .host.adapt.bridge import bridge_of_token, word_from_sound
from .host.base import folders
from .host.base.types import AudioFeature, AudioFeatureType, AudioTokenType, expect

CATEGORY = "AAI/Adapt"


def one_sound(audio_feature) -> AudioFeature:
    """A feature of one sound; raises `TokenError` for a batch."""
    feature = expect(audio_feature, AudioFeature, "audio_feature", "Encode Sound")
    if feature.vectors.shape[0] != 1:
        raise TokenError(
            f"There are {feature.vectors.shape[0]} sounds", "A word has one sound", "Connect a single sound"
        )
    return feature


class AAI_LoadAudioToken(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="AAI_LoadAudioToken",
            display_name="Load Audio Token",
            category=CATEGORY,
            description="Reads a word from models/embeddings: one of Save Audio Token, or any textual inversion.",
            inputs=[
                io.Combo.Input(
                    "name",
                    options=embeddings.names(),
                    tooltip="The file in models/embeddings. Press R after adding one.",
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="With it the word's width is checked before anything is drawn."
                ),
            ],
            outputs=[AudioTokenType.Output("audio_token", display_name="AUDIO_TOKEN", tooltip="The word A*.")],
        )

    @classmethod
    def validate_inputs(cls, name):
        return embeddings.problem(name) or True

    @classmethod
    def fingerprint_inputs(cls, name, **_):
        return folders.listed_fingerprint("embeddings", name)

    @classmethod
    def execute(cls, name, clip=None) -> io.NodeOutput:
        return io.NodeOutput(embeddings.load(name, clip))


class AAI_ApplyAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="AAI_ApplyAdapter",
            display_name="Another Sound for the Word",
            category=CATEGORY,
            description="Puts another sound of the same kind into a trained word, without training.",
            inputs=[
                AudioTokenType.Input("audio_token", tooltip="The trained word, from Train or Load Audio Token."),
                AudioFeatureType.Input("audio_feature", tooltip="The other sound, from Encode Sound."),
                io.Float.Input(
                    "audio_gain",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How much of the sound is in the word: 0 leaves what was learned from the pictures, 1 is as "
                    "trained. This is not loudness.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="Needed for words that began with Word from Sound; the CLIP of that word.",
                ),
            ],
            outputs=[AudioTokenType.Output("word", display_name="AUDIO_TOKEN", tooltip="The word A*.")],
        )

    @classmethod
    def execute(cls, audio_token, audio_feature, audio_gain, clip=None) -> io.NodeOutput:
        token = expect(audio_token, AudioToken, "audio_token", "Train or Load Audio Token")
        feature = one_sound(audio_feature)
        vector, directions = feature.vectors[0], None
        if token.directions and clip is not None:
            directions = bridge_of_token(token, clip).carry(vector, feature.centre)
        norm = feature.norms[0] if feature.norms else None
        return io.NodeOutput(token.of_sound(vector, audio_gain, directions, norm))


class AAI_WordFromSound(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="AAI_WordFromSound",
            display_name="Word from Sound",
            category=CATEGORY,
            description="Makes a word from a sound without training, and shows which ordinary words are nearest to it.",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder that shall understand the word (SD1.x or SDXL)."),
                AudioFeatureType.Input("audio_feature", tooltip="The sound, from Encode Sound."),
                io.Float.Input(
                    "audio_gain",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="Size of the word; 1 is that of others.",
                ),
                io.Int.Input(
                    "vocabulary",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="Words that the bridge is built from, once for each CLIP; 0 takes all (some 20000).",
                ),
                io.Combo.Input(
                    "bridge",
                    options=["ridge", "phi"],
                    default="ridge",
                    optional=True,
                    tooltip="ridge is made in seconds to minutes; phi adds a small network that is trained once for "
                    "each CLIP. `heard` tells how well each carries words that it has not seen.",
                ),
                io.Float.Input(
                    "nearest_words",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip="0 takes the word as it was heard; 1 makes it the ordinary words that it is nearest to. Clearer "
                    "for sounds that have a name, further off for those that have none.",
                ),
            ],
            outputs=[
                AudioTokenType.Output("audio_token", display_name="AUDIO_TOKEN", tooltip="The word A*."),
                io.String.Output(
                    "heard",
                    display_name="heard",
                    tooltip="What the model hears: the nearest words, and the bridge's figures.",
                ),
            ],
        )

    @classmethod
    def execute(cls, clip, audio_feature, audio_gain, vocabulary, bridge="ridge", nearest_words=0.0) -> io.NodeOutput:
        feature = one_sound(audio_feature)
        require_policy("bridge", bridge, ("ridge", "phi"))
        token, heard = word_from_sound(
            clip, feature.vectors[0], audio_gain, vocabulary, bridge, feature.centre, nearest_words
        )
        return io.NodeOutput(token, heard, ui={"text": [heard]})


NODES = [AAI_LoadAudioToken, AAI_ApplyAdapter, AAI_WordFromSound]
