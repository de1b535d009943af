"""The joint gradient: the same in parts, in one piece, and over two processes; and it is the gradient of Eq. 1."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from aai_pack.aai_models.align.losses import align_loss
from aai_pack.aai_models.align.momentum import READINGS, Student
from aai_pack.aai_models.align.train.gradients import joint_backward
from aai_pack.aai_models.align.train.processes import World
from aai_pack.aai_models.align.train.step import Stepper
from aai_pack.tests.unit.align_sets import memory_source, small_config, small_model
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[2]

# One process of a group: a step on its share, its gradients into a file; then the threads that the group has left.
WORKER = """
import sys; sys.path.insert(0, sys.argv[1])
from pathlib import Path
import torch
from safetensors.torch import save_file
from aai_models.align.cavt_mae import CAVTMAE, CAVTMAEConfig
from aai_models.align.config import AlignConfig
from aai_models.align.data.items import MemorySource
from aai_models.align.train.step import Stepper
from aai_models.align.texts import HashedWords
from aai_models.align.train.processes import World
count, labels = 20, ("dog", "rain", "sea waves", "clock")
world = World.start("cpu")
for number, argument in enumerate(sys.argv[3:]):
    text, _, chunk = argument.rpartition(" ")
    config = AlignConfig.from_json(text)
    generator = torch.Generator().manual_seed(3)
    fbank = torch.randn(count, 1024, 128, generator=generator)
    texts = HashedWords(64).encode([labels[n % 4] for n in range(count)])
    source = MemorySource(fbank, texts, torch.randn(count, 2, 3, 224, 224, generator=generator), config=config)
    stepper = Stepper(CAVTMAE.fresh(config.tower), source, config, world, int(chunk))
    items = list(source.train(0, world.rank, world.size, 0))[: stepper.local]
    loss = stepper.step(items, 0, 0.4, 0.0)["loss"]
    gradients = {name: p.grad.contiguous() for name, p in stepper.student.trained().items()}
    save_file({**gradients, "loss": torch.tensor(loss)}, f"{sys.argv[2]}.{number}.{world.rank}")
names = lambda: " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/comm"))
is_named = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 11)  # older ones give their threads no names
assert "gloo" in names() or not is_named or not Path("/proc/self/task").exists()
world.stop()
assert "gloo" not in names(), names()
"""


def gradients_alone(config, order: list[int], chunk: int = 0) -> dict[str, torch.Tensor]:
    """Of one process that has the whole batch, its clips in this order."""
    source = memory_source(config)
    stepper = Stepper(small_model(), source, config, World(), chunk)
    items = list(source.train(0, 0, 1, 0))
    loss = stepper.step([items[n] for n in order], 0, 0.4, 0.0)["loss"]
    gradients = {name: p.grad.clone() for name, p in stepper.student.trained().items()}
    return {**gradients, "loss": torch.tensor(loss)}


def nearly(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-6, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


@pytest.mark.parametrize("reading", READINGS)
def test_parts_give_the_gradient_of_the_whole(reading):
    config = small_config(momentum_target=reading, multi_positive=True)
    whole = gradients_alone(config, list(range(8)))
    nearly(whole, gradients_alone(config, list(range(8)), chunk=3))
    assert all(float(g.abs().max()) > 0 for name, g in whole.items() if "head.norm" not in name)


def test_it_is_the_gradient_of_eq_1():
    generator = torch.Generator().manual_seed(0)
    fbank = torch.randn(4, 1024, 128, generator=generator)
    t, v, v_momentum = (
        torch.nn.functional.normalize(torch.randn(4, 64, generator=generator), dim=-1) for _ in range(3)
    )
    found = []
    for by_hand in (True, False):
        student = Student(small_model(), "frozen")
        parameters = list(student.trained().values())
        if by_hand:
            align_loss(student.encode_audio(fbank), t, v, v_momentum).backward()
        else:
            joint_backward(
                lambda rows, s=student: (s.encode_audio(fbank[rows]),),
                4,
                2,
                lambda a: align_loss(a, t, v, v_momentum),
                parameters,
            )
        found.append(torch.cat([p.grad.flatten() for p in parameters]))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


def test_two_processes_have_the_gradient_of_their_joint_batch(tmp_path):
    configs = [
        small_config(momentum_target=reading, multi_positive=True) for reading in ("both", "head", "visual_shared")
    ]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    group["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-c", WORKER, str(ROOT), str(tmp_path / "g")]
    command += [f"{config.to_json()} {chunk}" for config, chunk in zip(configs, (0, 3, 2), strict=True)]
    running = [
        subprocess.Popen(command, env={**group, "RANK": str(rank)}, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    for process in running:
        assert process.wait(timeout=300) == 0, process.stderr.read()
    for number, config in enumerate(configs):
        first, second = (load_file(tmp_path / f"g.{number}.{rank}") for rank in range(2))
        assert all(torch.equal(first[name], second[name]) for name in first)
        # Ranks take every second clip, so the joint batch holds them in this order.
        nearly(first, gradients_alone(config, [0, 2, 4, 6, 1, 3, 5, 7]))
