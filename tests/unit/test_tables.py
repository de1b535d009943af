"""Which clips a folder or a table names, in every layout."""

from __future__ import annotations

import pytest
from aai_pack.aai_models.align.data.prepare import choose_folds
from aai_pack.aai_models.align.data.sources import Clip, plain, read_clips
from aai_pack.aai_models.errors import DataError
from aai_pack.tests.unit.test_prepare import write_tone


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
        assert second.group == "def"  # parts of one video are held out together

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

    def test_parts_of_one_recording_are_clips_of_their_own(self, tmp_path):
        """Files of one name in different folders, too; parts of one recording are held out together."""
        table = tmp_path / "clips.csv"
        table.write_text("audio,label,start\nx/a.wav,dog,\ny/a.wav,rain,0\ny/a.wav,rain,10.24\n")
        clips = read_clips(table)
        assert [c.id for c in clips] == ["x/a", "y/a@0", "y/a@10.24"] and [c.group for c in clips] == [
            "x/a",
            "y/a",
            "y/a",
        ]

    def test_folders(self, tmp_path):
        write_tone(tmp_path / "train" / "dog" / "a.wav"), write_tone(tmp_path / "test" / "sea_waves" / "x" / "a.wav")
        assert [(c.split, c.label) for c in read_clips(tmp_path)] == [("train", "dog"), ("test", "sea waves")]
        assert [c.label for c in read_clips(tmp_path / "train")] == ["dog"]

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("audio,image\na.wav,b.png\n", "line 2 has neither text nor label"),
            ("audio,text,start\na.wav,dog,soon\n", "line 2: start is 'soon'"),
            ("audio,text\n", "has no clips"),
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
        with pytest.raises(DataError, match="has no clips"):
            read_clips(tmp_path)
        with pytest.raises(DataError, match="layout is 'audioset'"):
            read_clips(tmp_path, "audioset")
        clips = [Clip(str(n), tmp_path, "dog", fold=n) for n in (1, 2, 3, 4, 5)]
        chosen = choose_folds(clips, [1, 2], [3])
        assert [(c.fold, c.split) for c in chosen] == [(1, "train"), (2, "train"), (3, "test")]
        assert {c.split for c in choose_folds(clips, [], [1, 2, 3, 4, 5])} == {"test"}
        with pytest.raises(DataError, match="Fold 3 is used for training and for testing"):
            choose_folds(clips, [1, 3], [3])
        with pytest.raises(DataError, match="no clip of fold 9"):
            choose_folds(clips, [9], [3])

    def test_labels_as_words(self):
        assert plain("001 - Dog bark") == "Dog bark" and plain("sea_waves ") == "sea waves"
