"""Wav2CLIP (Wu et al., ICASSP 2022): sounds in the space of CLIP ViT-B/32, as AIS asks. A ResNet-18 on a spectrogram."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..audio.decode import decode_audio
from ..audio.resample import resample
from ..errors import StudyError

RATE = 16000  # Hz
WINDOW, HOP = 512, 353  # samples of the spectrogram
WIDTHS = (64, 128, 256, 512)
DIM = 512


class Block(nn.Module):
    """A residual block of ResNet-18."""

    def __init__(self, n_in: int, n_out: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        is_same = stride == 1 and n_in == n_out
        shortcut = [] if is_same else [nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)]
        self.downsample = nn.Sequential(*shortcut)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(h)) + self.downsample(x))


class AudioTower(nn.Module):
    """Waveforms (B, T) at 16 kHz -> (B, 512). The names of its tensors are those of the published file."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, WIDTHS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        n_in = WIDTHS[0]
        for number, width in enumerate(WIDTHS, start=1):
            blocks = [Block(n_in, width, 1 if number == 1 else 2), Block(width, width, 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            n_in = width

    def forward(self, waveform: Tensor) -> Tensor:
        x = torch.log(power_spectrogram(waveform)[:, None] + 1e-7)
        x = (x - x.mean()) / (x.std() + 1e-9)  # over the whole batch, as published: give it one sound at a time
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for number in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return x.mean((2, 3))


class Wav2CLIP(nn.Module):
    """The tower and the layers that carry it into CLIP's space."""

    def __init__(self):
        super().__init__()
        self.encoder = AudioTower()
        layers = [nn.Linear(DIM, DIM), nn.ReLU(), nn.Dropout(0.1), nn.Linear(DIM, DIM)]
        self.sequential = nn.Sequential(*layers)

    @classmethod
    def from_file(cls, path: Path) -> Wav2CLIP:
        """Read the published checkpoint; raises `StudyError`."""
        try:
            found = torch.load(path, map_location="cpu", weights_only=True)
            tensors = found.get("state_dict", found)
            own = {k.partition(".")[2]: v for k, v in tensors.items() if k.startswith("audio_transform.")}
            own |= {f"encoder.{k.partition('.')[2]}": v for k, v in tensors.items() if k.startswith("audio_encoder.")}
            unused = ("encoder.spectrogram.", "encoder.fc.")
            model = cls()
            model.load_state_dict({k: v for k, v in own.items() if not k.startswith(unused)})
        except Exception as error:  # whatever a damaged or other file leads torch.load to
            raise StudyError(
                f"{path} cannot be read as Wav2CLIP ({type(error).__name__}: {str(error)[:200]})",
                "It must be the checkpoint that Wav2CLIP's authors published",
                "Download it again",
            ) from None
        return model.eval().requires_grad_(False)

    @torch.inference_mode()
    def hear(self, paths: list[Path]) -> Tensor:
        """Unit vectors (N, 512) of recordings."""
        features = []
        for path in paths:
            waveform, rate = decode_audio(path)
            mono = resample(waveform.mean(0, keepdim=True), rate, RATE)
            features.append(self.sequential(self.encoder(F.pad(mono, (0, max(0, WINDOW - mono.shape[-1]))))))
        return F.normalize(torch.cat(features), dim=-1).clone()


def power_spectrogram(waveform: Tensor) -> Tensor:
    """|STFT|^2 (B, 257, frames) of waveforms (B, T); Hann window, edges reflected."""
    window = torch.hann_window(WINDOW, dtype=waveform.dtype)
    return torch.stft(waveform, WINDOW, HOP, window=window, return_complex=True).abs() ** 2
