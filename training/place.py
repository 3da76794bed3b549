"""Where a run runs: one process on a CPU or a GPU, or one of several that `torchrun` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

T = TypeVar("T")
_PATIENCE = timedelta(hours=1)
"""How long the others wait while the first process encodes a data set."""


@dataclass(frozen=True)
class Place:
    """rank 0 is the one that encodes, measures, writes and reports."""

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model whose backward pass averages the gradients of all processes; itself where there is one."""
        if self.world == 1:
            return model
        # A head without labels in a batch, or a branch that an ablation leaves out, has no gradient.
        return DistributedDataParallel(model, find_unused_parameters=True)

    def agreed(self, value: T) -> T:
        """The first process's value, everywhere."""
        if self.world == 1:
            return value
        shared = [value]
        dist.broadcast_object_list(shared, src=0)
        return shared[0]

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The first process goes ahead, the others follow when it is through (and find its files)."""
        if self.world > 1 and not self.first:
            dist.barrier()
        yield
        if self.world > 1 and self.first:
            dist.barrier()

    def autocast(self, *, mixed: bool) -> AbstractContextManager[object]:
        """bf16 where the device has it, fp16 on older GPUs; on a CPU everything stays fp32."""
        if not mixed or self.device.type != "cuda":
            return nullcontext()
        kind = torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
        return torch.autocast("cuda", dtype=kind)

    def scaler(self, *, mixed: bool) -> torch.amp.GradScaler:
        """Scales the loss where gradients are fp16; does nothing elsewhere."""
        halves = mixed and self.device.type == "cuda" and not torch.cuda.is_bf16_supported()
        return torch.amp.GradScaler(self.device.type, enabled=halves)

    def of(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)


@contextmanager
def here() -> Iterator[Place]:
    """The place of this process: as torchrun says in the environment, else one process on the GPU, else the CPU."""
    gpu = torch.cuda.is_available()
    if "WORLD_SIZE" not in os.environ or int(os.environ["WORLD_SIZE"]) == 1:
        yield Place(torch.device("cuda" if gpu else "cpu"))
        return
    local = int(os.environ["LOCAL_RANK"])
    if gpu:
        torch.cuda.set_device(local)
    dist.init_process_group("nccl" if gpu else "gloo", timeout=_PATIENCE)
    try:
        device = torch.device("cuda", local) if gpu else torch.device("cpu")
        yield Place(device, dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()
