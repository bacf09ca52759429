"""A running training step -> raw notes, backward ops with the module call that they differentiate.

Autograd numbers its nodes in the order in which the forward makes them, and tells during the backward
which node is running. The number that was next when a module was entered or left is noted, so a node's
number says in which call it was made, and the operators that it runs belong to that call.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
from torch import nn

from .notes import Seen, Signature
from .recorder import Recorder

LOSS, OPTIMIZER = "(loss)", "(optimizer)"

_ROOT = 0
_OUTSIDE = -1  # stands for a module call where what runs is the loss
ACCUMULATES = 2**64 - 1  # the number of every node that adds to a parameter's gradient
_DETACH = torch.ops.aten.detach.default
_LIFT = torch.ops.aten.lift_fresh.default

next_number: Callable[[], int] = torch._C._autograd._get_sequence_nr
_running_node: Callable[[], Any] = torch._C._current_autograd_node


class StepRecorder(Recorder):
    """Notes one training step: forward, loss, backward and the optimizer's step.

    Args:
        modules: id of every registered module -> its index.
        state: id of every parameter and buffer -> (role, path).
        keep: tells of an operator name whether it is priced whole.
        meta: run without data: all tensors of the model are on the meta device.
        device: the type of the device that the run stands for.
        owners: id of every parameter -> indices of the modules round it, its owner first.
    """

    def __init__(
        self,
        modules: dict[int, int],
        *,
        state: dict[int, tuple[str, str]],
        keep: Callable[[str], bool],
        meta: bool,
        device: str,
        owners: dict[int, tuple[int, ...]],
    ) -> None:
        super().__init__(modules, state=state, keep=keep, meta=meta, device=device)
        self.stage = "forward"
        self._ledger.follows_aliases = True
        self._owners = owners
        self._numbers: list[int] = []  # by op: the number of the next node
        self._turns: list[tuple[int, int]] = []  # at each boundary: the next node's number, the open call
        self._made: dict[int, list[int]] = {}  # by module: its calls that were not run again yet

    def begin(self, stage: str) -> None:
        """Go on to another stage of the step."""
        self.stage = stage
        self._turns.append((next_number(), _OUTSIDE))

    def restart(self) -> None:
        """Forget the step that was recorded: what its tensors are is known, and the next one counts."""
        for noted in (self.ops, self.calls, self.marks, self._numbers, self._turns):
            noted.clear()
        self._made.clear()
        self._ledger.restart()
        self.stage = "forward"

    def own(self, tensor: torch.Tensor) -> None:
        """Note a tensor that the run may change, its values included where it has some."""
        self._ledger.look(tensor)

    def name(self, role: str, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Say of storages that the run made what they are for."""
        for path, tensor in tensors:
            block = self._ledger.block_of(tensor)
            if block is not None and block.role in ("activation", "constant"):
                block.role, block.name = role, path

    @contextmanager
    def watching_what_is_saved(self) -> Iterator[None]:
        """Note the storages that autograd keeps for the backward pass."""

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            block = self._ledger.block_of(tensor)
            if block is not None:
                block.saved = True
            return tensor.detach()  # the tensor itself would hold the node that holds it

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            yield

    def heed_autocast(self) -> None:
        """Refuse autocast where there are no data: autograd would not see the conversions.

        Raises:
            NotImplementedError: autocast is on.
        """
        if self._meta and torch.is_autocast_enabled(self._device):
            raise NotImplementedError("a training step under autocast cannot be traced without data")

    # ----------------------------------------------------------------- module calls

    def enter(self, module: nn.Module, args: Any) -> None:
        """Forward pre-hook: a module that runs during the backward is one that ran before."""
        if self.stage != "backward":
            known = len(self.calls)
            super().enter(module, args)
            if len(self.calls) > known:
                self._made.setdefault(self.calls[known].module, []).append(known)
                if self.calls[known].parent is None and known:
                    self.calls[known].parent = _ROOT  # the loss may use a part of the model
                self._turn()
            return
        if get_ident() != self._thread:
            return
        index = self._modules.get(id(module))
        self._entered.append(index is not None)
        if index is not None:
            made = self._made.get(index)
            self._stack.append((made.pop() if len(made) > 1 else made[0]) if made else self._place()[0])
            self._turn()

    def leave(self, module: nn.Module, args: Any, *rest: Any) -> None:
        """Forward hook; what a call was when it ran first stays noted."""
        if self.stage != "backward":
            open_calls = len(self._stack)
            super().leave(module, args, *rest)
            if len(self._stack) < open_calls:
                self._turn()
            return
        if get_ident() == self._thread and self._entered and self._entered.pop():
            self._stack.pop()
            self._turn()

    def _turn(self) -> None:
        outside = self._place()[0] if self.stage == "backward" and not self._stack else _OUTSIDE
        self._turns.append((next_number(), self._stack[-1] if self._stack else outside))

    # ----------------------------------------------------------------- operators

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _DETACH:  # an alias that moves nothing; autograd makes many, and more under a mode
            return func(*args)
        if func is _LIFT:  # a number that the run made a tensor of: a count of steps, say
            tensor = func(*args)
            self.own(tensor)
            return tensor
        return super().__torch_dispatch__(func, types, args, kwargs)

    def _add(self, signature: Signature, tensors: list[Seen], outputs: tuple[Seen, ...]) -> None:
        if self.stage == "backward" and not self._stack:
            call, outside, source = self._place()
        else:
            call = self._stack[-1] if self._stack else _ROOT
            outside = "" if self._stack else {"loss": LOSS, "optimizer": OPTIMIZER}.get(self.stage, "")
            source = None
        self._numbers.append(next_number())
        self.marks.append((self.stage, outside, source))
        self.ops.append((signature, call, tuple(tensors), outputs))

    def _place(self) -> tuple[int, str, int | None]:
        """The call whose gradient is being computed, the layer if it is none of them, the forward op."""
        node = _running_node()
        if node is None:
            return _ROOT, LOSS, None
        number = node._sequence_nr()
        if number == ACCUMULATES:
            return self._call_of_owner(node.variable), "", None
        at = bisect_right(self._turns, number, key=lambda turn: turn[0]) - 1
        call = self._turns[at][1] if at >= 0 else _OUTSIDE
        source = self._source(number, max(call, _ROOT))
        if call == _OUTSIDE:
            return _ROOT, LOSS, source
        return call, "", source

    def _source(self, number: int, call: int) -> int | None:
        """The forward op that made a node: the first after it, since autograd makes the node first."""
        after = bisect_right(self._numbers, number)
        for index in (after, after - 1):
            known = 0 <= index < len(self.ops) and self.marks[index][0] != "backward"
            if known and self.ops[index][1] == call:
                return index
        return None

    def _call_of_owner(self, parameter: torch.Tensor) -> int:
        """The first call of the innermost module round a parameter that was called."""
        for module in self._owners.get(id(parameter), ()):
            for index, call in enumerate(self.calls):
                if call.module == module:
                    return index
        return _ROOT
