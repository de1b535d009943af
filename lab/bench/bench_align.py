"""Training and judging CAVT-MAE: against a plain loop, memory against batch, one process against two, 14,000 pairs."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import torch

from aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from aai_models.align.config import PRESETS, TINY_TOWER, AlignConfig
from aai_models.align.data.items import MemorySource
from aai_models.align.losses import align_loss
from aai_models.align.metrics import retrieval
from aai_models.align.momentum import Student, Teacher
from aai_models.align.texts import HashedWords
from aai_models.align.train.processes import World
from aai_models.align.train.step import Stepper
from devtools.report import step

from .timing import paired

PAIRS = 14_000


def source_of(config: AlignConfig, dim: int) -> MemorySource:
    """As many random clips as one batch holds, each with one picture."""
    generator = torch.Generator().manual_seed(0)
    fbank = torch.randn(config.batch, 1024, 128, generator=generator)
    pictures = torch.randn(config.batch, 1, 3, 224, 224, generator=generator)
    return MemorySource(fbank, HashedWords(dim).encode([str(n) for n in range(config.batch)]), pictures, config=config)


def text_tower():
    """A text encoder of Stable Diffusion 1.x's size with random weights."""
    from transformers import CLIPTextConfig, CLIPTextModel

    size = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
    return CLIPTextModel(CLIPTextConfig(**size)).eval().requires_grad_(False)


def against_a_plain_loop(tower: CAVTMAEConfig, batch: int, rounds: int) -> tuple[float, float, float]:
    """Seconds of a step of ours with frozen features kept, of a loop that computes them anew, and their ratio."""
    config = replace(PRESETS["paper"], batch=batch, alpha_ramp=0.0, precision="fp32", tower=tower)
    source = source_of(config, tower.dim)
    items = list(source.train(0, 0, 1, 0))
    stepper = Stepper(CAVTMAE.fresh(tower), source, config, World(), 0)

    def ours() -> None:
        kept = list(source.train(0, 0, 1, 0))  # after the warm-up its pictures are states
        stepper.step(kept, 0, config.alpha, config.lr)

    student = Student(CAVTMAE.fresh(tower), config.momentum_target)
    teacher, texts = Teacher(student, config.momentum), text_tower()
    optimizer = torch.optim.AdamW(student.trained().values(), lr=config.lr, weight_decay=config.weight_decay)
    fbank, pixels = torch.stack([i.fbank for i in items]), torch.stack([i.picture for i in items])
    tokens = torch.randint(0, 1000, (batch, 77))

    def peer() -> None:
        teacher.update()
        with torch.no_grad():
            t = torch.nn.functional.normalize(texts(input_ids=tokens).pooler_output, dim=-1)[:, : tower.dim]
            v = student.picture(student.picture_states(pixels))
            v_momentum = teacher.picture(student.picture_states(pixels))
        optimizer.zero_grad()
        noisy = fbank + torch.rand_like(fbank) * 0.05
        align_loss(student.encode_audio(noisy), t, v, v_momentum, config.tau, config.alpha).backward()
        optimizer.step()

    return paired(ours, peer, rounds=rounds)


# A process of its own, so that its peak memory is its own.
CHILD = """
import json, resource, sys, time, torch
sys.path.insert(0, sys.argv[1])
from lab.bench.bench_align import child
print(json.dumps(child(**json.loads(sys.argv[2]))))
"""


def child(batch: int, chunk: int, steps: int) -> dict[str, float]:
    """Seconds of a step of the tiny preset and the process's peak memory in MB, beyond what it has before the model."""
    import resource

    config = replace(PRESETS["tiny"], batch=batch)
    world = World.start("cpu")
    source = source_of(config, TINY_TOWER.dim)
    items = list(source.train(0, world.rank, world.size, 0))[: batch // world.size]
    stepper = Stepper(CAVTMAE.fresh(TINY_TOWER), source, config, world, chunk)
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    stepper.step(items, 0, 0.4, 1e-4)
    started = time.perf_counter()
    for _ in range(steps):
        stepper.step(items, 0, 0.4, 1e-4)
    seconds = (time.perf_counter() - started) / max(1, steps)
    world.stop()
    return {"seconds": seconds, "mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - begun}


def run_children(processes: int = 1, **what) -> dict[str, float]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, os.getcwd(), json.dumps(what)]
    running = [
        subprocess.Popen(command, env={**os.environ, **group, "RANK": str(rank)}, stdout=subprocess.PIPE, text=True)
        for rank in range(processes)
    ]
    answers = [process.communicate()[0] for process in running]
    return json.loads(answers[0].splitlines()[-1])


def metrics_seconds() -> tuple[float, float]:
    """Seconds on the clock, and of processors' time: the same on one thread of an idle machine."""
    a, v = (torch.nn.functional.normalize(torch.randn(PAIRS, 768), dim=-1) for _ in range(2))
    started, worked = time.perf_counter(), time.process_time()
    retrieval(a, v)
    return time.perf_counter() - started, time.process_time() - worked


def measure(version: str) -> dict:
    rows = []
    seconds, worked = metrics_seconds()
    label = f"retrieval of {PAIRS} pairs of 768, both directions"
    rows.append([label, f"{seconds:.1f} s ({worked:.1f} s of processor time)", "", "", "under 10 s"])
    for batch in (16, 64, 256):
        with step(f"memory at batch {batch}"):
            parts, whole = (run_children(batch=batch, chunk=chunk, steps=0)["mb"] for chunk in (16, 0))
        label = f"peak memory of a step of the tiny tower, batch {batch}, in parts of 16"
        rows.append([label, f"{parts:.0f} MB", f"{whole:.0f} MB (in one piece)", f"{whole / parts:.2f}", "flat"])
    with step("one process and two"):
        one, two = (run_children(n, batch=64, chunk=0, steps=2)["seconds"] for n in (1, 2))
    rows.append(
        ["a step over two processes, batch 64", f"{two:.2f} s", f"{one:.2f} s (one process)", f"{one / two:.2f}", ""]
    )
    for name, tower, batch, rounds in (
        ("a step of the tiny tower, batch 16", TINY_TOWER, 16, 3),
        ("a step of CAVT-MAE, batch 2", CAVTMAEConfig(), 2, 1),
    ):
        with step(name):
            ours, peer, ratio = against_a_plain_loop(tower, batch, rounds)
        rows.append([name, f"{ours:.2f} s", f"{peer:.2f} s (frozen towers each step)", f"{ratio:.2f}", "2x"])
    return {
        "title": "align: training and judging CAVT-MAE on a processor, fp32",
        "columns": ["", "ours", "peer", "times as good", "goal"],
        "rows": rows,
        "goal": "as in each line",
    }
