"""The pictures of the editor's template dialog, from a run of the demo: `python dev.py demo --thumbnails`."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, ImageDraw

from . import on_pocket, strips
from .report import DevError
from .workflows import EDITOR_FOLDER

SIDE, BAND, LIMIT = 320, 64, 20_000  # pixels of a side and of the sound's band; bytes of a file
WIDE = 1.6  # pictures that are wider for their height are shown whole
# How the files begin that an example is known by; what it saves last, unless it stands here.
SHOWS = {
    "04 Sound finds pictures": "aai_found_0",
    "07 Sound in a scene": on_pocket.COMPARED,
    "09 Photo in the style of a sound": on_pocket.COMPARED,
    "13 From soft to loud": on_pocket.COMPARED,
}
# Of a sheet, the part that is still seen when it is small: left, top, right, bottom, as shares.
PARTS = {"04 Sound finds pictures": (0, 0, 0.5, 0.9), "10 Stylise a folder": (0.375, 0, 0.75, 0.45)}
PICTURES = (".png", ".jpg", ".webp")


def write(entries: list[dict], files: Path, folder: Path = EDITOR_FOLDER) -> None:
    """Write `NAME.jpg` beside each example; raises `DevError` where the demo made no picture for it."""
    for entry in entries:
        sounds = [name for name in entry["page"]["sounds"] if (files / name).is_file()]
        part = PARTS.get(entry["name"], (0, 0, 1, 1))
        pictures = [_part(_open(files / name), part) for name in _chosen(entry)]
        picture = square(pictures, files / sounds[0] if sounds else None)
        (folder / f"{entry['name']}.jpg").write_bytes(small(picture))


def _open(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def _part(picture: Image.Image, part: tuple[float, float, float, float]) -> Image.Image:
    sizes = (picture.width, picture.height) * 2
    return picture.crop(tuple(round(share * size) for share, size in zip(part, sizes, strict=True)))


def _chosen(entry: dict) -> list[str]:
    made = [name for name in [*entry["outputs"], *entry["page"].get("compared", [])] if name.endswith(PICTURES)]
    saved = [name for name in made if name.startswith("aai_") and not name.startswith("aai_loss")]
    start = SHOWS.get(entry["name"], saved[-1].rsplit("_", 2)[0] if saved else "")
    found = [name for name in made if start and name.startswith(start)]
    if not found:
        raise DevError(f"{entry['name']} made no picture for its thumbnail: {entry.get('error', entry['status'])}.")
    return found


def square(pictures: list[Image.Image], sound: Path | None) -> Image.Image:
    """One square picture: a picture, the halves of two, or four of many; and the sound's waveform below."""
    sheet = Image.new("RGB", (SIDE, SIDE), strips.GROUND)
    room = SIDE - BAND if sound else SIDE
    if pictures[0].width > WIDE * pictures[0].height:
        sheet.paste(fitted(pictures[0], SIDE, room), (0, (room - fitted(pictures[0], SIDE, room).height) // 2))
    elif len(pictures) == 2:
        before, after = (covering(picture, SIDE, room) for picture in pictures)
        sheet.paste(before, (0, 0))
        sheet.paste(after.crop((SIDE // 2, 0, SIDE, room)), (SIDE // 2, 0))
        ImageDraw.Draw(sheet).line([(SIDE // 2, 0), (SIDE // 2, room)], fill="white", width=3)
    elif len(pictures) >= 4:
        for place in range(4):
            chosen = pictures[round(place * (len(pictures) - 1) / 3)]
            at = (place % 2 * SIDE // 2, place // 2 * room // 2)
            sheet.paste(covering(chosen, SIDE // 2, room // 2), at)
    else:
        sheet.paste(covering(pictures[0], SIDE, room), (0, 0))
    if sound:
        sheet.paste(strips.wave(sound).resize((SIDE, BAND)), (0, room))
    return sheet


def fitted(picture: Image.Image, width: int, height: int) -> Image.Image:
    scale = min(width / picture.width, height / picture.height)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def covering(picture: Image.Image, width: int, height: int) -> Image.Image:
    """A picture that fills a frame; what stands out is cut off on both sides."""
    scale = max(width / picture.width, height / picture.height)
    size = (max(width, round(picture.width * scale)), max(height, round(picture.height * scale)))
    large = picture.resize(size, Image.Resampling.LANCZOS)
    left, top = (large.width - width) // 2, (large.height - height) // 2
    return large.crop((left, top, left + width, top + height))


def small(picture: Image.Image) -> bytes:
    """The picture as a JPEG file of less than `LIMIT` bytes."""
    for quality in (90, 80, 70, 60, 50, 40):
        file = io.BytesIO()
        picture.save(file, "JPEG", quality=quality, optimize=True)
        if file.tell() < LIMIT:
            break
    return file.getvalue()
