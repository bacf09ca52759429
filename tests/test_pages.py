"""Pages as text: what stands in them, what they carry, and that nobody's names do anything there."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import made_reports
import pytest
from command_lines import CommandLine

import flopscope
from flopscope.commands.outputs import is_ours
from flopscope.comparison import Comparison, compared
from flopscope.errors import ModelLoadError
from flopscope.pages import comparison_page, embedded, report_page
from flopscope.pages.commands import reproduced
from flopscope.pages.explained import explained, room_for
from flopscope.pages.inking import inked
from flopscope.pages.layers import layer_table
from flopscope.records import Latency, Layer, Phase, Quality, Refused, Rewrote, Settings, Side
from flopscope.render.why import why_text
from flopscope.reports import Report, is_report

SECTIONS = ["summary", "picture", "time", "roofline", "layers", "sums", "win", "memory", "coverage", "method"]
SIDES = ["sides", "pictures", "kinds", "layers", "rewrites", "notes"]
VOID = {"br", "hr", "img", "input", "link", "meta"}
OPTIONAL = {"p", "td", "th", "tr", "li"}  # elements whose end HTML lets one leave out
HOSTILE = "</script><img src=x onerror=alert(1)>\"'`{{7*7}}<!--"


class Parsed(HTMLParser):
    """A page's elements with their attributes, its texts, and what stands in its scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.raw: list[tuple[dict[str, str | None], str]] = []
        self.open: list[str] = []
        self.faults: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if len({name for name, _ in attrs}) != len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        if tag in ("script", "style"):
            self.raw.append((dict(attrs), ""))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] != tag and self.open[-1] in OPTIONAL:
            self.open.pop()
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> ends nothing")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("script", "style"):
            attributes, text = self.raw[-1]
            self.raw[-1] = (attributes, text + data)
        else:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def counted(**given: object) -> Report:
    """A report without latencies."""
    layers = (made_reports.conv(), made_reports.depthwise(), made_reports.add())
    return made_reports.report(*layers, **given)


def trained() -> Report:
    phases = (Phase("forward", 400, 1000, 380, 220, 3e-6), Phase("backward", 800, 2000, 760, 440, 7e-6))
    return replace(
        made_reports.explained(), phases=phases, held_bytes={"saved": 3072, "gradient": 200},
        settings=Settings(inputs="1x4x2x2", train=True),
    )  # fmt: skip


def void() -> Report:
    return made_reports.explained(quality=Quality("void", ("the machine was busy",), "stop other work"))


def empty() -> Report:
    bare = counted()
    nothing = replace(bare.total, params=0, param_bytes=0, macs=0, flops=0, bytes_read=0, bytes_written=0)
    return replace(
        bare, layers=(), tree=(nothing,), ops=(), total=nothing, conventions={}, notes=(), warnings=()
    )


def unpriced() -> Report:
    return counted(uncosted={"mylib::foo": 3})


REPORTS: dict[str, Callable[[], Report]] = {
    "explained": made_reports.explained,
    "timed": made_reports.report,
    "counted": counted,
    "trained": trained,
    "void": void,
    "empty": empty,
    "unpriced": unpriced,
}


@pytest.fixture(params=list(REPORTS))
def report(request: pytest.FixtureRequest) -> Report:
    return REPORTS[request.param]()


# --------------------------------------------------------------------------- structure


def test_every_section_is_there_and_the_page_is_well_formed(report: Report) -> None:
    page = Parsed(report_page(report))
    assert not page.faults
    assert [given["id"] for given in page.all("section")] == SECTIONS
    identities = [given["id"] for _, given in page.elements if "id" in given]
    assert len(identities) == len(set(identities))
    named = {given["href"] for given in page.all("a")}
    assert {name[1:] for name in named if name} <= set(identities)
    assert page.all("html") == [{"lang": "en"}]
    assert [tag for tag, _ in page.elements if tag in ("header", "nav", "main", "footer")] == [
        "header", "nav", "main", "footer",
    ]  # fmt: skip


def test_headings_go_down_one_level_at_a_time(report: Report) -> None:
    page = Parsed(report_page(report))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_tables_have_captions_and_scoped_headings(report: Report) -> None:
    page = Parsed(report_page(report))
    assert len(page.all("caption")) == len(page.all("table"))
    assert {given.get("scope") for given in page.all("th")} == {"row", "col"}


def test_sections_without_latency_say_that_it_was_not_measured() -> None:
    text = Parsed(report_page(counted())).text
    assert "counts only" in text
    assert text.count("Not measured: this report holds counts only.") == 2
    assert "Not measured: a rate needs a latency." in text
    assert "Latency not measured" in text.replace("Latencynot", "Latency not")


def test_a_void_measurement_is_alarming_and_withholds_verdicts() -> None:
    page = Parsed(report_page(void()))
    assert {"class": "badge", "data-word": "void"} in page.all("strong")
    assert "the machine was busy" in page.text
    assert "Withheld: the measurement is void." in page.text


def test_a_training_step_shows_its_phases_and_what_it_holds() -> None:
    text = Parsed(report_page(trained())).text
    assert "Phases of the training step" in text
    assert "saved for the backward 3.07 kB, gradients 200 B" in text


def test_what_has_no_price_makes_a_lower_bound() -> None:
    text = Parsed(report_page(unpriced())).text
    assert "mylib::foo" in text
    assert "≥ 400" in text  # the MACs: 300 + 100


def test_cards_show_the_whole_exactly() -> None:
    text = Parsed(report_page(made_reports.explained())).text
    for told in (
        "1 MAC = 2 FLOPs",
        "net.py:Net",
        "50",
        "1,000",
        "11.0 µs",
        "at a",
        "timing" if False else "good",
    ):
        assert told in text  # 40 + 10 parameters; 600 + 200 + 200 FLOPs


def test_modules_that_never_ran_are_listed() -> None:
    bare = counted()
    idle = made_reports.layer("spare", "Linear", "linear", calls=0, depth=1)
    assert "spare" in Parsed(report_page(replace(bare, tree=(*bare.tree, idle)))).text


# --------------------------------------------------------------------------- the table of layers


def test_layers_stand_below_the_containers_that_hold_them() -> None:
    table = layer_table(made_reports.explained())
    assert [(line.place, line.depth, line.above, line.name) for line in table.lines] == [
        (None, 1, "", "a"),
        (0, 2, "a.", "conv"),
        (1, 2, "a.", "dw"),
        (2, 2, "", "a (ops)"),
    ]


def test_cells_carry_the_raw_numbers_by_which_they_are_sorted() -> None:
    table = layer_table(made_reports.explained())
    place = table.columns.index("latency_s")
    cell = table.lines[2].cells[place]
    assert (cell.text, cell.value) == ("0.006", "6e-06")
    assert table.lines[2].cells[table.columns.index("latency_share")].value == "6e-06"
    assert not table.lines[0].cells[place].value  # a container is not sorted


def test_a_container_shows_its_sums() -> None:
    report = made_reports.explained()
    box = replace(report.tree[1], macs=400, flops=1000)
    table = layer_table(replace(report, tree=(report.tree[0], box, *report.tree[2:])))
    texts = [cell.text for cell in table.lines[0].cells]
    assert texts[table.columns.index("macs")] == "400"


def test_a_deep_and_an_odd_path_do_not_break_the_tree() -> None:
    path = ".".join("abc" for _ in range(2000))
    odd = [made_reports.layer(name, "Linear", "linear") for name in (path, "", ".", "x..y", "x.")]
    table = layer_table(replace(counted(), layers=tuple(odd)))
    assert [line.place for line in table.lines if line.place is not None] == [0, 1, 2, 3, 4]


def test_explanations_are_in_full_for_those_that_take_most() -> None:
    report = made_reports.explained()
    told = explained(report, room=len(why_text(report.why("a.dw"), width=None)) + 1)
    assert told.full == 1
    assert told.share == pytest.approx(0.6)  # 6 of 10 µs
    assert any("layout-reorder" in line for line in told.lines[1])
    assert not told.texts[1]
    assert len(told.lines[0]) == 1
    assert told.texts[0].startswith("a.conv")
    assert all(len(text) == 0 for text in explained(report).texts)


def test_room_for_explanations_shrinks_with_the_number_of_layers() -> None:
    assert room_for(10) == room_for(150) == 150_000
    assert room_for(350) == 100_000
    assert room_for(10_000) == 37_500


def test_short_explanations_are_carried_in_full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flopscope.pages.explained.ROOM", 0)
    report = made_reports.explained()
    page = report_page(report)
    texts = json.loads(embedded.extracted(page, "flopscope-explanations"))
    assert [text.splitlines()[0][:5] for text in texts] == ["a.con", "a.dw ", "a (op"]
    assert "the 0 layers" not in Parsed(page).text
    assert "with scripts" in Parsed(page).text


# --------------------------------------------------------------------------- what a page carries


def test_a_page_is_read_back_exactly(report: Report, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    assert report.to_html(path) == path.read_text(encoding="utf-8")
    assert is_report(path)
    assert flopscope.load(path) == report


def test_a_page_is_the_same_each_time(report: Report) -> None:
    assert report_page(report) == report_page(report)


def test_view_and_load_of_a_page_need_neither_torch_nor_pandas(tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    made_reports.explained().to_html(path)
    script = (
        "import sys\n"
        "from flopscope.commands.porch import porch\n"
        "try: porch(['view', sys.argv[1], '--md', '-o', sys.argv[2]])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "sys.exit(', '.join({'torch', 'pandas', 'numpy', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    again = tmp_path / "again.html"
    words = [sys.executable, "-c", script, str(path), str(again)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "a.dw" in done.stdout
    assert again.read_text(encoding="utf-8") == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda page: page[: page.index('id="flopscope-report"') + 200],
        lambda page: page.replace('id="flopscope-report"', 'id="else"'),
        lambda page: re.sub(r'"text":"H4sI.{40}', '"text":"H4sI' + 40 * "A", page, count=1),
        lambda page: re.sub(r'("text":"H4sI)', r"\1!", page, count=1),
        lambda page: re.sub(r'"text":"H4sI', '"tixt":"H4sI', page, count=1),
    ],
    ids=["cut off", "renamed", "changed", "not base64", "no text"],
)
def test_a_damaged_page_is_refused_in_words(spoil: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(spoil(report_page(made_reports.report())), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="damaged report"):
        flopscope.load(path)


def test_a_small_page_cannot_unpack_into_a_huge_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "LARGEST", 1000)
    page = f'<script type="application/json" id="x">{embedded.element("x", 2000 * " ")}</script>'
    with pytest.raises(ValueError, match="larger than any report"):
        embedded.extracted(page, "x")


def test_a_page_of_a_newer_format_is_refused(tmp_path: Path) -> None:
    text = embedded.report_text(made_reports.report()).replace('"version":1', '"version":2', 1)
    page = report_page(made_reports.report())
    old = re.search(r'id="flopscope-report">(.*?)</script>', page)
    assert old is not None
    path = tmp_path / "page.html"
    path.write_text(page.replace(old[1], embedded.element("flopscope-report", text)), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="format version 2"):
        flopscope.load(path)


def many(count: int) -> Report:
    """So many layers in blocks, each explained; numbers that do not pack well."""
    chance = random.Random(0)

    def one(place: int) -> Layer:
        kind = ("pointwise_conv", "batch_norm", "activation", "depthwise_conv", "se")[place % 5]
        parts = [round(chance.uniform(0, 90), 9) for _ in range(5)]
        whole = chance.randrange(10**6, 10**8)
        return made_reports.layer(
            f"features.{place // 50}.{place // 10 % 5}.block.{place % 10}", "Conv2d", kind, macs=whole,
            flops=2 * whole, params=whole // 977, bytes_read=whole // 7, bytes_written=whole // 11, depth=5,
            detail=f"3x3 {place}>{place}", headroom=chance.uniform(1, 20), samples=40, quality="good",
            latency_low_s=chance.uniform(1e-5, 2e-5), latency_high_s=chance.uniform(3e-4, 4e-4),
            verdicts=("layout-reorder", "no-gemm", "dispatch-overhead"), **made_reports.parts(*parts),
        )  # fmt: skip

    layers = tuple(one(place) for place in range(count))
    paths = {path for layer in layers for path in above(layer.path)}
    boxes = [
        made_reports.layer(path, "Sequential", "other", latency_s=chance.random()) for path in sorted(paths)
    ]
    op = made_reports.report().ops[0]
    return replace(
        made_reports.explained(layers=layers, evidence=tuple(made_reports.evidence() for _ in layers)),
        tree=(made_reports.report().total, *boxes, *layers),
        ops=tuple(replace(op, index=place, path=layers[place].path) for place in range(count)),
    )


def above(path: str) -> list[str]:
    words = path.split(".")
    return [".".join(words[:count]) for count in range(1, len(words))]


def test_a_page_of_500_layers_stays_below_a_megabyte() -> None:
    report = many(500)
    page = report_page(report)
    assert len(page.encode()) < 1_000_000
    assert page.count("id=layer-") == 500
    told = explained(report)
    assert 20 <= told.full < 500
    assert all(told.lines)


# --------------------------------------------------------------------------- security


def hostile() -> Report:
    """Whatever may come from a model or a file, named with malice."""
    report = made_reports.explained()
    bad = [replace(layer, path=f"a.{HOSTILE}{k}", type=HOSTILE, detail=HOSTILE, kind=layer.kind)
           for k, layer in enumerate(report.layers)]  # fmt: skip
    return replace(
        report, model=HOSTILE, layers=tuple(bad), tree=(report.total, report.tree[1], *bad), notes=(HOSTILE,),
        warnings=(HOSTILE,), uncosted={HOSTILE: 1}, conventions={HOSTILE: 1},
        settings=Settings(inputs=HOSTILE, device=HOSTILE, dtype=HOSTILE, machine=HOSTILE),
        environment=replace(report.environment, cpu=HOSTILE, date=HOSTILE, other={HOSTILE: HOSTILE}),
        quality=Quality("good", (HOSTILE,), HOSTILE), loaded_by="import",
        machine=made_reports.roofs(absent={HOSTILE: HOSTILE}, overheads_s={HOSTILE: 1e-6}, source=HOSTILE),
        ops=tuple(replace(op, op=HOSTILE, path=HOSTILE, priced_by=HOSTILE) for op in report.ops),
        peak=replace(report.peak, path=HOSTILE, alive=((HOSTILE, 1),)),
    )  # fmt: skip


def assert_harmless(page: str) -> None:
    parsed = Parsed(page)
    assert not parsed.faults
    assert {tag for tag, _ in parsed.elements}.isdisjoint(
        {"img", "iframe", "object", "embed", "link", "base", "form"}
    )
    for tag, attributes in parsed.elements:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "style" not in attributes, tag  # the policy would drop it
        assert "src" not in attributes, tag
        assert (attributes.get("href") or "#").startswith("#"), tag
    assert len(parsed.all("script")) == len(parsed.raw) - 1
    assert "49" not in parsed.all("title")
    assert re.search(r"https?:", page) is None
    assert "@import" not in page
    assert re.search(r"url\(", page) is None


def test_names_are_text_and_nothing_else(tmp_path: Path) -> None:
    report = hostile()
    page = report_page(report)
    assert_harmless(page)
    assert HOSTILE not in page
    assert HOSTILE in "".join(Parsed(page).texts)
    path = tmp_path / "page.html"
    path.write_text(page, encoding="utf-8")
    assert flopscope.load(path) == report


def test_a_kind_of_anybody_stays_in_its_attribute() -> None:
    report = counted()
    bad = replace(report.layers[0], kind='x" onclick="alert(1)')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flopscope.pages.reported.pictures.icicles", lambda report: "")
        patch.setattr("flopscope.pages.reported.pictures.breakdown", lambda report, by: "")
        assert_harmless(report_page(replace(report, layers=(bad,))))


def test_control_characters_are_spelled_out() -> None:
    report = replace(counted(), notes=("a\x1b[31m\u202eb",), model="net\x00")
    text = Parsed(report_page(report)).text
    assert "a\\x1b[31m\\u202eb" in text
    assert "net\\x00" in text
    assert not re.search("[\x00\x1b\u202e]", text)


def hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def test_the_policy_allows_this_style_and_this_script_alone(report: Report) -> None:
    page = Parsed(report_page(report))
    policies = [given["content"] for given in page.all("meta") if given.get("http-equiv")]
    assert len(policies) == 1
    allowed = dict(part.strip().split(" ", 1) for part in (policies[0] or "").split(";"))
    style = [text for attributes, text in page.raw if attributes == {} and ":root" in text]
    script = [text for attributes, text in page.raw if attributes == {} and '"use strict"' in text]
    assert allowed == {
        "default-src": "'none'", "style-src": hash_of(style[0]), "script-src": hash_of(script[0]),
        "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    others = {given.get("type") for given, text in page.raw if text not in (style[0], script[0])}
    assert others <= {"application/json"}


def test_every_page_is_harmless(report: Report) -> None:
    assert_harmless(report_page(report))


# --------------------------------------------------------------------------- pictures in a page


def test_looks_that_repeat_become_rules() -> None:
    bar = '<rect x="{0}" fill="var(--ink,#1b1f24)" stroke-width="0.6"/>'
    svg = (
        f'<svg><g class="tile" data-row="0" tabindex="0">{"".join(bar.format(k) for k in range(3))}</g></svg>'
    )
    drawn, rules = inked({"one": svg})
    assert rules == ".i0{fill:var(--ink);stroke-width:0.6px}\n"
    bars = "".join(f'<rect x="{k}" class=i0 />' for k in range(3))
    assert drawn == {"one": f'<svg><g data-row="0">{bars}</g></svg>'}


def test_looks_that_do_not_repeat_stay_and_texts_are_not_touched() -> None:
    svg = '<svg><text x="1" fill="red">fill="red" data-path=&quot;a&quot;</text></svg>'
    assert inked({"one": svg}) == ({"one": svg}, "")


# --------------------------------------------------------------------------- making it again


@pytest.mark.parametrize(
    ("settings", "loaded_by", "command"),
    [
        (Settings(inputs="1x3x224x224 float32", threads=1), "import", "-i 1,3,224,224 --threads 1"),
        (Settings(inputs="ids=1x128 int64, m=1x128 bool"), "allowlist", "-i ids=1,128:int64 -i m=1,128:bool"),
        (Settings(inputs="1x3x8x8", latency=False, channels_last=True), "import",
         "-i 1,3,8,8 --no-latency --channels-last"),
        (Settings(inputs="8x4", effort="quick", train=True, seed=3), "trusted",
         "-i 8,4 --seed 3 --effort quick --train --trust"),
    ],
)  # fmt: skip
def test_the_command_that_makes_a_report_again(settings: Settings, loaded_by: str, command: str) -> None:
    report = replace(made_reports.report(), model="my net.py:Net", settings=settings, loaded_by=loaded_by)
    assert reproduced(report) == (f"flopscope report 'my net.py:Net' {command}", "")


def test_a_model_given_as_an_object_is_made_again_in_python() -> None:
    settings = Settings(inputs="1x3x8x8, ids=4 int64", threads=2, effort="quick")
    text, told = reproduced(replace(made_reports.report(), settings=settings))
    assert told.startswith("Here model is the model itself")
    assert text == (
        "report = flopscope.profile(model, flopscope.Inputs((1, 3, 8, 8), ids=flopscope.Spec((4,), 'int64'))"
        ", threads=2, effort='quick')"
    )


def test_inputs_of_another_form_are_left_out_and_that_is_said() -> None:
    settings = Settings(inputs="[1x3x8x8, 1x3x4x4]")
    report = replace(made_reports.report(), settings=settings, loaded_by="import")
    assert reproduced(report) == ("flopscope report net.py:Net", "Its inputs cannot be written on a line")


# --------------------------------------------------------------------------- comparisons


def comparison(**given: object) -> Comparison:
    first = replace(made_reports.explained(), whole=Latency(tuple(10e-6 for _ in range(20))))
    second = replace(first, whole=Latency(tuple(5e-6 for _ in range(20))), layers=first.layers[:2],
                     evidence=first.evidence[:2])  # fmt: skip
    third = replace(first, whole=Latency(tuple(20e-6 for _ in range(20))))
    folded = Rewrote(("fold-bn",), "same", ("a.conv",), ("a.dw: shared",), 1e-6, 2e-15)
    sides = [
        Side("as is", measured=True),
        Side("fold-bn", measured=True, rewrote=folded),
        Side("drop-se", measured=True, rewrote=Rewrote(("drop-se",), "changed", ("a",))),
    ]  # fmt: skip
    refused = [Refused("merge-branches", "there are no parallel branches", "nothing to do")]
    return compared(
        sides, [first, second, third], turns=3 * [range(20)], refused=refused, notes=["a note"], **given
    )


def test_a_comparison_has_its_sections_verdicts_and_refusals() -> None:
    page = Parsed(comparison_page(comparison()))
    assert not page.faults
    assert [given["id"] for given in page.all("section")] == SIDES
    words = [given["data-word"] for given in page.all("strong") if given.get("class") == "badge"]
    assert words == ["good", "faster", "slower"]
    for told in (
        "fold-bn takes 0.500 times as long as as is (0.500 to 0.500)",
        "drop-se (another function) takes 2.00 times as long",
        "ANOTHER FUNCTION, fresh weights",
        "2.0e-15",
        "a.dw: shared",
        "there are no parallel branches",
        "a note",
    ):
        assert told in page.text
    assert_harmless(comparison_page(comparison()))


def test_layers_of_a_comparison_stand_side_by_side_with_their_difference() -> None:
    first = made_reports.explained()
    other = replace(first, layers=(replace(first.layers[0], latency_s=5e-6, macs=100), *first.layers[1:2]),
                    evidence=first.evidence[:2])  # fmt: skip
    page = comparison_page(compared([Side("one"), Side("two")], [first, other]))
    rows = re.findall(r"<tr id=layer-(\d+).*?>(?:<th.*?</th>)(.*)", page)
    assert [(place, re.sub(r"<td[^>]*>", "|", cells)) for place, cells in rows] == [
        ("0", "|conv|1x4x2x2|300|100|0.002|0.005|+0.003"),
        ("1", "|depthwise_conv|1x4x2x2|100|100|0.006|0.006|0.000"),
        ("2", "|elementwise|1x4x2x2|0|-|0.002|-|-0.002"),
    ]


def test_tiles_of_every_side_lead_to_the_rows_of_the_page() -> None:
    first = made_reports.explained()
    other = replace(first, layers=first.layers[1:], evidence=first.evidence[1:])
    page = comparison_page(compared([Side("one"), Side("two")], [first, other]))
    pictures = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    rows = [set(re.findall(r'data-row="(\d+)"', svg)) for svg in pictures if "FLOPs" in svg]
    assert {"0", "1", "2"} in rows
    assert {"1", "2"} in rows


def test_a_comparison_of_counts_says_so() -> None:
    page = Parsed(comparison_page(compared([Side("one"), Side("two")], [counted(), counted()])))
    assert "Latency was not measured: counts alone are compared." in page.text


def test_names_of_sides_are_text_and_nothing_else() -> None:
    bad = replace(
        comparison(),
        sides=tuple(replace(side, name=f"{HOSTILE}{k}") for k, side in enumerate(comparison().sides)),
        refused=(Refused(HOSTILE, HOSTILE, HOSTILE),),
        notes=(HOSTILE,),
        reports=(hostile(), *comparison().reports[1:]),
    )
    page = comparison_page(bad)
    assert_harmless(page)
    assert HOSTILE not in page


def test_a_comparison_carries_its_json(tmp_path: Path) -> None:
    found = comparison()
    path = tmp_path / "cmp.html"
    page = found.to_html(path)
    assert json.loads(embedded.extracted(page, "flopscope-comparison")) == json.loads(found.to_json())
    assert path.read_text(encoding="utf-8") == page
    assert is_ours(path)
    assert not is_report(path)
    with pytest.raises(ModelLoadError, match="not a saved report"):
        flopscope.load(path)


# --------------------------------------------------------------------------- the command line


@pytest.fixture
def flop(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    monkeypatch.chdir(tmp_path)
    return CommandLine(capsys)


def test_a_page_is_written_by_its_suffix_and_known_again(flop: CommandLine) -> None:
    report = made_reports.explained()
    report.save("r.json")
    assert flop("view", "r.json", "-o", "r.html").code == 0
    assert Path("r.html").read_text(encoding="utf-8") == report_page(report)
    assert is_ours(Path("r.html"))
    assert flop("view", "r.json", "-o", "r.html").code == 0
    assert flop("view", "r.html", "-o", "r.html").code == 2  # what is read is not written
    assert flop("view", "r.html", "--md").out == report.table("markdown")


def test_a_page_is_a_report_wherever_one_may_stand(flop: CommandLine) -> None:
    made_reports.explained().to_html("r.html")
    assert "a.dw" in flop("report", "r.html", "--md").out
    assert flop("check", "r.html", "--budget", "macs<=400").code == 0
    assert flop("check", "r.html", "--budget", "macs<400").code == 1
    assert "layout-reorder" in flop("why", "r.html", "a.dw").out


def test_a_web_page_of_somebody_else_is_neither_read_nor_replaced(flop: CommandLine) -> None:
    made_reports.report().save("r.json")
    Path("mine.html").write_text("<!doctype html><title>mine</title>", encoding="utf-8")
    assert flop("view", "r.json", "-o", "mine.html").code == 2
    assert flop("view", "mine.html").code == 3
    assert flop("view", "r.json", "-o", "mine.html", "--force").code == 0
    assert is_report("mine.html")
