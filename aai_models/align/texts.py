"""The frozen text side: Stable Diffusion's own CLIP text encoder from a local folder, or hashed words without one."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import CheckpointError, TrainingError
from .aligned_text import AlignedText
from .alignment import CLIP_L, CLIP_L_WIDTH
from .encoders import DISTINCT, TransformersEncoder
from .self_test import require_two

# How a label becomes a sentence: raw (paper), as in LAION-CLAP, as in LanguageBind, and the mean of all.
PROMPTS = {
    "label": ("{}",),
    "laion": ("This is a sound of {}.",),
    "languagebind": ("a sound of {}.",),
    "photo": ("a photo of {}",),
    "ensemble": ("{}", "This is a sound of {}.", "a sound of {}.", "a photo of {}"),
}


class TextEncoder(Protocol):
    """Anything that turns texts into unit vectors."""

    name: str  # also tells checkpoints apart
    dim: int  # D
    aligned_with: str  # the text space of a bridge that its vectors are, `alignment.KNOWN`; "" for any other

    def encode(self, texts: list[str]) -> Tensor:
        """N texts -> unit vectors (N, D), float32."""
        ...


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder holds a whole vocabulary: tokenizer.json, or vocab.json and merges.txt."""
    names = (("tokenizer.json",), ("vocab.json", "merges.txt"))
    return any(all((folder / name).is_file() for name in together) for together in names)


def require_tokenizer(folder: Path) -> None:
    """Raise `CheckpointError` without a vocabulary: transformers would quietly make a tokenizer that knows no word."""
    if not has_tokenizer(folder):
        raise CheckpointError(
            f"{folder} has no tokenizer",
            "Words need the tokenizer that the encoder was published with: tokenizer.json, or vocab.json and merges.txt",
            "Copy the whole folder as it is published",
        )


class HashedWords:
    """Fixed random directions, one for each word, added up: texts that share a word are near, all others at right angles.

    It knows nothing of meaning: a class is learnt by its examples alone, and an untrained word is matched by chance.
    """

    aligned_with = ""

    def __init__(self, dim: int):
        self.dim, self.name = dim, f"hashed words {dim}"

    def encode(self, texts: list[str]) -> Tensor:
        return F.normalize(torch.stack([self._sum(text) for text in texts]), dim=-1)

    def _sum(self, text: str) -> Tensor:
        words = "".join(letter if letter.isalnum() else " " for letter in text.lower()).split() or [text]
        return torch.stack([self._direction(word) for word in words]).sum(dim=0)

    def _direction(self, word: str) -> Tensor:
        seed = int.from_bytes(hashlib.sha256(word.encode("utf-8", "surrogateescape")).digest()[:7], "big")
        return torch.randn(self.dim, generator=torch.Generator().manual_seed(seed))


class CLIPTexts:
    """A `CLIPTextModel`'s end-of-text state after its last LayerNorm, before any projection (768 for SD1.x)."""

    def __init__(self, folder: Path):
        import transformers

        require_tokenizer(folder)
        try:
            self._tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            self._model = (
                transformers.CLIPTextModel.from_pretrained(folder, local_files_only=True).eval().requires_grad_(False)
            )
        except Exception as error:
            raise CheckpointError(
                f"{folder} cannot be read as a CLIPTextModel ({type(error).__name__}: {str(error)[:200]})",
                "The folder must hold what `save_pretrained` wrote: config, weights and tokenizer",
                "Copy the folders text_encoder and tokenizer of a Stable Diffusion 1.x into one",
            ) from None
        self.dim = self._model.config.hidden_size
        digest = hashlib.sha256()
        for tensor in self._model.state_dict().values():
            digest.update(tensor.flatten()[:64].float().numpy().tobytes())
        self.name = f"CLIP {self.dim} {digest.hexdigest()[:16]}"
        self.aligned_with = CLIP_L if self.dim == CLIP_L_WIDTH else ""  # no other CLIP's text side is as wide

    @torch.inference_mode()
    def encode(self, texts: list[str]) -> Tensor:
        features = []
        for first in range(0, len(texts), 64):
            part = texts[first : first + 64]
            inputs = self._tokenizer(part, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            features.append(self._model(input_ids=inputs["input_ids"]).pooler_output.float())
        return F.normalize(torch.cat(features), dim=-1).clone()


class OwnTexts:
    """The text side of a CLAP or PE that `encoders.TransformersEncoder` read, with the tokenizer beside it.

    Its vectors share a space with the encoder's sounds. `prompt`, a key of `PROMPTS`, is the template of its authors.
    """

    aligned_with = ""

    def __init__(self, encoder: TransformersEncoder, folder: Path):
        self._tokenizer = _read_tokenizer(Path(folder), encoder.model.config.text_config.vocab_size)
        self._model, self._is_clap = encoder.model, encoder.kind == "clap"
        self.prompt = "laion" if self._is_clap else "label"
        self.dim, self.name = encoder.dim, f"{encoder.name}'s own texts"

    @property
    def scale(self) -> float:
        """What cosines to a sound are multiplied by before a softmax, as trained."""
        if self._is_clap:
            return float(self._model.logit_scale_a.detach().float().exp())
        learnt = float(self._model.text_audio_logit_scale.detach().float())
        return learnt if learnt > 1 else 20.0  # a twin of the published code does not say whether it is a logarithm

    @property
    def vocabulary(self) -> dict[str, int]:
        """The tokenizer's tokens with their numbers."""
        return dict(self._tokenizer.get_vocab())

    @torch.inference_mode()
    def encode(self, texts: list[str]) -> Tensor:
        features = [self._features(texts[first : first + 64]) for first in range(0, len(texts), 64)]
        return F.normalize(torch.cat(features).float(), dim=-1).cpu().clone()

    def _features(self, texts: list[str]) -> Tensor:
        inputs = self._tokenizer(texts, padding=True, truncation=True, max_length=77, return_tensors="pt")
        device = next(self._model.parameters()).device
        inputs = {key: inputs[key].to(device) for key in ("input_ids", "attention_mask")}
        if self._is_clap:
            features = self._model.get_text_features(**inputs)
            return getattr(features, "pooler_output", features)
        # PE's text head was trained on the last layer's own output, before any norm. No version of transformers has a
        # getter that gives it: they raise, or take the state after the norm.
        states: list[Tensor] = []
        hook = self._model.text_model.layers[-1].register_forward_hook(
            lambda module, given, output: states.append(output[0] if isinstance(output, tuple) else output)
        )
        try:
            self._model.text_model(**inputs)
        finally:
            hook.remove()
        return self._model.text_audio_head(states[-1][:, 0])


def own_texts(encoder: TransformersEncoder, folder: Path) -> OwnTexts:
    """The encoder's own text side, tried on two words. Raises `CheckpointError` where it has no tokenizer or knows no word."""
    folder = Path(folder)
    if not has_tokenizer(folder):
        raise CheckpointError(
            f"{folder.name} has no tokenizer",
            "It encodes sounds; words need the tokenizer that it was trained with",
            "Download tokenizer.json, or vocab.json and merges.txt, from where it is published",
        )
    texts = OwnTexts(encoder, folder)
    require_two(texts.encode(["dog", "rain"]), "reads", "words", apart=DISTINCT)
    return texts


def _read_tokenizer(folder: Path, vocab_size: int):
    from transformers import AutoTokenizer

    require_tokenizer(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        if tokenizer is None:
            raise ValueError("transformers knows no tokenizer for it")
    except Exception as error:
        raise CheckpointError(
            f"{folder}'s tokenizer cannot be read ({type(error).__name__}: {str(error)[:200]})",
            "The words of an encoder need the tokenizer that it was published with",
            "Copy the whole folder as it is published",
        ) from None
    # Without its vocabulary transformers makes a tokenizer of special tokens alone.
    if not len(set(tokenizer.all_special_ids)) < len(tokenizer) <= vocab_size:
        raise CheckpointError(
            f"The tokenizer of {folder.name} has {len(tokenizer)} tokens, its text model {vocab_size}",
            "Both must belong together",
            "Download tokenizer.json, or vocab.json and merges.txt, again from where the encoder is published",
        )
    return tokenizer


def open_texts(source: str, dim: int) -> TextEncoder:
    """`hash`, or the folder of a CLIP text encoder; its vectors are brought to `dim` values."""
    return HashedWords(dim) if source == "hash" else Reduced(CLIPTexts(Path(source)), dim)


class Reduced:
    """Features of another width through a fixed orthonormal map, which keeps cosines (exactly when it lifts)."""

    def __init__(self, texts: TextEncoder, dim: int):
        self._texts, self.dim = texts, dim
        self._map = None if texts.dim == dim else orthonormal(texts.dim, dim)
        self.name = texts.name if self._map is None else f"{texts.name} to {dim}"
        self.aligned_with = texts.aligned_with if self._map is None else ""

    def encode(self, texts: list[str]) -> Tensor:
        features = self._texts.encode(texts)
        return features if self._map is None else F.normalize(features @ self._map, dim=-1)


def orthonormal(n_in: int, n_out: int, seed: int = 0) -> Tensor:
    """(n_in, n_out) with orthonormal columns or rows, whichever are fewer; the same for a seed everywhere."""
    generator = torch.Generator().manual_seed(seed)
    square = torch.randn(max(n_in, n_out), min(n_in, n_out), generator=generator, dtype=torch.float64)
    q = torch.linalg.qr(square).Q.float()
    return q if n_in >= n_out else q.T.contiguous()


def class_texts(texts: TextEncoder | AlignedText, labels: list[str], prompt: str) -> Tensor:
    """One unit vector (C, D) for each label: the mean over a prompt style's sentences."""
    if prompt not in PROMPTS:
        raise TrainingError(f"prompt is {prompt!r}", f"Known are {', '.join(PROMPTS)}")
    features = [texts.encode([style.format(label) for label in labels]) for style in PROMPTS[prompt]]
    return F.normalize(torch.stack(features).mean(dim=0), dim=-1)
