"""Our MACs and a peer's, by operator -> words: whose convention or hole a difference is.

The words come from what each peer is known to leave out, and from the operators that it met
without pricing them. A difference that no rule fits is called unexplained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flopscope.records import Layer

Counts = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Peer:
    """What a peer counted: per path, by its own op names, MACs or what it takes for them.

    `holes` names per path the ops that it met and gave no price; `priced` the ops that it can
    price; `elsewhere` the name under which its table has a row that is not at its own path.
    """

    counts: Mapping[str, Counts]
    device: str
    holes: Mapping[str, Counts] = field(default_factory=dict)
    priced: frozenset[str] = frozenset()
    elsewhere: Mapping[str, str] = field(default_factory=dict)


_FVCORE_CONVOLUTION = "conv"
_FVCORE_CONTRACTIONS = frozenset({_FVCORE_CONVOLUTION, "addmm", "bmm", "einsum", "linear", "matmul", "mm"})
_FVCORE_BEYOND = {
    "batch_norm": "batch normalisation (2 per element, 1 without weights)",
    "layer_norm": "normalisation (5 per element, 4 without weights)",
    "group_norm": "normalisation (5 per element, 4 without weights)",
    "instance_norm": "normalisation (5 per element, 4 without weights)",
    "adaptive_avg_pool2d": "pooling (1 per input element)",
    "upsample_nearest2d": "interpolation (1 per output element)",
    "upsample_bilinear2d": "interpolation (4 per output element)",
    "grid_sampler": "grid sampling (4 per output element)",
}
_FVCORE_ESTIMATES = {
    "einsum": "fvcore estimates einsum by numpy's path",
    "matmul": "fvcore's matmul leaves out batches that are broadcast",
}
_CONVOLUTION_MODE = "aten::_convolution_mode"
_HOLES = (
    "_convolution_mode scaled_dot_product_attention _native_multi_head_attention "
    "_transformer_encoder_layer_fwd lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell "
    "rnn_relu_cell baddbmm addbmm addmv addr mv dot vdot inner tensordot bilinear _trilinear"
)
_FVCORE_HOLES = frozenset(f"aten::{name}" for name in _HOLES.split())

# Operators that we price whole and torch's counter by their parts.
_TORCH_SEES_PARTS = frozenset(
    f"aten::{name}" for name in ("convolution", "linear", "matmul", "einsum", "tensordot", "inner")
)
_TORCH_FUSED = {
    "_native_multi_head_attention": "multi-head attention",
    "_transformer_encoder_layer_fwd": "encoder layer",
}
_RECURRENT = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}


def note(layer: Layer, ours: Counts, *, fvcore: Peer | None, torchs: Peer | None) -> str:
    """Say of each difference in a row whose it is; empty where nothing differs.

    Args:
        layer: the row, inclusive.
        ours: its MACs by op name.
        fvcore: what fvcore counted, if it did.
        torchs: what torch counted, if it did.
    """
    if layer.macs and not layer.calls:
        return "it only holds modules and never runs itself: the peers have no row for it"
    said = [] if fvcore is None else _of_fvcore(layer, ours, fvcore)
    said += [] if torchs is None else _of_torch(layer, ours, torchs)
    return "; ".join(said)


def _of_fvcore(layer: Layer, ours: Counts, peer: Peer) -> list[str]:
    """Say what fvcore counts beyond MACs, and which MACs it misses."""
    theirs = peer.counts.get(layer.path, {})
    beyond = [name for name, count in theirs.items() if name not in _FVCORE_CONTRACTIONS and count]
    words = dict.fromkeys(_FVCORE_BEYOND.get(name, name) for name in beyond)
    said = [f"fvcore counts {_listed(list(words))}"] if words else []
    met = [name for name in peer.holes.get(layer.path, {}) if name in _FVCORE_HOLES or ours.get(name)]
    for is_convolution in (True, False):
        our_macs = sum(macs for name, macs in ours.items() if _convolves(name) is is_convolution)
        names = {
            name for name in theirs if name in _FVCORE_CONTRACTIONS and _convolves(name) is is_convolution
        }
        holes = [_fvcore_hole(name) for name in met if _convolves(name) is is_convolution]
        estimates = [words for name, words in _FVCORE_ESTIMATES.items() if name in names]
        gap = our_macs - sum(theirs[name] for name in names)
        said += _reasons("fvcore", layer, gap, holes, estimates)
    return said


def _fvcore_hole(name: str) -> str:
    if name == _CONVOLUTION_MODE:
        return f"fvcore misses padding='same' and 'valid' ({name})"
    return f"fvcore: no handler for {name}"


def _of_torch(layer: Layer, ours: Counts, peer: Peer) -> list[str]:
    """Say where torch's table has the row, and which MACs its counter misses."""
    at = peer.elsewhere.get(layer.path)
    said = [] if at is None else [f"a shared module appears under another parent in torch's table ({at})"]
    gap = sum(ours.values()) - sum(peer.counts.get(layer.path, {}).values())
    priced = peer.priced | _TORCH_SEES_PARTS
    holes = {name: macs for name, macs in ours.items() if macs and name not in priced}
    reasons = [_torch_hole(name, peer.device) for name in holes]
    beyond = gap - sum(holes.values())
    if gap > 0 and holes and beyond:
        reasons.append(_unexplained("torch", beyond))
    return said + _reasons("torch", layer, gap, reasons)


def _torch_hole(name: str, device: str) -> str:
    bare = name.rpartition("::")[2]
    if "scaled_dot_product" in bare and device == "cpu":
        return "torch counts 0 for the CPU's fused attention"
    if bare in _TORCH_FUSED:
        return f"torch counts 0 for the fused {_TORCH_FUSED[bare]} ({name})"
    for word, said in _RECURRENT.items():
        if word in bare:
            return f"torch: {said} not counted ({name})"
    return f"torch: no formula for {name}"


def _reasons(
    peer: str, layer: Layer, gap: int, holes: Sequence[str], estimates: Sequence[str] = ()
) -> list[str]:
    """The reasons for `gap` MACs between us and a peer; none where there is no gap."""
    if not gap:
        return []
    if not layer.calls:
        return [f"{peer} ran it; here it is part of a fused call of a module above"]
    if gap > 0 and holes:
        return list(dict.fromkeys(holes))
    return list(estimates) or [_unexplained(peer, gap)]


def _unexplained(peer: str, gap: int) -> str:
    return f"{peer}: {abs(gap)} MACs {'fewer' if gap > 0 else 'more'} than ours, unexplained"


def _convolves(name: str) -> bool:
    return "conv" in name


def _listed(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]
