"""A private copy of a model -> what fvcore and torch count of it, by module and operator."""

from __future__ import annotations

import dataclasses
import importlib
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree

from flopscope import tracing
from flopscope.crosschecks.notes import Peer


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """A model and the arguments of one call, for a peer to do with what it likes."""

    model: nn.Module
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def attempt(
    counts: Callable[[Copy, str], Peer], private: Callable[[], Copy], device: str
) -> tuple[Peer | None, str | None]:
    """Ask a peer, quietly: its answer and None, or None and why there is no answer."""
    answer: Peer | None = None
    with _Attempt() as tried, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = private()
        with tracing.borrowed(copy.model), torch.no_grad():
            answer = counts(copy, device)
    if tried.failure is None:
        return answer, None
    lines = str(tried.failure).strip().splitlines()
    return None, ": ".join([type(tried.failure).__name__, *lines[:1]])


def torch_counts(copy: Copy, device: str) -> Peer:
    """Run torch's FlopCounterMode. It counts 2 per MAC, and its paths begin with the root's class."""
    counter = importlib.import_module("torch.utils.flop_counter")
    with counter.FlopCounterMode(display=False) as mode:
        copy.model(*copy.args, **copy.kwargs)
    table = {
        name: {_op_name(op): flops // 2 for op, flops in counts.items()}
        for name, counts in mode.get_flop_counts().items()
    }
    root = type(copy.model).__name__
    counts, elsewhere = {}, {}
    for path, names in _names(copy.model).items():
        listed = [name for name in names if _joined(root, name) in table]
        if listed and path not in listed:
            elsewhere[path] = listed[0]
        counts[path] = table.get(_joined(root, elsewhere.get(path, path)), {})
    counts[""] = table.get("Global", {})
    priced = frozenset(map(_op_name, counter.flop_registry))
    return Peer(counts, device, priced=priced, elsewhere=elsewhere)


def fvcore_counts(copy: Copy, device: str) -> Peer:
    """Run fvcore's FlopCountAnalysis, each operator counted for the modules that called it."""
    fvcore = importlib.import_module("fvcore.nn")
    positional = _Positional(copy)
    analysis = fvcore.FlopCountAnalysis(positional, positional.tensors)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none").ancestor_mode("caller")
    counts, holes = {}, {}
    for path, _ in copy.model.named_modules():
        own = _joined("model", path)
        counts[path] = {name: int(count) for name, count in analysis.by_operator(own).items()}
        holes[path] = dict(analysis.unsupported_ops(own))
    return Peer(counts, device, holes=holes)


class _Attempt:
    """A `with` block in which somebody else's code may fail in any way; keeps the failure."""

    failure: Exception | None = None

    def __enter__(self) -> _Attempt:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.failure = failure if isinstance(failure, Exception) else None
        return self.failure is not None


class _Positional(nn.Module):
    """A model whose call takes and gives nothing but tensors, as torch's tracer wants it."""

    def __init__(self, copy: Copy) -> None:
        super().__init__()
        self.model = copy.model
        self.leaves, self.structure = _pytree.tree_flatten((copy.args, copy.kwargs))
        self.places = [at for at, leaf in enumerate(self.leaves) if isinstance(leaf, torch.Tensor)]
        self.tensors = tuple(self.leaves[at] for at in self.places)
        self.training = copy.model.training

    def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        leaves = list(self.leaves)
        for at, tensor in zip(self.places, tensors, strict=True):
            leaves[at] = tensor
        args, kwargs = _pytree.tree_unflatten(leaves, self.structure)
        return tuple(_tensors_in(self.model(*args, **kwargs)))


def _tensors_in(answer: Any) -> Iterator[torch.Tensor]:
    if dataclasses.is_dataclass(answer) and not isinstance(answer, type):
        answer = [getattr(answer, field.name) for field in dataclasses.fields(answer)]
    for leaf in _pytree.tree_leaves(answer):
        if isinstance(leaf, torch.Tensor):
            yield leaf


def _names(model: nn.Module) -> dict[str, list[str]]:
    """Every module's path, and all the names by which it can be reached."""
    by_module: dict[nn.Module, list[str]] = defaultdict(list)
    for name, module in model.named_modules(remove_duplicate=False):
        by_module[module].append(name)
    return {names[0]: names for names in by_module.values()}


def _joined(above: str, path: str) -> str:
    return f"{above}.{path}" if path else above


def _op_name(op: Any) -> str:
    """`aten.mm` -> "aten::mm"."""
    return str(op).replace(".", "::", 1)
