"""Several tasks in one net: experts read the same state, and every task chooses whom to believe."""

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.errors import ConfigError


class Experts(nn.Module):
    """A mixture of experts with one gate per task.

    Args:
        input_width: size I of the state.
        width: size of an expert's answer.
        num_tasks: T, >= 1.
        num_experts: E, >= 1. For "ple" half of them (rounded up) are shared, and each task owns as many again.
        sharing: "mmoe", all experts belong to all tasks; "ple", a task sees the shared ones and its own, so tasks that
            conflict do not have to agree.

    Raises:
        ConfigError: a size or choice is out of range.

    Source: Ma et al. 2018, MMoE (KDD); Tang et al. 2020, PLE (RecSys), one extraction level (their CGC).
    """

    visible: torch.Tensor

    def __init__(
        self, input_width: int, width: int, *, num_tasks: int, num_experts: int, sharing: Literal["mmoe", "ple"]
    ) -> None:
        super().__init__()
        if num_tasks < 1 or num_experts < 1:
            raise ConfigError(f"num_tasks is {num_tasks} and num_experts {num_experts}; both must be at least 1")
        if sharing not in ("mmoe", "ple"):
            raise ConfigError(f"sharing is {sharing!r}; expected mmoe or ple")
        shared = num_experts if sharing == "mmoe" else -(-num_experts // 2)
        own = 0 if sharing == "mmoe" else shared
        owner = torch.arange(num_tasks).repeat_interleave(own)
        belongs = owner == torch.arange(num_tasks)[:, None]  # [T, T * own]
        self.register_buffer(
            "visible", torch.cat([torch.ones(num_tasks, shared, dtype=torch.bool), belongs], dim=1), persistent=False
        )
        self.all_visible = own == 0
        total = self.visible.shape[1]
        self.width, self.num_tasks = width, num_tasks
        self.answer = nn.Linear(input_width, total * width)
        self.gate = nn.Linear(input_width, num_tasks * total)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map `[..., I]` to `[..., T, width]`."""
        answers = torch.unflatten(F.silu(self.answer(states)), -1, (-1, self.width))  # [..., E, width]
        gates = torch.unflatten(self.gate(states), -1, (self.num_tasks, -1))  # [..., T, E]
        if not self.all_visible:
            gates = gates.masked_fill(~self.visible, -torch.inf)
        mixed: torch.Tensor = gates.softmax(-1) @ answers
        return mixed
