"""The student of Align and its momentum teacher (paper 3.1), in every reading of "momentum visual encoder".

The paper freezes the visual encoder and calls an average of its past a "perpetually evolving teacher". Taken to the
letter the average of something that never moves is that thing, and L_t (Eq. 5) is 0. Hence the readings:

    frozen         to the letter: L_t = 0, what remains is the factor 1 - alpha before L_c(A, V)
    visual_shared  CAV-MAE's last block belongs to both towers, so tuning the audio encoder moves it; the teacher is the
                   frozen image stem followed by an average of the shared attention and MLP
    audio          the teacher is an average of the audio tower
    both           as visual_shared, and the teacher also averages the audio tower (ALBEF without its queue)
    head           a small head on the frozen picture feature is trained, the teacher has its average

In frozen, audio and head the shared block is untied first, so that the visual encoder really stays as it is.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import TrainingError
from .cavt_mae import AUDIO_ONLY, CAVTMAE, CAVTMAEConfig

READINGS = ("frozen", "visual_shared", "audio", "both", "head")
TIED = ("visual_shared", "both")


def untie(model: CAVTMAE) -> CAVTMAE:
    """The same function with no shared blocks: each tower gets a copy of them, with its own norms, as its last blocks."""
    config, tensors = model.config, {}
    for name, tensor in model.state_dict().items():
        if not name.startswith("blocks_u."):
            tensors[name] = tensor
            continue
        _, index, rest = name.split(".", 2)
        for letter in "av" if model.has_images else "a":
            place = f"blocks_{letter}.{config.depth + int(index)}."
            if rest.startswith((f"norm1_{letter}.", f"norm2_{letter}.")):
                tensors[place + rest.replace(f"_{letter}.", ".", 1)] = tensor
                tensors[place + rest] = tensor
            elif not rest.startswith(("norm1.", "norm2.")):
                tensors[place + rest] = tensor
    return CAVTMAE.from_state_dict({name: tensor.clone() for name, tensor in tensors.items()})


def audio_names(model: CAVTMAE) -> list[str]:
    """Parameters that the audio feature depends on and that are tuned: all of the audio path but its positions."""
    names = []
    for name, _ in model.named_parameters():
        if not AUDIO_ONLY.match(name) or name == "pos_embed_a":
            continue
        suffix = name.split(".")[2] if name.startswith(("blocks_a.", "blocks_u.")) else ""
        unused = ("norm1", "norm2", "norm1_v", "norm2_v") if name.startswith("blocks_u.") else _OTHER_NORMS
        if suffix not in unused:
            names.append(name)
    return names


_OTHER_NORMS = ("norm1_a", "norm1_v", "norm2_a", "norm2_v")


class PictureHead(nn.Module):
    """LayerNorm and a linear layer beside the identity, which it is at first: unit vectors (B, D) -> (B, D)."""

    def __init__(self, dim: int):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(dim), nn.Linear(dim, dim)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, v: Tensor) -> Tensor:
        return F.normalize((v + self.linear(self.norm(v))).float(), dim=-1)


class Student(nn.Module):
    """CAVT-MAE under training: what moves has `requires_grad`, everything else is frozen."""

    def __init__(self, model: CAVTMAE, reading: str):
        super().__init__()
        if reading not in READINGS:
            raise ValueError(f"momentum_target is {reading!r}; known are {', '.join(READINGS)}")
        if reading in TIED and not model.config.shared_depth:
            raise TrainingError(
                f"momentum_target `{reading}` got towers without a shared block",
                "Its teacher averages the block that both towers share",
                "Begin with a CAV-MAE checkpoint, or choose `frozen`, `audio` or `head`",
            )
        self.reading = reading
        self.model = copy.deepcopy(model) if reading in TIED else untie(model)
        self.model.requires_grad_(False)
        for name in audio_names(self.model):
            self.model.get_parameter(name).requires_grad_(True)
        self.head = PictureHead(model.config.dim) if reading == "head" else None

    def trained(self) -> dict[str, nn.Parameter]:
        """Every parameter that training moves, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def encode_audio(self, fbank: Tensor) -> Tensor:
        """(B, 1024, 128) -> unit vectors (B, D), with gradient."""
        return self.model.encode_audio(fbank)

    @torch.no_grad()
    def picture_states(self, pixels: Tensor) -> Tensor:
        """What never changes of a picture (B, 3, 224, 224) and may be kept: tokens (B, T, D) where the last block is
        tied, else the finished feature (B, D)."""
        states = self.model.image_states(pixels)
        return states if self.reading in TIED else self.model.finish(states, "v")

    def picture(self, states: Tensor) -> Tensor:
        """`picture_states`, or features (B, D) made elsewhere -> unit vectors (B, D).

        Only a head gives them a gradient: the shared block is trained by sounds, not by pictures. Raises
        `TrainingError` for features made elsewhere where the reading needs the picture tower.
        """
        if self.reading not in TIED:
            return states.float() if self.head is None else self.head(states.float())
        require_states(states, self.reading)
        with torch.no_grad():
            return self.model.finish(states, "v")


def require_states(states: Tensor, reading: str) -> None:
    """Raise `TrainingError` unless the shared block can take these states."""
    if states.ndim != 3:
        raise TrainingError(
            f"momentum_target `{reading}` got precomputed picture features {tuple(states.shape)}",
            "It needs pictures, since its teacher encodes them with CAVT-MAE's own last block",
            "Give pictures, or choose `frozen`, `audio` or `head`",
        )


class Teacher:
    """The average of the student's past. `update` it before each step's forward."""

    def __init__(self, student: Student, momentum: float = 0.995):
        self.reading, self.momentum, self._student = student.reading, momentum, student
        self.tower = _audio_tower(student.model) if self.reading in ("audio", "both") else None
        self.blocks = None
        if self.reading == "visual_shared":
            self.blocks = copy.deepcopy(student.model.blocks_u)
        self.head = copy.deepcopy(student.head)
        self.averages = self._pairs()
        for average, _ in self.averages.values():
            average.requires_grad_(False)

    def _pairs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Name -> (average, its source in the student)."""
        student = self._student
        pairs: dict[str, tuple[Tensor, Tensor]] = {}
        if self.tower is not None:
            for name in audio_names(student.model):
                pairs[f"tower.{name}"] = (self.tower.get_parameter(name), student.model.get_parameter(name))
        if self.blocks is not None:
            for name, parameter in self.blocks.named_parameters():
                if name.split(".")[1] in ("attn", "mlp"):
                    pairs[f"blocks.{name}"] = (parameter, student.model.blocks_u.get_parameter(name))
        if self.head is not None and student.head is not None:
            for name, parameter in self.head.named_parameters():
                pairs[f"head.{name}"] = (parameter, student.head.get_parameter(name))
        return pairs

    @torch.no_grad()
    def update(self) -> None:
        """theta' <- m theta' + (1 - m) theta, for parameters alone."""
        for average, source in self.averages.values():
            average.lerp_(source.detach(), 1 - self.momentum)

    @torch.no_grad()
    def audio(self, fbank: Tensor) -> Tensor | None:
        """The teacher's audio features (B, D); None where it has no audio tower."""
        return None if self.tower is None else self.tower.encode_audio(fbank)

    @torch.no_grad()
    def picture(self, states: Tensor) -> Tensor:
        """`Student.picture` as the teacher sees it."""
        if self.head is not None:
            return self.head(states.float())
        blocks = self.blocks if self.tower is None else self.tower.blocks_u
        if self.reading not in TIED or blocks is None:
            return states.float()
        require_states(states, self.reading)
        x, model = states, self._student.model
        for block in blocks:
            x = block(x, "v")
        return F.normalize(model.norm_v(x).mean(dim=1).float(), dim=-1)


def _audio_tower(model: CAVTMAE) -> CAVTMAE:
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items() if AUDIO_ONLY.match(name)}
    tower = CAVTMAE(CAVTMAEConfig(**{**vars(model.config), "image_tokens": 0}))
    tower.load_state_dict(tensors)
    return tower.to(model.pos_embed_a.device).requires_grad_(False)


def explain(reading: str, alpha: float, has_pictures: bool = True) -> str:
    """What a reading does to L_t, in words, for the log."""
    if not has_pictures:
        return "There are no pictures: the loss is L_c(A, T) alone."
    if alpha == 0:
        return "alpha is 0: there is no pseudo-target, the loss is L_c(A, T) + L_c(A, V)."
    if reading == "frozen":
        return (
            "momentum_target `frozen`: the average of a visual encoder that never moves is that encoder, so L_t is 0 by "
            f"construction; all that alpha = {alpha:g} does is to weigh L_c(A, V) with {1 - alpha:g}."
        )
    what = {
        "visual_shared": "the block that both towers share",
        "audio": "the audio tower",
        "both": "the audio tower and with it the block that both towers share",
        "head": "the head on the frozen picture feature",
    }[reading]
    return (
        f"momentum_target `{reading}`: the teacher averages {what}; L_t is 0 at step 0 and grows as the teacher lags."
    )
