"""Small nets of different families, and wrappers that choose how they are counted."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import nn


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1, groups=8),
            nn.Dropout(0.3),
            nn.Conv2d(8, 3, 1),
        )
        self.norm = nn.GroupNorm(1, 3)
        self.head = nn.Linear(3, 5)

    def forward(self, x):
        x = x + self.body(x)
        x = torch.cat([x, F.interpolate(F.max_pool2d(x, 2), scale_factor=2.0)], dim=1).narrow(1, 1, 3)
        x = F.adaptive_avg_pool2d(self.norm(F.silu(x)), 1).flatten(1)
        return self.head(x).softmax(-1)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2)

    def forward(self, x):
        return self.encoder(x)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.own = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, x):
        q, k, v = self.qkv(x).reshape(2, 6, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        x = x + F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        return self.own(x, x, x)[0]


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(50, 16, padding_idx=0)
        self.lstm = nn.LSTM(16, 8, num_layers=2, bidirectional=True, batch_first=True)
        self.gru = nn.GRU(16, 8, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.out = nn.Linear(8, 50)

    def forward(self, ids):
        x = self.norm(self.gru(self.lstm(self.table(ids))[0])[0])
        return self.out(x[:, -1])


class Functional(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(6, 16))
        self.register_buffer("scale", torch.ones(16))

    def forward(self, x):
        positions = torch.arange(x.shape[1], device=x.device, dtype=x.dtype)
        x = x * self.scale + positions[:, None].sin()
        x = torch.where(x > 0, x, torch.zeros_like(x)).clone()
        x[:, 0] = self.scale
        x = torch.einsum("bld,od->blo", x, self.weight)
        return F.pad(x, (1, 1)).mean(1).expand(4, -1, -1).contiguous()


NETS = {
    "residual": (Residual, (2, 3, 8, 8), None),
    "encoder": (Encoder, (2, 6, 16), None),
    "attention": (Attention, (2, 6, 16), None),
    "words": (Words, (2, 6), "int64"),
    "functional": (Functional, (2, 6, 16), None),
}


class ReadsWeight(nn.Module):
    """The net, with a question to a weight's values before it that forces a real run."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        self.weight.sum().item()
        return self.inner(x)


class ReadsNothing(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, x):
        self.weight.sum()
        return self.inner(x)


def without_ops(layers):
    """The rows without the ops' numbers and, of the top, names: asking for a value is an op more."""
    return [dataclasses.replace(layer, ops=(), detail=layer.detail if layer.path else "") for layer in layers]
