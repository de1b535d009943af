"""Training sets: every layout, video frames chosen by CLIP, and clips that are missing, silent, doubled or damaged."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from aai_pack.aai_models.align import media
from aai_pack.aai_models.align.media import FramePicker, clip_pictures, picture_bytes, sound_bytes, video_frames
from aai_pack.aai_models.align.prepare import choose_folds, give_pictures, hold_out, prepare
from aai_pack.aai_models.align.tables import Clip, plain, read_clips
from aai_pack.aai_models.align.texts import CLIPTexts, HashedWords, Reduced, class_texts, orthonormal
from aai_pack.aai_models.audio.decode import decode_audio
from aai_pack.aai_models.audio.errors import AudioError
from aai_pack.aai_models.errors import CheckpointError, DataError, TrainingError
from aai_pack.tests import sounds
from PIL import Image


def write_tone(path, seconds: float = 0.5, frequency: float = 440.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    sounds.write_wav(path, sounds.tone(seconds, 16000, frequency)[0].numpy())
    return path


def write_video(path, colours, rate: int = 10, with_sound: bool = True):
    """One frame of each colour a tenth of a second; a tone as long."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=rate)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = container.add_stream("aac", rate=16000, layout="mono") if with_sound else None
        for colour in colours:
            image = np.full((48, 64, 3), colour, dtype=np.uint8)
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
    (folder / "vocab.json").write_text((clip_folder / "vocab.json").read_text())
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


class TestLayouts:
    def test_esc50(self, tmp_path):
        (tmp_path / "meta").mkdir()
        (tmp_path / "meta" / "esc50.csv").write_text(
            "filename,fold,target,category,esc10,src_file,take\n1-137-A-32.wav,1,32,keyboard_typing,False,137,A\n"
        )
        clips = read_clips(tmp_path)
        assert clips == [
            Clip("1-137-A-32", tmp_path / "audio" / "1-137-A-32.wav", "keyboard typing", fold=1, group="1-137")
        ]

    def test_esc10_as_first_published(self, tmp_path):
        write_tone(tmp_path / "001 - Dog bark" / "1-100032-A.wav"), write_tone(tmp_path / "sea_waves" / "3-7-B.wav")
        assert [(c.label, c.fold) for c in read_clips(tmp_path)] == [("Dog bark", 1), ("sea waves", 3)]

    def test_urbansound8k(self, tmp_path):
        (tmp_path / "metadata").mkdir()
        (tmp_path / "metadata" / "UrbanSound8K.csv").write_text(
            "slice_file_name,fsID,start,end,salience,fold,classID,class\n100-3-0-0.wav,100,0,0.3,1,5,3,dog_bark\n"
        )
        (clip,) = read_clips(tmp_path)
        assert (clip.label, clip.fold, clip.sound.parent.name) == ("dog bark", 5, "fold5")

    def test_vggsound(self, tmp_path):
        table = tmp_path / "vggsound.csv"
        table.write_text('abc,30,"people marching, singing",train\ndef,7,dog_barking,test\n')
        write_tone(tmp_path / "videos" / "abc_000030.wav"), write_tone(tmp_path / "videos" / "def.wav")
        first, second = read_clips(table, media=tmp_path / "videos")
        assert (first.label, first.start, first.split, first.id) == (
            "people marching, singing",
            0,
            "train",
            "abc_000030",
        )
        assert (second.start, second.seconds, second.sound.name, second.split) == (7, 10.0, "def.wav", "test")

    def test_a_table_of_ones_own(self, tmp_path):
        table = tmp_path / "clips.csv"
        table.write_text(
            "audio,image1,image2,text,label,split,fold,start\na.wav,x.png,y.png;z.png,a dog barks,dog,val,2,1.5\n"
            'b.wav,,,"ein Hund, müde\u2026",,,,\n',
            encoding="utf-8",
        )
        first, second = read_clips(table)
        assert first.pictures == (tmp_path / "x.png", tmp_path / "y.png", tmp_path / "z.png")
        assert (first.text, first.label, first.split, first.fold, first.start) == ("a dog barks", "dog", "val", 2, 1.5)
        assert (second.label, second.text, second.split) == ("ein Hund, müde…", "", "train")

    def test_folders(self, tmp_path):
        write_tone(tmp_path / "train" / "dog" / "a.wav"), write_tone(tmp_path / "test" / "sea_waves" / "x" / "a.wav")
        assert [(c.split, c.label) for c in read_clips(tmp_path)] == [("train", "dog"), ("test", "sea waves")]
        assert [c.label for c in read_clips(tmp_path / "train")] == ["dog"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("audio,image\na.wav,b.png\n", "line 2 has neither text nor label"),
            ("audio,text,start\na.wav,dog,soon\n", "line 2: start is 'soon'"),
            ("audio,text\n", "names no clip"),
            ("one,two\n", "has 2 cells"),
        ],
    )
    def test_tables_that_are_none(self, tmp_path, text, words):
        path = tmp_path / "t.csv"
        path.write_text(text)
        with pytest.raises(DataError, match=words):
            read_clips(path)

    def test_other_mistakes(self, tmp_path):
        with pytest.raises(DataError, match="There is no"):
            read_clips(tmp_path / "gone")
        with pytest.raises(DataError, match="names no clip"):
            read_clips(tmp_path)
        with pytest.raises(DataError, match="layout is 'audioset'"):
            read_clips(tmp_path, "audioset")
        clips = [Clip(str(n), tmp_path, "dog", fold=n) for n in (1, 2, 3, 4, 5)]
        chosen = choose_folds(clips, [1, 2], [3])
        assert [(c.fold, c.split) for c in chosen] == [(1, "train"), (2, "train"), (3, "test")]
        with pytest.raises(DataError, match="Fold 3 is to be trained and tested on"):
            choose_folds(clips, [1, 3], [3])
        with pytest.raises(DataError, match="no clip of fold 9"):
            choose_folds(clips, [9], [3])

    def test_labels_as_words(self):
        assert plain("001 - Dog bark") == "Dog bark" and plain("sea_waves ") == "sea waves"


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
        with pytest.raises(DataError, match="is there already"):
            prepare(clips, tmp_path / "set%")

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


class TestTexts:
    def test_hashed_words(self):
        texts = HashedWords(256)
        dog, sea, both = texts.encode(["dog", "Sea!", "dog sea"])
        torch.testing.assert_close(dog, HashedWords(256).encode(["DOG"])[0])
        assert abs(float(dog @ sea)) < 0.25 and float(dog @ both) > 0.6
        assert torch.isfinite(texts.encode(["", "?!", "日本"])).all()

    def test_clip(self, tmp_path, clip_folder):
        texts = CLIPTexts(clip_folder / "text")
        features = texts.encode(["dog", "rain", "dog"])
        assert features.shape == (3, 32)
        torch.testing.assert_close(features[0], features[2], rtol=0, atol=1e-5)  # rows of a batch may round differently
        assert not torch.allclose(features[0], features[1])
        torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))
        assert CLIPTexts(clip_folder / "text").name == texts.name
        lifted = Reduced(texts, 48).encode(["dog", "rain"])
        torch.testing.assert_close(lifted @ lifted.T, features[:2] @ features[:2].T, rtol=0, atol=1e-5)
        with pytest.raises(CheckpointError, match="has no tokenizer"):
            CLIPTexts(clip_folder.parent / "gone")
        with pytest.raises(CheckpointError, match="cannot be read as a CLIPTextModel"):
            CLIPTexts(words_alone(tmp_path, clip_folder))

    def test_prompts(self):
        texts = HashedWords(64)
        raw = class_texts(texts, ["dog", "{x}"], "label")
        torch.testing.assert_close(raw, texts.encode(["dog", "{x}"]))
        assert class_texts(texts, ["dog"], "ensemble").norm() == pytest.approx(1.0)
        with pytest.raises(TrainingError, match="Known are label"):
            class_texts(texts, ["dog"], "song")

    def test_orthonormal_maps(self):
        for n_in, n_out in ((8, 5), (5, 8)):
            q = orthonormal(n_in, n_out)
            gram = q.T @ q if n_in > n_out else q @ q.T
            torch.testing.assert_close(gram, torch.eye(5), rtol=0, atol=1e-5)
