"""Sheets to look at: word maps over pictures; source, edit, difference and map side by side."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....aai_models.draw import contact_sheet, heat
from ....aai_models.errors import EditError
from ..hear.pictures import to_image, to_picture
from .watch import WordMaps, to_size

SHEET_SIDE = 320
HEAT_STRENGTH = 0.8  # of a heat map on an edit sheet


def overlay(picture: Image.Image, values: np.ndarray, strength: float) -> Image.Image:
    """A heat map (H, W) in 0..1 over a picture of the same size; cold places show the picture."""
    colours = Image.fromarray(heat(values))
    alpha = Image.fromarray((np.clip(values, 0, 1) * strength * 255).astype(np.uint8), "L")
    return Image.composite(colours, picture, alpha)


def heat_maps(maps: WordMaps, images: Tensor, strength: float) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures (N, H, W, C) and their word maps -> (overlays (N*words, H, W, 3), masks (N*words, H, W), sheet)."""
    height, width = images.shape[1:3]
    average = _for_pictures(maps.average(), images)
    values = to_size(average, height, width)
    overlays, masks, tiles, captions = [], [], [], []
    for index, image in enumerate(images):
        picture = to_picture(image)
        tiles.append(picture)
        captions.append(f"picture {index + 1}")
        for word, value in zip(maps.words, values[index], strict=True):
            drawn = overlay(picture, value.numpy(), strength)
            overlays.append(to_image(drawn))
            masks.append(value)
            tiles.append(drawn)
            captions.append(word)
    if maps.windows > 1:
        _add_windows(maps, images, strength, tiles, captions)
    columns = 1 + len(maps.words)
    return torch.cat(overlays), torch.stack(masks), to_image(contact_sheet(tiles, captions, columns, SHEET_SIDE))


def _add_windows(maps: WordMaps, images: Tensor, strength: float, tiles: list, captions: list) -> None:
    height, width = images.shape[1:3]
    for window in sorted({w for _, w in maps.sums}):
        values = to_size(_for_pictures(maps.average(window), images), height, width)
        for index, image in enumerate(images):
            picture = to_picture(image)
            tiles.append(picture)
            captions.append(f"{100 * window // maps.windows}-{100 * (window + 1) // maps.windows} % of the run")
            for word, value in zip(maps.words, values[index], strict=True):
                tiles.append(overlay(picture, value.numpy(), strength))
                captions.append(word)


def _for_pictures(average: Tensor, images: Tensor) -> Tensor:
    if average.shape[0] != images.shape[0]:
        raise EditError(
            f"There are maps of {average.shape[0]} pictures and {images.shape[0]} pictures",
            "The pictures must be those that the watched model sampled last",
            "Connect the decoded output of that sampler",
        )
    return average


def edit_sheet(
    images: Tensor,
    branches: int,
    prompts: list[str],
    scale: float | None,
    sound: Tensor | None,
    maps: WordMaps | None = None,
) -> Tensor:
    """Source and edits (branches*B, H, W, C) -> a sheet: source, edit, difference and word map of each; the sound below."""
    if branches < 2 or images.shape[0] % branches:
        raise EditError(
            f"{images.shape[0]} pictures do not divide into a source and {branches - 1} edits",
            "The pictures must be the decoded output of a sampler after Edit with Sound",
            "Set `edits` to the number of targets",
        )
    groups = images.chunk(branches)
    tiles, captions = [], []
    acted = None if maps is None else to_size(_for_pictures(maps.average(), images), *images.shape[1:3]).amax(dim=1)
    heats = [None] * branches if acted is None else acted.chunk(branches)  # (B, H, W) each
    for index, source in enumerate(groups[0]):
        tiles.append(to_picture(source))
        captions.append(prompts[0] if prompts else "source")
        for number, group in enumerate(groups[1:], start=1):
            difference = (group[index] - source).abs().amax(-1, keepdim=True).expand_as(source)
            tiles += [to_picture(group[index]), to_picture(difference * 2)]
            name = prompts[number] if number < len(prompts) else f"edit {number}"
            captions += [name if scale is None else f"{name}  (scale {scale:.2f})", "difference x 2"]
            if maps is not None:
                tiles.append(overlay(to_picture(group[index]), heats[number][index].numpy(), HEAT_STRENGTH))
                captions.append(", ".join(maps.words))
    if sound is not None:
        tiles += [to_picture(picture) for picture in sound]
        captions += ["sound"] * len(sound)
    columns = 1 + (2 if maps is None else 3) * (branches - 1)
    return to_image(contact_sheet(tiles, captions, columns, SHEET_SIDE))


def loudness_strip(images: list[Tensor], scales: list[float]) -> Tensor:
    """Pictures from soft to loud in rows of at most eight, each with its scale (the paper's Fig. 11)."""
    pictures = [picture for batch in images for picture in batch]
    if len(pictures) != len(scales):
        raise EditError(
            f"There are {len(pictures)} pictures and {len(scales)} scales",
            "Each scale needs one picture",
            "Connect the scales that made the pictures, and a latent of one picture",
        )
    captions = [f"scale {scale:.2f}" for scale in scales]
    return to_image(contact_sheet([to_picture(p) for p in pictures], captions, 8, SHEET_SIDE))
