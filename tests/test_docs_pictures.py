"""The pictures of the manual, and its measured numbers: made from the saved reports, and what the text
says of them holds for these reports.

After a new measurement: `python docs/make_pictures.py`.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import flopscope
from flopscope.records import Layer
from flopscope.reports import Report

ROOT = Path(flopscope.__file__).parent.parent
DOCS = ROOT / "docs"
MEASURED = re.compile(r"\d[\d.,]*\s*(ms|µs|%|G?FLOP/s|GB/s|MB)(?![\w-])|\d\.\d+x?\s")

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is in the checkout only")


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def large() -> Report:
    return flopscope.load(DOCS / "data" / "mobilenet_v3_large.json")


@pytest.fixture(scope="module")
def net() -> Report:
    return flopscope.load(DOCS / "data" / "net.json")


def prose(page: str) -> str:
    """The page without made parts, code and tables."""
    text = re.sub(r"<!-- made: .*?<!-- end -->", "", page, flags=re.DOTALL)
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`|^\|.*$", "", text, flags=re.MULTILINE)


def named(report: Report, path: str) -> Layer:
    return next(layer for layer in report.layers if layer.path == path)


def seconds(layer: Layer, part: str = "latency_floor") -> float:
    found = getattr(layer, f"{part}_s")
    assert found is not None
    return float(found)


def rate(layer: Layer) -> float:
    assert layer.flops_per_s is not None
    return layer.flops_per_s


def share(report: Report, kinds: tuple[str, ...], column: str) -> float:
    rows = [layer for layer in report.layers if layer.kind in kinds]
    return float(
        sum(getattr(row, column) for row in rows) / sum(getattr(row, column) for row in report.layers)
    )


# --------------------------------------------------------------------------- made of the reports


def test_pictures_and_made_parts_are_those_of_the_saved_reports(maker: ModuleType) -> None:
    stale = [path.name for path, text in maker.made().items() if path.read_text(encoding="utf-8") != text]
    assert not stale, "run: python docs/make_pictures.py"


def test_every_part_is_used_and_every_picture_is_shown(maker: ModuleType) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in maker.PAGES}
    used = [name for text in pages.values() for name in re.findall(r"<!-- made: ([a-z-]+) -->", text)]
    assert {*used} == {*maker.PARTS}
    shown = {
        name for text in pages.values() for name in re.findall(r"\]\((?:docs/)?pictures/([^)]+)\)", text)
    }
    assert shown == {path.name for path in maker.made() if path.suffix == ".svg"}


def test_pictures_stand_alone(maker: ModuleType) -> None:
    for path, text in maker.made().items():
        if path.suffix == ".svg":
            assert text.startswith("<svg ")
            assert "<script" not in text
            assert "<style" not in text
            assert "href" not in text


def test_measured_numbers_stand_in_made_parts_only() -> None:
    assert MEASURED.search("it takes 0.467 ms, 28 %")
    for path in (
        DOCS / "why-flops-are-not-time.md",
        DOCS / "tutorial.md",
    ):  # others tell of counts, or limits
        found = [
            line for line in prose(path.read_text(encoding="utf-8")).splitlines() if MEASURED.search(line)
        ]
        # A share that is an example was not measured.
        assert [line for line in found if "cannot save more" not in line] == [], path.name


def test_reports_are_small_and_of_one_thread(maker: ModuleType) -> None:
    for name, (model, _) in maker.MODELS.items():
        file = DOCS / "data" / f"{name}.json"
        report = flopscope.load(file)
        assert file.stat().st_size <= 600_000
        assert (report.model, report.settings.threads) == (model, 1)
        assert report.quality is not None
        assert report.quality.word != "void", f"{name}: measure again, on a machine at rest"


def test_the_tutorials_network_is_the_one_that_was_measured(
    maker: ModuleType, net: Report, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(maker.tutorial_network(), encoding="utf-8")
    model = flopscope.load_model(f"{tmp_path / 'net.py'}:build")
    counted = flopscope.count(model, (1, 64, 56, 56), progress=False)
    keys = ("path", "kind", "macs", "flops", "bytes_read", "bytes_written")
    assert [[getattr(row, key) for key in keys] for row in counted.layers] == [
        [getattr(row, key) for key in keys] for row in net.layers
    ]


# --------------------------------------------------------------------------- what the text says


def test_the_division_fewer_flops_and_longer(maker: ModuleType, large: Report) -> None:
    depthwise, pointwise = named(large, maker.DEPTHWISE), named(large, maker.POINTWISE)
    assert (depthwise.kind, pointwise.kind) == ("depthwise_conv", "pointwise_conv")
    assert depthwise.flops < pointwise.flops / 2
    assert seconds(depthwise) > seconds(pointwise)
    assert depthwise.flops / rate(depthwise) == pytest.approx(seconds(depthwise))


def test_the_whole_network_shares(large: Report) -> None:
    few = ("depthwise_conv", "batch_norm", "se")
    assert share(large, ("pointwise_conv",), "flops") > 0.8
    assert share(large, ("pointwise_conv",), "latency_s") < 0.5
    assert 0.08 < share(large, few, "flops") < 0.12
    assert share(large, few, "latency_s") > (1 - share(large, ("pointwise_conv",), "latency_s")) / 2


def test_the_roofline_low_left_high_right_many_below(large: Report) -> None:
    intensity = {kind: [] for kind in ("batch_norm", "pointwise_conv")}
    for layer in large.layers:
        if layer.kind in intensity and layer.arithmetic_intensity:
            intensity[layer.kind].append(layer.arithmetic_intensity)
    assert max(intensity["batch_norm"]) < 1 < min(intensity["pointwise_conv"])
    above = [layer.headroom for layer in large.layers if layer.headroom is not None]
    assert sum(headroom > 3 for headroom in above) > len(above) / 3


def test_the_three_operators(net: Report) -> None:
    pconv, pointwise, depthwise = (named(net, name) for name in ("pconv", "pointwise", "depthwise"))
    assert pconv.macs == 4 * depthwise.macs
    assert depthwise.macs < pconv.macs < pointwise.macs
    assert rate(depthwise) < rate(pconv) < rate(pointwise)
    assert seconds(pointwise, "compute") > seconds(pointwise) / 2
    assert "layout-reorder" in depthwise.verdicts
    assert pconv.bytes_read + pconv.bytes_written > depthwise.bytes_read + depthwise.bytes_written
    expected = depthwise.macs / pointwise.macs
    assert seconds(depthwise) / seconds(pointwise) > 2 * expected, "its time does not follow its MACs"


def test_the_tutorial_the_depthwise_layer_is_out_of_proportion(net: Report) -> None:
    depthwise = net.df.set_index("path").loc["depthwise"]
    assert depthwise["flops_share"] < 0.1
    assert depthwise["latency_share"] / depthwise["flops_share"] > 2
    assert seconds(named(net, "depthwise")) > 5 * seconds(named(net, "depthwise"), "compute")
