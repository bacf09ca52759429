"""A module that adds up parallel convolutions of one input -> the module with one in their place.

The sums are found in the graph that torch.fx records of the module's own forward, its children standing as
single nodes. A branch is a chain of a convolution and a batch norm, one of the two, or the input itself;
whatever has an activation inside is no linear map and is left alone.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from flopscope.errors import InputError
from flopscope.records import Trace
from flopscope.rewrites import Rewritten, rewrite
from flopscope.rewrites.folding import refuse_options
from flopscope.rewrites.reparametrise import PURPOSE, Branch, blocks, deploy, merge
from flopscope.rewrites.rewiring import rewire
from flopscope.rewrites.surgery import is_plain_norm, private, untouchable, writers

ADDS = (operator.add, torch.add, "add")
ADDS_IN_PLACE = (operator.iadd, "add_")
WRITES = (operator.iadd, operator.isub, operator.imul, operator.itruediv, operator.setitem)
VARIABLE = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
BUILT_OF = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@rewrite("merge-branches", exact=True)
def merge_branches(model: nn.Module, trace: Trace, text: str | None = None) -> Rewritten:
    """Put one convolution in place of parallel ones (with or without batch norm) of one input that are added.

    Args:
        model: in eval mode; left as it is.
        trace: of one call of it.
        text: None; the rewrite takes no options.

    Returns:
        The copy, with the paths of the modules that added up.

    Raises:
        InputError: there is no such sum, the model is in training mode, or options were given.
    """
    refuse_options("merge-branches", text)
    copied = private(model, "its branches are merged")
    merged = _Merging(copied, trace, identities=False).run()
    if not merged.changed and not merged.skipped:
        raise InputError(
            f"{type(model).__name__} has no sum of parallel convolutions of one input",
            hint="identities beside a convolution are merged by reparametrise",
        )
    return merged


@rewrite("reparametrise", exact=True)
def reparametrise_sums(model: nn.Module, trace: Trace, text: str | None = None) -> Rewritten:
    """Put one convolution in place of parallel convolutions, batch norms and identities that are added.

    Blocks that tell their branches themselves (`Reparametrisable`) are asked; in all other modules the
    sums are found in the data flow.

    Args:
        model: in eval mode; left as it is.
        trace: of one call of it.
        text: None; the rewrite takes no options.

    Returns:
        The copy, with the paths of the blocks.

    Raises:
        InputError: there is no such sum, as in a model that is in its deploy form already; the model or a
            block of it is in training mode; or options were given.
    """
    refuse_options("reparametrise", text)
    copied = private(model, PURPOSE)
    told = blocks(copied)
    merged = _Merging(deploy(copied), trace, identities=True).run()
    if not told and not merged.changed and not merged.skipped:
        raise InputError(
            f"{type(model).__name__} has no branches to re-parameterise",
            hint="a model that is already in its deploy form has none left",
        )
    return Rewritten(merged.model, (*told, *merged.changed), merged.skipped)


class _Tracer(fx.Tracer):
    """Records a module's own forward, every child as one node."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        return True


@dataclass(slots=True)
class _Merging:
    """One pass over a model: the copy that is changed, and what came of it."""

    model: nn.Module
    trace: Trace
    identities: bool
    changed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    writers: frozenset[str] = frozenset()

    def run(self) -> Rewritten:
        """Rewrite every module that was called, the inner ones first."""
        called = {call.path for call in self.trace.calls}
        self.writers = writers(self.trace)
        for path, module in reversed(list(self.model.named_modules())):
            if path in called and module._modules and type(module) not in BUILT_OF:
                self._rewrite(path, module)
        return Rewritten(self.model, tuple(reversed(self.changed)), tuple(reversed(self.skipped)))

    def _rewrite(self, path: str, module: nn.Module) -> None:
        graph, failure = _graph_of(module)
        if graph is None:
            if self._has_parallel(path):
                self.skipped.append(f"{path or type(module).__name__}: {failure}")
            return
        refused: dict[str, str] = {}
        before = _targets(graph)
        while bundle := _Sums(module, graph).bundle(refused, identities=self.identities):
            if reason := self._obstacle(path, bundle) or bundle.insert():
                refused[bundle.source.name] = reason
        self.skipped += [f"{path or type(module).__name__}: {reason}" for reason in refused.values()]
        if dead := before - _targets(graph):
            rewire(module, graph)
            _drop(module, dead)
            self.changed.append(path)

    def _obstacle(self, path: str, bundle: _Bundle) -> str:
        """Why branches may not be taken to read the same values, or ""."""
        below = f"{path}.".lstrip(".")
        for user in bundle.source.users:
            if _writes(user, bundle.source) or (
                user.op == "call_module" and f"{below}{user.target}" in self.writers
            ):
                return "the input of the branches is changed in place"
        return ""

    def _has_parallel(self, path: str) -> bool:
        """Whether the module at `path`, of which no graph is known, ran parallel convolutions of its own."""
        below = f"{path}.".lstrip(".")
        seen: set[tuple[Any, ...]] = set()
        for op in self.trace.ops:
            where = self.trace.calls[op.call].path
            near = where.startswith(below) and where.removeprefix(below).count(".") <= 1
            if near and op.op.startswith("aten::conv"):
                key = (op.inputs[0], op.outputs[0].shape)
                if key in seen:
                    return True
                seen.add(key)
        return False


@dataclass(slots=True)
class _Chain:
    """A branch: the modules that it runs through, and where it begins."""

    modules: list[nn.Module]
    source: fx.Node

    def branch(self) -> Branch | None:
        """The chain as a branch, or None where it is no convolution and norm of its source."""
        kinds = [isinstance(module, nn.Conv2d) for module in self.modules]
        if kinds not in ([], [True], [False], [True, False]):
            return None
        norm = self.modules[-1] if kinds and not kinds[-1] else None
        convolution = self.modules[0] if kinds and kinds[0] else None
        assert convolution is None or isinstance(convolution, nn.Conv2d)
        assert norm is None or isinstance(norm, nn.BatchNorm2d)
        return Branch(convolution, norm)


@dataclass(slots=True)
class _Bundle:
    """Branches of one source in one sum, and all else that the sum adds."""

    owner: nn.Module
    total: fx.Node
    source: fx.Node
    branches: list[Branch]
    others: list[fx.Node]

    def insert(self) -> str:
        """Put one convolution in place of the branches; tell why that cannot be, or ""."""
        try:
            convolution = merge(self.branches)
        except InputError as refusal:
            return str(refusal)
        name = "merged"
        while hasattr(self.owner, name):
            name += "_"
        self.owner.add_module(name, convolution)
        graph = self.total.graph
        with graph.inserting_before(self.total):
            value = graph.call_module(name, (self.source,))
            for other in self.others:
                value = graph.call_function(operator.add, (value, other))
        self.total.replace_all_uses_with(value)
        _erase(self.total)
        return ""


class _Sums:
    """The sums in a module's graph, flattened: nested additions are one."""

    def __init__(self, owner: nn.Module, graph: fx.Graph) -> None:
        self.owner, self.graph = owner, graph
        self._inner: set[fx.Node] = set()

    def bundle(self, refused: Container[str], *, identities: bool) -> _Bundle | None:
        """The first bundle of at least two branches whose source is none of those `refused`.

        Args:
            refused: names of nodes.
            identities: whether a branch may be without a convolution.
        """
        self._inner.clear()
        for node in reversed(self.graph.nodes):
            if node not in self._inner and self._adds(node):
                for found in self._bundles(node, self._terms(node), identities=identities):
                    if found.source.name not in refused:
                        return found
        return None

    def _bundles(self, total: fx.Node, terms: list[fx.Node], *, identities: bool) -> Iterator[_Bundle]:
        """The terms of one sum, by the source that they share."""
        chains = {term: self._chain(term) for term in terms}
        for source in dict.fromkeys(chain.source for chain in chains.values() if chain.modules):
            branches = [chains[term].branch() if chains[term].source is source else None for term in terms]
            fitting = [
                branch is not None and (identities or branch.convolution is not None) for branch in branches
            ]
            chosen = [branch for branch, fits in zip(branches, fitting, strict=True) if fits and branch]
            if len(chosen) > 1 and any(branch.convolution is not None for branch in chosen):
                others = [term for term, fits in zip(terms, fitting, strict=True) if not fits]
                yield _Bundle(self.owner, total, source, chosen, others)

    def _terms(self, node: fx.Node) -> list[fx.Node]:
        """What a sum adds, the terms of sums that only it reads in their place."""
        terms: list[fx.Node] = []
        for value in node.args:
            if not isinstance(value, fx.Node):
                continue
            inner = self._through(value)
            if self._adds(inner) and len(inner.users) == 1:
                self._inner.add(inner)
                terms += self._terms(inner)
            else:
                terms.append(value)
        return terms

    def _adds(self, node: fx.Node) -> bool:
        """Whether a node adds two values (or zero and a value), and changes none that others see."""
        plain = len(node.args) == 2 and not node.kwargs and node.op in ("call_function", "call_method")
        if not plain or not all(isinstance(value, fx.Node) or value == 0 for value in node.args):
            return False
        if node.target in ADDS:
            return True
        return node.target in ADDS_IN_PLACE and self._is_fresh(node.args[0])

    def _is_fresh(self, value: Any) -> bool:
        """Whether a value is memory of its own that nobody else reads."""
        if not isinstance(value, fx.Node) or len(value.users) != 1:
            return False
        inner = self._through(value)
        return len(inner.users) == 1 and (self._adds(inner) or bool(self._chain(inner).modules))

    def _through(self, node: fx.Node) -> fx.Node:
        """The value that a chain of identities, each read once, hands on."""
        while len(node.users) == 1 and (modules := self._linear(node)) is not None and not modules:
            node = node.args[0]  # type: ignore[assignment]
        return node

    def _chain(self, term: fx.Node) -> _Chain:
        """Walk back from a term for as long as modules are linear and read once."""
        chain = _Chain([], term)
        while len(chain.source.users) == 1 and (modules := self._linear(chain.source)) is not None:
            known = _Chain([*modules, *chain.modules], chain.source)
            if known.branch() is None:
                break
            before = chain.source.args[0]
            assert isinstance(before, fx.Node)
            chain = _Chain(known.modules, before)
        return chain

    def _linear(self, node: fx.Node) -> list[nn.Module] | None:
        """The convolutions and norms that a node stands for, or None where it is something else."""
        single = len(node.args) == 1 and isinstance(node.args[0], fx.Node) and not node.kwargs
        if node.op != "call_module" or not single:
            return None
        return _linear_parts(self.owner.get_submodule(str(node.target)))


def _linear_parts(module: nn.Module) -> list[nn.Module] | None:
    """The convolutions and batch norms that a module runs its input through; None if there is more to it."""
    if module.training or untouchable(module):
        return None
    if isinstance(module, nn.Conv2d):
        return [module] if type(module).forward is nn.Conv2d.forward else None
    if isinstance(module, nn.BatchNorm2d):
        return [module] if is_plain_norm(module) else None
    if isinstance(module, nn.Identity | nn.Dropout | nn.Dropout2d):
        return []
    graph, _ = _graph_of(module)
    return None if graph is None else _parts_of(module, graph)


def _parts_of(module: nn.Module, graph: fx.Graph) -> list[nn.Module] | None:
    """The same, of a module whose forward is the given graph: it must be a chain from end to end."""
    *nodes, output = graph.nodes
    at, parts = output.args[0], list[nn.Module]()
    for node in reversed(nodes):
        if node is not at:
            return None
        if node.op == "placeholder":
            return parts if node is nodes[0] else None
        single = len(node.args) == 1 and not node.kwargs and node.op == "call_module"
        inner = _linear_parts(module.get_submodule(str(node.target))) if single else None
        if inner is None:
            return None
        parts[:0] = inner
        at = node.args[0]
    return None


def _graph_of(module: nn.Module) -> tuple[fx.Graph | None, str]:
    """What a module's own forward does, or None and why that is not known."""
    if "forward" in vars(module) or isinstance(module, torch.jit.ScriptModule):
        return None, "its forward is not that of its class"
    try:
        if any(given.default is not given.empty or given.kind in VARIABLE for given in _arguments(module)):
            return None, "its forward has optional arguments, so that it is not known what it computes"
        graph = _Tracer().trace(module)
    except Exception as failure:  # noqa: BLE001 - whatever a user's forward may raise on a stand-in
        return None, f"its forward depends on its data ({type(failure).__name__})"
    if any(node.op == "get_attr" and "_tensor_constant" in str(node.target) for node in graph.nodes):
        return None, "its forward makes tensors of its own"
    return graph, ""


def _arguments(module: nn.Module) -> Iterable[inspect.Parameter]:
    return inspect.signature(module.forward).parameters.values()


def _targets(graph: fx.Graph) -> set[str]:
    """The paths of the modules that a graph calls."""
    return {str(node.target) for node in graph.nodes if node.op == "call_module"}


def _writes(node: fx.Node, source: fx.Node) -> bool:
    """Whether a function or method changes its first argument, the source, in place, by its name."""
    if not node.args or node.args[0] is not source or node.op == "call_module":
        return False
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    in_place = name.endswith("_") and not name.endswith("__")
    return in_place or node.target in WRITES or bool(node.kwargs.get("inplace"))


def _erase(node: fx.Node) -> None:
    """Take out a node that nobody reads, and what then nobody reads before it."""
    if node.users or node.op == "placeholder":
        return
    before = node.all_input_nodes
    node.graph.erase_node(node)
    for other in before:
        _erase(other)


def _drop(module: nn.Module, targets: set[str]) -> None:
    """Delete the children at `targets`, and the lists of them that are empty then."""
    for dead in targets:
        target = dead
        while target:
            above, _, name = target.rpartition(".")
            holder = module.get_submodule(above)
            del holder._modules[name]
            target = "" if holder._modules else above
