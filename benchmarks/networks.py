"""A name -> a network and the shape of its input: what the benchmarks count."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import torch
from torch import nn


def build(name: str) -> tuple[nn.Module, tuple[int, ...]]:
    """Build `torchvision:NAME@SIZE`, `chain:LAYERS`, `nested:LEVELS` or `decoder:LAYERS`, in eval mode."""
    family, _, rest = name.partition(":")
    builders: dict[str, Callable[[str], tuple[nn.Module, tuple[int, ...]]]] = {
        "torchvision": _torchvision,
        "chain": _chain,
        "nested": _nested,
        "decoder": _decoder,
    }
    model, shape = builders[family](rest)
    return model.eval(), shape


def _torchvision(rest: str) -> tuple[nn.Module, tuple[int, ...]]:
    name, _, size = rest.partition("@")
    models = importlib.import_module("torchvision.models")
    return models.get_model(name), (1, 3, int(size), int(size))


def _chain(layers: str) -> tuple[nn.Module, tuple[int, ...]]:
    return nn.Sequential(*(nn.Linear(64, 64) for _ in range(int(layers)))), (1, 64)


def _nested(levels: str) -> tuple[nn.Module, tuple[int, ...]]:
    """One Linear inside as many Sequentials, with a Linear beside it on each level."""
    model: nn.Module = nn.Linear(64, 64)
    for _ in range(int(levels)):
        model = nn.Sequential(model, nn.Linear(64, 64))
    return model, (1, 64)


def _decoder(layers: str) -> tuple[nn.Module, tuple[int, ...]]:
    return Decoder(int(layers)), (1, 2048)


class Decoder(nn.Module):
    """A decoder of the Llama kind: at 80 layers 69 billion parameters.

    Pre-norm by RMSNorm, rotary positions, grouped-query attention, SwiGLU.
    """

    def __init__(
        self,
        layers: int,
        width: int = 8192,
        heads: int = 64,
        kv_heads: int = 8,
        hidden: int = 28672,
        words: int = 32000,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.layers = nn.ModuleList(DecoderLayer(width, heads, kv_heads, hidden) for _ in range(layers))
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.head = nn.Linear(width, words, bias=False)
        self.rotation = width // heads

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[batch, length] token ids -> [batch, length, words]."""
        x = self.embedding(ids)
        cos, sin = rotary(ids.shape[1], self.rotation, x)
        for layer in self.layers:
            x = layer(x, cos, sin)
        answer: torch.Tensor = self.head(self.norm(x))
        return answer


class DecoderLayer(nn.Module):
    """Attention and a gated feed-forward net, each after a norm and added to its input."""

    def __init__(self, width: int, heads: int, kv_heads: int, hidden: int) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.size = heads, kv_heads, width // heads
        self.attention_norm = nn.RMSNorm(width, eps=1e-5)
        self.query = nn.Linear(width, heads * self.size, bias=False)
        self.key = nn.Linear(width, kv_heads * self.size, bias=False)
        self.value = nn.Linear(width, kv_heads * self.size, bias=False)
        self.out = nn.Linear(heads * self.size, width, bias=False)
        self.feed_norm = nn.RMSNorm(width, eps=1e-5)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """[batch, length, width] -> the same."""
        x = x + self.attended(self.attention_norm(x), cos, sin)
        y = self.feed_norm(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y))

    def attended(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """Causal attention; 8 query heads share one of key and value."""
        batch, length, _ = x.shape
        query = self.query(x).view(batch, length, self.heads, self.size).transpose(1, 2)
        key = self.key(x).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        value = self.value(x).view(batch, length, self.kv_heads, self.size).transpose(1, 2)
        query, key = rotated(query, cos, sin), rotated(key, cos, sin)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        answer: torch.Tensor = self.out(mixed.transpose(1, 2).reshape(batch, length, -1))
        return answer


def rotary(length: int, size: int, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines of shape [length, size] (Su et al. 2021, RoFormer, eq. 15)."""
    rates = 10000.0 ** (-torch.arange(0, size, 2, device=like.device) / size)
    angles = torch.outer(torch.arange(length, device=like.device, dtype=rates.dtype), rates)
    angles = torch.cat((angles, angles), dim=-1).to(like.dtype)
    return angles.cos(), angles.sin()


def rotated(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Turn each pair of channels, half the width apart, by its position's angle."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
