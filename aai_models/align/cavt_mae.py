"""CAVT-MAE: the audio and the image tower of CAV-MAE (Gong et al., ICLR 2023) with a shared last block.

    audio  fbank (B, 1024, 128) -> patches (B, 512, D) -> blocks_a -> blocks_u with the audio norms -> norm_a -> mean
    image  RGB (B, 3, 224, 224) -> patches (B, 196, D) -> blocks_v -> blocks_u with the image norms -> norm_v -> mean

Names of modules and parameters are those of the public checkpoints. Every size is read from the tensors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import CheckpointError
from ..shapes import lacking, shapes_of

HEAD_DIM = 64
TOKENS_AT_ONCE = 512  # for each thread of a processor: as many as its caches hold between two layers
FRAMES, MEL_BINS = 1024, 128  # the spectrogram that the audio tower was trained on
IMAGE_SIZE = 224
TORCH_OPERATIONS = SimpleNamespace(Linear=nn.Linear, LayerNorm=nn.LayerNorm, Conv2d=nn.Conv2d)

# Parts of a pre-training or fine-tuning checkpoint that the encoders do not use.
DROPPED = re.compile(r"^(decoder_|mask_token$|mlp_head\.|picture_head\.)")
AUDIO_ONLY = re.compile(r"^(patch_embed_a\.|modality_a$|pos_embed_a$|blocks_a\.|blocks_u\.|norm_a\.)")


@dataclass(frozen=True)
class CAVTMAEConfig:
    """Sizes of the towers; the defaults are CAV-MAE Base."""

    dim: int = 768  # width of the towers and of their features
    patch: int = 16  # side of a square patch, in spectrogram bins or pixels
    depth: int = 11  # blocks of each tower before the shared ones
    shared_depth: int = 1  # blocks that both towers share
    mlp_dim: int = 3072  # hidden width of a block's MLP
    audio_tokens: int = 512  # patches of a 1024 x 128 spectrogram
    image_tokens: int = 196  # patches of a 224 x 224 picture; 0: the file holds the audio tower alone


class Attention(nn.Module):
    """Multi-head self-attention with a fused qkv projection."""

    def __init__(self, dim: int, operations, **factory):
        super().__init__()
        self.heads = dim // HEAD_DIM
        self.qkv = operations.Linear(dim, 3 * dim, **factory)
        self.proj = operations.Linear(dim, dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, HEAD_DIM)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # each (B, heads, tokens, 64)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))


class MLP(nn.Module):
    """Two linear layers with an exact GELU between them."""

    def __init__(self, dim: int, hidden: int, operations, **factory):
        super().__init__()
        self.fc1 = operations.Linear(dim, hidden, **factory)
        self.fc2 = operations.Linear(hidden, dim, **factory)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        # In place where no gradient needs it: on a processor new memory costs more than the arithmetic.
        return self.fc2(F.gelu(hidden) if torch.is_grad_enabled() else torch.ops.aten.gelu_(hidden))


class Block(nn.Module):
    """Pre-norm block: one attention and one MLP, and a pair of LayerNorms for each stream (joint, audio, image)."""

    def __init__(self, dim: int, hidden: int, operations, **factory):
        super().__init__()
        for name in ("norm1", "norm1_a", "norm1_v", "norm2", "norm2_a", "norm2_v"):
            setattr(self, name, operations.LayerNorm(dim, eps=1e-5, **factory))
        self.attn = Attention(dim, operations, **factory)
        self.mlp = MLP(dim, hidden, operations, **factory)

    def forward(self, x: Tensor, modality: str | None = None) -> Tensor:
        suffix = "" if modality is None else f"_{modality}"
        x = x + self.attn(getattr(self, f"norm1{suffix}")(x))
        return x + self.mlp(getattr(self, f"norm2{suffix}")(x))


class PatchEmbed(nn.Module):
    """Non-overlapping square patches, flattened row by row."""

    def __init__(self, channels: int, dim: int, patch: int, operations, **factory):
        super().__init__()
        self.proj = operations.Conv2d(channels, dim, kernel_size=patch, stride=patch, **factory)

    def forward(self, x: Tensor) -> Tensor:
        # In one piece: the residual stream keeps this layout through every block.
        return self.proj(x).flatten(2).transpose(1, 2).contiguous()  # (B, rows * columns, D)


def sincos_position_embedding(dim: int, rows: int, columns: int) -> Tensor:
    """Fixed 2-D sine-cosine positions (1, rows * columns, dim): the first half encodes the column, the second the row.

    Within a half: sines, then cosines, of p * 10000^(-k / (dim / 4)) for k = 0 .. dim / 4 - 1.
    """
    omega = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = [place.reshape(-1, 1).double() * omega for place in (column, row)]  # each (rows * columns, dim / 4)
    halves = [torch.cat([a.sin(), a.cos()], dim=1) for a in angles]
    return torch.cat(halves, dim=1).float().unsqueeze(0)


class CAVTMAE(nn.Module):
    """The encoders of CAVT-MAE. Build one with `from_state_dict`."""

    blocks_u: nn.ModuleList
    pos_embed_a: nn.Parameter
    pos_embed_v: nn.Parameter
    norm_a: nn.Module
    norm_v: nn.Module  # this one and others whose names end in _v: with both towers

    def __init__(self, config: CAVTMAEConfig, *, operations=TORCH_OPERATIONS, dtype=None, device=None):
        super().__init__()
        self.config = config
        factory = {"dtype": dtype, "device": device}

        def tower(channels: int, tokens: int, letter: str) -> None:
            blocks = [Block(config.dim, config.mlp_dim, operations, **factory) for _ in range(config.depth)]
            setattr(
                self, f"patch_embed_{letter}", PatchEmbed(channels, config.dim, config.patch, operations, **factory)
            )
            setattr(self, f"modality_{letter}", _fixed(torch.zeros(1, 1, config.dim, **factory)))
            setattr(self, f"pos_embed_{letter}", _fixed(torch.zeros(1, tokens, config.dim, **factory)))
            setattr(self, f"blocks_{letter}", nn.ModuleList(blocks))
            setattr(self, f"norm_{letter}", operations.LayerNorm(config.dim, eps=1e-5, **factory))

        tower(1, config.audio_tokens, "a")
        shared = [Block(config.dim, config.mlp_dim, operations, **factory) for _ in range(config.shared_depth)]
        self.blocks_u = nn.ModuleList(shared)
        if config.image_tokens:
            tower(3, config.image_tokens, "v")
            self.norm = operations.LayerNorm(config.dim, eps=1e-5, **factory)

    @property
    def has_images(self) -> bool:
        return self.config.image_tokens > 0

    def encode_audio(self, fbank: Tensor) -> Tensor:
        """Normalised log-mel spectrograms (B, 1024, 128), float -> unit vectors (B, D), float32."""
        return F.normalize(self.pool_audio(fbank), dim=-1)

    def pool_audio(self, fbank: Tensor) -> Tensor:
        """`encode_audio` before it is brought to unit length: the mean of the tokens after the last norm, (B, D)."""
        check_spectrograms(fbank)
        # (B, 1, mel, time), so that token index = mel row * 64 + time column
        picture = fbank.transpose(1, 2).unsqueeze(1)
        return in_pieces(lambda x: self.pool(self.stem(x, "a"), "a"), picture, self.config.audio_tokens)

    def encode_image(self, pixels: Tensor) -> Tensor:
        """Pictures (B, 3, 224, 224), ImageNet-normalised -> unit vectors (B, D), float32."""
        return in_pieces(lambda x: self.finish(self.image_states(x), "v"), pixels, self.config.image_tokens or 1)

    def image_states(self, pixels: Tensor) -> Tensor:
        """Pictures as `encode_image` takes them -> tokens (B, image_tokens, D) before the shared blocks."""
        if not self.has_images:
            raise CheckpointError(
                "This CAVT-MAE file holds only the audio tower",
                "Pictures need a file with both towers",
                "Choose a checkpoint that holds all 474 encoder tensors",
            )
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(f"encode_image takes (B, 3, {IMAGE_SIZE}, {IMAGE_SIZE}) but got {tuple(pixels.shape)}")
        return self.stem(pixels, "v")

    def stem(self, x: Tensor, letter: str) -> Tensor:
        """(B, channels, H, W) of one modality -> tokens (B, tokens, D) before the shared blocks."""
        x = getattr(self, f"patch_embed_{letter}")(x)
        for name in (f"pos_embed_{letter}", f"modality_{letter}"):
            # Parameters of a module with children stay behind when a host loads a model in part.
            x = x + getattr(self, name).to(x)
        for block in getattr(self, f"blocks_{letter}"):
            x = block(x)
        return x

    def finish(self, x: Tensor, letter: str) -> Tensor:
        """Tokens of `stem` -> shared blocks, norm, mean -> unit vectors (B, D), float32."""
        return F.normalize(self.pool(x, letter), dim=-1)

    def pool(self, x: Tensor, letter: str) -> Tensor:
        """`finish` before it is brought to unit length."""
        return self.shared_states(x, letter).mean(dim=1).float()

    def shared_states(self, x: Tensor, letter: str) -> Tensor:
        """Tokens of `stem` (B, tokens, D) -> tokens after the shared blocks and the modality's norm."""
        for block in self.blocks_u:
            x = block(x, letter)
        return getattr(self, f"norm_{letter}")(x)

    @classmethod
    def fresh(cls, config: CAVTMAEConfig, seed: int = 0) -> CAVTMAE:
        """Untrained towers, as CAV-MAE begins: Xavier-uniform weights, zero biases, fixed sine-cosine positions."""
        generator = torch.Generator().manual_seed(seed)
        model = cls(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.startswith("modality_"):
                    parameter.normal_(std=0.02, generator=generator)
                elif parameter.ndim >= 2 and not name.startswith("pos_embed_"):
                    fan_in, fan_out = parameter[0].numel(), parameter.shape[0]
                    bound = (6 / (fan_in + fan_out)) ** 0.5
                    parameter.uniform_(-bound, bound, generator=generator)
                elif name.endswith(".bias"):
                    parameter.zero_()
            rows = MEL_BINS // config.patch
            model.pos_embed_a.copy_(sincos_position_embedding(config.dim, rows, config.audio_tokens // rows))
            if config.image_tokens:
                side = IMAGE_SIZE // config.patch
                model.pos_embed_v.copy_(sincos_position_embedding(config.dim, side, side))
        return model.eval().requires_grad_(False)

    @classmethod
    def from_state_dict(cls, state_dict: dict[str, Tensor], **options) -> CAVTMAE:
        """Build the encoders that a checkpoint holds: both towers, or the audio tower alone.

        `module.` prefixes are stripped; decoder, mask token and classifier head are dropped by name. Raises
        `CheckpointError` unless every remaining tensor is expected and every expected one is there with its shape.
        `options` go to the constructor (operations, dtype, device).
        """
        tensors = encoder_tensors(state_dict)
        config = read_config(tensors)
        _check_tensors(shapes_of(lambda: cls(config)), tensors)
        model = cls(config, **options)
        dtype = options.get("dtype")
        if dtype is not None:  # layers that get their weights now would keep the file's type
            tensors = {name: tensor.to(dtype) for name, tensor in tensors.items()}
        model.load_state_dict(tensors)
        return model.eval().requires_grad_(False)


def check_spectrograms(fbank: Tensor) -> None:
    """Raises `ValueError` unless these are spectrograms as `encode_audio` takes them."""
    if fbank.ndim != 3 or tuple(fbank.shape[1:]) != (FRAMES, MEL_BINS):
        raise ValueError(f"encode_audio takes (B, {FRAMES}, {MEL_BINS}) but got {tuple(fbank.shape)}")


def in_pieces(run, batch: Tensor, tokens: int) -> Tensor:
    """`run(batch)`; on a processor that needs no gradients, in pieces whose activations stay in its caches."""
    if batch.device.type != "cpu" or torch.is_grad_enabled():
        return run(batch)
    size = max(1, TOKENS_AT_ONCE * torch.get_num_threads() // tokens)
    return torch.cat([run(part) for part in batch.split(size)])


def _fixed(tensor: Tensor) -> nn.Parameter:
    return nn.Parameter(tensor, requires_grad=False)


def encoder_tensors(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors of a checkpoint under their plain names. Raises `CheckpointError` for other things in it."""
    plain = {str(name).removeprefix("module."): tensor for name, tensor in state_dict.items()}
    kept = {name: tensor for name, tensor in plain.items() if not DROPPED.match(name)}
    other = next((name for name, tensor in kept.items() if not isinstance(tensor, Tensor)), None)
    if other is not None:
        raise CheckpointError(
            f"The checkpoint's {other} is a {type(kept[other]).__name__}",
            "A CAVT-MAE checkpoint must hold only named tensors",
            "Choose a CAV-MAE or CAVT-MAE file, or save only its state_dict",
        )
    return kept


def read_config(tensors: dict[str, Tensor]) -> CAVTMAEConfig:
    """Read every size of the towers from the tensors' shapes."""

    def shape(name: str, ndim: int) -> tuple[int, ...]:
        tensor = tensors.get(name)
        if not isinstance(tensor, Tensor) or tensor.ndim != ndim:
            found = "no such tensor" if tensor is None else f"one of shape {tuple(getattr(tensor, 'shape', ()))}"
            first = next(iter(tensors), "nothing")
            raise CheckpointError(
                f"This is not a CAVT-MAE checkpoint: it has {found} named {name} (its first tensor is {first})",
                "The encoder's tensors carry CAV-MAE's names, such as patch_embed_a.proj.weight",
                "Choose a CAV-MAE or CAVT-MAE file",
            )
        return tuple(tensor.shape)

    def count(prefix: str) -> int:
        return len({name.split(".")[1] for name in tensors if name.startswith(f"{prefix}.")})

    dim, _, patch, _ = shape("patch_embed_a.proj.weight", 4)
    hidden, _ = shape(f"blocks_{'a' if count('blocks_a') else 'u'}.0.mlp.fc1.weight", 2)
    with_images = any(not AUDIO_ONLY.match(name) for name in tensors)
    config = CAVTMAEConfig(
        dim=dim,
        patch=patch,
        depth=count("blocks_a"),
        shared_depth=count("blocks_u"),
        mlp_dim=hidden,
        audio_tokens=shape("pos_embed_a", 3)[1],
        image_tokens=shape("pos_embed_v", 3)[1] if with_images else 0,
    )
    _check_sizes(config)
    return config


def _check_sizes(config: CAVTMAEConfig) -> None:
    """Raise `CheckpointError` unless this module can run a model of these sizes."""
    patch = max(1, config.patch)
    audio, image = (FRAMES // patch) * (MEL_BINS // patch), (IMAGE_SIZE // patch) ** 2
    if config.dim % HEAD_DIM or config.audio_tokens != audio or config.image_tokens not in (0, image):
        raise CheckpointError(
            f"The checkpoint has features of width {config.dim}, and {config.audio_tokens} audio and "
            f"{config.image_tokens} image patches of side {config.patch}",
            f"The width must be a multiple of {HEAD_DIM}, with {audio} patches of {FRAMES} x {MEL_BINS} spectrograms "
            f"and {image} of {IMAGE_SIZE} x {IMAGE_SIZE} pictures",
            "Choose a CAV-MAE or CAVT-MAE file for 10 seconds of sound",
        )


def _check_tensors(expected: dict[str, tuple[int, ...]], found: dict[str, Tensor]) -> None:
    missing = [name for name in expected if name not in found]
    unexpected = [name for name in found if name not in expected]
    if wrong := lacking(missing, unexpected, "encoder tensors", "unexpected"):
        raise CheckpointError(
            f"The checkpoint {wrong}",
            f"A CAVT-MAE of this size has exactly {len(expected)} encoder tensors",
            "Choose another file, or convert this one again from its source",
        )
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise CheckpointError(
                f"The tensor {name} has shape {tuple(found[name].shape)}",
                f"The other tensors need {shape}",
                "The file is damaged or was converted wrongly: download or convert it again",
            )
