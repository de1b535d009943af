"""LPIPS (Zhang et al., CVPR 2018) on AlexNet, version 0.1: how different two pictures look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import StudyError

BACKBONE, HEADS = "alexnet-owt-7be5be79.pth", "alex.pth"  # as torchvision and as LPIPS's authors publish them
SIDE = 256  # pixels to which pictures are brought
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of pixels in -1..1
TAPS = (1, 4, 7, 9, 11)  # layers of AlexNet, counted as torchvision does, behind which features are compared
WIDTHS = (64, 192, 384, 256, 256)


class LPIPS(nn.Module):
    """Distances of pictures; 0 for equal ones. Build one with `from_folder`."""

    def __init__(self):
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, 4, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
        layers += [nn.Conv2d(64, 192, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
        for n_in, n_out in ((192, 384), (384, 256), (256, 256)):
            layers += [nn.Conv2d(n_in, n_out, 3, 1, 1), nn.ReLU()]
        self.features = nn.Sequential(*layers)
        self.heads = nn.ParameterList([nn.Parameter(torch.zeros(1, width, 1, 1)) for width in WIDTHS])

    @classmethod
    def from_folder(cls, folder: Path) -> LPIPS:
        """Read the two published files; raises `StudyError`."""
        model = cls()
        try:
            backbone = _load(folder / BACKBONE)
            heads = _load(folder / HEADS)
            own = {name: tensor for name, tensor in backbone.items() if name.startswith("features.")}
            own |= {f"heads.{k}": heads[f"lin{k}.model.1.weight"] for k in range(len(WIDTHS))}
            model.load_state_dict(own)
        except Exception as error:  # whatever a damaged or other file leads torch.load to
            raise StudyError(
                f"{folder} cannot be read as LPIPS ({type(error).__name__}: {str(error)[:200]})",
                f"It must hold {BACKBONE} and {HEADS} as they are published",
                "Download them again",
            ) from None
        return model.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances (N,) of pictures (N, 3, H, W) in -1..1."""
        total = torch.zeros(len(a))
        for head, x, y in zip(self.heads, self._taps(a), self._taps(b), strict=True):
            squares = (_unit(x) - _unit(y)) ** 2
            total = total + (squares * head).sum(1).mean((1, 2))
        return total

    def distances(self, a: Sequence[Image.Image], b: Sequence[Image.Image]) -> Tensor:
        """Distances (N,) of pictures, two by two."""
        return torch.cat([self(_pixels(x), _pixels(y)) for x, y in zip(a, b, strict=True)])

    def _taps(self, pictures: Tensor) -> list[Tensor]:
        x = (pictures - torch.tensor(SHIFT).view(1, 3, 1, 1)) / torch.tensor(SCALE).view(1, 3, 1, 1)
        found = []
        for number, layer in enumerate(self.features):
            x = layer(x)
            if number in TAPS:
                found.append(x)
        return found


def _unit(x: Tensor) -> Tensor:
    return x / (x.square().sum(1, keepdim=True).sqrt() + 1e-10)


def _pixels(picture: Image.Image) -> Tensor:
    small = picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].float() / 127.5 - 1


def _load(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)
