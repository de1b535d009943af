"""Labels of what was heard: the list, the readout, the word, and the words that a person writes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from aai_pack.aai_models.adapt.label_list import MAX_LABELS, read_list, read_words
from aai_pack.aai_models.adapt.labels import Heard, among, directions, read, tempered, word_rows
from aai_pack.aai_models.adapt.sounding_things import SOUNDING_THINGS
from aai_pack.aai_models.audio.neutral import neutral_sounds
from aai_pack.aai_models.errors import TokenError
from aai_pack.aai_models.shares import shares_of


def heard(*shares: float) -> Heard:
    return Heard(tuple((name, share) for name, share in zip("abcdefgh", shares, strict=False)))


class TestList:
    def test_the_built_in_one(self):
        found = read_list(" \n ")
        assert found.names == SOUNDING_THINGS and not found.own and not found.notes
        assert 200 <= len(set(found.names)) == len(found.names)

    def test_lines(self):
        found = read_list("\ufeffdog\r\n\n  a kettle \nclock: a ticking clock\nit is a drum.\n")
        assert found.names == ("dog", "kettle", "clock", "drum")
        assert found.sentences == ("dog", "kettle", "a ticking clock", "drum") and found.own

    def test_brackets_and_weights_of_prompts(self):
        found = read_list("(dog:1.2)\n[wolf]\nice (cream)\n{x}")
        assert found.names == ("dog", "wolf", "ice cream", "x")

    def test_doubled_and_empty_lines_are_told(self):
        found = read_list("dog\nDog\nthe dog\n---\nwolf")
        assert found.names == ("dog", "wolf")
        assert found.notes == ("2 lines of `labels` were there twice.", "1 line of `labels` hold no word.")

    def test_one(self):
        found = read_list("kettle")
        assert found.names == ("kettle",) and "one thing" in found.notes[0]

    def test_any_language(self):
        assert read_list("犬\nchien: un chien qui aboie").names == ("犬", "chien")

    def test_many(self):
        assert len(read_list("\n".join(f"thing {n}" for n in range(MAX_LABELS))).names) == MAX_LABELS
        with pytest.raises(TokenError, match=r"holds 5001\. It may hold 5000"):
            read_list("\n".join(f"thing {n}" for n in range(MAX_LABELS + 1)))

    @pytest.mark.parametrize("text", ["---\n()", "?"])
    def test_without_a_word(self, text):
        with pytest.raises(TokenError, match="holds no word"):
            read_list(text)

    @pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
    def test_another_encoding(self, encoding):
        text = "Tür\nWölfe".encode(encoding).decode("utf-8", errors="replace")
        with pytest.raises(TokenError, match="wrong encoding"):
            read_list(text)

    def test_another_encoding_of_words(self):
        with pytest.raises(TokenError, match="wrong encoding"):
            read_words("Tür".encode().decode("cp1252"))

    def test_the_digest_is_that_of_the_list(self):
        assert read_list("dog\nwolf").digest == read_list("a dog\n\nwolf\nwolf").digest != read_list("wolf\ndog").digest


class TestWords:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("it is a kettle", {"kettle": 1.0}),
            ("wolf 0.7, wind 0.3", {"wolf": 0.7, "wind": 0.3}),
            ("wolf 3%, wind: 1 %", {"wolf": 0.75, "wind": 0.25}),
            ("wolf, wind", {"wolf": 0.5, "wind": 0.5}),
            ("wolf 0.6, wind, rain", {"wolf": 0.6, "wind": 0.2, "rain": 0.2}),
            ("wolf 1, wind", {"wolf": 0.5, "wind": 0.5}),
            ("boeing 747", {"boeing 747": 1.0}),
            ("wolf 0.7, wind 0", {"wolf": 1.0}),
        ],
    )
    def test_words_with_shares(self, text, expected):
        found = dict(read_words(text))
        assert found == pytest.approx(expected) and list(found) == list(expected)

    def test_a_number_alone_is_a_word(self):
        assert read_words("0.7") == (("0.7", 1.0),)

    @pytest.mark.parametrize("text", ["  ,, ", "---"])
    def test_without_a_word(self, text):
        with pytest.raises(TokenError, match=r"There is no word in .* wolf 0\.7, wind 0\.3"):
            read_words(text)

    def test_all_shares_nothing(self):
        with pytest.raises(TokenError, match="are 0"):
            read_words("wolf 0, wind 0")


class TestReadout:
    NAMES = ("a", "b", "c", "d")

    def features(self):
        return torch.linalg.qr(torch.randn(16, 4, generator=torch.Generator().manual_seed(0)))[0].T.contiguous()

    def test_a_feature_that_is_a_label_has_the_share_that_the_scale_gives(self):
        features = self.features()
        found = read(features[2], features, self.NAMES, scale=5.0)
        expected = torch.tensor([0.0, 0, 5, 0]).softmax(0)[2]
        assert found.shares[0][0] == "c" and found.shares[0][1] == pytest.approx(float(expected))
        assert sum(share for _, share in found.shares) == pytest.approx(1)
        flat = read(features[2], features, self.NAMES, scale=5.0, temperature=1e3)
        assert flat.shares[0][1] < found.shares[0][1] < read(features[2], features, self.NAMES, 5.0, 0.1).shares[0][1]

    def test_the_order_of_the_list_does_not_matter(self):
        features, sound = self.features(), F.normalize(torch.arange(16.0), dim=0)
        back = read(sound, features.flip(0), self.NAMES[::-1], 20.0)
        assert dict(back.shares) == pytest.approx(dict(read(sound, features, self.NAMES, 20.0).shares))

    def test_another_width(self):
        with pytest.raises(TokenError, match="has 8 values, those of the labels 16"):
            read(torch.ones(8), self.features(), self.NAMES, 1.0)

    def test_what_is_clear(self):
        assert heard(0.7, 0.2, 0.1).is_clear and heard(0.7, 0.2, 0.1).drawn == (("a", 1.0),)
        mixed = heard(0.4, 0.2, 0.2, 0.2)
        assert mixed.is_clear and dict(mixed.drawn) == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})
        unsure = heard(0.32, 0.3, 0.2, 0.1, 0.05, 0.03)
        assert not unsure.is_clear and unsure.text()[0].startswith("Not sure")
        alike = heard(0.26, 0.25, 0.25, 0.24)
        assert alike.is_alike and alike.text()[0].startswith("Nothing clear was heard")
        assert "a 0.26, b 0.25" in "\n".join(alike.text())
        assert heard(1.0).is_clear and not heard(1.0).is_alike

    def test_what_is_written_is_drawn_as_it_is(self):
        said = Heard((("wind", 0.3), ("wolf", 0.7)), written=True)
        assert (
            said.drawn == said.shares and said.is_clear and said.text() == ["Drawn as written: wind 0.30, wolf 0.70."]
        )

    def test_labels_of_a_tagger(self):
        shares = shares_of(["x", "Dog", "y"], torch.tensor([1.0, 2.0, 1.0]))
        assert shares[0] == ("Dog", 0.5) and among(shares, ("dog", "y", "z")) == (("Dog", 2 / 3), ("y", 1 / 3))
        assert among(shares, ("z",)) == ()
        assert dict(tempered(Heard(shares), 0.5).shares) == pytest.approx({"Dog": 4 / 6, "x": 1 / 6, "y": 1 / 6})
        assert shares_of(["x", "x"], torch.zeros(2)) == (("x", 1.0),)


class TestWord:
    ROWS = {
        "one": {"clip_l": torch.eye(4)[:1] * 3, "clip_g": torch.eye(6)[:1] * 5},
        "two": {"clip_l": torch.eye(4)[1:3] * 2, "clip_g": torch.eye(6)[1:3] * 4},
        "long": {"clip_l": torch.ones(9, 4), "clip_g": torch.ones(9, 6)},
    }
    NORMS = {"clip_l": 0.4, "clip_g": 0.7}

    def test_one_label_is_its_rows_in_order(self):
        word = word_rows((("two", 1.0),), self.ROWS, self.NORMS)
        assert all(torch.equal(word[key], self.ROWS["two"][key]) for key in self.NORMS)

    def test_several_are_one_row_of_the_vocabularys_size(self):
        word = word_rows((("one", 0.75), ("two", 0.25)), self.ROWS, self.NORMS)
        assert {key: tuple(rows.shape) for key, rows in word.items()} == {"clip_l": (1, 4), "clip_g": (1, 6)}
        mean = F.normalize(torch.tensor([0.75 * 3, 0.25, 0.25, 0]), dim=0)
        torch.testing.assert_close(word["clip_l"][0], 0.4 * mean)

    def test_a_long_label_is_its_mean(self):
        word = word_rows((("long", 1.0),), self.ROWS, self.NORMS)
        torch.testing.assert_close(word["clip_l"], torch.full((1, 4), 0.2))

    @pytest.mark.parametrize("vectors", [1, 2, 3])
    def test_where_a_training_begins(self, vectors):
        found = directions((("two", 1.0),), self.ROWS, vectors)["clip_l"]
        if vectors == 1:
            torch.testing.assert_close(found, F.normalize(torch.tensor([0.0, 1, 1, 0]), dim=0))
        else:
            torch.testing.assert_close(found, torch.eye(4)[[1, 2, 1][:vectors]])


def test_the_neutral_set_is_of_many_kinds():
    sounds = neutral_sounds()
    assert sounds.shape == (40, 1, 48000) and bool(sounds.isfinite().all()) and float(sounds.abs().max()) <= 0.5
    spectra = F.normalize(
        torch.fft.rfft(sounds[:, 0]).abs().reshape(40, -1)[:, :24000].unflatten(1, (100, 240)).sum(2), dim=1
    )
    alike = (spectra @ spectra.T - torch.eye(40)).max(1).values
    assert float((spectra @ spectra.T).mean()) < 0.6 and float(alike.min()) < 0.95
    assert torch.equal(sounds, neutral_sounds())
