"""What rewrites share: a copy to change, what may be changed in it, and how a module is exchanged."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize

from flopscope.errors import InputError
from flopscope.records import Trace


def private(model: nn.Module, purpose: str) -> nn.Module:
    """A deep copy of a model in eval mode.

    Args:
        model: left as it is.
        purpose: ends the hint "call model.eval() before ...", such as "its batch norms are folded".

    Raises:
        InputError: the model is in training mode.
    """
    if model.training:
        raise in_training("the model", purpose)
    return copy.deepcopy(model)


def in_training(which: str, purpose: str) -> InputError:
    """The error for what is in training mode, in which a batch norm is no fixed affine map."""
    return InputError(
        f"{which} is in training mode, in which batch norm uses the batch's own statistics",
        hint=f"call model.eval() before {purpose}",
    )


def exchange(root: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Put `new` wherever `old` is registered below `root`, and return the root, which may be `new`."""
    for holder in list(root.modules()):
        for name, child in holder._modules.items():
            if child is old:
                holder._modules[name] = new
    return new if root is old else root


def untouchable(module: nn.Module) -> str:
    """Why a module's numbers may not be changed or carried elsewhere, or ""."""
    if parametrize.is_parametrized(module):
        return f"the {_noun(module)} is parametrised"
    if module._forward_hooks or module._forward_pre_hooks:
        return f"the {_noun(module)} has forward hooks"
    return ""


def is_plain_norm(module: nn.Module) -> bool:
    """Whether a module is a batch norm and nothing more: timm's fused ones may have an activation."""
    if not isinstance(module, _BatchNorm):
        return False
    own = type(module).forward in (_BatchNorm.forward, nn.SyncBatchNorm.forward)
    return own or (is_norm_act(module) and not remainder(module))


def is_norm_act(module: nn.Module) -> bool:
    """Whether a module is timm's batch norm with dropout and activation behind it."""
    named = any(kind.__name__ == "BatchNormAct2d" for kind in type(module).__mro__)
    return named and isinstance(module, _BatchNorm) and set(module._modules) == {"drop", "act"}


def remainder(module: nn.Module) -> list[nn.Module]:
    """What such a batch norm does after it has normalised, in order."""
    return [child for child in module.children() if not isinstance(child, nn.Identity)]


def writers(trace: Trace) -> frozenset[str]:
    """The paths of the modules that changed, in place, memory that was there before they were called."""
    found = set()
    for op in trace.ops:
        born = min((trace.storages[op.inputs[index].storage].born for index in op.written), default=None)
        at: int | None = op.call if born is not None else None
        while at is not None and born is not None and trace.calls[at].first_op > born:
            found.add(trace.calls[at].path)
            at = trace.calls[at].parent
    return frozenset(found)


class Places:
    """Where the parameters of a model are registered, and which modules are held outside the registry."""

    def __init__(self, model: nn.Module) -> None:
        self._counts: Counter[int] = Counter()
        self._loose: set[int] = set()
        for module in model.modules():
            held = [*module._parameters.values(), *module._buffers.values()]
            self._counts.update(id(tensor) for tensor in held if tensor is not None)
            plain = {key: value for key, value in vars(module).items() if key not in _REGISTRIES}
            self._loose.update(id(found) for found in _modules_in(plain))

    def tied(self, module: nn.Module) -> bool:
        """Whether one of the module's own tensors is registered elsewhere too."""
        held: list[Tensor | None] = [*module._parameters.values(), *module._buffers.values()]
        return any(self._counts[id(tensor)] > 1 for tensor in held if tensor is not None)

    def loose(self, module: nn.Module) -> bool:
        """Whether a list, dictionary or attribute beside the registry holds the module too."""
        return id(module) in self._loose


_REGISTRIES = {"_parameters", "_buffers", "_modules"}


def _modules_in(value: Any, depth: int = 3) -> Iterator[nn.Module]:
    if isinstance(value, nn.Module):
        yield value
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from _modules_in(item, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for item in value:
            yield from _modules_in(item, depth - 1)


def _noun(module: nn.Module) -> str:
    if isinstance(module, _BatchNorm):
        return "batch norm"
    return "linear layer" if isinstance(module, nn.Linear) else "convolution"
