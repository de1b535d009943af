"""How many operations a training step asks of a device, by this pack or by diffusers: prints a line of JSON.

    python operations_child.py ours|peer ARGUMENTS_AS_JSON

SD1.5 at its real size in fp16. The working folder is a ComfyUI tree, the device is the emulated one with sizes alone: what
is asked of it is what a GPU is asked, and nothing large is computed. A part of a step of batch 1 on a fast
GPU is waiting to be asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).parent))
from adapt_child import answer, as_peer, textual_inversion, train

STEPS, SIDE = 3, 512
# Besides views, whose results are told by their schema: these give memory or a shape and run nothing.
NOTHING = {"_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


class Operations(TorchDispatchMode):
    """Counts what is run on the device, also in the backward pass."""

    count = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        results = function._schema.returns
        view = results and all(r.alias_info is not None and not r.alias_info.is_write for r in results)
        self.count += not view and function.overloadpacket.__name__ not in NOTHING
        return function(*arguments, **(keywords or {}))


def counted(run: Callable[[Callable[[], None]], object]) -> dict:
    """`run` calls what it is given after each of its steps: the operations of the second."""
    marks = []
    with Operations() as operations:
        run(lambda: marks.append(operations.count))
    return {"operations": marks[1] - marks[0]}


def ours(_) -> dict:
    import comfy.utils
    from adapt_models import build

    models = build()

    def run(after_step: Callable[[], None]) -> None:
        comfy.utils.set_progress_bar_global_hook(lambda *_, **__: after_step())
        train(models, steps=STEPS, resolution=SIDE, evaluate_every=10**6, held_out=1)

    return counted(run)


def peer(_) -> dict:
    from adapt_models import build
    from torch.fx.experimental import _config

    _config.meta_nonzero_assume_all_nonzero = True  # a mask of large rows has no values here: all of them are taken
    peer_of_ours = as_peer(build(), SIDE)
    return counted(lambda after_step: textual_inversion(*peer_of_ours, STEPS, after_step))


if __name__ == "__main__":
    answer(ours, peer)
