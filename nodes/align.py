"""Align: a sound enters and becomes a feature."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from ..aai_models.audio.decode import decode_part
from ..aai_models.audio.fbank import LEVEL, SHORT_CLIP
from ..aai_models.audio.heard import require_heard
from ..aai_models.audio.loudness import integrated
from ..aai_models.audio.overview import draw_overview
from ..aai_models.audio.waveform import as_waveform
from ..aai_models.audio.windows import LONG_CLIP
from .host.base import folders, shown
from .host.base.messages import tell
from .host.base.pocket_menus import SHIPPED
from .host.base.schema import schema
from .host.base.types import AudioFeatureType, CAVTModel, expect
from .host.hear import pictures
from .host.hear.audiotoken import NO_DROPOUT
from .host.hear.encoders import HOSTED, load_any
from .host.hear.features import hear

CATEGORY = "AAI/Align"
MAX_DURATION = 600.0  # seconds that are ever held in memory


class AAI_LoadAudio(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_LoadAudio",
            display_name="Load Sound",
            search_aliases=["load audio", "audio file", "recording", "loudness", "LUFS"],
            essentials_category="Audio",
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
                    tooltip=(
                        "How many seconds to load. The audio encoder hears 10.24 seconds; a shorter "
                        "recording is loaded to its end."
                    ),
                ),
                io.Int.Input(
                    "stream",
                    default=0,
                    min=0,
                    max=99,
                    optional=True,
                    tooltip="Which sound track of a video, counted from 1. 0 takes the first one that is not silent.",
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
    def execute(cls, audio, start, duration, stream=0) -> io.NodeOutput:
        part = decode_part(folders.input_path(audio), start=start, duration=duration, stream=stream)
        sound, sample_rate = as_waveform({"waveform": part.waveform.unsqueeze(0), "sample_rate": part.sample_rate})
        if part.notes():
            tell(" ".join(part.notes()))
        loudness = float(integrated(sound, sample_rate)[0])
        return io.NodeOutput({"waveform": sound, "sample_rate": sample_rate}, loudness)


class AAI_AudioOverview(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_AudioOverview",
            display_name="Look at Sound",
            search_aliases=["waveform", "spectrogram", "mel", "audio preview", "loudness"],
            category=CATEGORY,
            description="Draws a sound: its waveform, its loudness over time, and the spectrogram that the audio encoder gets.",
            is_output_node=True,
            inputs=[
                io.Audio.Input("audio", tooltip="A sound or a batch of sounds. At most ten minutes are drawn."),
                io.Int.Input("width", default=1024, min=320, max=8192, tooltip="Width of the picture in pixels."),
                io.Int.Input("height", default=720, min=240, max=8192, tooltip="Height of the picture in pixels."),
            ],
            outputs=[io.Image.Output("image", display_name="image", tooltip="One picture for each sound.")],
        )

    @classmethod
    def execute(cls, audio, width, height) -> io.NodeOutput:
        drawn = draw_overview(*as_waveform(audio), width, height)
        images = torch.cat([pictures.to_image(picture) for picture in drawn])
        return io.NodeOutput(images, ui=shown.pictures(images))


class AAI_LoadCAVT(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_LoadCAVT",
            display_name="Load Audio Encoder (AAI)",
            search_aliases=["audio encoder", "CAV-MAE", "CAVT-MAE", "CLAP", "PE-AV", "ImageBind", "AudioToken"],
            category=CATEGORY,
            description=(
                "Loads an audio encoder: a CAV-MAE or CAVT-MAE file from models/cavt_mae, or ImageBind's file or a "
                "CLAP, PE-AV or AudioToken folder from models/audio_encoders."
            ),
            inputs=[
                io.Combo.Input(
                    "checkpoint",
                    options=[*folders.encoder_names(), SHIPPED],
                    tooltip="A .safetensors or .pth file in models/cavt_mae, or in models/audio_encoders imagebind_huge.pth or "
                    "a folder of CLAP, PE-AV or AudioToken. The one that came with the pack goes with Pocket Models.",
                ),
                io.Int.Input(
                    "dropout_seed",
                    default=NO_DROPOUT,
                    min=NO_DROPOUT,
                    max=2**63 - 1,
                    optional=True,
                    control_after_generate=False,
                    tooltip="Only for AudioToken. -1: a sound always gives the same word. Any other number draws the "
                    "dropout that AudioToken's own code leaves on, so that each number gives another word.",
                ),
            ],
            outputs=[CAVTModel.Output("cavt_model", display_name="CAVT_MODEL", tooltip="The audio encoder.")],
        )

    @classmethod
    def execute(cls, checkpoint, dropout_seed=NO_DROPOUT) -> io.NodeOutput:
        if checkpoint == SHIPPED:
            from .host.pocket.models import load_encoder

            return io.NodeOutput(load_encoder())
        encoder = load_any(folders.encoder_path(checkpoint), dropout_seed)
        if getattr(encoder, "note", ""):
            tell(encoder.note)
        return io.NodeOutput(encoder)


class AAI_CAVTEncode(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return schema(
            node_id="AAI_CAVTEncode",
            display_name="Encode Sound (CAVT-MAE)",
            search_aliases=["audio encoder", "audio embedding", "sound to feature", "CLAP"],
            category=CATEGORY,
            description="Turns a sound into an audio feature, which can be compared with pictures and becomes a word.",
            inputs=[
                CAVTModel.Input("cavt", tooltip="The audio encoder, from Load Audio Encoder (AAI)."),
                io.Audio.Input(
                    "audio", tooltip="A sound or a batch of sounds, of any sample rate and number of channels."
                ),
                io.Combo.Input(
                    "short_clip",
                    options=list(SHORT_CLIP),
                    default="tile",
                    tooltip=(
                        "How a sound shorter than 10.24 seconds is filled up: tile repeats it, silence "
                        "adds silence, pad_reference does what the encoder was trained with (the paper's "
                        "way)."
                    ),
                ),
                io.Combo.Input(
                    "long_clip",
                    options=list(LONG_CLIP),
                    default="first",
                    tooltip=(
                        "Which 10.24 seconds of a longer sound are heard: the first, the middle or the "
                        "loudest. mean_of_windows hears all of it in parts and takes the average."
                    ),
                ),
                io.Combo.Input(
                    "level",
                    options=list(LEVEL),
                    default="as_recorded",
                    optional=True,
                    tooltip=(
                        "as_recorded: a quiet sound gives another word than the same sound loud (the "
                        "paper's way). normalised: every sound is brought to -23 LUFS first, so that "
                        "only its kind counts."
                    ),
                ),
            ],
            outputs=[
                AudioFeatureType.Output(
                    "audio_feature", display_name="AUDIO_FEATURE", tooltip="One feature vector for each sound."
                )
            ],
        )

    @classmethod
    def execute(cls, cavt, audio, short_clip, long_clip, level="as_recorded") -> io.NodeOutput:
        encoder = expect(cavt, HOSTED, "cavt", "Load Audio Encoder (AAI)")
        waveform, sample_rate = as_waveform(audio)
        require_heard(waveform, sample_rate, long_clip)
        policies = {"short_clip": short_clip, "long_clip": long_clip, "level": level}
        return io.NodeOutput(hear(encoder, waveform, sample_rate, **policies))


NODES = [AAI_LoadAudio, AAI_AudioOverview, AAI_LoadCAVT, AAI_CAVTEncode]
