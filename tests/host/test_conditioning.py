"""Audio words in the host's own text encoders: neutral without them, in the right columns with them, and no leak."""

from __future__ import annotations

import pytest
import torch
from aai_pack.aai_models.adapt.token import AudioToken
from aai_pack.aai_models.errors import TokenError
from aai_pack.nodes.host.base import prompt_words as prompts
from aai_pack.tests.host import micro


@pytest.fixture(scope="module")
def clip():
    return micro.build()[1]


def token(seed: int = 0, width: int = 768) -> AudioToken:
    generator = torch.Generator().manual_seed(100 + seed)
    return AudioToken(micro.sound(seed), {"clip_l": 0.01 * torch.randn(1, width, generator=generator)}, {"clip_l": 0.4})


def stock(clip, text: str):
    with torch.inference_mode():
        return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def ours(clip, text: str, *tokens: AudioToken):
    with torch.inference_mode():
        return prompts.encode(clip, text, dict(enumerate(tokens, start=1)))


def equal(one, other) -> bool:
    (a, extra_a), (b, extra_b) = one[0], other[0]
    return torch.equal(a, b) and torch.equal(extra_a["pooled_output"], extra_b["pooled_output"])


@pytest.mark.parametrize("text", ["", "a photo of a storm", "(a (storm:1.3) at sea), [calm]", "word " * 200, "<A>, A*"])
def test_without_a_word_it_is_the_stock_encode(clip, text):
    result = ours(clip, text, token())
    assert equal(result, stock(clip, text))
    assert result[0][1][prompts.COND_KEY].columns == {}


def test_a_word_changes_the_encoding_and_says_where_it_stands(clip):
    result = ours(clip, "a photo of <A*>", token())
    assert not equal(result, stock(clip, "a photo of"))
    known = result[0][1][prompts.COND_KEY]
    assert (known.length, known.columns) == (77, {1: (4,)})
    assert known.texts[:6] == ("", "a</w>", "photo</w>", "of</w>", "", "")
    assert known.ids[4] < 0 and known.ids[5:] == (49407,) * 72


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("<A*> at sea", {1: [1]}),
        ("a (<A*>:1.4) photo", {1: [2]}),
        ("<A*>, <A2>, <A*>", {1: [1, 5], 2: [3]}),
        ("photo of<A*>,sharp", {1: [3]}),
        (r"a \(<A*>\) photo", {1: [3]}),
        ("((<A*>)) at [sea]", {1: [1]}),
        ("(a <A2>, <A*>:0.7) end", {1: [4], 2: [2]}),
        ("photo\n<A*>'s sea", {1: [2]}),
    ],
)
def test_columns(clip, text, columns):
    found = ours(clip, text, token(), token(1))[0][1][prompts.COND_KEY]
    assert found.columns == {number: tuple(places) for number, places in columns.items()}


def test_a_word_of_several_vectors(clip):
    rows = 0.01 * torch.randn(3, 768, generator=torch.Generator().manual_seed(7))
    several = AudioToken(micro.sound(), {"clip_l": rows}, {"clip_l": 0.4})
    assert ours(clip, "a (<A*>:1.2) sea", several)[0][1][prompts.COND_KEY].columns == {1: (2, 3, 4)}


def test_a_word_in_a_later_chunk(clip):
    found = ours(clip, "storm " * 100 + "<A*>", token())[0]
    (column,) = found[1][prompts.COND_KEY].columns[1]
    assert found[0].shape[1] == found[1][prompts.COND_KEY].length == 154
    assert 77 < column < 154


def test_weights_act(clip):
    plain, strong = (ours(clip, text, token())[0][0] for text in ("a <A*>", "a (<A*>:1.4)"))
    assert not torch.equal(plain, strong)


def test_the_saved_word_in_the_stock_encode_gives_the_same_bits(clip, tmp_path):
    import copy

    token().save(tmp_path / "word.safetensors")
    reader = clip.clone()
    reader.tokenizer = copy.copy(clip.tokenizer)
    reader.tokenizer.clip_l = copy.copy(clip.tokenizer.clip_l)
    reader.tokenizer.clip_l.embedding_directory = [str(tmp_path)]
    for sentence in ("a photo of {} at sea", "{}, sharp", "a ({}:1.3) photo"):
        expected = stock(reader, sentence.format("embedding:word"))
        assert equal(ours(clip, sentence.format("<A*>"), token()), expected)


def test_nothing_leaks_into_the_clip(clip):
    before = stock(clip, "a photo of embedding:__aai_1__ storm")
    ours(clip, "a photo of <A*>", token())
    assert equal(stock(clip, "a photo of embedding:__aai_1__ storm"), before)
    assert "_try_get_embedding" not in vars(clip.tokenizer.clip_l)


def test_repeated_and_batched_use_is_the_same(clip):
    assert equal(ours(clip, "a <A*>", token()), ours(clip, "a <A*>", token()))
    assert not equal(ours(clip, "a <A*>", token()), ours(clip, "a <A*>", token(1)))


def test_refusals(clip):
    with pytest.raises(TokenError, match="no audio token 2"):
        ours(clip, "<A2>", token())
    with pytest.raises(TokenError, match=r"made for clip_l \(1024 wide\).*needs clip_l \(768 wide\)"):
        ours(clip, "<A*>", AudioToken(micro.sound(), {"clip_l": torch.zeros(1, 1024)}, {"clip_l": 0.4}))
    with pytest.raises(TokenError, match=r"made for clip_h"):
        ours(clip, "<A*>", AudioToken(micro.sound(), {"clip_h": torch.zeros(1, 1024)}, {"clip_h": 0.4}))
