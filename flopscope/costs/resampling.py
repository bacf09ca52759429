"""Pooling, interpolation and sampling: values of a window combined into one.

A window of n values counts n: n - 1 additions and a division, or n - 1 comparisons. A weighted
sum of n values counts 2n - 1; weights that a row or column shares are not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

from flopscope.costs.operands import is_floating, operand, product, result
from flopscope.costs.registry import Formula, Work, formula, in_aten
from flopscope.costs.table import TERM
from flopscope.records import OpCall, Shape

_POOLS = """
    max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
    max_pool3d_with_indices mkldnn_max_pool2d mkldnn_max_pool3d quantized_max_pool1d
    quantized_max_pool2d quantized_max_pool3d avg_pool1d avg_pool2d avg_pool3d fractional_max_pool2d
    fractional_max_pool3d
"""
_ADAPTIVE_POOLS = in_aten("""
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d _adaptive_avg_pool2d _adaptive_avg_pool3d
    mkldnn_adaptive_avg_pool2d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
""")
_INTERPOLATIONS = {
    "nearest": (
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d "
        "_upsample_nearest_exact2d _upsample_nearest_exact3d"
    ),
    "linear": "upsample_linear1d",
    "bilinear": "upsample_bilinear2d",
    "trilinear": "upsample_trilinear3d",
    "bicubic": "upsample_bicubic2d",
}
_ANTIALIASED_SUPPORT = {
    "aten::_upsample_bilinear2d_aa": 2,
    "aten::_upsample_bicubic2d_aa": 4,
    "aten::_upsample_lanczos2d_aa": 6,
}
# What fvcore charges per output element; other interpolations are unknown to it.
_FVCORE = {"aten::upsample_nearest2d": 1, "aten::upsample_bilinear2d": 4}
_FVCORE_GRID_SAMPLER = 4


def _pool(rank: int) -> Formula:
    def price_pool(op: OpCall) -> Work:
        """Output elements times the window's size, padded taps included."""
        taps = product(_sizes(op.value("kernel_size", ()), rank))
        answer = result(op)
        return Work(other_flops=taps * answer.numel if is_floating(answer.dtype) else 0)

    return price_pool


for _name in _POOLS.split():
    formula(f"aten::{_name}")(_pool(int(_name[_name.index("pool") + len("pool")])))


@formula(*_ADAPTIVE_POOLS)
def _adaptive_pool(op: OpCall) -> Work:
    """One per value of each window: the input's elements, where windows do not overlap."""
    source, answer = operand(op, "self", "input"), result(op)
    flops = windows(source.shape, answer.shape, rank=int(op.op[-2]))
    seen_by_fvcore = op.op in ("aten::adaptive_avg_pool2d", "aten::_adaptive_avg_pool2d")
    return Work(
        other_flops=flops if is_floating(answer.dtype) else 0,
        fvcore_flops=source.numel if seen_by_fvcore else 0,
    )


def windows(source: Shape, answer: Shape, *, rank: int) -> int:
    """Values in all windows of an adaptive pool over the last `rank` dimensions, overlaps each time."""
    sizes = zip(source[-rank:], answer[-rank:], strict=True)
    return product(answer[:-rank]) * product([_adaptive_reach(before, after) for before, after in sizes])


def _adaptive_reach(before: int, after: int) -> int:
    """Values in all windows of one dimension: window o runs from floor(o I / O) to ceil((o + 1) I / O)."""
    return sum(-(-(o + 1) * before // after) - o * before // after for o in range(after))


def _interpolation(mode: str) -> Formula:
    def price_interpolation(op: OpCall) -> Work:
        """Output elements times the weighted sum of the mode's 2, 4, 8 or 16 neighbours."""
        answer = result(op)
        flops = TERM[f"{mode} interpolation"] * answer.numel if is_floating(answer.dtype) else 0
        return Work(other_flops=flops, fvcore_flops=_FVCORE.get(op.op, 0) * answer.numel)

    return price_interpolation


for _mode, _names in _INTERPOLATIONS.items():
    formula(*in_aten(_names))(_interpolation(_mode))


@formula(*_ANTIALIASED_SUPPORT)
def _antialiased(op: OpCall) -> Work:
    """Two passes, first along rows, then along columns; a shrinking pass widens its window."""
    width = _ANTIALIASED_SUPPORT[op.op]
    source, answer = operand(op, "self", "input").shape, result(op)
    maps, (rows, columns) = product(answer.shape[:-2]), answer.shape[-2:]
    across = maps * source[-2] * columns * _weighted_sum(width, source[-1], columns)
    down = maps * rows * columns * _weighted_sum(width, source[-2], rows)
    return Work(other_flops=across + down if is_floating(answer.dtype) else 0, fvcore_flops=0)


def _weighted_sum(width: int, before: int, after: int) -> int:
    if before == after:
        return 0
    taps = ceil(width * max(1.0, before / after))
    return 2 * taps - 1


@formula("aten::grid_sampler", "aten::grid_sampler_2d", "aten::grid_sampler_3d", "aten::cudnn_grid_sampler")
def _grid_sampler(op: OpCall) -> Work:
    """Coordinates and weights once per sampled location, an interpolation per output element."""
    answer, solid = result(op), len(result(op).shape) == 5
    locations = operand(op, "grid").numel // (3 if solid else 2)
    mode = ("trilinear" if solid else "bilinear", "nearest", "bicubic")[op.value("interpolation_mode", 0)]
    per_location = TERM["grid sample, per 3d location" if solid else "grid sample, per 2d location"]
    return Work(
        other_flops=locations * per_location + TERM[f"{mode} interpolation"] * answer.numel,
        fvcore_flops=_FVCORE_GRID_SAMPLER * answer.numel,
    )


@formula("torchvision::roi_align", "torchvision::ps_roi_align")
def _roi_align(op: OpCall) -> Work | None:
    """Each bin is the mean of ratio^2 bilinear samples; an adaptive ratio depends on the boxes."""
    ratio = op.value("sampling_ratio", 0)
    if ratio <= 0:
        return None
    return Work(other_flops=TERM["region sample"] * ratio * ratio * result(op).numel)


def _sizes(value: int | Sequence[int], rank: int) -> list[int]:
    """A size for each dimension from torch's short forms: 3, [3] or [3, 3]."""
    sizes = [value] if isinstance(value, int) else list(value)
    return sizes * rank if len(sizes) == 1 else sizes
