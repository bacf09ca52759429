"""Case -> Verdict: what a convolution's geometry, layout and kernel make of its time.

In the conditions t is the layer's undisturbed time; `kernel` is the part of it that the kernel loses though
its data are at hand (or, without replays, what the roofs leave unexplained).
"""

from __future__ import annotations

from math import ceil, prod

from flopscope.diagnosis.cases import CONVOLUTIONS, ITEMSIZES, Case
from flopscope.diagnosis.registry import rule
from flopscope.records import Convolution, Kernel, Verdict

MATERIAL = 0.15
NOTABLE = 0.1
FEW_CHANNELS = 8
"""With fewer channels than this in a group there is no matrix product worth the name."""


@rule("no-gemm", explains=("kernel",))
def no_gemm(case: Case) -> Verdict | None:
    """Fire where groups > 1, channels in or out of a group < 8, kernel ≥ 0.15·t.

    An input value is used k²/stride² · out/groups times, in a dense convolution k²/stride² · out times.
    """
    shape = case.evidence.convolution
    if shape is None or shape.groups <= 1 or case.share(case.part("kernel")) < MATERIAL:
        return None
    inside, outside = shape.in_channels // shape.groups, shape.out_channels // shape.groups
    if min(inside, outside) >= FEW_CHANNELS:
        return None
    stride = 1 if shape.transposed else prod(shape.stride)
    uses = prod(shape.kernel) / stride * outside
    return Verdict(
        "no-gemm",
        None,
        {
            "groups": shape.groups,
            "channels_per_group": inside,
            "outputs_per_group": outside,
            "uses": uses,
            "dense_uses": uses * shape.groups,
            "flop_per_byte": case.layer.arithmetic_intensity,
        },
        "dw-to-pconv" if _partial_fits(shape) else "",
    )


@rule("layout-reorder", explains=("kernel", "memory"))
def layout_reorder(case: Case) -> Verdict | None:
    """Fire where the kernels' log shows reorders of source or result, and their share of it times what is
    neither overhead nor allocation is ≥ 0.1·t. Without a log: for a contiguous convolution on oneDNN with
    kernel ≥ 0.4·t that was measured to take at least 20 % less in channels_last. Never on another backend.
    """
    if not case.uses_onednn:
        return None
    reorders = [step for step in _reorders(case) if step.operand in ("source", "result")]
    if not case.evidence.kernels:
        return _by_channels_last(case)
    seconds = _of_the_log(case, reorders)
    if not reorders or case.share(seconds) < NOTABLE:
        return None
    numbers = {"reorders": len(reorders), "nbytes": sum(step.nbytes or 0 for step in reorders)}
    texts = {"layout": reorders[0].layout, "kernel": _main_kernel(case), "witness": "log"}
    return Verdict(
        "layout-reorder",
        seconds,
        {**numbers, **texts, "share": case.share(seconds), **_channels_last(case)},
        "channels-last" if _takes_channels_last(case) else "",
    )


@rule("weights-reordered", explains=("kernel",))
def weights_reordered(case: Case) -> Verdict | None:
    """The kernels' log shows reorders of weights, and their share of it times what is neither overhead nor
    allocation is ≥ 0.1·t. Never on another backend than oneDNN.
    """
    if not case.uses_onednn:
        return None
    reorders = [step for step in _reorders(case) if step.operand == "weights"]
    seconds = _of_the_log(case, reorders)
    if not reorders or case.share(seconds) < NOTABLE:
        return None
    numbers = {"reorders": len(reorders), "nbytes": sum(step.nbytes or 0 for step in reorders)}
    texts = {"layout": reorders[0].layout}
    return Verdict(
        "weights-reordered", seconds, {**numbers, **texts, "share": case.share(seconds)}, "prepack"
    )


@rule("channel-misaligned", explains=("kernel",))
def channel_misaligned(case: Case) -> Verdict | None:
    """Fire where min(kernel, F/P · (1/filled − 1)) ≥ 0.1·t, `filled` being the share of vector lanes with a
    channel: C / (⌈C/lanes⌉·lanes) for outputs and inputs of a dense convolution (per group), for all
    channels of a depthwise one. Not on a fallback kernel, whose vectors run over pixels.
    """
    shape, machine = case.evidence.convolution, case.machine
    if shape is None or machine is None or not machine.vector_bytes or shape.dtype not in ITEMSIZES:
        return None
    if _fallback(case):
        return None
    lanes = machine.vector_bytes // ITEMSIZES[shape.dtype]
    filled = _filled(shape, lanes)
    seconds = min(case.part("kernel"), (case.evidence.compute_s or 0.0) * (1 / filled - 1))
    if case.share(seconds) < NOTABLE:
        return None
    numbers = {"in_channels": shape.in_channels, "out_channels": shape.out_channels, "groups": shape.groups}
    return Verdict(
        "channel-misaligned",
        seconds,
        {**numbers, "lanes": lanes, "filled": filled, "share": case.share(seconds)},
        f"channels={ceil(shape.out_channels / lanes) * lanes}",
    )


@rule("fallback-kernel", explains=("kernel", "memory"))
def fallback_kernel(case: Case) -> Verdict | None:
    """The convolution backend is torch's own (Slow…), or the log shows a reference or im2col implementation
    (ref, gemm); and kernel ≥ 0.15·t. Not for a dense 1x1 of stride 1 without padding, which is a matrix
    product as it stands: nothing is copied for it.
    """
    if case.layer.kind not in CONVOLUTIONS and case.evidence.convolution is None:
        return None
    name = _fallback(case)
    seconds = case.part("kernel")
    if not name or case.share(seconds) < MATERIAL:
        return None
    shape = case.evidence.convolution
    return Verdict(
        "fallback-kernel",
        seconds,
        {"implementation": name, "groups": shape.groups if shape else None, "share": case.share(seconds)},
    )


@rule("padding-share", informative=True)
def padding_share(case: Case) -> Verdict | None:
    """1 − executed FLOPs / nominal FLOPs ≥ 0.1: taps on padding are counted and not computed."""
    executed, nominal = case.evidence.executed_flops, case.layer.flops
    if executed is None or not nominal or 1 - executed / nominal < NOTABLE:
        return None
    numbers = {"executed_flops": executed, "flops": nominal, "share": 1 - executed / nominal}
    return Verdict("padding-share", None, numbers)


def _partial_fits(shape: Convolution) -> bool:
    """Whether a partial convolution could stand here: depthwise, same channels, stride 1."""
    same = shape.in_channels == shape.out_channels == shape.groups
    return same and not shape.transposed and prod(shape.stride) == 1


def _takes_channels_last(case: Case) -> bool:
    """Whether the other memory format exists for this layer: of images, and not in it already."""
    shape = case.evidence.convolution
    return shape is not None and len(shape.kernel) == 2 and not case.settings.channels_last


def _reorders(case: Case) -> list[Kernel]:
    return [step for step in case.evidence.kernels if step.primitive == "reorder"]


def _of_the_log(case: Case, steps: list[Kernel]) -> float:
    """The steps' share of the log, of the time that is neither allocation nor overhead but the weights'."""
    logged = sum(step.latency_s for step in case.evidence.kernels)
    working = max(0.0, case.seconds - case.part("overhead") + case.weights_s - case.part("allocation"))
    return sum(step.latency_s for step in steps) / logged * working if logged else 0.0


def _by_channels_last(case: Case) -> Verdict | None:
    """The weaker finding, by an experiment in place of a log."""
    shape, found = case.evidence.convolution, case.counterfactual("channels-last")
    if shape is None or shape.channels_last or found is None or not found.this_s:
        return None
    gain = 1 - found.latency_s / found.this_s
    if not case.evidence.backend or gain < 0.2 or case.share(case.part("kernel")) < 0.4:
        return None
    seconds = min(gain * case.seconds, case.part("kernel"))
    numbers = {"share": case.share(seconds), **_channels_last(case)}
    return Verdict("layout-reorder", seconds, {"witness": "channels-last", **numbers}, "channels-last")


def _channels_last(case: Case) -> dict[str, float]:
    found = case.counterfactual("channels-last")
    return {} if found is None else {"channels_last_s": found.latency_s, "this_s": found.this_s}


def _main_kernel(case: Case) -> str:
    """The implementation that computes: the longest step that is no reorder."""
    steps = [step for step in case.evidence.kernels if step.primitive != "reorder"]
    return max(steps, key=lambda step: step.latency_s).implementation if steps else ""


def _filled(shape: Convolution, lanes: int) -> float:
    """The share of vector lanes that hold a channel; inputs of half a vector or less are not blocked."""

    def part(channels: int) -> float:
        return channels / (ceil(channels / lanes) * lanes)

    if shape.groups == shape.in_channels and shape.groups > 1:
        return part(shape.out_channels)
    inside, outside = shape.in_channels // shape.groups, shape.out_channels // shape.groups
    return part(outside) * (part(inside) if 2 * inside > lanes else 1.0)


def _fallback(case: Case) -> str:
    """The name of the implementation that others would have been faster than; "" for a native one."""
    product = _is_product(case.evidence.convolution)
    backend = (case.evidence.backend or "").rpartition(".")[2]
    if backend.lower().startswith("slow"):
        return "" if product else backend
    strange = {"ref"} if product else {"ref", "gemm"}
    for step in case.evidence.kernels if case.uses_onednn else ():
        words = step.implementation.lower().replace("_", ":").split(":")
        if "conv" in step.primitive and strange & set(words):
            return step.implementation
    return ""


def _is_product(shape: Convolution | None) -> bool:
    """Whether a convolution is one matrix product of its tensors as they stand: no im2col before it."""
    if shape is None or shape.transposed or shape.groups != 1:
        return False
    return prod(shape.kernel) == prod(shape.stride) == 1 and not any(shape.padding)
