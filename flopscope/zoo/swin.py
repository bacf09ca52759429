"""Width, depths, heads -> Swin-T, -S and -B: attention in windows that every second block shifts.

Liu et al., "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows", arXiv 2103.14030,
Table 7 (variants) and Figure 3; relative position bias by equation 4. The released code
computes the mask of the shifted windows once, for its own resolution; here each stage computes it
for the map that comes, so that any size works (the attention pads maps to whole windows).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from flopscope.zoo.attention import MLP, SelfAttention, initialise_normal, rising_rates
from flopscope.zoo.blocks import DropPath
from flopscope.zoo.registry import Published, network

PAPER = "arXiv 2103.14030, Table 7"
README = "microsoft/Swin-Transformer README"
FASTERNET = "FasterNet, arXiv 2303.03667v3, Table 3"
FVCORE = "fvcore counts layer norms (5 per element) and the final pool on top of MACs"

WINDOW = 7

# width of the first stage, blocks per stage, heads per stage (Table 7; width doubles with each stage)
VARIANTS = {
    "t": (96, (2, 2, 6, 2), (3, 6, 12, 24)),
    "s": (96, (2, 2, 18, 2), (3, 6, 12, 24)),
    "b": (128, (2, 2, 18, 2), (4, 8, 16, 32)),
}


class Swin(nn.Module):
    """Patches of 4x4 -> four stages of shifted-window blocks -> layer norm, mean, classifier."""

    def __init__(
        self,
        width: int,
        depths: tuple[int, ...],
        heads: tuple[int, ...],
        num_classes: int = 1000,
        *,
        stochastic_depth: float = 0.0,
    ) -> None:
        super().__init__()
        self.patches = PatchEmbedding(width)
        rates = iter(rising_rates(stochastic_depth, sum(depths)))
        self.stages = nn.Sequential()
        for stage, (depth, count) in enumerate(zip(depths, heads, strict=True)):
            here = [next(rates) for _ in range(depth)]
            self.stages.append(Stage(width * 2**stage, count, here, merges=stage > 0))
        last = width * 2 ** (len(depths) - 1)
        self.norm = nn.LayerNorm(last)
        self.classifier = nn.Linear(last, num_classes)
        initialise_normal(self)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, num_classes)."""
        x = self.norm(self.stages(self.patches(x)))
        y: Tensor = self.classifier(x.mean(dim=(1, 2)))
        return y


class PatchEmbedding(nn.Module):
    """Convolution 4x4 with stride 4 and bias, channels last, layer norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 4, 4)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, H/4, W/4, width)."""
        y: Tensor = self.norm(self.conv(x).permute(0, 2, 3, 1))
        return y


class Stage(nn.Module):
    """Patch merging (not in the first stage), then blocks, every second one shifted."""

    def __init__(self, width: int, heads: int, drop_paths: list[float], *, merges: bool) -> None:
        super().__init__()
        self.merging = PatchMerging(width // 2) if merges else None
        self.blocks = nn.ModuleList(SwinBlock(width, heads, rate) for rate in drop_paths)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, H/2, W/2, 2C), or the same shape in the first stage."""
        x = x if self.merging is None else self.merging(x)
        shift = WINDOW // 2 if min(x.shape[1:3]) > WINDOW and len(self.blocks) > 1 else 0
        mask = shift_mask(x, shift) if shift else None
        for index, block in enumerate(self.blocks):
            x = block(x, shift, mask) if index % 2 else block(x)
        return x


class PatchMerging(nn.Module):
    """The four pixels of each 2x2 patch side by side -> layer norm -> linear 4C to 2C without bias."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * width)
        self.reduce = nn.Linear(4 * width, 2 * width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, H, W, C) -> (N, ⌈H/2⌉, ⌈W/2⌉, 2C)."""
        x = functional.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        y: Tensor = self.reduce(self.norm(torch.cat(corners, dim=-1)))
        return y


class SwinBlock(nn.Module):
    """Pre-norm attention within windows, then a pre-norm MLP of 4 times the width (equation 3)."""

    def __init__(self, width: int, heads: int, drop_path: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, 4 * width, nn.GELU)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, shift: int = 0, mask: Tensor | None = None) -> Tensor:
        """(N, H, W, C) -> the same shape; `mask` is (windows, 49, 49)."""
        x = x + self.drop_path(self.attention(self.norm1(x), shift, mask))
        y: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return y


class WindowAttention(nn.Module):
    """Self-attention within windows of 7x7 pixels, with a learnt bias for each relative position."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = SelfAttention(width, heads)
        self.position_bias = nn.Parameter(torch.zeros((2 * WINDOW - 1) ** 2, heads))
        self.position_index: Tensor
        self.register_buffer("position_index", position_index())
        nn.init.trunc_normal_(self.position_bias, std=0.02)

    def forward(self, x: Tensor, shift: int, mask: Tensor | None) -> Tensor:
        """(N, H, W, C) -> the same shape; `mask` is (windows, 49, 49)."""
        n, height, width, _ = x.shape
        x = functional.pad(x, (0, 0, 0, -width % WINDOW, 0, -height % WINDOW))
        x = torch.roll(x, (-shift, -shift), (1, 2)) if shift else x
        windows = self.attention(to_windows(x), self._bias(mask, n))
        x = from_windows(windows, *x.shape[1:3])
        x = torch.roll(x, (shift, shift), (1, 2)) if shift else x
        return x[:, :height, :width]

    def _bias(self, mask: Tensor | None, images: int) -> Tensor:
        """The bias of relative positions, (1, heads, 49, 49); with a mask one for each window."""
        size = WINDOW**2
        bias = self.position_bias[self.position_index].view(size, size, -1).permute(2, 0, 1).unsqueeze(0)
        return bias if mask is None else (bias + mask.unsqueeze(1)).repeat(images, 1, 1, 1)


def position_index() -> Tensor:
    """For each pair of pixels of a window, the row of the bias table: (49 · 49,) in 0..168."""
    rows, columns = (axis.flatten() for axis in torch.meshgrid(*[torch.arange(WINDOW)] * 2, indexing="ij"))
    down, right = (axis[:, None] - axis[None, :] + WINDOW - 1 for axis in (rows, columns))
    return (down * (2 * WINDOW - 1) + right).flatten()


def shift_mask(x: Tensor, shift: int) -> Tensor:
    """What keeps pixels of a shifted window apart that are not neighbours in the image.

    Args:
        x: (N, H, W, C).
        shift: pixels by which the windows are shifted.

    Returns:
        (windows, 49, 49): 0 within a region, -100 between regions, as in the released code.
    """
    rows, columns = (_bands(size + -size % WINDOW, shift, x) for size in x.shape[1:3])
    regions = to_windows((3 * rows[:, None] + columns[None, :])[None, :, :, None]).squeeze(-1)
    return -100.0 * (regions[:, None, :] != regions[:, :, None]).to(x.dtype)


def _bands(size: int, shift: int, like: Tensor) -> Tensor:
    """Along one axis: 0, then 1 from the last window on, then 2 for what was rolled over."""
    place = torch.arange(size, device=like.device)
    return (place >= size - WINDOW).long() + (place >= size - shift).long()


def to_windows(x: Tensor) -> Tensor:
    """(N, H, W, C) -> (N · windows, 49, C)."""
    n, height, width, channels = x.shape
    x = x.view(n, height // WINDOW, WINDOW, width // WINDOW, WINDOW, channels)
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, WINDOW**2, channels)


def from_windows(windows: Tensor, height: int, width: int) -> Tensor:
    """(N · windows, 49, C) -> (N, height, width, C)."""
    x = windows.view(-1, height // WINDOW, width // WINDOW, WINDOW, WINDOW, windows.shape[-1])
    return x.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, windows.shape[-1])


@network(
    "swin_t",
    family="Swin",
    resolution=224,
    paper=PAPER,
    params=28_288_354,
    macs=4_490_566_656,
    published=[
        Published(README, params_m=28, macs_g=4.5),
        Published(FASTERNET, params_m=28.3, macs_g=4.51, convention="fvcore", reason=FVCORE),
    ],
)
def swin_t(num_classes: int = 1000, *, stochastic_depth: float = 0.2) -> Swin:
    """Swin-T."""
    return Swin(*VARIANTS["t"], num_classes, stochastic_depth=stochastic_depth)


@network(
    "swin_s",
    family="Swin",
    resolution=224,
    paper=PAPER,
    params=49_606_258,
    macs=8_740_875_264,
    published=[Published(FASTERNET, params_m=49.6, macs_g=8.77, convention="fvcore", reason=FVCORE)],
)
def swin_s(num_classes: int = 1000, *, stochastic_depth: float = 0.3) -> Swin:
    """Swin-S."""
    return Swin(*VARIANTS["s"], num_classes, stochastic_depth=stochastic_depth)


@network(
    "swin_b",
    family="Swin",
    resolution=224,
    paper=PAPER,
    params=87_768_224,
    macs=15_430_946_816,
    published=[
        Published(README, params_m=88, macs_g=15.4),
        Published(FASTERNET, params_m=87.8, macs_g=15.47, convention="fvcore", reason=FVCORE),
    ],
)
def swin_b(num_classes: int = 1000, *, stochastic_depth: float = 0.5) -> Swin:
    """Swin-B."""
    return Swin(*VARIANTS["b"], num_classes, stochastic_depth=stochastic_depth)
