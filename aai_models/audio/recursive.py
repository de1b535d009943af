"""Recursive filters computed block by block as matrix products: the same figures as sample by sample, several times as fast."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 64  # samples in a block
GROUP = 128  # blocks whose states are carried on together


class BlockFilter:
    """A cascade of second-order sections.

    Within a block the output is a matrix product of its samples (the impulse response) and of the state that the block
    begins with; from block to block only the state is carried on, in float64, and that for many groups of blocks at a
    time. Errors of the products do not add up, so that float32 is enough for what is heard.
    """

    def __init__(self, sections: np.ndarray, dtype: torch.dtype = torch.float64):
        """`sections`: (n, 6) as SciPy's `sos`; n = 0 changes nothing. `dtype` of the signal and of the products."""
        from scipy.signal import sosfilt

        self.order, self._dtype = 2 * len(sections), dtype
        if not self.order:
            return
        states = np.eye(self.order).reshape(self.order, len(sections), 2).transpose(1, 0, 2)  # (n, order, 2)
        by_state, after_state = sosfilt(sections, np.zeros((self.order, BLOCK)), zi=states)
        by_sample, after_sample = sosfilt(sections, np.eye(BLOCK), zi=np.zeros((len(sections), BLOCK, 2)))

        def flat(final: np.ndarray) -> Tensor:  # (n, rows, 2) -> (rows, order)
            return torch.from_numpy(final.transpose(1, 0, 2).reshape(final.shape[1], self.order).copy())

        self._by_state, self._by_sample = (torch.from_numpy(m).to(dtype) for m in (by_state, by_sample))
        self._after_state, self._after_sample = flat(after_state), flat(after_sample).to(dtype)
        self._sections = sections
        powers = [torch.eye(self.order, dtype=torch.float64)]
        for _ in range(GROUP):
            powers.append(powers[-1] @ self._after_state)
        self._after_blocks = torch.stack(powers)  # (GROUP + 1, order, order): what so many blocks of silence leave

    def __call__(self, signal: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """(R, T) and the state (R, order) float64 before it -> the filtered (R, T), the state after its last sample."""
        if not self.order:
            return signal, state
        rows, samples = signal.shape
        whole = samples // BLOCK * BLOCK
        if not whole:
            return self._one_by_one(signal, state)
        blocks = signal[:, :whole].reshape(-1, BLOCK)
        before, state = self._states((blocks @ self._after_sample).view(rows, -1, self.order).double(), state)
        from_state = before.view(-1, self.order).to(self._dtype) @ self._by_state
        filtered = torch.addmm(from_state, blocks, self._by_sample).view(rows, whole)
        if samples > whole:
            rest, state = self._one_by_one(signal[:, whole:], state)
            filtered = torch.cat([filtered, rest], dim=1)
        return filtered, state

    def _states(self, pushes: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """What each block adds to the state (R, N, order), the first state -> states before the blocks, the last one."""
        rows, count = pushes.shape[:2]
        groups = F.pad(pushes, (0, 0, 0, -count % GROUP)).reshape(rows, -1, GROUP, self.order)
        carried = torch.zeros(rows, groups.shape[1], self.order, dtype=pushes.dtype)
        within = []  # states before each block of a group that begins with state 0
        for place in range(GROUP):
            within.append(carried)
            carried = carried @ self._after_state + groups[:, :, place]
        starts = []
        group_state = state
        for group in range(groups.shape[1]):
            starts.append(group_state)
            group_state = group_state @ self._after_blocks[GROUP] + carried[:, group]
        from_start = torch.einsum("rgi,pij->rgpj", torch.stack(starts, dim=1), self._after_blocks[:GROUP])
        before = (torch.stack(within, dim=2) + from_start).reshape(rows, -1, self.order)[:, :count].contiguous()
        last = before[:, -1] @ self._after_state + pushes[:, -1]
        return before, last

    def _one_by_one(self, signal: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        from scipy.signal import sosfilt

        rows = signal.shape[0]
        initial = state.numpy().reshape(rows, -1, 2).transpose(1, 0, 2)
        filtered, final = sosfilt(self._sections, signal.double().numpy(), axis=-1, zi=initial)
        return torch.from_numpy(filtered).to(self._dtype), torch.from_numpy(
            final.transpose(1, 0, 2).reshape(rows, -1).copy()
        )
