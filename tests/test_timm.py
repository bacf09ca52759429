"""timm networks of every family against an independent count: torch's own, where it has no hole.

On the meta device, with attention in its "math" form, torch's counter sees every convolution and
matrix product of a forward pass as such, LSTMs included (they are unrolled there). Under it,
1 multiply-add is 2 FLOPs.
"""

from __future__ import annotations

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import flopscope

timm = pytest.importorskip("timm", reason="timm is not installed")

# One or two of each family: what they have that others have not stands beside them.
NETWORKS = [
    "resnet50",
    "resnext50_32x4d",
    "seresnet50",
    "resnest14d",
    "res2net50_26w_4s",
    "densenet121",
    "inception_v3",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "efficientnet_b0",
    "tf_efficientnetv2_s",
    "mixnet_s",
    "ghostnet_100",
    "regnety_008",
    "hrnet_w18_small_v2",
    "repvgg_a0",
    "mobileone_s0",
    "repvit_m1",
    "fasternet_t0",
    "starnet_s1",
    "shvit_s1",
    "nfnet_l0",
    "dpn68",
    "convnext_atto",
    "convnextv2_atto",
    "convmixer_768_32",
    "poolformer_s12",
    "caformer_s18",
    "mambaout_femto",
    "edgenext_xx_small",
    "mobilevit_xxs",
    "fastvit_t8",
    "efficientformer_l1",
    "efficientvit_b0",
    "efficientvit_m0",
    "levit_128s",
    "vit_tiny_patch16_224",
    "deit_tiny_distilled_patch16_224",
    "cait_xxs24_224",
    "xcit_nano_12_p16_224",
    "crossvit_tiny_240",
    "swin_tiny_patch4_window7_224",
    "swinv2_tiny_window8_256",
    "maxvit_pico_rw_256",
    "pvt_v2_b0",
    "twins_pcpvt_small",
    "focalnet_tiny_srf",
    "davit_tiny",
    "hiera_tiny_224",
    "eva02_tiny_patch14_224",
    "naflexvit_base_patch16_gap",
    "mixer_s16_224",
    "gmlp_ti16_224",
    "sequencer2d_s",
    "volo_d1_224",
    "tnt_s_patch16_224",
    "halonet26t",
    "lambda_resnet26t",
]


def _built(name):
    if name not in timm.list_models():
        pytest.skip(f"this timm ({timm.__version__}) has no {name}")
    with torch.device("meta"):
        # Without gradients torch's counter needs no hooks of its own, which fail on some networks.
        return timm.create_model(name).eval().requires_grad_(False)


def _counted_by_torch(model, shape):
    with torch.no_grad(), FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        model(torch.empty(shape, device="meta"))
    return counter.get_total_flops() / 2


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_of_a_family(name):
    model = _built(name)
    shape = (1, *model.pretrained_cfg.get("input_size", (3, 224, 224)))
    report = flopscope.count(model, shape)
    assert report.total.macs == _counted_by_torch(model, shape)
    assert report.total.params == sum(parameter.numel() for parameter in model.parameters())
    for column in ("macs", "flops", "bytes_read", "bytes_written", "params", "param_bytes"):
        assert sum(getattr(layer, column) for layer in report.layers) == getattr(report.total, column), column
    assert report.uncosted == {}
    assert report.route == "meta"
    assert report.warnings == ()


def test_published_fasternet_t0():
    # Chen et al. 2023, table 3: 0.34 GFLOPs (multiply-adds) and 3.9 million parameters at 224.
    total = flopscope.count(_built("fasternet_t0"), (1, 3, 224, 224)).total
    assert f"{total.macs / 1e9:.2f}" == "0.34"
    assert f"{total.params / 1e6:.1f}" == "3.9"


def test_the_oracle_itself_on_a_hand_worked_net():
    # Two tokens of width 4 in one head: 4 projections of 2 * 4 * 4 and twice 2 * 2 * 4 of scores.
    attention = timm.layers.Attention(4, num_heads=1).to("meta").eval().requires_grad_(False)
    assert _counted_by_torch(attention, (1, 2, 4)) == 4 * 32 + 2 * 16
    assert flopscope.count(attention, (1, 2, 4)).total.macs == 4 * 32 + 2 * 16
