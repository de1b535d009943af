"""Inject: the word goes into prompts and acts on pictures."""

from __future__ import annotations

from comfy_api.latest import io

from ..aai_models.adapt.token import AudioToken
from ..aai_models.audio.loudness import MAPPINGS
from .host.base import prompt_words as prompts
from .host.base.patches import require_unet
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
                AudioTokenType.Input(
                    "audio_token",
                    optional=True,
                    tooltip="The word for <A*> (the same as <A1>). Without any, it is an ordinary prompt.",
                ),
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

        return io.Schema(
            node_id="AAI_P2PAttentionInject",
            display_name="Edit with Sound (prompt-to-prompt)",
            category=CATEGORY,
            description="Changes a picture by changing its prompt: what the prompts share stays where it is. The sampler "
            "gives the source and its edits, one after the other.",
            inputs=[
                io.Model.Input("model", tooltip="The model that samples; also one with other patches."),
                io.Conditioning.Input("source", tooltip="The prompt of the source, from Prompt with Sounds."),
                io.Conditioning.Input("target", tooltip="The edited prompt, from Prompt with Sounds."),
                io.Latent.Input("latent", tooltip="An empty latent, or that of a picture, for the source."),
                percent("cross_end", 0.8, "Until when the words' places follow the source: 0 never, 1 to the end."),
                percent("self_end", 0.4, "Until when shapes follow the source: less for a change of style or shape."),
                io.Combo.Input(
                    "controller",
                    options=list(edits.CONTROLLERS),
                    default="AttentionRefine",
                    tooltip="AttentionRefine for added words (the paper's Eq. 7); AttentionReplace exchanges word for "
                    "word, in prompts of as many words.",
                ),
                io.Combo.Input(
                    "memory",
                    options=list(MEMORY),
                    default="auto",
                    tooltip="Where the source's attention is kept; recompute keeps nothing and takes a little longer.",
                ),
                *(
                    io.Conditioning.Input(f"target_{n}", optional=True, tooltip="Another edit of the same source.")
                    for n in MORE_TARGETS
                ),
                percent("cross_start", 0.0, "From when the words' places follow the source.", optional=True),
                percent("self_start", 0.0, "From when shapes follow the source.", optional=True),
                io.Int.Input(
                    "self_downsample",
                    default=2,
                    min=1,
                    max=8,
                    optional=True,
                    tooltip="Shapes follow the source only in layers at least so many times smaller than the latent.",
                ),
                io.String.Input(
                    "reweight",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="More or less of a word, a line each: `rain: 1.5`, `<A*>: 0.5`.",
                ),
                io.Combo.Input(
                    "reweight_base",
                    options=list(edits.REWEIGHT_BASES),
                    default="own",
                    optional=True,
                    tooltip="Scale a word's own map (the paper's Eq. 8) or the source's, as prompt-to-prompt does.",
                ),
                io.Combo.Input(
                    "reweight_window",
                    options=list(edits.SCALE_WINDOWS),
                    default="whole_run",
                    optional=True,
                    tooltip="When reweighting acts: always, or only while the words' places follow the source.",
                ),
                io.String.Input(
                    "word_windows",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="A window of its own for a word, a line each: `beach: 0-0.5`.",
                ),
                io.String.Input(
                    "blend_words",
                    default="",
                    optional=True,
                    tooltip="Local blend: only where these words act may the picture change, as in `<A*>, sea`.",
                ),
                percent("blend_threshold", 0.3, "How strong a word must act for its place to change.", optional=True),
                percent("blend_start", 0.2, "From when local blend acts.", optional=True),
                io.Mask.Input("blend_mask", optional=True, tooltip="Your own mask: only there may the picture change."),
            ],
            outputs=[
                io.Model.Output("model_out", display_name="MODEL", tooltip="To the sampler."),
                io.Conditioning.Output("positive", display_name="positive", tooltip="To the sampler's positive."),
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
        return io.Schema(
            node_id="AAI_LoudnessScale",
            display_name="Loudness Scale",
            category=CATEGORY,
            description="Louder or softer: how strongly a word acts on the picture, from a sound's loudness or a number.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="A prompt from Prompt with Sounds."),
                io.Combo.Input(
                    "mapping",
                    options=list(MAPPINGS),
                    default="sone",
                    tooltip="sone doubles with each 10 LU, as we hear; linear_lu rises evenly; relative compares with the "
                    "sound that the word was made of; manual takes `scale`.",
                ),
                io.Float.Input(
                    "scale",
                    default=1.0,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="For manual: 0 silences the word, 1 leaves it, 2 doubles it. A list makes a list of pictures.",
                ),
                io.Float.Input(
                    "reference",
                    default=-23.0,
                    min=-70.0,
                    max=0.0,
                    step=0.1,
                    tooltip="The loudness in LUFS that gives 1. For relative: that of the sound the word was made of.",
                ),
                io.String.Input("words", default="<A*>", tooltip="The words to scale, separated by commas."),
                io.Float.Input(
                    "start", default=0.0, min=0.0, max=1.0, step=0.01, tooltip="From when it acts: 0 is the first step."
                ),
                io.Float.Input(
                    "end", default=1.0, min=0.0, max=1.0, step=0.01, tooltip="Until when it acts: 1 is the last step."
                ),
                io.Combo.Input(
                    "base",
                    options=list(edits.REWEIGHT_BASES),
                    default="own",
                    tooltip="In an edit: scale the word's own map (the paper's Eq. 8), or what it took from the source.",
                ),
                io.Model.Input(
                    "model",
                    optional=True,
                    tooltip="Connect it, and use the MODEL output: prompts stay batched and sampling as fast as before. "
                    "Without it the scale travels on the conditioning alone.",
                ),
                io.Audio.Input("audio", optional=True, tooltip="The sound whose loudness sets the scale."),
                io.Float.Input(
                    "lufs", optional=True, force_input=True, tooltip="A loudness, from Load Sound, instead of a sound."
                ),
            ],
            outputs=[
                io.Conditioning.Output("conditioning_out", display_name="CONDITIONING", tooltip="To the sampler."),
                io.Model.Output("model_out", display_name="MODEL", tooltip="To the sampler, if a model is connected."),
                io.Float.Output("scale_out", display_name="scale", tooltip="The scale that acts, in 0 to 2."),
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
        return io.Schema(
            node_id="AAI_PhotoSource",
            display_name="Photo as Source",
            category=CATEGORY,
            description="Lets Edit with Sound begin from a photo of yours instead of a generated picture.",
            inputs=[
                io.Vae.Input("vae", tooltip="The VAE of the checkpoint."),
                io.Image.Input("image", tooltip="One photo or a batch of one size; sides are cut to multiples of 8."),
                io.Conditioning.Input("prompt", tooltip="What the photo shows, from Prompt with Sounds."),
                io.Combo.Input(
                    "method",
                    options=list(photo.METHODS),
                    default="virtual",
                    tooltip="virtual: any sampler, no inversion. direct: along the photo's own inversion, for euler and "
                    "ddim. ddim: plain inversion, as a comparison.",
                ),
            ],
            outputs=[
                io.Conditioning.Output("source", display_name="source", tooltip="To `source` of Edit with Sound."),
                io.Latent.Output("latent", display_name="LATENT", tooltip="To `latent` of Edit with Sound."),
                io.Image.Output("decoded", display_name="decoded", tooltip="What the VAE alone makes of the photo."),
            ],
        )

    @classmethod
    def execute(cls, vae, image, prompt, method) -> io.NodeOutput:
        latent = photo.encode_photo(vae, image)
        return io.NodeOutput(photo.tagged(prompt, method, latent), {"samples": latent}, vae.decode(latent))


NODES = [AAI_AudioTokenConditioning, AAI_P2PAttentionInject, AAI_LoudnessScale, AAI_PhotoSource]
