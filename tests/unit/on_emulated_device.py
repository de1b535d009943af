"""What the emulated device does, as JSON: run by test_emulation.py in a process that has one."""

from __future__ import annotations

import copy
import json
import threading

import torch
import torch.nn as nn
import torch.nn.functional as F

DEVICE = torch.device("xpu", 0)


def error_of(call) -> str:
    try:
        call()
    except (RuntimeError, TypeError) as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""


def refusals() -> dict[str, str]:
    x = torch.ones(3, device=DEVICE)
    torch.xpu.set_capacity(2**20)
    out_of_memory = error_of(lambda: torch.empty(2**20, device=DEVICE))
    torch.xpu.set_capacity(2**32)
    return {
        "mixed": error_of(lambda: x + torch.ones(3)),
        "mixed_matrices": error_of(lambda: torch.ones(3, 3) @ x),
        "numpy": error_of(lambda: x.numpy()),
        "generator": error_of(lambda: torch.randn(2, device=DEVICE, generator=torch.Generator())),
        "memory": out_of_memory,
        "scalar": error_of(lambda: x * torch.tensor(2.0)),
        "places": error_of(lambda: x[torch.tensor([0, 1])]),
    }


def in_float64() -> str:
    return error_of(lambda: torch.ones(2, device=DEVICE).double())


NETWORKS = {
    "convolutions": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(4, 8), nn.SiLU(), nn.Conv2d(8, 2, 1)),
        (2, 3, 9, 9),
    ),
    "transformer": (lambda: nn.TransformerEncoderLayer(16, 4, 32, 0.0, batch_first=True), (2, 7, 16)),
    "out of order": (lambda: OutOfOrder(), (2, 8, 4, 4)),
}


class OutOfOrder(nn.Module):
    """Normalised values that go on in another order of memory, as in SD2's and SDXL's blocks."""

    def __init__(self):
        super().__init__()
        self.norm, self.linear = nn.GroupNorm(2, 8), nn.Linear(8, 8)

    def forward(self, x):
        y = self.linear(self.norm(x).movedim(1, 3).flatten(1, 2))
        q, k, v = (y.unflatten(2, (2, 4)).transpose(1, 2) for _ in range(3))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


def distances() -> dict[str, float]:
    """How far results and gradients on the device are from the processor's, the farthest of each network."""
    torch.manual_seed(0)
    found = {}
    for name, (make, shape) in NETWORKS.items():
        there = make().to(DEVICE)
        here, x = copy.deepcopy(there).cpu(), torch.randn(shape)
        a, b = x.clone().requires_grad_(), x.to(DEVICE).requires_grad_()
        one, other = here(a), there(b)
        weights = torch.randn(one.shape)
        (one * weights).sum().backward()
        (other * weights.to(DEVICE)).sum().backward()
        pairs = [(one, other), (a.grad, b.grad)]
        pairs += [(p.grad, q.grad) for p, q in zip(here.parameters(), there.parameters(), strict=True)]
        found[name] = max(float((p - q.cpu()).abs().max()) for p, q in pairs)
    return found


def moved() -> bool:
    """Whether a module's parameters stay the same objects when it is moved, as on NVIDIA's GPUs."""
    layer = nn.Linear(2, 2)
    before = dict(layer.named_parameters())
    layer.to(DEVICE)
    return all(p is before[name] and p.device == DEVICE for name, p in layer.named_parameters())


def backward_is_elsewhere() -> bool:
    threads = []
    x = torch.ones(2, device=DEVICE, requires_grad=True)
    x.register_hook(lambda _gradient: threads.append(threading.current_thread()))
    (x * 2).sum().backward()
    return threads[0] is not threading.current_thread()


def memory() -> dict[str, int]:
    torch.xpu.reset_peak_memory_stats()
    before = torch.xpu.memory_allocated()
    x = torch.zeros(1000, device=DEVICE)
    during = torch.xpu.memory_allocated() - before
    y = x.view(10, 100)[1:]
    views = torch.xpu.memory_allocated() - before - during
    del x, y
    return {
        "during": during,
        "views": views,
        "after": torch.xpu.memory_allocated() - before,
        "peak": torch.xpu.max_memory_allocated() - before,
    }


def step_of_large_tensors() -> dict[str, object]:
    """The peak of a step, and the shapes that it leaves; with sizes alone it is the same."""
    first, second = nn.Conv2d(8, 16, 3, padding=1, stride=2).to(DEVICE), OutOfOrder().to(DEVICE)
    x = torch.zeros(2, 8, 128, 128, device=DEVICE, requires_grad=True)
    torch.xpu.reset_peak_memory_stats()
    before = torch.xpu.memory_allocated()
    y = F.gelu(F.silu(first(x))[:, :8])
    loss = F.mse_loss(torch.cat([second(y), second(y)], 1).float(), torch.zeros(2, 8192, 8, device=DEVICE))
    loss.backward()
    shapes = [list(t.shape) for t in (y, loss, x.grad, *(p.grad for p in first.parameters()))]
    return {"peak": torch.xpu.max_memory_allocated() - before, "shapes": shapes, "finite": bool(loss.isfinite())}


def random_numbers() -> dict[str, bool]:
    torch.manual_seed(3)
    first, processor = torch.randn(4, device=DEVICE).cpu(), torch.randn(4)
    torch.manual_seed(3)
    torch.randn(100, device=DEVICE)
    untouched = torch.equal(torch.randn(4), processor)
    torch.manual_seed(3)
    return {"repeat": torch.equal(torch.randn(4, device=DEVICE).cpu(), first), "untouched": untouched}


if __name__ == "__main__":
    results = [refusals, in_float64, distances, moved, backward_is_elsewhere, memory, random_numbers]
    results.append(step_of_large_tensors)
    print(json.dumps({work.__name__: work() for work in results}))
