"""Case -> Verdict: what calls, threads, dtypes and the order of layers make of the time.

In the conditions t is the layer's undisturbed time.
"""

from __future__ import annotations

from flopscope.diagnosis.cases import CONTRACTIONS, CONVOLUTIONS, Case
from flopscope.diagnosis.registry import rule
from flopscope.records import Layer, Number, Verdict

TRANSCENDENTAL = frozenset((
    "gelu", "silu", "mish", "sigmoid", "log_sigmoid", "log_sigmoid_forward", "softplus", "elu", "selu",
    "celu", "softmax", "_softmax", "log_softmax", "_log_softmax", "logsumexp", "tanh", "exp", "expm1", "exp2",
    "erf", "log", "log2", "log10", "log1p", "pow", "sin", "cos", "tan",
))  # fmt: skip
FORK_S = 10e-6
"""A parallel region that has less than this to do is no faster for its threads."""
ONE_THREAD = ("threads=1", "one-thread", "1-thread", "single-thread")


@rule("dispatch-overhead", explains=("overhead",))
def dispatch_overhead(case: Case) -> Verdict | None:
    """Fire where overhead ≥ 0.4·t, or overhead is the largest of the five parts and ≥ 0.25·t; without what
    a convolution spends on its weights in each call: reading them at W, laying them out anew by the log.
    """
    weights = case.weights_s
    seconds = case.part("overhead") - weights
    largest = max(weights, *(case.part(name) for name in ("compute", "kernel", "allocation", "memory")))
    if case.share(seconds) < 0.25 or (case.share(seconds) < 0.4 and seconds <= largest):
        return None
    numbers = {"calls": case.layer.calls, "op_calls": case.evidence.op_calls, "idle_s": case.evidence.idle_s}
    return Verdict("dispatch-overhead", seconds, {**numbers, "share": case.share(seconds)}, "batch=N")


@rule("too-small-for-threads", explains=("kernel", "overhead"))
def too_small_for_threads(case: Case) -> Verdict | None:
    """Fire where threads > 1, and one thread was measured to take at least 5 % less; or, where that was not
    measured, of a contraction a call of which has < 10 µs of work at the roofs, where overhead ≥ 0.5·t,
    or a call takes < 50 µs · threads and kernel + overhead ≥ 0.5·t.
    """
    if case.threads <= 1:
        return None
    alone = case.counterfactual(*ONE_THREAD)
    if alone is not None:
        gain = 1 - alone.latency_s / alone.this_s if alone.this_s else 0.0
        if gain < 0.05 or (alone.high is not None and alone.high >= 1):
            return None
        numbers = {"threads": case.threads, "one_s": alone.latency_s, "this_s": alone.this_s, "share": gain}
        return Verdict(
            "too-small-for-threads", gain * case.seconds, {**numbers, "witness": "measured"}, "threads=1"
        )
    calls = max(case.layer.calls, 1)
    work = max(case.evidence.compute_s or 0.0, case.evidence.memory_s or 0.0) / calls
    short = case.seconds / calls < 50e-6 * case.threads
    lost = case.part("overhead") + (case.part("kernel") if short else 0.0)
    if case.layer.kind not in CONTRACTIONS or not work or work >= FORK_S or case.share(lost) < 0.5:
        return None
    numbers = {"threads": case.threads, "work_s": work, "call_s": case.seconds / calls}
    return Verdict("too-small-for-threads", None, {**numbers, "witness": "estimated"}, "threads=1")


@rule("oversubscribed", explains=("kernel", "memory", "overhead"))
def oversubscribed(case: Case) -> Verdict | None:
    """Fire where threads > processors of this process, and the layer runs operators for ≥ 1 % of the time."""
    if case.threads <= case.processors or case.whole_share < 0.01 or not case.layer.ops:
        return None
    numbers = {"threads": case.threads, "processors": case.processors}
    return Verdict("oversubscribed", None, numbers, f"threads={case.processors}")


@rule("slow-dtype", explains=("kernel", "memory"))
def slow_dtype(case: Case) -> Verdict | None:
    """The machine has no roof for the layer's dtype, says why, and the layer has MACs."""
    dtype, machine = case.layer.dtype, case.machine
    if machine is None or dtype is None or dtype not in machine.absent or not case.layer.macs:
        return None
    better = [peak.dtype for peak in machine.peaks if peak.dtype in ("bfloat16", "float32")]
    best = max(better, key=lambda name: machine.peak(name) or 0.0, default="")
    numbers: dict[str, Number] = {"dtype": dtype, "reason": machine.absent[dtype]}
    numbers |= {"flops_per_s": case.layer.flops_per_s}
    numbers |= {"other": best or None, "other_flops_per_s": machine.peak(best)}
    return Verdict("slow-dtype", None, numbers, f"dtype={best}" if best else "")


@rule("transcendental", explains=("kernel",))
def transcendental(case: Case) -> Verdict | None:
    """Fire where kernel ≥ 0.25·t in an activation or element-wise layer, at least half of whose FLOPs are
    those of exp, tanh, erf, log, pow and what is made of them.
    """
    if case.layer.kind not in ("activation", "elementwise") or not case.layer.flops:
        return None
    calls = [op for op in case.ops if _functional(op.op) in TRANSCENDENTAL]
    seconds = case.part("kernel")
    if 2 * sum(op.flops for op in calls) < case.layer.flops or case.share(seconds) < 0.25:
        return None
    numbers: dict[str, Number] = {"op": _functional(calls[0].op), "share": case.share(seconds)}
    return Verdict("transcendental", seconds, numbers)


@rule("unfused", explains=("memory", "kernel"))
def unfused(case: Case) -> Verdict | None:
    """Fire in inference for a batch_norm, each call of which comes directly after a call of a convolution or
    linear layer; or an activation that takes ≥ 5 % of the whole, directly after one of these or a
    batch_norm.
    """
    before, kind = case.preceding, case.layer.kind
    if case.settings.train or before is None or not _follows(case.layer, before):
        return None
    sources = (*CONVOLUTIONS, "linear")
    numbers: dict[str, Number] = {"after": before.path, "after_kind": before.kind, "kind": kind}
    numbers |= {"nbytes": case.nbytes, "share": 1.0}
    if kind == "batch_norm" and before.kind in sources:
        return Verdict("unfused", case.seconds, numbers, "fold-bn")
    if kind == "activation" and before.kind in (*sources, "batch_norm") and case.whole_share >= 0.05:
        passing = sum(case.part(name) for name in ("overhead", "allocation", "memory"))  # its work remains
        return Verdict("unfused", passing, {**numbers, "share": case.share(passing)}, "compile")
    return None


def _functional(op: str) -> str:
    """The bare name of an op: "aten::silu_" -> "silu"."""
    name = op.rpartition("::")[2].partition(".")[0]
    return name.rstrip("_") if not name.endswith("__") else name


def _follows(layer: Layer, before: Layer) -> bool:
    """Whether every call of `layer` is one op, and directly follows the last op of a call of `before`."""
    if not layer.ops or len(layer.ops) != layer.calls or layer.calls != before.calls:
        return False
    return all(index - 1 in before.ops for index in layer.ops) and layer.input_shape == before.output_shape
