"""OpenAI's CLIP from a folder as it is published: similarities of pictures and texts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..align.texts import require_tokenizer
from ..errors import StudyError

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BATCH = 16


class CLIP:
    """A CLIP's two towers; `name` is its folder's."""

    def __init__(self, folder: Path):
        import transformers

        self.name = folder.name
        try:
            require_tokenizer(folder)
            self._tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
            options = {"local_files_only": True, "output_loading_info": True}
            self._model, told = _load_model(transformers.CLIPModel, folder, options)
        except Exception as error:
            raise StudyError(
                f"{folder} cannot be read as a CLIP ({type(error).__name__}: {str(error)[:200]})",
                "It must hold config, weights and tokenizer as they are published",
                "Copy the whole folder again",
            ) from None
        missing = [name for name in told["missing_keys"] if not name.endswith("position_ids")]
        if missing:
            raise StudyError(
                f"{folder} lacks {len(missing)} tensors, the first is {missing[0]}",
                "All weights must be there: missing ones would be random",
                "Copy the whole folder again",
            )
        self._model.eval().requires_grad_(False)
        self._side = int(self._model.config.vision_config.image_size)

    @torch.inference_mode()
    def see(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Unit vectors (N, D)."""
        pixels = [clip_input(picture, self._side) for picture in pictures]
        parts = [torch.stack(pixels[first : first + BATCH]) for first in range(0, len(pixels), BATCH)]
        found = [self._model.get_image_features(pixel_values=part) for part in parts]
        return F.normalize(torch.cat([getattr(f, "pooler_output", f).float() for f in found]), dim=-1).clone()

    @torch.inference_mode()
    def read(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (N, D)."""
        features = []
        for first in range(0, len(texts), BATCH):
            part = list(texts[first : first + BATCH])
            inputs = self._tokenizer(part, padding=True, truncation=True, max_length=77, return_tensors="pt")
            found = self._model.get_text_features(**{k: inputs[k] for k in ("input_ids", "attention_mask")})
            features.append(getattr(found, "pooler_output", found).float())
        return F.normalize(torch.cat(features), dim=-1).clone()

    def name_pictures(self, pictures: Sequence[Image.Image], labels: list[str]) -> list[str]:
        """The label nearest to each picture, as AIC asks: raw label texts, no template."""
        nearest = (self.see(pictures) @ self.read(labels).T).argmax(1)
        return [labels[int(i)] for i in nearest]

    def score(self, pictures: Sequence[Image.Image], texts: list[str]) -> Tensor:
        """Cosines of pictures and their texts (N,)."""
        return (self.see(pictures) * self.read(texts)).sum(1)


def _load_model(kind, folder: Path, options: dict):
    """(model, what was found in its file)."""
    return kind.from_pretrained(folder, **options)


def clip_input(picture: Image.Image, side: int) -> Tensor:
    """(3, side, side): shorter side to `side` (bicubic), centre crop, CLIP's statistics."""
    scale = side / min(picture.size)
    width, height = (max(side, round(length * scale)) for length in picture.size)
    left, top = (width - side) // 2, (height - side) // 2
    picture = picture.resize((width, height), Image.Resampling.BICUBIC).crop((left, top, left + side, top + side))
    pixels = torch.from_numpy(np.array(picture, dtype=np.float32) / 255.0)
    return ((pixels - torch.tensor(MEAN)) / torch.tensor(STD)).permute(2, 0, 1).contiguous()
