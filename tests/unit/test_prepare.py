"""Training sets: video frames chosen by CLIP, and clips that are missing, silent, doubled or damaged."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from aai_pack.aai_models.align.data import media
from aai_pack.aai_models.align.data import prepare as preparing
from aai_pack.aai_models.align.data.media import FramePicker, clip_pictures, picture_bytes, sound_bytes, video_frames
from aai_pack.aai_models.align.data.prepare import give_pictures, hold_out, prepare
from aai_pack.aai_models.align.data.sources import Clip, read_clips
from aai_pack.aai_models.audio.decode import decode_audio
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.errors import CheckpointError, DataError
from aai_pack.tests import sounds
from PIL import Image


def write_tone(path, seconds: float = 0.5, frequency: float = 440.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    sounds.write_wav(path, sounds.tone(seconds, 16000, frequency)[0].numpy())
    return path


def write_video(path, colours, rate: int = 10, with_sound: bool = True, size=(64, 48)):
    """One frame of each colour a tenth of a second; a tone as long."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=rate)
        video.width, video.height, video.pix_fmt = *size, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono") if with_sound else None
        for colour in colours:
            image = np.full((size[1], size[0], 3), colour, dtype=np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode(None))
        if with_sound:
            samples = sounds.tone(len(colours) / rate, 16000).numpy()
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate = 16000
            resampler = av.AudioResampler(format="fltp", layout="mono", rate=16000, frame_size=1024)
            for piece in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
    return path


def write_clip_model(folder):
    """A tiny random CLIP of the real classes, with a tokenizer whose vocabulary is the letters."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTextConfig, CLIPTextModel

    letters = [chr(code) for code in range(33, 127)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    kind = {"tokenizer_class": "CLIPTokenizer", "bos_token": words[0], "eos_token": words[1], "pad_token": words[1]}
    (folder / "tokenizer_config.json").write_text(json.dumps({**kind, "unk_token": words[1], "model_max_length": 77}))
    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": len(words), "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    torch.manual_seed(0)
    vision = {**small, "image_size": 32, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessor(**size).save_pretrained(folder)
    CLIPTextModel(CLIPTextConfig(**text)).save_pretrained(folder / "text")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        (folder / "text" / name).write_text((folder / name).read_text())
    return folder


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    return write_clip_model(tmp_path_factory.mktemp("clip"))


def words_alone(folder, clip_folder):
    """A folder with a vocabulary and no model."""
    for name in ("vocab.json", "merges.txt"):
        (folder / name).write_text((clip_folder / name).read_text())
    return folder


def members(folder) -> dict[str, list[str]]:
    """Row key -> suffixes, over all shards."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("*.tar")):
        with tarfile.open(path) as tar:
            for name in tar.getnames():
                key, _, suffix = name.partition(".")
                found.setdefault(key, []).append(suffix)
    return found


class TestMedia:
    def test_a_short_sound_stays_as_it_is_and_a_part_is_cut(self, tmp_path):
        path = write_tone(tmp_path / "a.wav", 2.0)
        data, suffix = sound_bytes(Clip("a", path, "dog"))
        assert (data, suffix) == (path.read_bytes(), "wav")
        data, suffix = sound_bytes(Clip("a", path, "dog", start=0.5, seconds=1.0))
        waveform, rate = decode_audio(io.BytesIO(data))
        assert (suffix, rate, waveform.shape) == ("flac", 16000, (1, 16000))
        torch.testing.assert_close(waveform, decode_audio(path, 0.5, 1.0)[0], rtol=0, atol=1e-4)
        long = write_tone(tmp_path / "long.wav", 15.0)
        assert decode_audio(io.BytesIO(sound_bytes(Clip("l", long, "dog"))[0]))[0].shape[1] == round(10.24 * 16000)

    def test_silence_is_refused(self, tmp_path):
        sounds.write_wav(tmp_path / "s.wav", np.zeros(16000))
        with pytest.raises(AudioError, match="silent"):
            sound_bytes(Clip("s", tmp_path / "s.wav", "dog"))

    def test_frames_are_spaced_evenly_over_the_part(self, tmp_path):
        path = write_video(tmp_path / "v.mp4", [(6 * n, 0, 0) for n in range(40)])  # four seconds of rising red
        red = [np.asarray(f)[..., 0].mean() for f in video_frames(path, 0.0, 10.0, 8)]
        assert len(red) == 8 and red == sorted(red) and red[-1] == pytest.approx(6 * 35, abs=12)
        late = [np.asarray(f)[..., 0].mean() for f in video_frames(path, 2.0, 1.0, 5)]
        assert late[0] == pytest.approx(6 * 20, abs=12) and late[-1] == pytest.approx(6 * 28, abs=12)
        assert len(video_frames(path, 0.0, 10.0, 99)) == 40
        assert len(clip_pictures(Clip("v", path, "red"))) == 20

    def test_what_is_no_video(self, tmp_path):
        (tmp_path / "v.mp4").write_bytes(b"no video")
        with pytest.raises(OSError, match="cannot be read as a video"):
            video_frames(tmp_path / "v.mp4", 0, 1, 2)

    def test_stored_pictures_are_small(self):
        small = Image.open(io.BytesIO(picture_bytes(Image.new("RGBA", (1000, 600), "red"))))
        assert small.size == (427, 256) and small.mode == "RGB"
        assert Image.open(io.BytesIO(picture_bytes(Image.new("L", (40, 30))))).size == (40, 30)

    def test_what_is_read_ahead_is_small(self, tmp_path):
        """Twenty frames of each of the clips that are read ahead would otherwise fill the memory."""
        Image.new("RGB", (1200, 900), "red").save(tmp_path / "a.png")
        (picture,) = clip_pictures(Clip("a", tmp_path / "a.wav", "red", pictures=(tmp_path / "a.png",)))
        frames = clip_pictures(Clip("v", write_video(tmp_path / "v.mp4", [(9, 9, 9)] * 5, size=(640, 480)), "dark"))
        assert picture.size == (341, 256) and {frame.size for frame in frames} == {(341, 256)}

    def test_clip_orders_frames_by_the_label(self, tmp_path, clip_folder):
        picker = FramePicker(clip_folder)
        pictures = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue", "white")]
        order = picker.order(pictures, "a dog")
        assert sorted(order) == [0, 1, 2, 3]
        assert picker.order([pictures[i] for i in order], "a dog") == [0, 1, 2, 3]
        with pytest.raises(CheckpointError, match="has no tokenizer"):
            FramePicker(clip_folder.parent / "gone")
        with pytest.raises(CheckpointError, match="cannot be read as a CLIPModel"):
            FramePicker(words_alone(tmp_path, clip_folder))


class TestPrepare:
    def test_shards_hold_everything(self, tmp_path):
        red, blue = tmp_path / "red.png", tmp_path / "blue.png"
        Image.new("RGB", (50, 40), "red").save(red), Image.new("RGB", (50, 40), "blue").save(blue)
        odd = 'Ärger / "dog"\n\u65e5\u672c'
        clips = [
            Clip(f"c{n}", write_tone(tmp_path / f"{n}.wav"), odd if n else "rain", split=split, pictures=(red, blue))
            for n, split in enumerate(["train"] * 5 + ["test"])
        ]
        seen = []
        report = prepare(clips, tmp_path / "set%", shard_size=2, progress=lambda *at: seen.append(at))
        assert report.written == {"test": 1, "train": 5} and report.pictures == 12 and (5, 5) in seen
        index = json.loads((tmp_path / "set%" / "index.json").read_text(encoding="utf-8"))
        assert index["labels"] == sorted([odd, "rain"]) and index["rows"] == 6
        assert [s["clips"] for s in index["splits"]["train"]["shards"]] == [2, 2, 1]
        found = members(tmp_path / "set%")
        assert len(found) == 6
        assert all(sorted(s) == ["json", "picture00.jpg", "picture01.jpg", "sound.wav"] for s in found.values())
        assert not (tmp_path / "set%.partial").exists()
        with pytest.raises(DataError, match="already exists"):
            prepare(clips, tmp_path / "set%")

    @pytest.mark.parametrize("end", [KeyboardInterrupt, OSError(28, "No space left on device")])
    def test_it_goes_on_behind_the_last_whole_shard(self, tmp_path, monkeypatch, end):
        sounds.write_wav(tmp_path / "silent.wav", np.zeros(8000))
        paths = [tmp_path / "silent.wav" if n == 1 else write_tone(tmp_path / f"{n}.wav") for n in range(8)]
        clips = [Clip(f"c{n}", path, "dog", split="val" if n > 6 else "train") for n, path in enumerate(paths)]
        prepare(clips, tmp_path / "whole", shard_size=2)
        read, ends = [], [3]

        def counted(sample_of):
            def sample(row, clip, *rest):
                if len(read) in ends:
                    raise end
                read.append(clip.clip.id)
                return sample_of(row, clip, *rest)

            return sample

        monkeypatch.setattr(preparing, "_sample", counted(preparing._sample))
        with pytest.raises((KeyboardInterrupt, DataError)) as caught:
            prepare(clips, tmp_path / "set", shard_size=2)
        assert end is KeyboardInterrupt or "continues after the last whole shard" in str(caught.value)
        assert not (tmp_path / "set").exists() and read == ["c0", "c2", "c3"]
        ends.clear(), read.clear()
        report = prepare(clips, tmp_path / "set", shard_size=2)
        assert read == ["c3", "c4", "c5", "c6", "c7"]
        assert report.written == {"train": 6, "val": 1} and list(report.skipped) == ["c1"]
        for path in (tmp_path / "whole").iterdir():
            assert path.read_bytes() == (tmp_path / "set" / path.name).read_bytes()
        assert not (tmp_path / "set.partial").exists()

    def test_another_call_begins_anew(self, tmp_path):
        clips = [Clip(f"c{n}", write_tone(tmp_path / f"{n}.wav"), "dog") for n in range(3)]
        partial = tmp_path / "set.partial"
        partial.mkdir()
        (partial / "train-000000.tar").write_bytes(b"old"), (partial / "unfinished.json").write_text('{"of": "other"}')
        assert prepare(clips, tmp_path / "set", shard_size=2).written == {"train": 3}
        assert len(members(tmp_path / "set")) == 3

    def test_bad_clips_are_skipped_and_named(self, tmp_path):
        good = write_tone(tmp_path / "good.wav")
        sounds.write_wav(tmp_path / "silent.wav", np.zeros(8000))
        (tmp_path / "broken.wav").write_bytes(b"RIFF0000")
        (tmp_path / "broken.png").write_bytes(b"no picture")
        clips = [Clip(name, tmp_path / f"{name}.wav", "dog") for name in ("good", "gone", "silent", "broken", "good")]
        clips.append(Clip("unseen", good, "dog", pictures=(tmp_path / "broken.png",)))
        report = prepare(clips, tmp_path / "set")
        assert report.written == {"train": 1} and report.duplicates == ["good"]
        assert "no file gone.wav" in report.skipped["gone"] and "silent" in report.skipped["silent"]
        assert "cannot be read" in report.skipped["broken"] and "its pictures" in report.skipped["unseen"]
        text = "\n".join(report.lines())
        assert "the label 'dog' has 1 clips without a picture" in text and "ids came more than once" in text

    def test_an_empty_split(self, tmp_path):
        clips = [
            Clip("a", write_tone(tmp_path / "a.wav"), "dog"),
            Clip("b", tmp_path / "gone.wav", "dog", split="test"),
        ]
        with pytest.raises(DataError, match=r"The split 'test' is empty: none of its 1 clips.*no file gone\.wav"):
            prepare(clips, tmp_path / "set")
        assert not (tmp_path / "set").exists() and not (tmp_path / "set.partial").exists()

    def test_videos_with_clip(self, tmp_path, clip_folder):
        path = write_video(tmp_path / "dog" / "v.mp4", [(9 * n, 40, 90) for n in range(25)])
        report = prepare(read_clips(tmp_path), tmp_path / "set", picker=FramePicker(clip_folder))
        assert report.written == {"train": 1} and report.pictures == media.KEPT
        (suffixes,) = members(tmp_path / "set").values()
        assert "sound.flac" in suffixes and "picture09.jpg" in suffixes
        silent_film = write_video(tmp_path / "mute" / "m.mp4", [(9, 9, 9)] * 5, with_sound=False)
        report = prepare([Clip("v", path, "dog"), Clip("m", silent_film, "mute")], tmp_path / "other")
        assert "no sound in it" in report.skipped["m"]

    def test_pictures_of_the_label(self, tmp_path):
        for label in ("dog", "sea_waves"):
            (tmp_path / label).mkdir()
            for n in range(5):
                Image.new("RGB", (20, 20), (50 * n, 0, 0)).save(tmp_path / label / f"{n}.png")
        clips = give_pictures([Clip(str(n), tmp_path, "Sea waves") for n in range(9)], tmp_path, 2)
        assert all(len(c.pictures) == 2 and c.pictures[0].parent.name == "sea_waves" for c in clips)
        assert len({c.pictures for c in clips}) > 1
        assert give_pictures(clips, tmp_path, 2) == clips
        assert give_pictures([Clip("x", tmp_path, "cat")], tmp_path, 2)[0].pictures == ()
        with pytest.raises(DataError, match="holds no pictures"):
            give_pictures(clips, tmp_path / "dog", 2)

    def test_held_out_recordings_stay_together(self):
        clips = [Clip(f"{n}-{take}", None, "dog", group=str(n)) for n in range(50) for take in "ab"]
        held = hold_out(clips, 0.2)
        chosen = [c for c in held if c.split == "val"]
        assert 10 <= len(chosen) <= 24 and len({c.group for c in chosen}) == len(chosen) / 2
        assert hold_out(clips, 0.2) == held and hold_out(held, 0.5) == held
        assert {c.split for c in hold_out(clips, 0.0)} == {"train"}
