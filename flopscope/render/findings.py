"""Verdict -> one sentence with its figures: the wording of every finding, by its code.

Codes and numbers are what scripts rely on; the words here may change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from flopscope.errors import FlopscopeError
from flopscope.records import Fact, Number, Verdict
from flopscope.units import bytes_text, number_text, rate_text, seconds_text, share_text

Wording = Callable[["Figures"], str]
WORDINGS: dict[str, Wording] = {}
TITLES: dict[str, str] = {}

REMEDIES: Mapping[str, str] = {
    "channels-last": "--channels-last (the memory format)",
    "pooled-allocator": "an allocator that keeps its memory (LD_PRELOAD jemalloc or tcmalloc)",
    "fold-bn": "fold the batch norm into the layer before it",
    "threads=1": "--threads 1",
    "dw-to-pconv": "a partial convolution (PConv) in its place, another function to be trained anew",
    "pconv": "a partial convolution (PConv) in its place, another function to be trained anew",
    "contiguous": "contiguous tensors in place of channels_last",
    "one-thread": "--threads 1",
    "batch=N": "a larger batch, where latency of one item is not the aim",
    "prepack": "weights laid out once (torch.compile with freezing)",
    "compile": "torch.compile, which can fuse it with the layer before",
    "slicing": "write the convolved channels into the tensor itself, without cat (inference only)",
}
"""What a remedy is, in words; those not listed stand for themselves ("threads=2", "channels=64")."""


class Figures:
    """The numbers of one finding or fact, as texts; what is not known is "?"."""

    def __init__(self, finding: Verdict | Fact) -> None:
        self.numbers = finding.numbers

    def known(self, name: str) -> bool:
        """Whether there is such a number, and it is neither zero nor empty."""
        return bool(self.numbers.get(name))

    def text(self, name: str) -> str:
        """A text or a count as it stands."""
        value = self.numbers.get(name)
        return "?" if value is None else self.number(name) if isinstance(value, float) else str(value)

    def number(self, name: str) -> str:
        """A number in three digits, a whole one as it is."""
        return self._shown(name, lambda value: str(int(value)) if value == int(value) else number_text(value))

    def many(self, name: str, thing: str) -> str:
        """A count and what is counted: "1 reorder", "2 reorders"."""
        return f"{self.number(name)} {thing}{'' if self.numbers.get(name) == 1 else 's'}"

    def bytes(self, name: str) -> str:
        """Bytes with a prefix."""
        return self._shown(name, bytes_text)

    def time(self, name: str) -> str:
        """Seconds with a prefix."""
        return self._shown(name, seconds_text)

    def share(self, name: str = "share") -> str:
        """A share in percent, with the sign."""
        return f"{self._shown(name, share_text)} %"

    def rate(self, name: str, unit: str) -> str:
        """A rate with its unit."""
        return self._shown(name, lambda value: rate_text(value, unit))

    def times(self, above: str, below: str) -> str:
        """The ratio of two numbers: "1.8x"."""
        one, other = self.numbers.get(above), self.numbers.get(below)
        if not isinstance(one, (int, float)) or not isinstance(other, (int, float)) or not other:
            return "?x"
        return f"{number_text(one / other)}x"

    def _shown(self, name: str, text: Callable[[float], str]) -> str:
        value = self.numbers.get(name)
        return text(value) if isinstance(value, (int, float)) else "?"


def wording(code: str, title: str) -> Callable[[Wording], Wording]:
    """Enter the decorated function as the wording of the finding `code`; `title` is it in a few words.

    Raises:
        FlopscopeError: The code has a wording already; the message names the holder.
    """

    def enter(function: Wording) -> Wording:
        taken = WORDINGS.get(code)
        if taken is not None:
            holder = f"{taken.__module__}.{taken.__qualname__}"
            raise FlopscopeError(f"the finding {code!r} already has a wording: {holder}")
        WORDINGS[code], TITLES[code] = function, title
        return function

    return enter


def sentence(verdict: Verdict) -> str:
    """The finding in words; one that has no wording, a third party's, in its numbers."""
    words = WORDINGS.get(verdict.code)
    if words is not None:
        return words(Figures(verdict))
    return ", ".join(f"{name} {_plain(value)}" for name, value in verdict.numbers.items()) or "no details"


def remedy_text(remedy: str) -> str:
    """What to do, in words."""
    name, _, value = remedy.partition("=")
    if remedy in REMEDIES:
        return REMEDIES[remedy]
    if name == "threads":
        return f"--threads {value}"
    if name == "dtype":
        return f"--dtype {value}"
    return f"{value} channels, which fill whole vectors" if name == "channels" else remedy


def _plain(value: Number) -> str:
    return number_text(value) if isinstance(value, float) else "?" if value is None else str(value)


# --------------------------------------------------------------------------- memory


@wording("low-intensity", "few FLOPs for each byte moved")
def _low_intensity(its: Figures) -> str:
    return (
        f"{its.number('flop_per_byte')} FLOP/B, and at its working set of {its.bytes('working_set_bytes')} "
        f"this machine needs {its.number('ridge_flop_per_byte')} to be kept busy: moving its bytes takes "
        f"{its.share()} of the time, whatever the kernel."
    )


@wording("beyond-cache", "works on more than the caches hold")
def _beyond_cache(its: Figures) -> str:
    return (
        f"Works on {its.bytes('working_set_bytes')}; from {its.bytes('knee_bytes')} on the bandwidth here "
        f"falls, to {its.rate('bytes_per_s', 'B/s')} from {its.rate('best_bytes_per_s', 'B/s')}. The "
        f"difference is {its.share()} of its time."
    )


@wording("cold-data", "its data were evicted before it ran")
def _cold_data(its: Figures) -> str:
    return (
        f"Its {its.bytes('nbytes')} would come from cache in {its.time('near_s')}, but the rest of the model "
        f"had evicted them: in place, memory takes {its.time('memory_s')} ({its.time('far_s')} at main "
        f"memory's bandwidth). => {its.share()} of the time."
    )


@wording("cache-resident", "runs from cache")
def _cache_resident(its: Figures) -> str:
    return (
        f"Its {its.bytes('working_set_bytes')} fit the caches (up to {its.bytes('knee_bytes')} here). A "
        f"roofline of main memory alone ({its.rate('far_bytes_per_s', 'B/s')}) would call it memory-bound; "
        f"memory is {its.share('memory_share')} of its time."
    )


@wording("page-faults", "the allocator hands memory back and faults it in again")
def _page_faults(its: Figures) -> str:
    return (
        f"{its.text('faults')} page faults ({its.bytes('nbytes')}) at {its.time('fault_s')} each: "
        f"{its.text('allocator')} gives buffers back to the system, which clears new pages at the next use. "
        f"=> {its.share()} of the time."
    )


@wording("copy-only", "moves data without computing")
def _copy_only(its: Figures) -> str:
    by = f" by {its.text('ops')}" if its.known("ops") else ""
    return (
        f"{its.bytes('copied_bytes')} of the {its.bytes('nbytes')} that it moves are copied{by}, not "
        f"computed on. => {its.share()} of the time, and no FLOPs."
    )


@wording("matrix-vector", "each weight is used once or a few times")
def _matrix_vector(its: Figures) -> str:
    return (
        f"A product of {its.many('rows', 'row')}: each of its {its.bytes('param_bytes')} of weights is read "
        f"to be used {its.many('rows', 'time')}, so reading them sets the pace ({its.share()} of the time)."
    )


# --------------------------------------------------------------------------- convolutions


@wording("no-gemm", "too few channels in a group for a matrix product")
def _no_gemm(its: Figures) -> str:
    return (
        f"{its.text('groups')} separate groups of {its.many('channels_per_group', 'channel')} in and "
        f"{its.text('outputs_per_group')} out: an input value is used {its.number('uses')} times, in a dense "
        f"convolution {its.number('dense_uses')}; no matrix product can be formed. "
        f"{its.number('flop_per_byte')} FLOP/B."
    )


@wording("layout-reorder", "tensors are laid out anew around the kernel")
def _layout_reorder(its: Figures) -> str:
    if its.text("witness") != "log":
        return (
            f"In channels_last it takes {its.time('channels_last_s')} in place of {its.time('this_s')} "
            f"(measured): oneDNN lays contiguous tensors out anew. => about {its.share()} of the time."
        )
    layout = f" ({its.text('layout')})" if its.known("layout") else ""
    kernel = f" around {its.text('kernel')}" if its.known("kernel") else ""
    moved = f" of {its.bytes('nbytes')}" if its.known("nbytes") else ""
    text = f"{its.many('reorders', 'reorder')}{moved}{kernel}{layout}, by the library's log"
    if its.known("channels_last_s"):
        text += (
            f"; in channels_last {its.time('channels_last_s')} in place of {its.time('this_s')} (measured)"
        )
    return f"{text}. => {its.share()} of the time."


@wording("weights-reordered", "weights are laid out anew at every call")
def _weights_reordered(its: Figures) -> str:
    moved = f" ({its.bytes('nbytes')})" if its.known("nbytes") else ""
    return (
        f"The library lays the weights out anew at every call{moved}, by its log: {its.text('layout')}. "
        f"=> {its.share()} of the time."
    )


@wording("channel-misaligned", "channels do not fill the vectors")
def _channel_misaligned(its: Figures) -> str:
    return (
        f"{its.text('in_channels')} channels in, {its.text('out_channels')} out, {its.text('groups')} "
        f"group(s) on vectors of {its.text('lanes')}: {its.share('filled')} of the lanes hold a channel. => "
        f"up to {its.share()} of the time."
    )


@wording("fallback-kernel", "runs on a fallback kernel")
def _fallback_kernel(its: Figures) -> str:
    groups = f" for {its.text('groups')} groups" if its.known("groups") and its.text("groups") != "1" else ""
    return (
        f"Runs on {its.text('implementation')}{groups}, not on one of the library's native convolution "
        f"kernels. => {its.share()} of the time is lost in the kernel."
    )


@wording("padding-share", "taps on padding are counted and skipped")
def _padding_share(its: Figures) -> str:
    return (
        f"{its.share()} of its nominal FLOPs fall on padding, which the kernel skips: its FLOP/s look that "
        "much higher than they are."
    )


# --------------------------------------------------------------------------- calls


@wording("dispatch-overhead", "the price of the calls themselves")
def _dispatch_overhead(its: Figures) -> str:
    if not its.known("op_calls"):
        return (
            f"No operator runs here: Python and module calls between layers take {its.share()} of the time."
        )
    idle = f", {its.time('idle_s')} of it between operators" if its.known("idle_s") else ""
    return (
        f"{its.text('op_calls')} operator call(s) in {its.many('calls', 'call')} cost what they cost at any "
        f"size: {its.share()} of the time{idle}."
    )


@wording("too-small-for-threads", "too little work for several threads")
def _too_small(its: Figures) -> str:
    if its.text("witness") == "measured":
        return (
            f"One thread takes {its.time('one_s')}, {its.text('threads')} threads take {its.time('this_s')} "
            "(measured): handing the work out costs more than it saves."
        )
    return (
        f"A call has {its.time('work_s')} of work by the roofs and takes {its.time('call_s')} on "
        f"{its.text('threads')} threads; handing out so little costs more than it saves (not measured)."
    )


@wording("oversubscribed", "more threads than processors")
def _oversubscribed(its: Figures) -> str:
    return (
        f"{its.text('threads')} threads share {its.many('processors', 'processor')}: they wait for each "
        "other at the end of every parallel region."
    )


@wording("slow-dtype", "no fast path for this dtype")
def _slow_dtype(its: Figures) -> str:
    text = f"{its.text('dtype')} has no roof on this machine: {its.text('reason')}."
    if its.known("other_flops_per_s"):
        text += f" {its.text('other')} reaches {its.rate('other_flops_per_s', 'FLOP/s')} here,"
        text += f" this layer {its.rate('flops_per_s', 'FLOP/s')}."
    return text


@wording("transcendental", "exp, tanh or erf for each element")
def _transcendental(its: Figures) -> str:
    return (
        f"{its.text('op')} takes many instructions for each element, though its data are at hand. "
        f"=> {its.share()} of the time."
    )


@wording("unfused", "a pass of its own that could be part of the layer before")
def _unfused(its: Figures) -> str:
    what = "batch norm" if its.text("kind") == "batch_norm" else its.text("kind")
    return (
        f"This {what} reads and writes {its.bytes('nbytes')} that {its.text('after')} had just written; "
        "fused with it, the pass would go."
    )


# --------------------------------------------------------------------------- trust


@wording("disturbed", "the measurement was disturbed")
def _disturbed(its: Figures) -> str:
    text = f"The measurement is {its.text('word')}"
    if its.known("waits"):
        text += f": a thread waited for a processor in {its.share('waits')} of the passes"
    if its.known("reasons"):
        text += f" ({its.text('reasons')})"
    return f"{text}." + (f" {_once(its.text('remedy'))}." if its.known("remedy") else "")


def _once(remedies: str) -> str:
    """Remedies with each thing to do said once: "a; a, or b; c; c more; d" -> "a, or b; c more; d"."""
    ways: dict[str, dict[str, None]] = {}
    for remedy in remedies.split("; "):
        first, *others = remedy.split(", or ")
        ways.setdefault(first, {}).update(dict.fromkeys(others))
    longer = [first for first in ways if any(other.startswith(f"{first} ") for other in ways)]
    kept = [first for first in ways if first not in longer or ways[first]]
    return "; ".join(", or ".join((first, *ways[first])) for first in kept)


@wording("unknown", "not explained")
def _unknown(its: Figures) -> str:
    if its.text("part") == "roof":
        return (
            f"Faster than this machine's roofs allow: they say {its.number('share')} times as long. A roof "
            "was measured too low, or fewer FLOPs or bytes are needed than are counted."
        )
    if its.text("part") == "memory":
        text = (
            f"{its.share()} of the time is left over, beyond what its bytes take at the measured bandwidth "
        )
        text += f"({its.time('expected_s')}), and no rule says why."
        if its.known("no_data"):
            text += (
                " It is no waiting for data, which would come from main memory in "
                f"{its.time('far_s')}; Python between its operators, or values that a processor handles "
                "apart (denormals), would look so."
            )
        return text
    if its.text("form") == "cheap":
        return (
            f"{its.share()} of the time is beyond roofs, calls and page faults, and nothing was replayed to "
            "tell more (--effort normal does)."
        )
    return f"The kernel loses {its.share()} of the time though its data are at hand, and no rule says why."
