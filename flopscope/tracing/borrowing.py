"""A user's model -> the same model, lent for one run and given back exactly as it was."""

from __future__ import annotations

import sys
import types
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_HOOKS = frozenset(
    {
        "_backward_hooks",
        "_backward_pre_hooks",
        "_forward_hooks",
        "_forward_pre_hooks",
        "_forward_hooks_with_kwargs",
        "_forward_hooks_always_called",
        "_forward_pre_hooks_with_kwargs",
        "_state_dict_hooks",
        "_state_dict_pre_hooks",
        "_load_state_dict_pre_hooks",
        "_load_state_dict_post_hooks",
        "_non_persistent_buffers_set",
        "_is_full_backward_hook",
    }
)
_PLAIN = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type,
    types.FunctionType,
    types.BuiltinFunctionType,
)
_NOT_ENTERED = (
    *_PLAIN,
    types.ModuleType,
    types.MethodType,
    nn.Module,
    torch.Tensor,
    torch.dtype,
    torch.device,
)
# Objects of torch's own (operators, loggers) and of the standard library are not a model's state, and
# putting back what they cache would break them. Namespaces are what models keep settings in.
_FOREIGN = (sys.stdlib_module_names | {"torch", "numpy", "pandas"}) - {"types", "argparse", "__main__"}
_MOST_OBJECTS = 200_000  # a model that hangs on a whole data set is not worth searching to the end


@contextmanager
def borrowed(model: nn.Module, *, evaluating: bool = True) -> Iterator[None]:
    """Lend `model` for a run in eval mode; give back every attribute, flag and generator state.

    With `evaluating` False the training flags are left to whoever borrows.

    Nothing is called on the model: `eval()` may be overridden (adapters that merge their
    weights there), so the training flags are set and restored one by one. Attributes, and the
    plain containers and objects that they hold, are restored to what they were.
    """
    saved = _Snapshot(model)
    generator = torch.get_rng_state()
    accelerators = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        if evaluating:
            saved.set_eval()
        yield
    finally:
        saved.restore()
        torch.set_rng_state(generator)
        if accelerators:
            torch.cuda.set_rng_state_all(accelerators)


@contextmanager
def fused_paths_on_meta() -> Iterator[None]:
    """Let torch's transformer modules take the fused path on tensors without data, as on a CPU.

    Their Python code compares device names with "cpu", "cuda" and the name of torch's
    third-party backend; that last name is the one door that needs no change of their code.
    """
    registry = torch.utils.backend_registration
    previous = registry._privateuse1_backend_name
    registry._privateuse1_backend_name = "meta"
    try:
        yield
    finally:
        registry._privateuse1_backend_name = previous


@contextmanager
def watched_autocast(note: Callable[[], None]) -> Iterator[None]:
    """Call `note` now and whenever autocast was switched."""
    enter: Any = torch.autocast.__enter__
    leave: Any = torch.autocast.__exit__

    def entering(self: Any) -> Any:
        result = enter(self)
        note()
        return result

    def leaving(self: Any, *exception: Any) -> Any:
        result = leave(self, *exception)
        note()
        return result

    torch.autocast.__enter__, torch.autocast.__exit__ = entering, leaving  # type: ignore[method-assign]
    try:
        note()
        yield
    finally:
        torch.autocast.__enter__, torch.autocast.__exit__ = enter, leave  # type: ignore[method-assign]


class _Snapshot:
    """Shallow copies of everything mutable that hangs on a model, tensors' contents excepted."""

    def __init__(self, model: nn.Module) -> None:
        self._modules: list[tuple[nn.Module, dict[str, Any]]] = []
        self._scripted: list[tuple[nn.Module, bool]] = []
        self._containers: list[tuple[Any, Any]] = []
        self._slots: list[tuple[Any, list[str], dict[str, Any]]] = []
        self._seen: set[int] = set()
        self._versions: list[tuple[torch.Tensor, int]] = []
        for module in model.modules():
            if isinstance(module, torch.jit.ScriptModule):
                self._scripted.append((module, module.training))
                continue
            attributes = module.__dict__
            self._modules.append((module, attributes.copy()))
            for held in (module._parameters, module._buffers):
                tensors = [item for item in held.values() if item is not None and not item.is_inference()]
                self._versions += [(item, item._version) for item in tensors]
            for name, value in attributes.items():
                if name not in _HOOKS and not isinstance(value, _NOT_ENTERED):
                    self._hold(value)

    def set_eval(self) -> None:
        for module, attributes in self._modules:
            if attributes.get("training"):
                module.__dict__["training"] = False
        for module, training in self._scripted:
            if training:
                module.training = False

    def restore(self) -> None:
        for module, attributes in self._modules:
            _put_back(module.__dict__, attributes)
        for module, training in self._scripted:
            module.training = training
        for container, content in self._containers:
            if isinstance(container, dict):
                _put_back(container, content)
            elif len(container) != len(content) or any(
                a is not b for a, b in zip(container, content, strict=True)
            ):
                container.clear()
                (container.update if isinstance(container, set) else container.extend)(content)

        for value, names, held in self._slots:
            for name in names:
                if name in held and getattr(value, name, held) is not held[name]:
                    object.__setattr__(value, name, held[name])
                elif name not in held and hasattr(value, name):
                    object.__delattr__(value, name)
        changed = [(tensor, version) for tensor, version in self._versions if tensor._version != version]
        if changed:
            # An operator that changes a tensor in place counts its version up, though on the meta route
            # its data were never touched; a graph of the user's may rely on the version.
            torch._C._autograd._unsafe_set_version_counter(
                tuple(tensor for tensor, _ in changed), tuple(version for _, version in changed)
            )

    def _hold(self, value: Any) -> None:
        """Remember what a container or a plain object holds, and what that holds in turn."""
        pending = [value]
        while pending and len(self._seen) < _MOST_OBJECTS:
            value = pending.pop()
            if isinstance(value, _NOT_ENTERED) or id(value) in self._seen:
                continue
            self._seen.add(id(value))
            if isinstance(value, dict):
                self._containers.append((value, dict(value)))
                pending.extend(value.values())
            elif isinstance(value, list | set | deque):
                self._containers.append((value, list(value)))
                pending.extend(value)
            elif isinstance(value, tuple):
                pending.extend(value)
            elif type(value).__module__.partition(".")[0] not in _FOREIGN:
                pending.append(getattr(value, "__dict__", None))
                pending.extend(self._hold_slots(value))

    def _hold_slots(self, value: Any) -> list[Any]:
        names = [name for kind in type(value).__mro__ for name in _slots_of(kind)]
        held = {name: getattr(value, name) for name in names if hasattr(value, name)}
        if names:
            self._slots.append((value, names, held))
        return list(held.values())


def _slots_of(kind: type) -> tuple[str, ...]:
    slots = kind.__dict__.get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


def _put_back(current: dict[str, Any], saved: dict[str, Any]) -> None:
    """Make `current` hold exactly the objects of `saved`, in their order."""
    if len(current) == len(saved) and all(
        current.get(name, current) is value for name, value in saved.items()
    ):
        return
    current.clear()
    current.update(saved)
