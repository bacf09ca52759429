"""A model -> inputs that it may take, most plausible first, where the user gave none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from torch import Tensor, nn

from flopscope.inputs import metadata, signatures
from flopscope.inputs.companions import companion, own_layer
from flopscope.inputs.entries import Entry, entries, entry, family, first_entry
from flopscope.inputs.specs import Inputs, Spec, text

MOST = 32  # every candidate costs its taker one forward without data
IMAGE_SIZES = (224, 32, 28, 64, 256, 299, 384, 512)
TOKENS = 128


def infer(model: nn.Module) -> list[Inputs]:
    """List inputs that a model may take, in order of plausibility; the first that runs is meant.

    What the model says of itself comes first (the zoo's resolution, Lightning's
    `example_input_array`, a HuggingFace config, timm's `default_cfg`, an image size among its
    attributes), then what its first layer takes: 1xCx224x224, 1xCx16x112x112, 1xCx16000,
    1xFEATURES, a row of 128 token ids. Where forward needs several arguments, the others are
    chosen by their names. The model is only looked at, never run.
    """
    inner = signatures.unwrapped(model)
    if signatures.takes_nothing(inner):
        return [Inputs()]
    return _distinct([*metadata.calls(inner), *_guessed(inner)])


def entry_specs(found: Entry, model: nn.Module) -> list[Spec]:
    """The inputs that a layer takes when it is the first, most plausible first."""
    if found.role == "indices":
        return [Spec((1, length), "int64") for length in _lengths(model)] + [Spec((TOKENS,), "int64")]
    if found.role == "features":
        return _feature_specs(found, model)
    channels = found.size or 3  # a lazy layer does not know yet
    if found.spatial == 2:
        return [Spec((1, channels, *pair)) for pair in _pairs(found, model)]
    if found.spatial == 3:
        volumes = [(16, 112, 112), (16, 224, 224), (8, 8, 8), (32, 32, 32), (64, 64, 64), (96, 96, 96)]
        return [Spec((1, channels, *volume)) for volume in ([(4, 4, 4)] * found.grows + volumes)]
    rows = [Spec((1, channels))] if "Norm" in found.type else []
    waves = (16000, 1024, 128, 3000, 32) if channels <= 2 else (1024, 128, 3000, 16000, 32)
    return rows + [Spec((1, channels, length)) for length in (*_sizes_before_linear(model), *waves)]


def _guessed(model: nn.Module) -> Iterator[Inputs]:
    """Candidates from the first layer and the names of forward's required arguments."""
    if _takes_images(model):
        for pair in _image_pairs(model):
            yield Inputs([Spec((3, *pair))])
        return
    for spec in _leading(model):
        yield from _calls(spec, model)
    if signatures.parameters(model) and not signatures.required(model):
        yield Inputs()  # every argument has a default


def _leading(model: nn.Module) -> list[Spec]:
    """Candidates for the argument that the first layer takes."""
    needed = signatures.required(model)
    named = own_layer(needed[0].name, model) if len(needed) > 1 else None
    first = named or first_entry(model)
    if first is None:
        return [*_by_parameter(model), *(Spec((1, 3, *pair)) for pair in _image_pairs(model))]
    specs = entry_specs(first, model)
    if any(item.name == "edge_index" for item in needed):  # a graph: the first axis counts its nodes
        return [Spec((TOKENS, *first.tail))] if first.role == "features" else [Spec((TOKENS,), "int64")]
    if first.role == "features" and not first.sequence:
        specs += _patched(first)
    others = [found for found in entries(model) if found.role == first.role == "channels"][:6]
    specs += [entry_specs(found, model)[0] for found in others if found.size != first.size]
    if first.role == "channels":  # a partial convolution takes one channel of four
        specs.append(Spec((1, 4 * first.size, *specs[0].shape[2:])))
    for role in ("channels", "indices", "features"):  # registered first is not always run first
        found = next((found for found in entries(model) if found.role == role != first.role), None)
        if found is not None:
            specs += entry_specs(found, model)[:2]
    return specs


def _calls(spec: Spec, model: nn.Module) -> Iterator[Inputs]:
    """The calls in which `spec` is the leading argument: by the names, then all alike."""
    needed = signatures.required(model)
    if len(needed) <= 1 and all(signatures.is_by_place(item) for item in needed):
        yield Inputs(spec)
        return
    args, kwargs = [], {}
    for place, item in enumerate(needed):
        value = spec if place == 0 else companion(item.name, spec, model=model, spec_of=_spec_of)
        if signatures.is_by_place(item):
            args.append(value)
        else:
            kwargs[item.name] = value
    yield Inputs(*args, **kwargs)
    if all(signatures.is_by_place(item) for item in needed):
        yield Inputs(*[spec] * len(needed))


def _spec_of(found: Entry, model: nn.Module) -> Spec:
    return entry_specs(found, model)[0]


def _takes_images(model: nn.Module) -> bool:
    """Tell whether it is one of torchvision's detectors, which take a list of images and scale them."""
    scales = hasattr(getattr(model, "transform", None), "image_mean")
    return scales and [item.name for item in signatures.required(model)] == ["images"]


def _pairs(found: Entry, model: nn.Module) -> list[tuple[int, ...]]:
    """Heights and widths for a first convolution; a generator's starts from a point."""
    seeds = (1, 4, 7, 8) if found.grows else ()
    stated = metadata.image_sizes(model)
    ordered = [*seeds, *stated, *IMAGE_SIZES[:1], *_sizes_before_linear(model), *IMAGE_SIZES[1:]]
    return [size if isinstance(size, tuple) else (size, size) for size in ordered]


def _image_pairs(model: nn.Module) -> list[tuple[int, ...]]:
    """Heights and widths to try where no layer tells: what a detector scales to, then the usual."""
    least = getattr(getattr(model, "transform", None), "min_size", None)
    sizes = [size for size in (least if isinstance(least, (tuple, list)) else ()) if isinstance(size, int)]
    return [(size, size) for size in [*sizes[-1:], *IMAGE_SIZES]]


def _feature_specs(found: Entry, model: nn.Module) -> list[Spec]:
    row = Spec((1, *found.tail))
    over_time = [Spec((1, length, *found.tail)) for length in _lengths(model)]
    if found.sequence == "time_first":
        return [Spec((TOKENS, 1, *found.tail)), *over_time, row]
    has_time = any(isinstance(module, (nn.RNNBase, nn.MultiheadAttention)) for module in model.modules())
    if found.sequence == "batch_first" or has_time:
        squares = [Spec((1, size, size, *found.tail)) for size in (14, 56) if len(found.tail) == 1]
        return [*over_time[:4], row, *squares]
    return [row, *over_time[:2]]


def _patched(found: Entry) -> list[Spec]:
    """Images whose flattened patches, or whose flattened whole, a first Linear may take."""
    specs = []
    for channels in (1, 3):
        side = round((found.size / channels) ** 0.5)
        if side > 1 and channels * side * side == found.size:
            sizes = [side, *[size for size in (224, 256, 32, 64, 28) if size % side == 0]]
            specs += [Spec((1, channels, size, size)) for size in sizes]
    return specs


def _lengths(model: nn.Module) -> list[int]:
    """Lengths of sequences to try: 128, or what the model has positions for, then shorter ones."""
    limits = [found.size for found in entries(model) if found.role == "indices" and _counts_places(found)]
    for name, parameter in model.named_parameters():
        if "pos" in name.lower().rsplit(".", 1)[-1] and parameter.ndim in (2, 3):
            limits.append(parameter.shape[-2])
    limits += metadata.lengths(model)
    least = min([limit for limit in limits if limit > 1], default=TOKENS)
    return list(dict.fromkeys([min(TOKENS, least), least, 64, 32, 16, 8, 1]))


def _counts_places(found: Entry) -> bool:
    return family(found.path) == "position" and not any(word in found.path for word in ("relative", "bias"))


def _sizes_before_linear(model: nn.Module) -> list[int]:
    """Heights that give a Linear behind a flatten the number of features that it takes.

    Goes back from the first Linear whose features are a multiple of the last convolution's
    channels, through the layers that shrink, each by n_in = (n_out - 1) s + d (k - 1) + 1 - 2 p:
    exact for a plain chain of modules, and no more than a guess for others.
    """
    chain: list[nn.Module] = []
    channels, spatial = 0, 0
    for path, module in model.named_modules():
        layer = entry(path, module)
        if layer is not None and layer.role == "channels" and hasattr(module, "out_channels"):
            channels, spatial = int(module.out_channels), layer.spatial
        if layer is not None and layer.role == "features" and channels and not layer.sequence:
            side = round((layer.size / channels) ** (1 / spatial))
            fits = side > 1 and channels * side**spatial == layer.size
            return [_height_before(chain, side)] if fits else []
        if isinstance(module, (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)):
            return []
        if hasattr(module, "kernel_size") and hasattr(module, "stride"):
            chain.append(module)
    return []


def _height_before(chain: list[nn.Module], height: int) -> int:
    for module in reversed(chain):
        kernel, stride = _height(module, "kernel_size", 1), _height(module, "stride", 1)
        padding, dilation = _height(module, "padding", 0), _height(module, "dilation", 1)
        height = (height - 1) * stride + dilation * (kernel - 1) + 1 - 2 * padding
    return max(height, 1)


def _height(module: nn.Module, name: str, default: int) -> int:
    value = getattr(module, name, default)
    value = value[0] if isinstance(value, (tuple, list)) and value else value
    return value if isinstance(value, int) else default


def _by_parameter(model: nn.Module) -> list[Spec]:
    """Guess from the shape of a weight that no known layer owns: OxI, OxIxK, OxIxKxK."""
    for parameter in model.parameters():
        if isinstance(parameter, Tensor) and parameter.ndim == 2:
            return [Spec((1, size)) for size in (parameter.shape[1], parameter.shape[0])]
        if isinstance(parameter, Tensor) and parameter.ndim == 4:
            return [Spec((1, parameter.shape[1], size, size)) for size in IMAGE_SIZES[:3]]
    return []


def _distinct(calls: Iterable[Inputs]) -> list[Inputs]:
    seen: dict[str, Inputs] = {}
    for call in calls:
        seen.setdefault(text(call), call)
    return list(seen.values())[:MOST]
