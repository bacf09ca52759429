"""Hugging Face networks with dict inputs and dataclass outputs, against torch's own count.

As in the tests of timm: on the meta device, with attention in its "math" form, torch's counter has
no hole. Configurations are small; `transformers` is no dependency.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import flopscope
from flopscope import Spec

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

IDS = Spec((2, 16), "int64", high=100)


def bert():
    return transformers.BertModel(
        transformers.BertConfig(
            hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=100
        )
    )


def gpt2():
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_embd=64,
            n_layer=2,
            n_head=4,
            vocab_size=100,
            n_positions=64,
            bos_token_id=0,
            eos_token_id=0,
        )
    )


def llama():
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=128,
            vocab_size=100,
        )
    )


def t5():
    return transformers.T5Model(
        transformers.T5Config(d_model=64, d_kv=16, num_layers=2, num_heads=4, d_ff=128, vocab_size=100)
    )


def vit():
    return transformers.ViTModel(
        transformers.ViTConfig(
            hidden_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=128,
            image_size=32,
            patch_size=8,
        )
    )


NETWORKS = {
    "bert": (bert, {"input_ids": IDS}),
    "gpt2": (gpt2, {"input_ids": IDS}),
    "llama": (llama, {"input_ids": IDS}),
    "t5": (t5, {"input_ids": IDS, "decoder_input_ids": Spec((2, 8), "int64", high=100)}),
    "vit": (vit, {"pixel_values": (2, 3, 32, 32)}),
}


def _counted_by_torch(build, inputs):
    tensors = {
        name: torch.zeros(spec.shape, dtype=torch.int64, device="meta")
        if isinstance(spec, Spec)
        else torch.zeros(spec, device="meta")
        for name, spec in inputs.items()
    }
    with torch.device("meta"):
        model = build().eval().requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(**tensors)
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", NETWORKS)
def test_counts(name, device):
    build, inputs = NETWORKS[name]
    with torch.device(device):
        model = build()
    report = flopscope.count(model, inputs)
    assert report.total.macs == _counted_by_torch(build, inputs)
    assert report.total.params == sum(parameter.numel() for parameter in model.parameters())
    for column in ("macs", "flops", "bytes_read", "bytes_written", "params", "param_bytes"):
        assert sum(getattr(layer, column) for layer in report.layers) == getattr(report.total, column), column
    assert report.uncosted == {}
    assert report.route == "meta"


def test_bert_by_hand():
    # Per layer, 2 x 16 tokens: 4 projections of 64 x 64 and 2 of 64 x 128; queries meet keys and
    # weights meet values, each 2 x 16 x 16 x 64. The pooler takes one token of each: 2 x 64 x 64.
    layer = 32 * (4 * 64 * 64 + 2 * 64 * 128) + 2 * (2 * 16 * 16 * 64)
    report = flopscope.count(bert(), {"input_ids": IDS})
    assert report.total.macs == 2 * layer + 2 * 64 * 64 == 2_236_416


def test_a_padded_batch_counts_in_full():
    # The mask is asked for its values, which may take a real run; the number is the same.
    plain = flopscope.count(bert(), {"input_ids": IDS})
    mask = torch.ones(2, 16, dtype=torch.int64)
    mask[1, 5:] = 0
    padded = flopscope.count(bert(), {"input_ids": IDS, "attention_mask": mask})
    assert padded.total.macs == plain.total.macs
    assert padded.total.params == plain.total.params
    assert (padded.route == "real") == any("real run" in warning for warning in padded.warnings)
