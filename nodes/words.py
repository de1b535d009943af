"""Words that exist already: loaded from a file, or given another sound."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.adapt.config import require_policy
from ..aai_models.adapt.token import AudioToken
from ..aai_models.errors import TokenError
from .host.adapt import embeddings
from .host.adapt.listen import Listening
from .host.adapt.row_word import require_same_kind
from .host.adapt.sound_word import BRIDGES, WordSettings, carried_like, make_word, require_carried
from .host.base.schema import schema
from .host.base.types import AudioFeature, AudioFeatureType, AudioTokenType, expect

CATEGORY = "AAI/Adapt"


def one_sound(audio_feature) -> AudioFeature:
    """A feature of one sound; raises `TokenError` for a batch."""
    feature = expect(audio_feature, AudioFeature, "audio_feature", "Encode Sound")
    if feature.vectors.shape[0] != 1:
        raise TokenError(
            f"There are {feature.vectors.shape[0]} sounds", "A word is made from one sound", "Connect a single sound"
        )
    return feature


class AAI_LoadAudioToken(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_LoadAudioToken",
            display_name="Load Audio Token",
            search_aliases=["textual inversion", "load embedding"],
            category=CATEGORY,
            description="Loads a word from models/embeddings: one that Save Audio Token saved, or any textual inversion.",
            inputs=[
                io.Combo.Input(
                    "name",
                    options=embeddings.choices(),
                    tooltip="A file in models/embeddings, or the best word so far of a training that was stopped. Press R "
                    "after adding one.",
                ),
                io.Clip.Input(
                    "clip", optional=True, tooltip="Optional: checks right away that the word fits this CLIP."
                ),
            ],
            outputs=[AudioTokenType.Output("audio_token", display_name="AUDIO_TOKEN", tooltip="The word A*.")],
        )

    @classmethod
    def validate_inputs(cls, name):
        return embeddings.problem(name) or True

    @classmethod
    def fingerprint_inputs(cls, name, **_):
        return embeddings.fingerprint(name)

    @classmethod
    def execute(cls, name, clip=None) -> io.NodeOutput:
        return io.NodeOutput(embeddings.load(name, clip))


class AAI_ApplyAdapter(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_ApplyAdapter",
            display_name="Another Sound for the Word",
            search_aliases=["swap sound", "adapter"],
            category=CATEGORY,
            description="Exchanges the sound in a trained word for another of the same kind, without training.",
            inputs=[
                AudioTokenType.Input("audio_token", tooltip="The trained word, from Train or Load Audio Token."),
                AudioFeatureType.Input("audio_feature", tooltip="The other sound, from Encode Sound."),
                io.Float.Input(
                    "audio_gain",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip=(
                        "How much of the sound is in the word: 0 is only what the pictures taught, 1 is "
                        "as trained. Not its loudness."
                    ),
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip=(
                        "Needed for words that were made through a bridge (see Word from Sound): the "
                        "CLIP that the word was made with."
                    ),
                ),
            ],
            outputs=[AudioTokenType.Output("word", display_name="AUDIO_TOKEN", tooltip="The word A*.")],
        )

    @classmethod
    def execute(cls, audio_token, audio_feature, audio_gain, clip=None) -> io.NodeOutput:
        token = expect(audio_token, AudioToken, "audio_token", "Train or Load Audio Token")
        feature = one_sound(audio_feature)
        vector, directions = feature.vectors[0], None
        if token.directions:
            require_carried(token, feature)
        else:
            require_same_kind(token, feature)
        if token.directions and clip is not None:
            directions = carried_like(token, clip, feature)
        norm = feature.norms[0] if feature.norms else None
        return io.NodeOutput(token.of_sound(vector, audio_gain, directions, norm))


class AAI_WordFromSound(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_WordFromSound",
            display_name="Word from Sound",
            search_aliases=["audio to text", "audio to image", "zero-shot", "sound to word"],
            essentials_category="Audio",
            has_intermediate_output=True,  # what it shows is there again after the page is reloaded
            category=CATEGORY,
            description="Makes a word from a sound without training, and says what was heard.",
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP that reads the word (SD1.x, SD2.x or SDXL)."),
                AudioFeatureType.Input("audio_feature", tooltip="The sound, from Encode Sound."),
                io.Float.Input(
                    "audio_gain",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="How long the word's vector is; 1 is as long as other words.",
                ),
                io.Int.Input(
                    "vocabulary",
                    default=0,
                    min=0,
                    max=100000,
                    tooltip="How many words the bridge is built from, once for each CLIP; 0 takes all (about 20000).",
                ),
                io.Combo.Input(
                    "bridge",
                    options=list(BRIDGES),
                    default="auto",
                    optional=True,
                    tooltip=(
                        "How the sound becomes a word. auto and labels compare it with names of things that sound "
                        "and draw what was heard. ridge and phi map it to where it lies between words, for what has "
                        "no name: ridge is built in seconds to minutes; phi also trains a small network, once for "
                        "each CLIP."
                    ),
                ),
                io.Float.Input(
                    "nearest_words",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    optional=True,
                    tooltip=(
                        "For ridge and phi: moves the word towards ordinary words, which helps sounds that have a "
                        "name and hurts others. 0 leaves it as heard."
                    ),
                ),
                io.String.Input(
                    "words",
                    default="",
                    optional=True,
                    tooltip=(
                        "What the sound is, if you know better: kettle, or several with shares: wolf 0.7, wind 0.3. "
                        "Empty: as heard."
                    ),
                ),
                io.String.Input(
                    "labels",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip=(
                        "What it may be, one thing a line; clock: a ticking clock tells the encoder more than it "
                        "draws. Empty: the built-in list of things that sound."
                    ),
                ),
                io.Float.Input(
                    "temperature",
                    default=1.0,
                    min=0.05,
                    max=20.0,
                    step=0.05,
                    optional=True,
                    tooltip=(
                        "How the shares of labels are spread: below 1 the first takes more, above 1 they become "
                        "alike. 1 is the encoder's own."
                    ),
                ),
            ],
            outputs=[
                AudioTokenType.Output("audio_token", display_name="AUDIO_TOKEN", tooltip="The word A*."),
                io.String.Output(
                    "heard",
                    display_name="heard",
                    tooltip="What was heard: labels with shares or the nearest words, and how far they can be trusted.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        clip,
        audio_feature,
        audio_gain,
        vocabulary,
        bridge="ridge",  # what a prompt means that was written before there were labels
        nearest_words=0.0,
        words="",
        labels="",
        temperature=1.0,
    ) -> io.NodeOutput:
        feature = one_sound(audio_feature)
        require_policy("bridge", bridge, BRIDGES)
        listening = Listening(labels, temperature, words)
        token, heard = make_word(clip, feature, audio_gain, WordSettings(bridge, vocabulary, nearest_words, listening))
        return io.NodeOutput(token, heard, ui={"text": [heard]})


NODES = [AAI_LoadAudioToken, AAI_ApplyAdapter, AAI_WordFromSound]
