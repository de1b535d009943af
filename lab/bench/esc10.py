"""The frozen side of the small run of Align on ESC-10: drawn pictures, and a picture tower that learnt their classes.

    python -m lab.bench.esc10 pictures FOLDER        one folder of drawn pictures for each class
    python -m lab.bench.esc10 tower FILE             a CAVT-MAE whose picture tower knows drawn pictures

The pictures for the training of the tower have other seeds than those in FOLDER. Its audio tower is untrained.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from aai_models.align.cavt_mae import CAVTMAE
from aai_models.align.config import TINY_TOWER
from aai_models.align.images import image_input
from aai_models.align.losses import info_nce
from aai_models.align.metrics import accuracy
from aai_models.align.texts import HashedWords
from aai_models.draw import contact_sheet

from .drawn import THINGS, drawn

FIRST_OF_TOWER = 1_000_000  # seeds from here on are the tower's


def draw_folder(folder: Path, count: int) -> None:
    for label in THINGS:
        (folder / label).mkdir(parents=True, exist_ok=True)
        for seed in range(count):
            drawn(label, seed).save(folder / label / f"{seed:03d}.png")
    shown = [(drawn(label, seed), label) for seed in range(2) for label in THINGS]
    contact_sheet([s[0] for s in shown], [s[1] for s in shown], columns=10, side=128).save(folder / "sheet.png")


def pixels(seeds: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Drawn pictures of all classes for these seeds -> (N, 3, 224, 224) and class numbers (N,)."""
    made = [(image_input(drawn(label, seed)), n) for seed in seeds for n, label in enumerate(THINGS)]
    return torch.stack([m[0] for m in made]), torch.tensor([m[1] for m in made])


def train_tower(seed: int, steps: int) -> tuple[CAVTMAE, float]:
    """Picture tower and shared block towards the hashed names of the classes -> the model and its accuracy on new drawings."""
    model = CAVTMAE.fresh(TINY_TOWER, seed)
    moving = [p for n, p in model.named_parameters() if "_v" in n.split(".")[0] or n.startswith("blocks_u")]
    for parameter in moving:
        parameter.requires_grad_(True)
    model.pos_embed_v.requires_grad_(False)
    classes = HashedWords(TINY_TOWER.dim).encode(list(THINGS))
    optimizer = torch.optim.AdamW([p for p in moving if p.requires_grad], lr=1e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=steps)
    for step in range(steps):
        x, labels = pixels([FIRST_OF_TOWER + 4 * step + n for n in range(4)])
        loss = info_nce(model.encode_image(x), classes[labels], 0.05, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 25 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.requires_grad_(False)
    x, labels = pixels([FIRST_OF_TOWER - 1 - n for n in range(10)])
    features = torch.cat([model.encode_image(part) for part in x.split(20)])
    return model, 100 * float(accuracy(features, classes, labels).mean())


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.bench.esc10", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("pictures", "tower"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=60, help="pictures of each class (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=300)
    options = parser.parse_args()
    if options.what == "pictures":
        draw_folder(options.out, options.count)
        return
    started = time.monotonic()
    model, right = train_tower(options.seed, options.steps)
    save_file({name: t.contiguous() for name, t in model.state_dict().items()}, options.out)
    print(f"{options.out}: {right:.1f} % of 100 new drawings named; {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
