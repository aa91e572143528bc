"""Several processes that train one model: `accelerate launch` starts them, each on its own clips.

Gradients are summed once a step, so any number of processes gives the step that one would.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from omni_msa.environment import world_size


class Processes:
    """Which process this is, of how many. Alone, nothing here does anything."""

    def __init__(self, device: str) -> None:
        self.rank, self.count = 0, 1
        if world_size() > 1:
            from accelerate import PartialState

            state = PartialState(cpu=device == "cpu")
            self.rank, self.count = state.process_index, state.num_processes

    @property
    def leads(self) -> bool:
        """One process writes files and prints."""
        return self.rank == 0

    def share(self, places: list[int]) -> list[int]:
        """This process's part of a list."""
        return places[self.rank :: self.count]

    def sum_gradients(self, parameters: Iterable[torch.Tensor]) -> None:
        """Every process ends with the sum of all processes' gradients."""
        if self.count == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.flatten() for g in gradients])
        torch.distributed.all_reduce(flat)
        for gradient, part in zip(
            gradients, flat.split([g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(part.view_as(gradient))

    def gather(self, values: list[Any]) -> list[Any]:
        """Every process ends with all processes' values, in order of rank."""
        if self.count == 1:
            return values
        parts: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(parts, values)
        return [value for part in parts for value in part]

    def merge(self, values: dict[str, str]) -> dict[str, str]:
        """Every process ends with all processes' entries."""
        return dict(self.gather(list(values.items())))

    def wait(self) -> None:
        """Until all processes have come here."""
        if self.count > 1:
            torch.distributed.barrier()
