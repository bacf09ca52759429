"""What a model says of itself (config, default_cfg, attributes) -> calls, image sizes, lengths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from flopscope.errors import InputError
from flopscope.inputs import signatures
from flopscope.inputs.entries import first_entry
from flopscope.inputs.specs import Inputs, Spec, describe, is_tensor

TOKENS = 128
_LENGTHS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_len",
    "block_size",
    "context_length",
)


def calls(model: nn.Module) -> Iterator[Inputs]:
    """Yield the inputs that a model states itself, surest first."""
    shape = _size(getattr(model, "flopscope_input_shape", None))
    if isinstance(shape, tuple) and len(shape) > 1:
        yield Inputs(Spec(shape))
    resolution = getattr(model, "flopscope_resolution", None)
    stated = _size(resolution)
    if isinstance(stated, tuple) and len(stated) == 3:
        yield Inputs(Spec((1, *stated)))
    elif stated is not None:
        yield Inputs(_image(model, stated))
    yield from _examples(model)
    if hasattr(model, "config"):
        yield from _by_config(model, model.config)
    if len(signatures.required(model)) <= 1:
        for size in [*image_sizes(model), *_cfg_sizes(model)]:
            yield Inputs(_image(model, size))
        for whole in _cfg_sizes(model):
            yield Inputs(Spec((1, *whole)))


def image_sizes(model: nn.Module) -> list[int | tuple[int, ...]]:
    """The first image size among the attributes of a model and its parts, if any states one."""
    if not _takes_images(model):
        return []
    for place, module in enumerate(model.modules()):
        for name in ("img_size", "image_size", *(["input_resolution"] if place < 2 else [])):
            size = _size(getattr(module, name, None))
            if size is not None and (isinstance(size, int) or len(size) == 2):
                return [size]
    return []


def lengths(model: nn.Module) -> list[int]:
    """The longest sequences that a model states among its attributes or in its config."""
    holders = [model, getattr(model, "config", None), *_parts(getattr(model, "config", None), "text_config")]
    found = [getattr(holder, name, None) for holder in holders for name in _LENGTHS]
    return [length for length in found if isinstance(length, int) and length > 0]


def _examples(model: nn.Module) -> Iterator[Inputs]:
    """Lightning's attribute: a tensor, or a tuple or dict of the arguments."""
    example = getattr(model, "example_input_array", None)
    try:
        if example is not None:
            yield describe(example)
    except InputError:
        return  # something else by the same name


def _by_config(model: nn.Module, config: Any) -> Iterator[Inputs]:
    """Calls for a HuggingFace model: its main input, the decoder's, both towers', its dummies."""
    main = getattr(model, "main_input_name", None)
    if not isinstance(main, str):
        return
    known = {
        "input_ids": Spec((1, min([TOKENS, *lengths(model)])), "int64"),
        "pixel_values": _pixels(config),
        "input_features": _features(config),
        "input_values": _samples(config),
    }
    if main in known:
        leading = {main: known[main]}
        decoder = {"decoder_input_ids": Spec((1, min([TOKENS, *_decoder_lengths(config)])), "int64")}
        both = Inputs(**leading, **decoder)
        is_pair = bool(getattr(config, "is_encoder_decoder", False))
        has_decoder = is_pair and signatures.takes_keyword(model, "decoder_input_ids")
        if has_decoder and main != "pixel_values":  # detectors call themselves encoder-decoders too
            yield both
        if _parts(config, "vision_config") and _parts(config, "text_config"):
            yield Inputs(input_ids=known["input_ids"], pixel_values=known["pixel_values"])
        yield Inputs(**leading)
        if has_decoder:
            yield both
    yield from _dummies(model, main)


def _dummies(model: nn.Module, main: str) -> Iterator[Inputs]:
    try:
        dummies = model.dummy_inputs
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError):
        return  # a property that this architecture does not fill
    if isinstance(dummies, Mapping) and all(is_tensor(value) for value in dummies.values()):
        fitting = {name: value for name, value in dummies.items() if signatures.takes_keyword(model, name)}
        if main in fitting:  # the library's default names input_ids for images too
            yield Inputs(**fitting)


def _pixels(config: Any) -> Spec:
    holder = next(iter(_parts(config, "vision_config")), config)
    size = _size(getattr(holder, "image_size", None)) or 224
    pair = size[-2:] if isinstance(size, tuple) else (size, size)
    channels = getattr(holder, "num_channels", None)
    image = (channels if isinstance(channels, int) else 3, *pair)
    frames = getattr(holder, "num_frames", None)
    return Spec((1, frames, *image)) if isinstance(frames, int) else Spec((1, *image))


def _features(config: Any) -> Spec:
    """Spectrograms: Whisper's 1 x mel bins x frames, or 1 x frames x features."""
    mels, places = getattr(config, "num_mel_bins", None), getattr(config, "max_source_positions", None)
    if isinstance(mels, int) and isinstance(places, int) and not hasattr(config, "input_feat_per_channel"):
        return Spec((1, mels, 2 * places))  # its second convolution has stride 2
    width = getattr(config, "input_feat_per_channel", None) or mels or 80
    return Spec((1, 1024, width))


def _samples(config: Any) -> Spec:
    """A second of sound at 16 kHz, or the spectrogram of a model that states its bins."""
    mels, frames = getattr(config, "num_mel_bins", None), getattr(config, "max_length", None)
    if isinstance(mels, int) and isinstance(frames, int):
        return Spec((1, frames, mels))
    return Spec((1, 16000))


def _decoder_lengths(config: Any) -> list[int]:
    found = [getattr(config, name, None) for name in ("max_target_positions", "max_position_embeddings")]
    return [length for length in found if isinstance(length, int) and length > 0]


def _parts(config: Any, name: str) -> list[Any]:
    part = getattr(config, name, None)
    return [] if part is None else [part]


def _cfg_sizes(model: nn.Module) -> list[tuple[int, ...]]:
    """Read timm's (channels, height, width)."""
    for name in ("pretrained_cfg", "default_cfg"):
        cfg = getattr(model, name, None)
        stated = cfg.get("input_size") if isinstance(cfg, Mapping) else getattr(cfg, "input_size", None)
        size = _size(stated)
        if isinstance(size, tuple) and len(size) == 3:
            return [size]
    return []


def _takes_images(model: nn.Module) -> bool:
    """Whether the first layer takes an image, or the flattened patches of one."""
    first = first_entry(model)
    if first is None or first.role == "indices":
        return False
    return first.spatial == 2 or (first.role == "features" and not first.sequence)


def _image(model: nn.Module, size: Any) -> Spec:
    """One image of a side, (height, width) or (channels, height, width).

    It has the channels that a first convolution takes, for a stated three may have been changed.
    """
    first = first_entry(model)
    sides = (size, size) if isinstance(size, int) else tuple(size)
    channels = sides[0] if len(sides) == 3 else 3
    if first is not None and first.role == "channels" and first.size and not first.grows:
        channels = first.size
    return Spec((1, channels, *sides[-2:]))


def _size(value: Any) -> int | tuple[int, ...] | None:
    """A size stated as an int or as several, else None."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    if isinstance(value, (tuple, list)) and value and all(isinstance(side, int) for side in value):
        return tuple(value)
    return None
