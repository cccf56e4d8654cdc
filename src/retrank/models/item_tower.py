"""The item tower: vectors of items from what they are and, once somebody has touched them, from which they are."""

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from retrank.contract.encode import PADDING_ROW
from retrank.contract.errors import ConfigError
from retrank.contract.item_content import ContentArrays
from retrank.models.blocks import SwiGLU
from retrank.models.sequence import initialise

_EXPANSION = 1


class ContentNet(nn.Module):
    """Codes and tokens of items -> vectors: embedded, summed up, and bent by a small net beside the sum.

    The sum of n tokens is divided by the square root of n, so that long titles do not outweigh short ones.
    """

    def __init__(self, num_codes: int, num_tokens: int, width: int) -> None:
        super().__init__()
        self.codes = nn.Embedding(num_codes + 1, width, padding_idx=0)
        self.tokens = nn.Embedding(num_tokens + 1, width, padding_idx=0)
        self.norm = nn.LayerNorm(width)
        self.net = SwiGLU(width, _EXPANSION * width)
        initialise(self)

    def forward(self, codes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Map `[R, F]` codes and `[R, T]` tokens, integers with 0 = none, to `[R, D]` float32."""
        count = (tokens > 0).sum(1, keepdim=True).clamp(min=1)
        summed = _sum(self.codes, codes) + _sum(self.tokens, tokens) * count.rsqrt()
        bent: torch.Tensor = summed + self.net(self.norm(summed))
        return bent


def _sum(table: nn.Embedding, rows: torch.Tensor) -> torch.Tensor:
    """Sum embeddings over the last axis; row 0 is zero and stays so."""
    if torch.compiler.is_exporting():  # ONNX has no bag; the sum is the same and [R, T, D] is small for a request
        gathered: torch.Tensor = table(rows).sum(1)
        return gathered
    if not rows.shape[1]:
        return table.weight.new_zeros(len(rows), table.embedding_dim)
    return F.embedding_bag(rows, table.weight, mode="sum", padding_idx=0, sparse=table.sparse)


class ItemTower(nn.Module):
    """Vector of an item = its id's own vector + what its content says. Reads like an `nn.Embedding`.

    The id's vector is left out at random in training, so that content learns to do without, and always for items that
    training never touched: what they have in the table is noise. Such an item is answered for by its content alone. In
    training its vector is zero, so that losses which score it as a negative teach nothing: pushing down whatever has
    the words of an item that nobody could have touched yet would bury it.

    Args:
        ids: `[N + 1, D]` table, row 0 is padding.
        content: what each item is, `[N + 1, ...]`; None = ids only, until a saved state brings content along.
        id_dropout: share of items whose id is left out in a pass, 0 <= share < 1.

    Raises:
        ConfigError: `id_dropout` is out of range, or the content is that of another number of items.

    Source: id left out at random as in Volkovs et al. 2017, DropoutNet (NeurIPS); content beside the id as in Yi et
    al. 2019 (RecSys). Deviation: what is left is not rescaled, as an untouched item is served without its id as well.
    """

    sparse = False  # `weight` looks rows of the table up by itself, whatever the table's gradients are
    codes: torch.Tensor
    tokens: torch.Tensor
    touched: torch.Tensor

    def __init__(
        self,
        ids: nn.Embedding,
        *,
        content: ContentArrays | None = None,
        id_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= id_dropout < 1:
            raise ConfigError(f"id_dropout is {id_dropout}; it must be in 0 <= id_dropout < 1")
        self.ids, self.id_dropout = ids, id_dropout
        self.content: ContentNet | None = None
        self.register_load_state_dict_pre_hook(_take_content)  # type: ignore[no-untyped-call]  # torch
        if content is not None:
            if len(content.codes) != ids.num_embeddings:
                raise ConfigError(
                    f"content describes {len(content.codes) - 1} items and the model has {ids.num_embeddings - 1}"
                )
            self._hold(torch.from_numpy(content.codes), torch.from_numpy(content.tokens))
            if content.touched is not None:
                self.touched.copy_(torch.from_numpy(content.touched))
            self.content = ContentNet(content.num_codes, content.num_tokens, ids.embedding_dim)

    @property
    def weight(self) -> torch.Tensor:
        """Vectors of all items, `[N + 1, D]`; row 0 is zero."""
        return self._vectors(torch.arange(self.ids.num_embeddings, device=self.ids.weight.device))

    def forward(self, item_rows: torch.Tensor) -> torch.Tensor:
        """Map `[...]` int64 item rows to `[..., D]`; each distinct item passes the tower once."""
        if self.content is None:
            vectors: torch.Tensor = self.ids(item_rows)
            return vectors
        distinct, places = torch.unique(item_rows, return_inverse=True)
        return self._vectors(distinct)[places]

    def _vectors(self, rows: torch.Tensor) -> torch.Tensor:
        own: torch.Tensor = self.ids(rows)  # [R, D]
        if self.content is None:
            return own
        told = self.content(self.codes[rows], self.tokens[rows])
        touched = self.touched[rows, None]
        if self.training:
            kept = torch.rand(len(rows), 1, device=rows.device) >= self.id_dropout
            taught: torch.Tensor = (own * kept + told) * touched
            return taught
        vectors: torch.Tensor = (own * touched + told) * (rows != PADDING_ROW)[:, None]
        return vectors

    def _hold(self, codes: torch.Tensor, tokens: torch.Tensor) -> None:
        """Keep fixed arrays in the state of the module, so that a checkpoint alone is a whole model."""
        touched = torch.ones(len(codes), dtype=torch.bool)
        touched[PADDING_ROW] = False
        for name, values in (("codes", codes), ("tokens", tokens), ("touched", touched)):
            self.register_buffer(name, values)


def _take_content(module: ItemTower, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Let a tower without content take the size of that in a saved state."""
    if module.content is None and f"{prefix}codes" in state:
        module._hold(torch.empty_like(state[f"{prefix}codes"]), torch.empty_like(state[f"{prefix}tokens"]))
        num_codes, num_tokens = (len(state[f"{prefix}content.{name}.weight"]) - 1 for name in ("codes", "tokens"))
        module.content = ContentNet(num_codes, num_tokens, module.ids.embedding_dim)
