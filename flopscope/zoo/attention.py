"""Widths and heads -> what the networks of the transformers' age share: MLP, self-attention, weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional


def rising_rates(rate: float, count: int) -> list[float]:
    """Rates of stochastic depth that grow linearly from 0 in the first block to `rate` in the last."""
    return [rate * index / max(1, count - 1) for index in range(count)]


def initialise_normal(model: nn.Module, types: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d)) -> None:
    """Fill the weights of modules of these types, in place: truncated normal (0.02), biases 0.

    Source: the released code of Swin and ConvNeXt, after BERT (arXiv 1810.04805).
    """
    for module in model.modules():
        if isinstance(module, types):
            assert isinstance(module, nn.Linear | nn.Conv2d)
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


class MLP(nn.Module):
    """Linear to `hidden`, activation, linear back; both with bias."""

    def __init__(
        self, width: int, hidden: int, activation: Callable[[], nn.Module], dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.expand = nn.Linear(width, hidden)
        self.act = activation()
        self.dropout = nn.Dropout(dropout)
        self.project = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same shape."""
        y: Tensor = self.project(self.dropout(self.act(self.expand(x))))
        return y


class SelfAttention(nn.Module):
    """Multi-head self-attention; query, key, value and projection with bias (arXiv 1706.03762, 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.project = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(N, L, width) -> the same shape; `bias` (N or 1, heads, L, L) is added to the scores."""
        n, length, width = x.shape
        parts = self.qkv(x).view(n, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = parts.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        y: Tensor = self.project(mixed.transpose(1, 2).reshape(n, length, width))
        return y
