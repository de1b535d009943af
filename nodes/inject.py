"""Inject: the word goes into prompts and acts on pictures."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.adapt.token import AudioToken
from ..aai_models.audio.loudness import MAPPINGS
from .host.base import prompt_words as prompts
from .host.base.patches import require_unet
from .host.base.schema import schema
from .host.base.types import AudioTokenType, expect
from .host.inject import edits, loudness, photo, prompt_to_prompt
from .host.inject.latents import branch_latent
from .host.inject.source_memory import MEMORY

CATEGORY = "AAI/Inject"
MORE_TARGETS = range(2, 9)
MORE_TOKENS = ("audio_token_2", "audio_token_3", "audio_token_4")


class AAI_AudioTokenConditioning(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        more = [
            AudioTokenType.Input(name, optional=True, tooltip=f"Another sound's word: write <A{number}>.")
            for number, name in enumerate(MORE_TOKENS, start=2)
        ]
        return schema(
            node_id="AAI_AudioTokenConditioning",
            display_name="Prompt with Sounds",
            search_aliases=["CLIP Text Encode", "audio prompt", "text encode", "embedding"],
            essentials_category="Audio",
            category=CATEGORY,
            description=(
                "Encodes a prompt with <A*> in the place of a sound's word. Without <A*> it does the "
                "same as CLIP Text Encode."
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The CLIP that the word was trained with."),
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="a photo of <A*>",
                    tooltip="Write <A*> wherever the sound should act. Weights work: (<A*>:1.2).",
                ),
                AudioTokenType.Input("audio_token", optional=True, tooltip="The word for <A*>, also called <A1>."),
                *more,
            ],
            outputs=[
                io.Conditioning.Output(
                    "conditioning",
                    display_name="CONDITIONING",
                    tooltip="The encoded prompt. It remembers where each word stands.",
                )
            ],
        )

    @classmethod
    def execute(cls, clip, text, audio_token=None, **more) -> io.NodeOutput:
        connected = {1: audio_token, **{n: more.get(name) for n, name in enumerate(MORE_TOKENS, start=2)}}
        tokens = {
            number: expect(token, AudioToken, "audio_token", "Train Audio Token")
            for number, token in connected.items()
            if token is not None
        }
        return io.NodeOutput(prompts.encode(clip, text, tokens))


class AAI_P2PAttentionInject(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        def percent(name, default, tooltip, **more):
            return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.01, tooltip=tooltip, **more)

        return schema(
            node_id="AAI_P2PAttentionInject",
            display_name="Edit with Sound (prompt-to-prompt)",
            search_aliases=["prompt-to-prompt", "p2p", "attention injection", "image editing", "local edit"],
            category=CATEGORY,
            description=(
                "Changes a picture by changing its prompt (prompt-to-prompt): what both prompts "
                "share stays where it is. The sampler returns the source and then its edits."
            ),
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with; LoRAs and other patches are welcome."),
                io.Conditioning.Input("source", tooltip="The prompt of the source, from Prompt with Sounds."),
                io.Conditioning.Input("target", tooltip="The edited prompt, from Prompt with Sounds."),
                io.Latent.Input("latent", tooltip="The latent for the source: an empty one, or a picture's."),
                percent("cross_end", 0.8, ("How long words keep the source's layout: 0 never, 1 the whole run.")),
                percent("self_end", 0.4, ("How long shapes are copied from the source; lower it to change the style.")),
                io.Combo.Input(
                    "controller",
                    options=list(edits.CONTROLLERS),
                    default="AttentionRefine",
                    tooltip=(
                        "AttentionRefine: words may be added (the paper's Eq. 7). AttentionReplace: "
                        "words are swapped one for one, in prompts with the same number of words."
                    ),
                ),
                io.Combo.Input(
                    "memory",
                    options=list(MEMORY),
                    default="auto",
                    tooltip=(
                        "Where the source's attention is stored: auto, on the device, or in RAM. "
                        "recompute stores nothing, runs slower."
                    ),
                ),
                *(
                    io.Conditioning.Input(f"target_{n}", optional=True, tooltip="Another edit of the same source.")
                    for n in MORE_TARGETS
                ),
                percent(
                    "cross_start",
                    0.0,
                    ("When words start to keep the source's layout: 0 is the first step."),
                    optional=True,
                ),
                percent(
                    "self_start",
                    0.0,
                    ("When shapes start to be copied from the source: 0 is the first step."),
                    optional=True,
                ),
                io.Int.Input(
                    "self_downsample",
                    default=2,
                    min=1,
                    max=8,
                    optional=True,
                    tooltip="Copy shapes only in layers at 1/N of the latent's size or smaller.",
                ),
                io.String.Input(
                    "reweight",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Strengthen or weaken words, one on each line: `rain: 1.5`, `<A*>: 0.5`.",
                ),
                io.Combo.Input(
                    "reweight_base",
                    options=list(edits.REWEIGHT_BASES),
                    default="own",
                    optional=True,
                    tooltip=(
                        "What reweight scales: own is the word's own attention (the paper's Eq. 8), "
                        "injected the attention taken from the source (prompt-to-prompt)."
                    ),
                ),
                io.Combo.Input(
                    "reweight_window",
                    options=list(edits.SCALE_WINDOWS),
                    default="whole_run",
                    optional=True,
                    tooltip="When reweight acts: during the whole run, or only from cross_start to cross_end.",
                ),
                io.String.Input(
                    "word_windows",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Other start and end for single words, one on each line: `beach: 0-0.5`.",
                ),
                io.String.Input(
                    "blend_words",
                    default="",
                    optional=True,
                    tooltip=(
                        "Local blend: the picture may change only where these words act. Separate them "
                        "by commas: `<A*>, sea`."
                    ),
                ),
                percent(
                    "blend_threshold",
                    0.3,
                    ("Relative attention above which a place may change: lower it to change more of the picture."),
                    optional=True,
                ),
                percent("blend_start", 0.2, "When local blend starts: 0 is the first step.", optional=True),
                io.Mask.Input(
                    "blend_mask", optional=True, tooltip="Your own mask: the picture may change only where it is white."
                ),
            ],
            outputs=[
                io.Model.Output("model_out", display_name="MODEL", tooltip="To the sampler."),
                io.Conditioning.Output("positive", display_name="positive", tooltip="To `positive` of the sampler."),
                io.Latent.Output("latent_out", display_name="LATENT", tooltip="To the sampler: source and edits."),
            ],
        )

    @classmethod
    def execute(cls, model, source, target, latent, blend_mask=None, **settings) -> io.NodeOutput:
        require_unet(model)
        more = (settings.pop(f"target_{n}", None) for n in MORE_TARGETS)
        targets = [target, *(another for another in more if another is not None)]
        pictures = latent["samples"].shape[0]
        planned = edits.plan(source, targets, edits.EditSettings(**settings), pictures, blend_mask)
        return io.NodeOutput(prompt_to_prompt.patched(model), planned, branch_latent(latent, 1 + len(targets)))


class AAI_LoudnessScale(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_LoudnessScale",
            display_name="Loudness Scale",
            search_aliases=["audio reactive", "attention weight", "volume", "emphasis"],
            category=CATEGORY,
            description=(
                "How strongly a word acts on the picture, from the loudness of a sound or a number: "
                "0 is silent, 1 unchanged, 2 double."
            ),
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="A prompt from Prompt with Sounds."),
                io.Combo.Input(
                    "mapping",
                    options=list(MAPPINGS),
                    default="sone",
                    tooltip=(
                        "How loudness becomes a scale: sone doubles every 10 LU, as we hear; linear_lu "
                        "rises evenly; relative compares with the sound the word was made of; manual "
                        "uses `scale`."
                    ),
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip=(
                        "For manual: 0 silences the word, 1 leaves it unchanged, 2 doubles it. A list of "
                        "numbers gives a list of pictures."
                    ),
                ),
                io.Float.Input(
                    "reference",
                    default=-23.0,
                    min=-70.0,
                    max=0.0,
                    step=0.1,
                    tooltip=(
                        "The loudness in LUFS that gives scale 1. For relative: the loudness of the "
                        "sound the word was made of."
                    ),
                ),
                io.String.Input("words", default="<A*>", tooltip="The words to scale, separated by commas."),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="When the scale starts to act: 0 is the first step.",
                ),
                io.Float.Input(
                    "end",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    tooltip="When the scale stops acting: 1 is the last step.",
                ),
                io.Combo.Input(
                    "base",
                    options=list(edits.REWEIGHT_BASES),
                    default="own",
                    tooltip=(
                        "In an edit, what is scaled: own is the word's own attention (the paper's Eq. "
                        "8), injected what it took from the source."
                    ),
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip=(
                        "Optional. Connect it and use the MODEL output to sample at full speed. Without "
                        "it the scale works too, but sampling is slower."
                    ),
                ),
                io.Audio.Input("audio", optional=True, tooltip="The sound whose loudness sets the scale."),
                io.Float.Input(
                    "lufs",
                    optional=True,
                    force_input=True,
                    tooltip="A loudness in LUFS, from Load Sound, instead of a sound.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("conditioning_out", display_name="CONDITIONING", tooltip="To the sampler."),
                io.Model.Output("model_out", display_name="MODEL", tooltip="To the sampler, if a model is connected."),
                io.Float.Output("scale_out", display_name="scale", tooltip="The scale in use, from 0 to 2."),
            ],
        )

    @classmethod
    def execute(
        cls, conditioning, mapping, scale, reference, words, start, end, base, model=None, audio=None, lufs=None
    ) -> io.NodeOutput:
        factor = loudness.scale_of(audio, lufs, mapping, reference, scale)
        marked = loudness.scaled(conditioning, words, factor, start, end, base)
        if model is None:
            return io.NodeOutput(loudness.hooked(marked) if marked is not conditioning else marked, None, factor)
        return io.NodeOutput(marked, loudness.patched(model) if marked is not conditioning else model, factor)


class AAI_PhotoSource(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_PhotoSource",
            display_name="Photo as Source",
            search_aliases=["inversion", "DDIM inversion", "null-text", "edit a photo", "img2img"],
            category=CATEGORY,
            description="Lets Edit with Sound start from your photo instead of a generated picture.",
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the checkpoint."),
                io.Image.Input("image", tooltip="One photo or a batch of one size; sides are cut to multiples of 8."),
                io.Conditioning.Input("prompt", tooltip="What the photo shows, from Prompt with Sounds."),
                io.Combo.Input(
                    "method",
                    options=list(photo.METHODS),
                    default="virtual",
                    tooltip=(
                        "How the photo becomes a source. virtual: works with any sampler, nothing to "
                        "invert. direct: follows the photo's inversion, for euler and ddim. ddim: plain "
                        "inversion, for comparison."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output("source", display_name="source", tooltip="To `source` of Edit with Sound."),
                io.Latent.Output("latent", display_name="LATENT", tooltip="To `latent` of Edit with Sound."),
                io.Image.Output(
                    "decoded", display_name="decoded", tooltip="The photo after the VAE alone, for comparison."
                ),
            ],
        )

    @classmethod
    def execute(cls, vae, image, prompt, method) -> io.NodeOutput:
        latent = photo.encode_photo(vae, image)
        return io.NodeOutput(photo.tagged(prompt, method, latent), {"samples": latent}, vae.decode(latent))


NODES = [AAI_AudioTokenConditioning, AAI_P2PAttentionInject, AAI_LoudnessScale, AAI_PhotoSource]
