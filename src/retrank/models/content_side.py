"""The content half of an item tower by itself: the vector of an item that nobody has touched. Exported for serving."""

import torch
from torch import nn
from torch.nn import functional as F

from retrank.models.item_tower import ContentNet


class ContentSide(nn.Module):
    """Codes and tokens of items -> item vectors as `item_vectors` gives them for untouched items.

    Args:
        content: the trained net of the item tower.
        unit: scale vectors to length 1, as a cosine model does.
    """

    def __init__(self, content: ContentNet, *, unit: bool) -> None:
        super().__init__()
        self.content, self.unit = content, unit

    def forward(self, codes: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Map `[R, F]` codes and `[R, T]` tokens, int64 with 0 = none, to `[R, D]` float32."""
        vectors: torch.Tensor = self.content(codes, tokens)
        return F.normalize(vectors, dim=-1) if self.unit else vectors
