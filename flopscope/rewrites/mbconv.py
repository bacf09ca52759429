"""MBConv blocks, found in the data flow -> Fused-MBConv in their places: ANOTHER function, fresh weights.

Tan and Le, "EfficientNetV2", arXiv 2104.00298, section 3.2: the 1x1 expansion and the depthwise convolution
become one dense convolution; EfficientNetV2's own fused blocks have no SE.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import nn

from flopscope.errors import InputError
from flopscope.records import Trace
from flopscope.rewrites import Rewritten, rewrite
from flopscope.rewrites.dataflow import Flow, is_convolution, is_depthwise, is_pointwise
from flopscope.rewrites.fresh import Weights
from flopscope.rewrites.gates import Gate, gates
from flopscope.rewrites.inexact import PURPOSE, obstacle, settled
from flopscope.rewrites.surgery import Places, exchange, private, untouchable

_LONGEST = 8  # operators between two convolutions of a block


@dataclass(slots=True)
class Block:
    """A depthwise convolution and the expansion before it, by paths; what lies between, the SE behind."""

    depthwise: str
    expansion: str = ""
    between: list[str] = field(default_factory=list)
    gates: list[str] = field(default_factory=list)
    reason: str = ""


@rewrite("mbconv-to-fused", exact=False)
def fuse_blocks(model: nn.Module, trace: Trace, text: str | None = None) -> Rewritten:
    """Make MBConv blocks Fused-MBConv; the function changes, weights are fresh.

    One dense convolution, with the depthwise one's kernel, stride and padding, stands for expansion and
    depthwise convolution; nn.Identity for the expansion's norm and activation, and for an SE.

    Args:
        model: in eval mode; left as it is.
        trace: of one call of it.
        text: paths of stages or blocks, with commas between; None for every block that is found.

    Returns:
        The copy, with the paths of the depthwise convolutions.

    Raises:
        InputError: there is no MBConv, or none below a path that was given, or the model is in training mode.
    """
    copied = private(model, PURPOSE)
    flow = Flow(trace)
    known = {flow.producer(gate.multiplication, _image(flow, gate)): gate for gate in gates(flow)}
    found = [index for index, op in enumerate(trace.ops) if is_depthwise(op)]
    blocks = list({flow.path(index): _followed(copied, flow, index, known) for index in found}.values())
    weights, places = Weights(copied), Places(copied)
    reasons: dict[str, str] = {}
    for block in _chosen(blocks, text):
        block.reason = block.reason or _hindered(copied, block, flow, places)
        reasons[block.depthwise] = block.reason
        if not block.reason:
            _fuse(copied, block, weights)
    return settled(copied, reasons, "MBConv blocks")


def _fuse(model: nn.Module, block: Block, weights: Weights) -> None:
    expansion, layer = model.get_submodule(block.expansion), model.get_submodule(block.depthwise)
    assert isinstance(expansion, nn.Conv2d)
    assert isinstance(layer, nn.Conv2d)
    weights.resize(layer, expansion.in_channels, layer.out_channels)
    for path in (block.expansion, *block.between, *block.gates):
        exchange(model, model.get_submodule(path), nn.Identity().eval())


def _chosen(blocks: Sequence[Block], text: str | None) -> list[Block]:
    """The blocks below the paths that were given."""
    if text is None:
        return list(blocks)
    chosen: list[Block] = []
    for prefix in (word.strip() for word in text.split(",")):
        below = [block for block in blocks if f"{block.depthwise}.".startswith(f"{prefix}.")]
        if not prefix or not below:
            known = ", ".join(block.depthwise for block in blocks if not block.reason) or "none"
            raise InputError(
                f"mbconv-to-fused={text}: no MBConv stands below {prefix!r}",
                hint=f"depthwise convolutions of MBConvs: {known}",
            )
        chosen += [block for block in below if block not in chosen]
    return chosen


def _image(flow: Flow, gate: Gate) -> int:
    """The storage of the map that a gate multiplies."""
    op = flow.trace.ops[gate.multiplication]
    return max(op.inputs, key=lambda spec: spec.distinct_bytes).storage


def _followed(model: nn.Module, flow: Flow, index: int, known: dict[int, Gate]) -> Block:
    """Follow the data of a depthwise convolution back to its expansion and on to its projection."""
    block = Block(flow.path(index))
    _backwards(model, flow, index, block)
    if not block.reason:
        _forwards(flow, index, block, known)
    return block


def _backwards(model: nn.Module, flow: Flow, index: int, block: Block) -> None:
    """From the depthwise convolution back to the 1x1 that widens; every module on the way is noted."""
    reader = index
    for _ in range(_LONGEST):
        made = flow.producer(reader, flow.data(flow.trace.ops[reader])[0].storage)
        if made < 0 or flow.readers(made) != [reader]:
            block.reason = "its input is no expansion of its own: others read it too"
            return
        op, path = flow.trace.ops[made], flow.path(made)
        if is_convolution(op):
            widens = op.outputs[0].shape[1] > op.inputs[0].shape[1]
            if not (is_pointwise(op) and widens and isinstance(model.get_submodule(path), nn.Conv2d)):
                block.reason = "the convolution before it is no 1x1 that widens"
            block.expansion = path
            return
        if path != block.depthwise and path not in block.between:  # its own: it pads by itself
            block.between.append(path)
        reader = made
    block.reason = "no expansion stands before it"


def _forwards(flow: Flow, index: int, block: Block, known: dict[int, Gate]) -> None:
    """From the depthwise convolution on to the 1x1 that projects; an SE on the way is noted."""
    made = index
    for _ in range(_LONGEST):
        gate = known.get(made)
        if gate is not None:
            if gate.reason:
                block.reason = gate.reason
                return
            if set(flow.readers(made)) != {*gate.pools, gate.multiplication}:
                break
            block.gates.append(gate.path)
            made = gate.multiplication
        readers = flow.readers(made)
        if len(readers) != 1:
            break
        reader = flow.trace.ops[readers[0]]
        if is_pointwise(reader) and reader.outputs[0].shape[1] < reader.inputs[0].shape[1]:
            return
        if len(flow.data(reader)) != 1:
            break
        made = readers[0]
    block.reason = "no 1x1 that narrows alone reads what it makes"


def _hindered(model: nn.Module, block: Block, flow: Flow, places: Places) -> str:
    """Why the modules of a block may not be exchanged, or ""."""
    for path in block.between:
        module = model.get_submodule(path)
        if next(module.children(), None) is not None and not isinstance(module, nn.BatchNorm2d):
            return f"norm or activation behind the expansion are in the forward of {type(module).__name__}"
    own = untouchable(model.get_submodule(block.depthwise))
    exchanged = (block.expansion, *block.between, *block.gates)
    for path in (block.depthwise, *exchanged):
        if len(flow.calls(path)) > 1:
            return f"{path} is called more than once"
    return own or next(filter(None, (obstacle(model, path, places) for path in exchanged)), "")
