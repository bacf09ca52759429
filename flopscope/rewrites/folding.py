"""A convolution or linear layer followed by a batch norm -> the layer alone, with folded numbers.

Who follows whom is read off the run: the layer's output is an operator's output, and a batch norm must be
the only operator that reads it. How the modules are nested, named or called does not matter.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.overrides import TorchFunctionMode

from flopscope.errors import InputError
from flopscope.records import OpCall, TensorSpec, Trace
from flopscope.rewrites import Rewritten, rewrite
from flopscope.rewrites.reparametrise import fold_norm
from flopscope.rewrites.surgery import (
    Places,
    exchange,
    is_norm_act,
    is_plain_norm,
    private,
    remainder,
    untouchable,
)

NORMS = ("batch_norm", "native_batch_norm", "_native_batch_norm_legit_no_training", "cudnn_batch_norm")
CONVOLUTIONS = ("convolution", "_convolution", "convolution_overrideable", "conv1d", "conv2d", "conv3d")
LINEARS = ("linear",)
OWN_FORWARDS = {
    kind.forward
    for kind in (
        *(nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear),
        *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    )
}


@dataclass(slots=True)
class Pair:
    """A layer and the batch norm that reads its output, by their paths."""

    layer: str
    norm: str
    reason: str = ""  # why it cannot be folded


@rewrite("fold-bn", exact=True)
def fold_norms(model: nn.Module, trace: Trace, text: str | None = None) -> Rewritten:
    """Draw every batch norm into the convolution or linear layer whose output it alone reads.

    The copy keeps its modules and forwards: the layer has other numbers, and nn.Identity (or the
    activation that was part of it) stands where the norm was. It is computed in float64 and rounded once.

    Args:
        model: in eval mode; left as it is.
        trace: of one call of it.
        text: None; the rewrite takes no options.

    Returns:
        The copy, with the paths of the folded layers.

    Raises:
        InputError: there is no such pair, the model is in training mode, or options were given.
    """
    refuse_options("fold-bn", text)
    copied = private(model, "its batch norms are folded")
    pairs = Data(trace).pairs()
    if not pairs:
        raise InputError(
            f"{type(model).__name__} has no convolution or linear layer followed by a batch norm",
            hint="fold-bn looks for a batch norm that reads a layer's output in the run; "
            "a model that is already folded has none left",
        )
    places = Places(copied)
    shapes = {call.path: call.input_shapes for call in trace.calls}
    for pair in pairs:
        pair.reason = _obstacle(copied, pair, places, shapes[pair.layer]) or pair.reason
    for pair in pairs:
        if not pair.reason:
            _fold(copied, pair)
    return Rewritten(
        copied,
        tuple(pair.layer for pair in pairs if not pair.reason),
        tuple(f"{pair.layer or type(model).__name__}: {pair.reason}" for pair in pairs if pair.reason),
    )


def refuse_options(name: str, text: str | None) -> None:
    """Raise where something was given behind "name=".

    Raises:
        InputError: `text` is not None.
    """
    if text is not None:
        raise InputError(f"{name} takes no options, and {text!r} was given", hint=f"write {name} alone")


@dataclass(slots=True)
class Data:
    """The data flow of a run: which operators make and read each block of memory."""

    trace: Trace
    readers: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    makers: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for index, op in enumerate(self.trace.ops):
            for storage in {spec.storage for spec in op.inputs}:
                self.readers[storage].append(index)
            for spec in op.fresh_outputs:
                self.makers.setdefault(spec.storage, index)

    def pairs(self) -> list[Pair]:
        """Every layer whose output a batch norm reads, once, in the order of the run."""
        found: dict[tuple[str, str], Pair] = {}
        for index, op in enumerate(self.trace.ops):
            if _name(op) not in NORMS:
                continue
            made = self.makers.get(op.inputs[0].storage)
            if made is None or _name(self.trace.ops[made]) not in CONVOLUTIONS + LINEARS:
                continue
            pair = Pair(self._path(made), self._path(index), self._parted(made, index))
            known = found.setdefault((pair.layer, pair.norm), pair)
            known.reason = known.reason or pair.reason
        self._refuse_shared(list(found.values()))
        return list(found.values())

    def _path(self, index: int) -> str:
        return self.trace.calls[self.trace.ops[index].call].path

    def _parted(self, made: int, norm: int) -> str:
        """Why the norm at op `norm` cannot be drawn into the layer at op `made`, judged by the run."""
        layer, after = self.trace.ops[made], self.trace.ops[norm]
        output = layer.outputs[0]
        readers = [index for index in self.readers[output.storage] if not self.trace.ops[index].view]
        if readers != [norm] or self.trace.storages[output.storage].died is None:
            return f"the {_noun(layer)}'s output is also read elsewhere"
        if not _same_channels(layer, output, after.inputs[0]):
            return f"the batch norm's channels are not those that the {_noun(layer)} puts out"
        if after.value("training") is True:
            return "the batch norm uses the batch's own statistics"
        return self._foreign(made, ("weight", "bias")) or self._foreign(
            norm, ("weight", "bias", "running_mean", "running_var")
        )

    def _foreign(self, index: int, names: tuple[str, ...]) -> str:
        """Whether an operator computes with other tensors than its module's own, or others read them."""
        op, path = self.trace.ops[index], self._path(index)
        own = [spec for spec in op.inputs[1:] if self.trace.storages[spec.storage].role != "activation"]
        expected = {f"{path}.{name}".lstrip(".") for name in names}
        if len(own) < len(op.inputs) - 1 or any(
            self.trace.storages[spec.storage].name not in expected for spec in own
        ):
            return f"{path or 'the model'} computes with other numbers than its own weight and bias"
        if any(self._path(reader) != path for spec in own for reader in self.readers[spec.storage]):
            return f"the numbers of {path} are also read elsewhere"
        return ""

    def _refuse_shared(self, pairs: list[Pair]) -> None:
        """Give a reason to the pairs whose layer or norm also runs without the other."""
        runs: dict[str, int] = defaultdict(int)
        together: dict[tuple[str, str], int] = defaultdict(int)
        for index, op in enumerate(self.trace.ops):
            if _name(op) in NORMS + CONVOLUTIONS + LINEARS:
                runs[self._path(index)] += 1
            if _name(op) in NORMS and (made := self.makers.get(op.inputs[0].storage)) is not None:
                together[self._path(made), self._path(index)] += 1
        for pair in pairs:
            count = together[pair.layer, pair.norm]
            for path in (pair.layer, pair.norm):
                if runs[path] != count and not pair.reason:
                    pair.reason = f"{path or 'the model'} is also called without the other of the two"


class _Reads(TorchFunctionMode):
    """Notes whether a tensor is handed to any of torch's functions."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__()
        self.tensor, self.seen = tensor, False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [*args, *(kwargs or {}).values()]
        self.seen = self.seen or any(value is self.tensor for value in given)
        return func(*args, **(kwargs or {}))


def _obstacle(model: nn.Module, pair: Pair, places: Places, shapes: tuple[tuple[int, ...], ...]) -> str:
    """Why the two modules of a pair cannot be folded, judged by what they are; "" if they can."""
    layer, norm = model.get_submodule(pair.layer), model.get_submodule(pair.norm)
    if not isinstance(layer, _ConvNd | nn.Linear):
        return f"{type(layer).__name__} computes it itself, without a layer of its own"
    if not isinstance(norm, _BatchNorm):
        return f"{pair.norm or type(norm).__name__} is no batch norm module"
    if norm.running_mean is None or norm.running_var is None:
        return "the batch norm keeps no running statistics"
    if norm.training:
        return "the batch norm is in training mode"
    if not (is_plain_norm(norm) or is_norm_act(norm)):
        return f"it is not known what {type(norm).__name__} does beside normalising"
    for module in (layer, norm):
        if reason := untouchable(module):
            return reason
        if places.tied(module):
            return f"numbers of {pair.layer if module is layer else pair.norm} are tied to another module's"
    if places.loose(norm):
        return f"{pair.norm} is also held outside the module tree"
    if type(layer).forward not in OWN_FORWARDS and layer.bias is None and not _uses_bias(layer, shapes):
        return f"the forward of {type(layer).__name__} takes no bias"
    return ""


def _uses_bias(layer: _ConvNd | nn.Linear, shapes: tuple[tuple[int, ...], ...]) -> bool:
    """Whether a layer without a bias, of a class with its own forward, would use one that it is given."""
    width = layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels
    bias = nn.Parameter(layer.weight.new_zeros(width))
    layer.bias = bias
    try:
        with torch.inference_mode(), _Reads(bias) as reads:
            layer(*(layer.weight.new_zeros(shape) for shape in shapes))
    except (RuntimeError, TypeError, ValueError):  # it takes more than tensors: nothing is known of it
        return False
    finally:
        layer.bias = None
    return bool(reads.seen)


def _fold(model: nn.Module, pair: Pair) -> None:
    """Fold the two modules of a pair in place."""
    layer, norm = model.get_submodule(pair.layer), model.get_submodule(pair.norm)
    assert isinstance(layer, _ConvNd | nn.Linear)
    assert isinstance(norm, _BatchNorm)
    by_output = _by_output(layer, layer.weight)
    folded = fold_norm(by_output, norm, bias=layer.bias)
    weight, trainable = layer.weight, layer.weight.requires_grad
    layer.weight = nn.Parameter(_by_input(layer, folded.weight).to(weight), requires_grad=trainable)
    layer.bias = nn.Parameter(folded.bias.to(weight), requires_grad=trainable)
    rest = [] if is_plain_norm(norm) else remainder(norm)
    left = rest[0] if len(rest) == 1 else nn.Sequential(*rest) if rest else nn.Identity()
    left.training = False
    exchange(model, norm, left)


def _by_output(layer: nn.Module, weight: Tensor) -> Tensor:
    """The weight with the output channels first: those of a transposed convolution are second, by group."""
    if not isinstance(layer, _ConvTransposeNd):
        return weight
    grouped: Tensor = weight.detach().unflatten(0, (layer.groups, -1))
    return grouped.transpose(1, 2).flatten(0, 1)


def _by_input(layer: nn.Module, weight: Tensor) -> Tensor:
    """The inverse of `_by_output`."""
    if not isinstance(layer, _ConvTransposeNd):
        return weight
    grouped: Tensor = weight.unflatten(0, (layer.groups, -1))
    return grouped.transpose(1, 2).flatten(0, 1).contiguous()


def _same_channels(layer: OpCall, output: TensorSpec, read: TensorSpec) -> bool:
    """Whether the second axis of what the norm reads is the layer's axis of output channels."""
    if _name(layer) in CONVOLUTIONS:
        return (output.shape, output.strides, output.offset) == (read.shape, read.strides, read.offset)
    width = output.shape[-1]
    others = [step for axis, step in enumerate(read.strides) if axis != 1 and read.shape[axis] > 1]
    aligned = read.offset == output.offset and all(step % width == 0 for step in others)
    return aligned and read.shape[1] == width and (read.strides[1] == 1 or width == 1)


def _name(op: OpCall) -> str:
    return op.op.removeprefix("aten::").partition(".")[0]


def _noun(op: OpCall) -> str:
    return "linear layer" if _name(op) in LINEARS else "convolution"
