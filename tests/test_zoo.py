"""The whole zoo: every network's counts, published figures, addresses, files; errors of the registry."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import nn

import flopscope
from flopscope import zoo
from flopscope.errors import InputError, ModelLoadError, UntrustedModelError
from flopscope.loading import load_model, open_address
from flopscope.zoo.figures import agrees, figures, last_digit, query_of
from flopscope.zoo.registry import Published, network

NETWORKS = zoo.networks()
FORMS = [(name, query) for name, entry in NETWORKS.items() for query in ("", *entry.variants)]


def address(name, query):
    return f"zoo:{name}?{query}" if query else f"zoo:{name}"


@cache
def counted(name, query):
    """Totals, conventions and what went wrong, of one form at the network's own resolution."""
    model = open_address(address(name, query), meta=True).model
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    side = NETWORKS[name].resolution
    report = flopscope.count(model, (1, 3, side, side), progress=False)
    return report.total.params, report.total.macs, report.conventions, report.uncosted, report.warnings


# --------------------------------------------------------------------------- counts


def test_the_families_are_complete():
    sizes = {
        "EfficientNet": 8 + 3,  # B0 to B7; B4 with fused stages 1-3, 1-5, 1-7
        "EfficientNetV2": 4 + 4,  # S, M, L, XL; B0 to B3
        "MobileNetV2": 3,
        "MobileNetV3": 6,  # Large, Small; each 1.0, 0.75, minimalistic
        "FasterNet": 6,
        "RepVGG": 3 + 1 + 3 * 3 + 1,  # A0 to A2; B0; B1, B2, B3, each plain, g2, g4; D2se
        "VGG": 2,
        "ResNet": 5 + 3,  # 18, 34, 50, 101, 152; of the bottlenecks v1 too
        "ShuffleNetV2": 4,
        "MobileViT": 3,
        "Swin": 3,
        "ConvNeXt": 3,
    }
    found = [entry.family for entry in NETWORKS.values()]
    assert {family: found.count(family) for family in found} == sizes
    assert list(dict.fromkeys(found)) == list(sizes)


@pytest.mark.parametrize(("name", "query"), FORMS, ids=[address(*form)[4:] for form in FORMS])
def test_counts_are_those_on_record(name, query):
    params, macs, _, uncosted, warnings = counted(name, query)
    entry = NETWORKS[name]
    assert (params, macs) == (entry.variants[query] if query else (entry.params, entry.macs))
    assert uncosted == {}
    assert warnings == ()


# --------------------------------------------------------------------------- published figures

EFFICIENTNET = "arXiv 1905.11946, Table 2, as quoted in secondary texts"
MOBILENET = "tensorflow/models, research/slim/nets/mobilenet/README.md"
# What the sources print and no count of ours meets, in their own convention; docs/zoo.md says why.
UNMET = {
    ("efficientnet_b2", EFFICIENTNET),  # 9.2M are 9.110M
    ("efficientnet_b4", EFFICIENTNET),  # 4.2G are 4.394G
    ("efficientnet_b5", EFFICIENTNET),  # 9.9G are 10.27G
    ("efficientnetv2_l", "google/automl, efficientnetv2/README.md"),  # 119.5M are 118.5M
    ("efficientnet_b4_fused_1_5", "arXiv 2104.00298, Table 3"),  # 43.4M are 43.2M, by a fit
    ("efficientnet_b4_fused_1_7", "arXiv 2104.00298, Table 3"),  # 132.0M are 131.8M, by a fit
    ("mobilenetv2", MOBILENET),  # 3.47M are 3.505M
    ("mobilenetv2_050", MOBILENET),  # 1.95M are 1.969M
    ("mobilenetv2_140", MOBILENET),  # 6.06M are 6.109M
    ("mobilenetv3_small", MOBILENET),  # 2.9M and 66M are 2.54M and 56.5M
    ("mobilenetv3_small_075", MOBILENET),  # 2.4M and 44M are 2.04M and 43.4M
    ("mobilenetv3_small_minimalistic", MOBILENET),  # 2.0M and 65M are 2.04M and 52.3M
    (
        "shufflenetv2_x0_5",
        "arXiv 1807.11164, Table 5 (= megvii-model/ShuffleNet-Series README)",
    ),  # 41M are 40.5M
    ("mobilevit_xs", "arXiv 2110.02178, as quoted in apple/ml-cvnets issue #68"),  # 0.7G are 1.026G
}
# Counters that are not rebuilt here, and what they add to the MACs at most.
FOREIGN = {"TF count": 0.031, "mmcv": 0.008}

PUBLISHED = [(name, item) for name, entry in NETWORKS.items() for item in entry.published]


@pytest.mark.parametrize(
    ("name", "item"),
    PUBLISHED,
    ids=[f"{name}-{item.convention}-{item.source[:16]}" for name, item in PUBLISHED],
)
def test_published_figures_are_met_in_their_own_convention_or_the_reason_is_told(name, item):
    params, macs, conventions, _, _ = counted(name, query_of(item.options))
    convention = item.convention.partition(":")[0]
    assert item.source
    assert item.params_m is not None or item.macs_g is not None
    assert item.resolution in (None, NETWORKS[name].resolution)
    assert convention in ("MAC", "fvcore", "MAC, BN folded", *FOREIGN)
    if convention == "MAC, BN folded":
        params = conventions["params_folded"]
    if convention == "fvcore":
        macs = conventions["fvcore_like"]
    met = agrees(params, item.params_m, 1e6)
    if convention in FOREIGN:
        assert -0.001 <= item.macs_g * 1e9 / macs - 1 <= FOREIGN[convention]
    else:
        met = met and agrees(macs, item.macs_g, 1e9)
    assert met == ((name, item.source) not in UNMET)
    assert met or item.reason


@pytest.mark.parametrize("name", NETWORKS)
def test_whatever_deviates_beyond_the_last_digit_has_a_reason(name):
    for figure in figures(NETWORKS[name]):
        if figure.published is not None:
            same = agrees(figure.params, figure.published.params_m, 1e6)
            same = same and agrees(figure.macs, figure.published.macs_g, 1e9)
            assert same or figure.reason


def test_a_figure_agrees_rounded_or_truncated():
    assert agrees(3_505_000, 3.5, 1e6)
    assert agrees(3_590_000, 3.5, 1e6)  # truncated
    assert agrees(3_460_000, 3.5, 1e6)  # rounded
    assert not agrees(3_440_000, 3.5, 1e6)
    assert not agrees(3_610_000, 3.5, 1e6)
    assert agrees(28_590_000, 28, 1e6)
    assert not agrees(29_000_000, 28, 1e6)
    assert agrees(1, None, 1e6)
    assert [last_digit(printed) for printed in (28, 28.3, 0.041)] == [1, 0.1, 0.001]


def test_figures_belong_to_the_form_that_they_describe():
    entry = NETWORKS["repvgg_a0"]
    found = {figure.name: figure for figure in figures(entry)}
    deploy = found["repvgg_a0?deploy=true"]
    assert (deploy.params, deploy.published.params_m) == (8_309_384, 8.30)
    # 8.30 printed of 8.309: 0.11 % too little.
    assert deploy.params_deviation == pytest.approx(8.30e6 / 8_309_384 - 1)
    assert found["repvgg_a0"].params == 9_108_968
    assert query_of({"deploy": True, "branches": "1x1"}) == "deploy=true&branches=1x1"
    assert query_of({}) == ""


# --------------------------------------------------------------------------- the registry


def test_a_name_is_given_once():
    with pytest.raises(ValueError, match=r"'resnet18' is already that of flopscope\.zoo\.resnet\.resnet18"):
        network("resnet18", family="x", resolution=1, paper="", params=0, macs=0)(nn.Identity)
    assert zoo.find("resnet18").family == "ResNet"


@pytest.mark.parametrize(
    ("name", "hint"),
    [("repvgg_ao", "repvgg_a0"), ("swin-t", "swin_t"), ("qqqqqqqqqq", "flopscope zoo lists all")],
)
def test_an_unknown_name_brings_close_ones(name, hint):
    with pytest.raises(ModelLoadError, match=f"the zoo has no network '{name}'") as caught:
        zoo.build(name)
    assert hint in caught.value.hint


def test_an_unknown_option_brings_the_known_ones():
    with pytest.raises(InputError, match="zoo:repvgg_a0 has no option 'deploi'") as caught:
        zoo.build("repvgg_a0", deploi=True)
    assert caught.value.hint == "it has num_classes, deploy"


def test_the_list_cannot_be_changed():
    with pytest.raises(TypeError):
        zoo.networks()["mine"] = None
    assert isinstance(NETWORKS["swin_t"].published[0], Published)


# --------------------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("given", "args"), [("?deploy=true", {}), ("", {"deploy": "true"}), ("", {"deploy": True})]
)
def test_an_address_selects_a_form(given, args):
    model = open_address(f"zoo:repvgg_a0{given}", args=args, meta=True).model
    assert sum(parameter.numel() for parameter in model.parameters()) == 8_309_384


def test_a_word_that_python_reads_otherwise_selects_a_form_too():
    model = open_address("zoo:repvgg_b0?branches=none", meta=True).model
    assert sum(parameter.numel() for parameter in model.parameters()) == 14_345_512


def test_a_network_brings_its_own_resolution():
    report = flopscope.count(open_address("zoo:mobilevit_xxs", meta=True).model)
    assert report.layers[0].input_shape == (1, 3, 256, 256)
    assert report.total.macs == NETWORKS["mobilevit_xxs"].macs


def test_faults_of_addresses():
    with pytest.raises(ModelLoadError) as caught:
        load_model("zoo:fasternet_t00")
    assert "fasternet_t0" in caught.value.hint
    with pytest.raises(InputError):
        open_address("zoo:fasternet_t0?divisor=8", meta=True)
    with pytest.raises(ModelLoadError, match="building zoo:resnet18"):
        load_model("zoo:resnet18?num_classes=many")


# --------------------------------------------------------------------------- files


# The first of each family, and those that are built from other classes.
SAVED = [(name, "") for name in {entry.family: entry.name for entry in reversed(NETWORKS.values())}.values()]
SAVED += [("repvgg_a0", "deploy=true"), ("repvgg_d2se", ""), ("resnet50", ""), ("fasternet_t2", "")]
SAVED += [("efficientnet_b4_fused_1_3", ""), ("mobilenetv3_small_minimalistic", ""), ("vgg16_bn", "")]


@pytest.mark.parametrize(("name", "query"), SAVED, ids=[address(*form)[4:] for form in SAVED])
def test_a_saved_network_needs_no_permission(name, query, tmp_path):
    """The classes of the zoo may be built from a file; the network has as many classes as were asked for."""
    model = open_address(address(name, query), args={"num_classes": "7"}, meta=True).model
    torch.save(model, tmp_path / "net.pt")
    loaded = load_model(tmp_path / "net.pt")
    assert type(loaded) is type(model)
    shapes = [{key: value.shape for key, value in net.state_dict().items()} for net in (model, loaded)]
    assert shapes[0] == shapes[1]
    assert [module for module in loaded.modules() if isinstance(module, nn.Linear)][-1].out_features == 7
    assert loaded.flopscope_resolution == NETWORKS[name].resolution


def test_a_saved_network_computes_what_it_did(tmp_path):
    torch.manual_seed(0)
    model = load_model("zoo:mobilenetv3_small").eval()
    torch.save(model, tmp_path / "net.pt")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(load_model(tmp_path / "net.pt").eval()(x), model(x))


@pytest.mark.parametrize("foreign", [zoo.find, Published("x")])
def test_functions_and_records_of_the_zoo_are_refused_in_files(foreign, tmp_path):
    torch.save({"net": nn.Linear(2, 2), "other": foreign}, tmp_path / "net.pt")
    with pytest.raises(UntrustedModelError):
        load_model(tmp_path / "net.pt", key="net")
