"""Judging: metrics against plain loops, ties, subsets, Tables 1 and 2 on a small set, and what is printed of them."""

from __future__ import annotations

import json

import pytest
import torch
from aai_pack.aai_models.align import metrics
from aai_pack.aai_models.align.__main__ import main
from aai_pack.aai_models.align.cavt_mae import CAVTMAE
from aai_pack.aai_models.align.config import PRESETS
from aai_pack.aai_models.align.data.shards import Note, ShardSet
from aai_pack.aai_models.align.judge import judge
from aai_pack.aai_models.align.judge.evaluate import (
    Judged,
    chance,
    class_similarities,
    encode_set,
    read_list,
    table_1,
    table_2,
)
from aai_pack.aai_models.align.judge.published import (
    LISTED,
    TABLE_1,
    TABLE_2,
    URBAN,
    classification_mark,
    recognise,
    retrieval_mark,
)
from aai_pack.aai_models.align.judge.report import similarity_picture, table_picture, text_tables, write_all
from aai_pack.aai_models.align.metrics import accuracy, linear_probe, ranks, retrieval, subset_rows
from aai_pack.aai_models.align.texts import HashedWords
from aai_pack.aai_models.align.train.trainer import RunOptions, train
from aai_pack.aai_models.errors import CheckpointError, DataError
from aai_pack.tests import published_twins
from aai_pack.tests.unit.align_sets import make_set, memory_source, small_config, small_model
from aai_pack.tests.unit.test_encoders import save_clap
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize


def unit(count: int, dim: int, seed: int = 0) -> torch.Tensor:
    return normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(seed)), dim=-1)


class TestMetrics:
    def test_identity_reversed_and_chance(self):
        eye = torch.eye(40)
        to_v, to_a = retrieval(eye, eye)
        assert (to_v.r1, to_v.median_rank, to_a.r1, to_v.ties) == (100.0, 1.0, 100.0, 0.0)
        far = retrieval(eye, -eye)[0]
        assert (far.r1, far.r10, far.median_rank) == (0.0, 0.0, 40.0)
        guess = retrieval(unit(2000, 32, 1), unit(2000, 32, 2))[0]
        assert guess.r10 == pytest.approx(0.5, abs=0.5) and guess.median_rank == pytest.approx(1000, rel=0.1)
        assert chance(2000).r10 == pytest.approx(0.5) and chance(3).r5 == 100.0

    @settings(max_examples=30)
    @given(st.integers(0, 1000), st.integers(1, 30), st.booleans())
    def test_ranks_equal_a_plain_loop(self, seed, count, doubled):
        a, v = unit(count, 4, seed), unit(count, 4, seed + 1)
        if doubled and count > 2:
            v[1], a[2] = v[0], a[0]
        s = a @ v.T
        found = ranks(a, v)
        for i in range(count):
            others = [j for j in range(count) if j != i]
            for scores, nearer, near in ((s[i], found[0], found[1]), (s[:, i], found[2], found[3])):
                assert int(nearer[i]) == sum(float(scores[j] - scores[i]) > metrics.SAME for j in others)
                assert int(near[i]) == sum(abs(float(scores[j] - scores[i])) <= metrics.SAME for j in others)

    def test_blocks_change_nothing(self, monkeypatch):
        a, v = unit(50, 8, 3), unit(50, 8, 4)
        whole = ranks(a, v)
        monkeypatch.setattr(metrics, "ROWS", 7)
        assert all(torch.equal(x, y) for x, y in zip(whole, ranks(a, v), strict=True))

    def test_an_encoder_that_gives_the_same_for_everything_is_at_chance(self):
        same = torch.ones(50, 4) / 2
        row = retrieval(same, same)[0]
        assert row.r1 == pytest.approx(2.0) and row.r10 == pytest.approx(20.0)
        assert row.median_rank == 25.5 and row.ties == 100.0
        labels = torch.arange(50) % 5
        assert 100 * float(accuracy(same, torch.ones(5, 4) / 2, labels).mean()) == pytest.approx(20.0)

    def test_pictures_that_are_the_same_share_their_rank(self):
        pictures = torch.eye(5).repeat_interleave(8, dim=0)
        row = retrieval(pictures, pictures)[0]
        assert row.r1 == pytest.approx(100 / 8) and row.r10 == 100.0 and row.median_rank == 4.5

    def test_subsets(self):
        labels = ["dog"] * 30 + ["rain"] * 3 + ["sea"] * 12
        rows = subset_rows(labels, 5)
        chosen = [labels[row] for row in rows]
        assert [chosen.count(x) for x in ("dog", "rain", "sea")] == [5, 3, 5] and rows == sorted(rows)
        assert rows == subset_rows(labels, 5) != subset_rows(labels, 5, seed=1)
        assert subset_rows(labels, None) == list(range(45))
        with pytest.raises(ValueError, match="pairs"):
            retrieval(torch.zeros(0, 3), torch.zeros(0, 3))

    def test_linear_probe(self):
        labels = torch.arange(60) % 3
        x = unit(3, 16, 5)[labels] + 0.1 * unit(60, 16, 6)
        assert linear_probe(x[:30], labels[:30], x[30:], labels[30:]) == 100.0
        noise = unit(600, 16, 7)
        assert linear_probe(noise[:300], torch.arange(300) % 3, noise[300:], torch.arange(300) % 3) < 50


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("judged")
    place = make_set(folder)
    config = small_config(epochs=1, momentum_target="head")
    result = train(
        small_model(), memory_source(config), config, folder / "run", options=RunOptions(tensorboard=False), say=str
    )
    return place, result.encoder


class TestTables:
    def test_tables_of_a_small_set(self, trained):
        place, encoder = trained
        judged, shards = Judged.open(encoder), ShardSet.open(str(place))
        assert judged.config.momentum_target == "head" and judged.head is not None and "memory" in judged.trained_on
        features = encode_set(judged, shards, "train")
        assert features.audio.shape == (20, 64) and bool(features.seen.all()) and len(features.labels) == 20
        torch.testing.assert_close(features.pictures.norm(dim=-1), torch.ones(20))
        rows = table_1(features)
        assert [row.to_picture.count for row in rows] == [18, 20, 20]  # two classes have six clips
        features.notes[:8] = [Note(0, "x", "dog", "", fold, (), 0) for fold in (1, 1, 1, 1, 2, 2, 2, 2)]
        lines = table_2(features, HashedWords(64), shards.index["labels"])
        assert [line.style for line in lines] == ["label", "laion", "languagebind", "ensemble"]
        assert set(lines[0].folds) == {0, 1, 2} and 0 <= lines[0].all_clips <= 100
        mean = sum(lines[0].folds[f] * n for f, n in ((0, 12), (1, 4), (2, 4))) / 20
        assert lines[0].all_clips == pytest.approx(mean, abs=1e-4)
        values, classes = class_similarities(features)
        assert values.shape == (4, 4) and classes == sorted(classes)
        with pytest.raises(DataError, match="has no split 'test'"):
            encode_set(judged, shards, "test")

    def test_what_is_written(self, trained, tmp_path):
        place, encoder = trained
        judged, shards = Judged.open(encoder), ShardSet.open(str(place))
        texts = HashedWords(64)
        evaluation, features = judge.judge(judged, shards, "val", texts, probe_on="train")
        evaluation.baselines.append(judge.judge(judged.untrained(), shards, "val", texts, probe_on="train")[0])
        text = write_all(evaluation, judge.similarity_pictures(features, texts), tmp_path)
        for words in (
            "untrained tower",
            "chance",
            "28.31",
            "42.80",
            "x CAVT-MAE [Align",
            "not comparable",
            "linear probe",
        ):
            assert words in text
        assert "= CAVT-MAE" not in text
        stored = json.loads((tmp_path / "evaluation.json").read_text())
        published = stored["published"]
        tables = [*published["table_1"].values(), *published["table_2"].values()]
        assert stored["clips"] == 4 and {row["mark"] for rows in tables for row in rows} == {"x"}
        assert published["table_1"]["all"][-1]["figures"] == [8.86, 23.46, 32.83]
        sync = next(line for line in text.splitlines() if "CAV-MAE Scale+ [" in line)
        assert sync.split()[-6:] == ["12.80", "30.40", "40.30", "14.80", "34.20", "44.00"]
        names = {path.name for path in tmp_path.iterdir()}
        assert {"table.png", "sounds_and_pictures.png", "sounds_and_words.png", "evaluation.txt"} <= names

    def test_another_encoder_and_one_without_a_config(self, trained, tmp_path):
        place, _ = trained
        save_clap(tmp_path / "clap")
        judged = Judged.open(tmp_path / "clap")
        assert judged.untrained() is None
        evaluation, features = judge.judge(judged, ShardSet.open(str(place)), "val", None, probe_on="train")
        assert evaluation.retrieval == [] and evaluation.classification == [] and 0 <= evaluation.probe <= 100
        assert judge.similarity_pictures(features, None) == {}
        assert "linear probe" in text_tables(evaluation)
        assert judge.own_texts(judged, tmp_path / "clap", "hash").encode(["dog"]).shape == (1, 24)
        for name in published_twins.TOKENIZER:
            (tmp_path / "clap" / name).unlink()
        with pytest.raises(CheckpointError, match="no tokenizer"):
            judge.own_texts(judged, tmp_path / "clap", "hash")
        words = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *"adefghikmnoprstu"]
        (tmp_path / "clap" / "vocab.json").write_text(json.dumps({word: n for n, word in enumerate(words)}))
        (tmp_path / "clap" / "merges.txt").write_text("#version: 0.2\n")
        (tmp_path / "clap" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "RobertaTokenizer"}))
        texts = judge.own_texts(judged, tmp_path / "clap", "hash")
        features = texts.encode(["dog", "rain", "dog"])
        assert features.shape == (3, 24) and torch.allclose(features[0], features[2], atol=1e-6)
        assert not torch.allclose(features[0], features[1], atol=1e-4)
        torch.save(CAVTMAE.fresh(small_config().tower).state_dict(), tmp_path / "plain.pth")
        assert Judged.open(tmp_path / "plain.pth").config == PRESETS["paper"]

    def test_known_sets(self):
        assert recognise([str(n) for n in range(309)]) == "VGGSound"
        assert recognise([*URBAN, "a", "b", "c", "d", "e"]) == "UrbanSound8K" and recognise(["dog"]) == "another set"
        esc = ["Keyboard typing", "sea waves", "clock tick", *map(str, range(47))]
        assert recognise(esc) == "ESC-50" and set(TABLE_2) == {"VGGSound", "ESC-50", "UrbanSound8K"}
        assert all(len(row.figures) == 3 for rows in TABLE_1.values() for row in rows if row.source.startswith("Align"))
        assert {len(row.figures) for row in LISTED} == {0, 1, 3} and len(LISTED) == 8

    def test_what_may_be_compared(self):
        paper, sync, elsewhere = TABLE_1["5 per class"][4], LISTED[0], LISTED[-1]
        assert retrieval_mark(paper, "VGGSound", "5 per class", 1400) == "~"
        assert retrieval_mark(paper, "VGGSound", "5 per class", 300) == "x"  # another split
        assert retrieval_mark(paper, "another set", "5 per class", 1400) == "x"
        assert retrieval_mark(sync, "VGGSound", "5 per class", 1545) == "~"
        assert retrieval_mark(sync, "VGGSound", "list", 1500) == "="
        assert retrieval_mark(elsewhere, "VGGSound", "list", 1500) == "x"
        esc, urban, vgg = (TABLE_2[name][0] for name in ("ESC-50", "UrbanSound8K", "VGGSound"))
        assert classification_mark(esc, "ESC-50", "ESC-50", 2000, False) == "="
        assert classification_mark(esc, "ESC-50", "ESC-50", 400, False) == "x"  # one fold
        assert classification_mark(esc, "ESC-50", "ESC-50", 2000, True) == "x"  # not zero-shot
        assert classification_mark(urban, "UrbanSound8K", "ESC-50", 2000, False) == "x"
        assert classification_mark(vgg, "VGGSound", "VGGSound", 14_000, True) == "~"

    def test_a_list_of_clips(self, trained, tmp_path):
        place, encoder = trained
        features = encode_set(Judged.open(encoder), ShardSet.open(str(place)), "train")
        text, data = tmp_path / "list.csv", tmp_path / "list.json"
        text.write_text("clip 1,dog\nclip 3\n\nclip 999\n")
        data.write_text(json.dumps({"data": [{"video_id": "clip 1"}, {"video_id": "clip 3"}, {"video_id": "abc"}]}))
        features.notes[0] = Note(0, "abc_000030", "dog", "", 0, (), 0)
        first, second = (table_1(features, listed=read_list(path))[-1] for path in (text, data))
        assert (first.subset, first.to_picture.count, second.to_picture.count) == ("list", 2, 3)
        with pytest.raises(DataError, match=r"None of the 1 clips of the list.*Ids here look like"):
            table_1(features, listed={"gone"})
        data.write_text("[]")
        for path in (data, tmp_path / "gone.txt"):
            with pytest.raises(DataError, match="is not a list of clips"):
                read_list(path)
        assert main(["evaluate", str(encoder), str(place), "--split=train", f"--list={text}", f"--out={tmp_path}"]) == 0
        assert "list " in (tmp_path / "evaluation.txt").read_text()

    def test_remarks(self, trained, tmp_path):
        """An encoder that was trained on this set, and one that is judged with other words than it was trained with."""
        place, encoder = trained
        judged, shards = Judged.open(encoder), ShardSet.open(str(place))
        judged.trained_on = f"{shards.name}; hashed words 64"
        here = judge.judge(judged, shards, "val", HashedWords(64))[0]
        assert here.trained_here and "its classes are not new to it" in text_tables(here)
        assert "not trained on the texts of" not in text_tables(here)
        judged.trained_on = "309 labels, clips {}; CLIP 768"
        other = judge.judge(judged, shards, "val", HashedWords(64))[0]
        assert not other.trained_here and "was not trained on the texts of hashed words 64" in text_tables(other)

    def test_pictures_of_tables(self):
        values = torch.eye(309).numpy()
        wide = similarity_picture(values, [f"class {n}" for n in range(309)], "pictures")
        assert wide.width < 2500
        small = similarity_picture(values[:3, :3], ["dog", "a very long name of a class indeed", "日本"], "words")
        assert small.getpixel((150 + 20, 170 + 20)) != small.getpixel((150 + 60, 170 + 20))
        assert table_picture("").height == 20 and table_picture("a  b\nc  d").width > 20
