"""A model and its inputs -> DataFrame: our count beside fvcore's and torch's, and why they differ.

Each of the two peers may be absent, broken or defeated by the model; then its column is empty and
`attrs` says why. They run a private copy as their users would: in eval mode, under no_grad.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree

from flopscope import costs, profiling, tracing
from flopscope import inputs as rooms
from flopscope.crosschecks import notes, peers
from flopscope.records import Layer, OpCost, Settings
from flopscope.reports import Report
from flopscope.subjects import Subject, copy_without_data

if TYPE_CHECKING:
    import pandas

COLUMNS = ("path", "type", "macs", "fvcore_macs", "torch_macs", "fvcore_like", "note")
_COUNTS = COLUMNS[2:6]

# The peers run on data only where that is quick and small.
_MOST_BYTES = 2_000_000_000
_MOST_MACS = 100_000_000_000
_NO_DATA = "meta"


def crosscheck(
    model: nn.Module, inputs: Any = None, *, device: str | None = None, seed: int = 0
) -> pandas.DataFrame:
    """Set our MACs of every module beside those of fvcore and of torch's FlopCounterMode.

    The model is left untouched. The peers run on a copy with data where its weights are below
    2 GB and its work below 100 GMAC, else, or with `device="meta"`, on a copy without.

    Args:
        model: any module.
        inputs: as in `flopscope.count`.
        device: where the peers run and what is counted for; the model's own by default.
        seed: for the values of made inputs.

    Returns:
        One row per module, inclusive, root first, with the columns of `COLUMNS`. `fvcore_macs` is
        fvcore's own total, beyond MACs included; `torch_macs` half of torch's FLOPs;
        `fvcore_like` what we count by fvcore's convention. Counts are nullable integers; `note`
        says of each difference whose convention or hole it is. `attrs` holds "device", where the
        peers ran, and "fvcore_error" and "torch_error": None, or why the column is empty.

    Raises:
        InputError, ForwardError: as `flopscope.count` does. A peer's failure raises nothing.
    """
    import pandas

    named = None if device == _NO_DATA else device
    report = profiling.count(model, inputs, device=named, seed=seed, progress=False)
    subject = Subject(model, report.settings)
    asked = _settled(subject, inputs, report, device=device)
    with torch.compiler.set_stance("force_eager") if subject.is_compiled() else nullcontext():
        prices = _prices(subject, asked, report)
        fvcore, fvcore_error = peers.attempt(peers.fvcore_counts, asked.private, asked.device)
        torchs, torch_error = peers.attempt(peers.torch_counts, asked.private, asked.device)
    rows = [_row(layer, report, prices, fvcore, torchs) for layer in report.tree]
    frame = pandas.DataFrame(rows, columns=list(COLUMNS)).astype(dict.fromkeys(_COUNTS, "Int64"))
    frame.attrs.update(device=asked.device, fvcore_error=fvcore_error, torch_error=torch_error)
    return frame


@dataclasses.dataclass(frozen=True, slots=True)
class _Asked:
    """One model, one call, and the device on which the peers are to run it."""

    model: nn.Module
    call: rooms.Inputs
    device: str
    seed: int

    def private(self) -> peers.Copy:
        """A copy of the model, and arguments for it: a peer may do to them what it likes."""
        if self.device == _NO_DATA:
            model = copy_without_data(self.model)
        else:
            model = Subject(self.model, Settings(device=self.device)).private()
        made = rooms.make(self.call, model=model, device=self.device, seed=self.seed)
        copies: dict[int, torch.Tensor] = {}

        def copied(tensor: torch.Tensor) -> torch.Tensor:
            """One tensor given twice stays one tensor: fused attention asks for that."""
            if id(tensor) not in copies:
                copies[id(tensor)] = tensor.detach().clone().to(self.device)
            return copies[id(tensor)]

        args, kwargs = _pytree.tree_map_only(torch.Tensor, copied, (made.args, dict(made.kwargs)))
        return peers.Copy(model, args, kwargs)


def _settled(subject: Subject, given: Any, report: Report, *, device: str | None) -> _Asked:
    """Find the call that the report is of, and where the peers can run it."""
    candidates = [rooms.describe(given)] if given is not None else rooms.infer(subject.model)
    call = next(call for call in candidates if rooms.text(call) == report.settings.inputs)
    if device is None:
        state = report.param_bytes + report.buffer_bytes
        is_small = state <= _MOST_BYTES and report.total.macs <= _MOST_MACS
        device = subject.device if subject.has_data and is_small else _NO_DATA
    return _Asked(subject.model, call, device, report.settings.seed)


def _prices(subject: Subject, asked: _Asked, report: Report) -> tuple[OpCost, ...]:
    """The prices of the report's ops once more, for what a report does not hold: fvcore's share."""
    meta = report.route == "meta"
    place = _NO_DATA if meta else subject.device
    made = rooms.make(asked.call, model=subject.model, device=place, seed=asked.seed)
    trace = tracing.trace(
        subject.traced() if meta else subject.private(),
        made.args,
        made.kwargs,
        keep=costs.has_formula,
        meta=meta,
        device=subject.device,
    )
    return costs.price_all(trace.ops)


def _row(
    layer: Layer,
    report: Report,
    prices: tuple[OpCost, ...],
    fvcore: notes.Peer | None,
    torchs: notes.Peer | None,
) -> tuple[Any, ...]:
    ours: Counter[str] = Counter()
    for at in layer.ops:
        ours[report.ops[at].op] += report.ops[at].macs
    fvcore_like = sum(prices[at].fvcore_flops for at in layer.ops)
    shown: tuple[int | None, int | None] = (None, None)
    if layer.calls or not layer.macs:
        shown = (_total(fvcore, layer.path), _total(torchs, layer.path))
    note = notes.note(layer, ours, fvcore=fvcore, torchs=torchs)
    return (layer.path, layer.type, layer.macs, *shown, fvcore_like, note)


def _total(peer: notes.Peer | None, path: str) -> int | None:
    return None if peer is None else sum(peer.counts.get(path, {}).values())
