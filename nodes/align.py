"""Align: a sound enters and becomes a feature."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..aai_models.audio.decode import decode_audio
from ..aai_models.audio.errors import AudioError
from ..aai_models.audio.fbank import LONG_CLIP, SHORT_CLIP, encoder_input
from ..aai_models.audio.loudness import integrated
from ..aai_models.audio.waveform import as_waveform
from .host import folders
from .host.cavt import HostedCAVT
from .host.cavt import load as load_cavt
from .host.types import AudioFeature, AudioFeatureType, CAVTModel, expect

CATEGORY = "AAI/Align"
MAX_DURATION = 600.0  # seconds that are ever held in memory
SHORTEST = 0.025  # seconds; one analysis window of the encoder
SILENCE_PEAK = 1e-5  # -100 dBFS


class AAI_LoadAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="AAI_LoadAudio",
            display_name="Load Sound",
            category=CATEGORY,
            description="Loads a part of a recording (or of a video's sound) and measures how loud it is.",
            inputs=[
                io.Combo.Input(
                    "audio",
                    options=folders.audio_files(),
                    upload=io.UploadType.audio,
                    tooltip="A recording in ComfyUI's input folder: wav, flac, ogg, mp3, opus, m4a, or a video.",
                ),
                io.Float.Input(
                    "start",
                    default=0.0,
                    min=0.0,
                    max=86400.0,
                    step=0.01,
                    tooltip="Where to begin, in seconds.",
                ),
                io.Float.Input(
                    "duration",
                    default=10.24,
                    min=0.01,
                    max=MAX_DURATION,
                    step=0.01,
                    tooltip="How much to load, in seconds; less if the recording ends before. "
                    "The encoder hears 10.24 seconds.",
                ),
            ],
            outputs=[
                io.Audio.Output("sound", display_name="audio", tooltip="The sound at its own rate, all channels."),
                io.Float.Output(
                    "loudness",
                    display_name="loudness",
                    tooltip="Integrated loudness in LUFS (ITU-R BS.1770-4); -inf for silence.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, audio=None):
        return folders.input_problem(audio) or True

    @classmethod
    def fingerprint_inputs(cls, audio, **_):
        return folders.file_fingerprint(folders.input_path(audio))

    @classmethod
    def execute(cls, audio, start, duration) -> io.NodeOutput:
        waveform, sample_rate = decode_audio(folders.input_path(audio), start=start, duration=duration)
        sound, sample_rate = as_waveform({"waveform": waveform.unsqueeze(0), "sample_rate": sample_rate})
        loudness = float(integrated(sound, sample_rate)[0])
        return io.NodeOutput({"waveform": sound, "sample_rate": sample_rate}, loudness)


class AAI_LoadCAVT(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="AAI_LoadCAVT",
            display_name="Load CAVT-MAE",
            category=CATEGORY,
            description="Loads the encoder that hears: a CAV-MAE or CAVT-MAE checkpoint from models/cavt_mae.",
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=folders.cavt_files(),
                    tooltip="A .safetensors or .pth file in models/cavt_mae.",
                ),
            ],
            outputs=[CAVTModel.Output("cavt_model", display_name="CAVT_MODEL", tooltip="The encoder.")],
        )

    @classmethod
    def execute(cls, checkpoint) -> io.NodeOutput:
        return io.NodeOutput(load_cavt(folders.cavt_path(checkpoint)))


class AAI_CAVTEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="AAI_CAVTEncode",
            display_name="Encode Sound (CAVT-MAE)",
            category=CATEGORY,
            description="What the encoder hears in a sound, as a feature in the space of pictures and words.",
            inputs=[
                CAVTModel.Input("cavt", tooltip="The encoder, from Load CAVT-MAE."),
                io.Audio.Input("audio", tooltip="A sound of any rate and number of channels, or a batch of them."),
                io.Combo.Input(
                    "short_clip",
                    options=list(SHORT_CLIP),
                    default="tile",
                    tooltip="What fills up a sound shorter than 10.24 seconds: the sound again (tile), silence, "
                    "or the constant of the encoder's own training code (pad_reference, as in the paper).",
                ),
                io.Combo.Input(
                    "long_clip",
                    options=[policy for policy in LONG_CLIP if policy != "mean_of_windows"],
                    default="first",
                    tooltip="Which 10.24 seconds of a longer sound are heard: the first, the middle or the loudest.",
                ),
            ],
            outputs=[
                AudioFeatureType.Output(
                    "audio_feature", display_name="AUDIO_FEATURE", tooltip="One unit vector for each sound."
                )
            ],
        )

    @classmethod
    def execute(cls, cavt, audio, short_clip, long_clip) -> io.NodeOutput:
        encoder = expect(cavt, HostedCAVT, "cavt", "Load CAVT-MAE")
        waveform, sample_rate = as_waveform(audio)
        _require_sound(waveform, sample_rate)
        fbank = encoder_input(waveform, sample_rate, short_clip=short_clip, long_clip=long_clip)
        lufs = tuple(integrated(waveform, sample_rate).tolist())
        return io.NodeOutput(AudioFeature(encoder.encode_audio(fbank), encoder.name, lufs))


def _require_sound(waveform: torch.Tensor, sample_rate: int) -> None:
    seconds = waveform.shape[-1] / sample_rate
    if seconds < SHORTEST:
        raise AudioError(
            f"The sound lasts {1000 * seconds:.3g} ms",
            f"The encoder needs at least {1000 * SHORTEST:.0f} ms",
            "Choose a longer part of the recording",
        )
    if float(waveform.abs().amax()) < SILENCE_PEAK:
        raise AudioError(
            "The sound is silent",
            "A word can only be made of something that can be heard",
            "Choose another part of the recording with `start` and `duration`",
        )


NODES = [AAI_LoadAudio, AAI_LoadCAVT, AAI_CAVTEncode]
