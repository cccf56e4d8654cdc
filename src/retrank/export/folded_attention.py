"""A trained transformer for serving: the queries of `SASRec.forward` in fewer operators.

A history is short, so an operator of the graph costs what its start costs, whatever it computes. Done otherwise here:

- *Rotary positions turn all heads at once.* To turn is to swap halves and to change signs, a product with a constant:
  so turned queries and keys come out of the same product as the others.
- *Keys are laid out for the product that reads them*, and the scale of attention is part of the weights.
- *Who must not be seen* is a number that is added; nobody sees nobody, so there is no empty row to look after.
- *Gate and input of a gated net* are two products, so that nothing has to be cut in two.

What was learned, and what it means, stands in `models.blocks`, which is also the oracle of the tests and of the export.
"""

import copy
import math
from typing import TypeVar, cast

import torch
from torch import nn
from torch.nn import functional as F

from retrank.models.blocks import Attention, Block, SwiGLU
from retrank.models.protocols import QueryEncoder
from retrank.models.sasrec import SASRec

_Module = TypeVar("_Module", bound=nn.Module)


def folded(model: QueryEncoder) -> nn.Module:
    """Return a model in evaluation mode that answers alike for less, or the model itself where nothing can be folded.

    Weights are shared, but for those of attention, which are taken as they are now.
    """
    if not isinstance(model, SASRec):
        return cast(nn.Module, model)
    return _with(model, blocks=nn.ModuleList(_folded_block(cast(Block, block)) for block in model.blocks)).eval()


def _folded_block(block: Block) -> Block:
    net = _TwoProducts(block.net) if isinstance(block.net, SwiGLU) else block.net
    return _with(block, attention=FoldedAttention(block.attention), net=net)


def _with(module: _Module, **parts: nn.Module) -> _Module:
    """Return the module with other parts in the place of its own, which stays as it is."""
    changed = copy.copy(module)
    changed._modules = {**module._modules, **parts}
    return changed


class FoldedAttention(nn.Module):
    """`models.blocks.Attention`, with products by constants that follow one another as one."""

    ask: torch.Tensor
    key_value: torch.Tensor
    cos: torch.Tensor
    sin: torch.Tensor

    @torch.no_grad()
    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.num_heads, self.output = attention.num_heads, attention.output
        rotary, heads = attention.rotary, attention.num_heads
        query = attention.query.weight.T / math.sqrt(rotary.cos.shape[1])
        key, value = attention.key_value.weight.T.chunk(2, dim=1)
        self.register_buffer("ask", torch.cat([query, _turned(query, heads)], dim=1))
        self.register_buffer("key_value", torch.cat([key, _turned(key, heads), value], dim=1))
        self.register_buffer("cos", rotary.cos.repeat(1, heads))  # [max_length, D]
        self.register_buffer("sin", rotary.sin.repeat(1, heads))

    def forward(self, states: torch.Tensor, readers: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Let `readers` `[B, R, D]`, the last R positions, attend to `states` `[B, L, D]`.

        `allowed` `[B, 1, R, L]` bool says who sees whom; everybody sees somebody.
        """
        ask, ask_turned = (readers @ self.ask).chunk(2, dim=-1)
        key, key_turned, value = (states @ self.key_value).chunk(3, dim=-1)
        ask = self._placed(ask, ask_turned, readers.shape[1])
        keys = self._heads(self._placed(key, key_turned, states.shape[1])).permute(0, 2, 3, 1)  # [B, H, D / H, L]
        hidden = torch.where(allowed, 0.0, -torch.inf)
        weights = (self._heads(ask).transpose(1, 2) @ keys + hidden).softmax(-1)  # [B, H, R, L]
        mixed = (weights @ self._heads(value).transpose(1, 2)).transpose(1, 2).flatten(2)
        return cast(torch.Tensor, self.output(mixed))

    def _placed(self, values: torch.Tensor, turned: torch.Tensor, length: int) -> torch.Tensor:
        """Turn `[B, L, D]` by the places of the newest L events."""
        return values * self.cos[-length:] + turned * self.sin[-length:]

    def _heads(self, values: torch.Tensor) -> torch.Tensor:
        """Split `[B, L, D]` into `[B, L, H, D / H]`."""
        return torch.unflatten(values, -1, (self.num_heads, -1))


class _TwoProducts(nn.Module):
    """`SwiGLU` with gate and input apart."""

    gate: torch.Tensor
    up: torch.Tensor

    @torch.no_grad()
    def __init__(self, net: SwiGLU) -> None:
        super().__init__()
        gate, up = net.gate_up.weight.T.chunk(2, dim=1)
        self.register_buffer("gate", gate.contiguous())
        self.register_buffer("up", up.contiguous())
        self.down = net.down

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map `[..., D]` to `[..., D]`."""
        return cast(torch.Tensor, self.down(F.silu(states @ self.gate) * (states @ self.up)))


def _turned(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Return the `[D, D]` weight of what `Rotary` multiplies by the sine: halves of a head swapped, one negated."""
    first, second = torch.unflatten(weight, 1, (num_heads, 2, -1)).unbind(2)
    return torch.stack([-second, first], dim=2).flatten(1)
