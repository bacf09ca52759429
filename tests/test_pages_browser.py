"""Pages in a browser: what they do there, with scripts and without, and that they fetch nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_reports
import pytest
from test_pages import SECTIONS, comparison, counted, hostile, many

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed"
)

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        running = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every page once."""
    folder = tmp_path_factory.mktemp("pages")
    made = {
        "explained": made_reports.explained(),
        "many": many(60),
        "counted": counted(),
        "hostile": hostile(),
        "compared": comparison(),
    }
    for name, held in made.items():
        held.to_html(folder / f"{name}.html")
    return {name: folder / f"{name}.html" for name in made}


@pytest.fixture
def show(browser: Any, files: dict[str, Path]) -> Iterator[Open]:
    """Open a page in a context of its own; in the end nothing may have gone wrong or been fetched."""
    contexts: list[Any] = []
    faults: list[str] = []
    fetched: list[str] = []

    def opened(
        name: str, *, width: int = 1600, scripts: bool = True, theme: str = "light", **given: Any
    ) -> Any:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, java_script_enabled=scripts, color_scheme=theme, **given
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda said: faults.append(f"{said.type}: {said.text}"))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: (faults.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: fetched.append(request.url))
        page.goto(files[name].as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults
    assert {url.partition("#")[0] for url in fetched} <= {path.as_uri() for path in files.values()}


def visible_rows(page: Any) -> list[str]:
    rows = page.locator("#table tbody tr:visible")
    return [text.strip() for text in rows.locator("th").evaluate_all(
        "cells => cells.map(cell => (cell.querySelector('summary') ?? cell).textContent)")]  # fmt: skip


def values(page: Any, heading: str) -> list[float]:
    """The raw numbers of a column in the rows that are seen."""
    found = page.evaluate(
        """heading => {
            const heads = [...document.querySelectorAll('#table thead th')];
            const column = heads.findIndex(head => head.textContent === heading);
            return [...document.querySelectorAll('#table tbody tr[id]')].filter(row => !row.hidden).map(
                row => row.cells[column].dataset.value ?? row.cells[column].textContent);
        }""",
        heading,
    )
    return [float(text) for text in found if text.strip()]


def head(page: Any, heading: str) -> Any:
    return page.locator("#table thead th button", has_text=heading).first


# --------------------------------------------------------------------------- nothing is amiss


@pytest.mark.parametrize("name", ["explained", "many", "counted", "hostile", "compared"])
@pytest.mark.parametrize("width", [400, 1600])
def test_nothing_overflows_fails_or_is_fetched(show: Open, name: str, width: int) -> None:
    page = show(name, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.body.scrollWidth") <= width
    assert page.locator("h1").is_visible()


def test_the_policy_stops_what_does_not_belong_to_the_page(
    browser: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    text = files["explained"].read_text(encoding="utf-8")
    spoilt = tmp_path / "spoilt.html"
    extra = "<script>document.title = 'stolen'</script><img src='https://example.invalid/x.png'>"
    spoilt.write_text(text.replace("</main>", f"{extra}</main>"), encoding="utf-8")
    page = browser.new_page()
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(spoilt.as_uri())
    assert page.title() != "stolen"
    assert len([text for text in said if "Content Security Policy" in text]) >= 2
    page.close()


def test_without_scripts_every_section_is_there_to_read(show: Open) -> None:
    page = show("explained", scripts=False)
    for name in SECTIONS:
        assert page.locator(f"#{name}").is_visible(), name
    assert page.locator("#by-kind").is_visible()
    assert page.locator("#by-layer").is_visible()
    assert page.locator("#table tbody tr").count() == 4
    assert not page.locator(".controls").is_visible()
    assert not page.locator("#theme").is_visible()
    page.locator("#layer-1 summary").click()
    assert page.locator("#layer-1 p", has_text="1. layout-reorder").is_visible()


# --------------------------------------------------------------------------- the table of layers


def test_a_click_sorts_numbers_numerically_and_the_third_restores_the_run(show: Open) -> None:
    page = show("many")
    before = visible_rows(page)
    head(page, "MACs").click()
    sorted_down = values(page, "MACs")
    assert len(sorted_down) == 60
    assert sorted_down == sorted(sorted_down, reverse=True)
    assert page.locator("th[aria-sort=descending]").inner_text().startswith("MACs")
    assert page.locator("#table tbody tr.sum:visible").count() == 0
    head(page, "MACs").click()
    assert values(page, "MACs") == sorted(sorted_down)
    assert page.locator("th[aria-sort=ascending]").count() == 1
    head(page, "MACs").click()
    assert visible_rows(page) == before
    assert page.locator("th[aria-sort=none]").count() == page.locator("#table thead th").count()


def test_the_keyboard_sorts_texts_from_a(show: Open) -> None:
    page = show("many")
    head(page, "layer").focus()
    page.keyboard.press("Enter")
    names = visible_rows(page)
    assert page.locator("th[aria-sort=ascending]").count() == 1
    assert [name for name in names if name == "features.0.0.block.0"] == names[:1]
    head(page, "time %").focus()
    page.keyboard.press("Space")
    shares = values(page, "time %")
    assert shares == sorted(shares, reverse=True)


def test_what_has_no_number_comes_last_either_way(show: Open) -> None:
    page = show("explained")
    for _ in range(2):
        head(page, "GFLOP/s").click()
        assert visible_rows(page)[-1] == "a (ops)"  # it has GB/s


def test_filters_by_words_and_kind_and_says_how_many_are_left(show: Open) -> None:
    page = show("many")
    count = page.locator("#count")
    assert count.inner_text() == "60 of 60 layers"
    page.locator("#kind").select_option("depthwise_conv")
    assert count.inner_text() == "12 of 60 layers"
    page.locator("#filter").fill("features.0 no-gemm")
    assert count.inner_text() == "10 of 60 layers"  # 50 of the 60 are in features.0
    page.locator("#filter").fill("nothing is called so")
    assert count.inner_text() == "0 of 60 layers"
    assert page.locator("#table tbody tr:visible").count() == 0
    page.locator("#filter").fill("")
    page.locator("#kind").select_option("")
    assert count.inner_text() == "60 of 60 layers"


def test_containers_fold_by_click_and_key(show: Open) -> None:
    page = show("many")
    rows = page.locator("#table tbody tr:visible")
    total = rows.count()
    twist = page.get_by_label("Layers of features.0", exact=True)
    twist.click()
    assert twist.get_attribute("aria-expanded") == "false"
    assert visible_rows(page)[:3] == ["features", "features.0", "features.1"]
    twist.press("Enter")
    assert rows.count() == total
    page.locator("#fold").click()
    assert visible_rows(page) == ["features"]
    page.locator("#unfold").click()
    assert rows.count() == total


def test_a_short_explanation_becomes_whole_when_it_is_opened(show: Open, files: dict[str, Path]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flopscope.pages.explained.ROOM", 0)
        files["short"] = files["many"].with_name("short.html")
        made_reports.explained().to_html(files["short"])
    page = show("short")
    row = page.locator("#layer-1")
    row.locator("summary").focus()
    page.keyboard.press("Enter")
    row.locator("p", has_text="1. layout-reorder").wait_for()
    assert row.locator("details.short").count() == 0
    assert row.locator("p").count() > 10
    bare = show("short", scripts=False)
    bare.locator("#layer-1 summary").click()
    assert bare.locator("#layer-1 p").inner_text().startswith("below both roofs")


# --------------------------------------------------------------------------- linked


def test_a_tile_lights_its_twin_and_its_row_and_a_row_its_tiles(show: Open) -> None:
    page = show("explained")
    tiles = page.locator('#picture svg [data-row="1"]')
    tiles.first.hover()
    assert page.locator("#layer-1.lit").count() == 1
    assert page.locator("svg .lit").evaluate_all("tiles => tiles.every(tile => tile.dataset.row === '1')")
    assert page.locator('#roofline svg [data-row="1"].lit').count() == 1
    told = page.locator("#picture figcaption")
    assert told.inner_text().startswith("a.dw · ")
    page.locator("#layer-0 td").first.hover()
    assert told.inner_text().startswith("a.conv · ")
    assert page.locator("#layer-1.lit").count() == 0
    assert page.locator('#picture svg [data-row="0"]:not(.lit)').count() == 0
    page.locator("h1").hover()
    assert page.locator(".lit").count() == 0
    assert told.inner_text() == "Modules by their share of the FLOPs and of the time"


def test_the_keyboard_goes_through_tiles_and_to_the_row(show: Open) -> None:
    page = show("explained", reduced_motion="reduce")
    stops = page.locator("#picture svg [tabindex='0']")
    assert stops.count() == 1
    stops.focus()
    page.keyboard.press("ArrowRight")
    place = page.evaluate("document.activeElement.dataset.row")
    assert page.locator(f"#layer-{place}.lit").count() == 1
    assert page.locator(f'#picture svg [data-row="{place}"].lit').count() >= 1
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('tr').id") == f"layer-{place}"


def test_a_click_on_a_tile_unfolds_what_hides_its_row(show: Open) -> None:
    page = show("many", reduced_motion="reduce")
    page.locator("#fold").click()
    page.locator("#filter").fill("nothing is called so")
    page.locator('#picture svg [data-row="57"]').first.dispatch_event("click")
    page.locator("#layer-57").wait_for(state="visible")
    assert page.locator("#layer-57").evaluate(
        "row => row.getBoundingClientRect().top >= 0 && row.getBoundingClientRect().bottom <= innerHeight"
    )
    assert page.locator("#filter").input_value() == ""


def test_links_lead_to_rows(show: Open) -> None:
    page = show("explained")
    page.locator("#fold").click()
    page.locator("#win a[href='#layer-1']").first.click()
    assert page.locator("#layer-1").is_visible()


# --------------------------------------------------------------------------- looks


def test_one_view_of_the_time_is_shown_at_a_time(show: Open) -> None:
    page = show("explained")
    assert page.locator("#by-kind").is_visible()
    assert not page.locator("#by-layer").is_visible()
    page.get_by_role("button", name="By layer").click()
    assert page.locator("#by-layer").is_visible()
    assert not page.locator("#by-kind").is_visible()
    assert page.get_by_role("button", name="By layer").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_theme_follows_the_system_until_it_is_chosen(show: Open, theme: str) -> None:
    page = show("explained", theme=theme)
    ground = "getComputedStyle(document.body).backgroundColor"
    colours = {"light": "rgb(255, 255, 255)", "dark": "rgb(18, 21, 26)"}
    other = {"light": "dark", "dark": "light"}[theme]
    assert page.evaluate(ground) == colours[theme]
    button = page.locator("#theme")
    assert button.inner_text() == f"{other.title()} theme"
    button.click()
    assert page.evaluate(ground) == colours[other]
    assert button.inner_text() == f"{theme.title()} theme"


CONTRASTS = """() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgba = colour => {
        canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const ground = element => {
        for (let at = element; at; at = at.parentElement) {
            const [r, g, b, a] = rgba(getComputedStyle(at).backgroundColor);
            if (a === 255) return [r, g, b];
        }
        return [255, 255, 255];
    };
    const light = ([r, g, b]) => [r, g, b].map(v => v / 255)
        .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
    const found = [];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || element.closest('svg, script, .quiet, .skip') || !element.checkVisibility()) continue;
        const [one, other] = [light(rgba(getComputedStyle(element).color)), light(ground(element))];
        const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
        if (ratio < 4.5) found.push([element.tagName, element.textContent.slice(0, 30), ratio]);
    }
    return found;
}"""


@pytest.mark.parametrize("name", ["explained", "counted", "compared"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(show: Open, name: str, theme: str) -> None:
    page = show(name, theme=theme)
    assert page.evaluate(CONTRASTS) == []
    if name == "explained":
        page.locator("#layer-1 td").first.hover()
        assert page.locator("#layer-1.lit").count() == 1
        assert page.evaluate(CONTRASTS) == []


def test_focus_is_seen_and_the_skip_link_comes_first(show: Open) -> None:
    page = show("explained")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_on_paper_it_is_light_whole_and_without_buttons(show: Open) -> None:
    page = show("many", theme="dark", width=1030)
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    for hidden in ("nav", "#theme", ".controls", ".switch"):
        assert not page.locator(hidden).is_visible(), hidden
    assert page.locator("#by-kind").is_visible()
    assert page.locator("#by-layer").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 1030
    tall = page.locator(".tall")
    assert tall.evaluate("box => box.scrollHeight <= box.clientHeight + 1")


def test_a_narrow_table_scrolls_in_itself_and_keeps_its_names(show: Open) -> None:
    page = show("many", width=400)
    box = page.locator(".tall")
    assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    box.evaluate("box => box.scrollLeft = 300")
    left = page.locator("#layer-0 th").evaluate("cell => cell.getBoundingClientRect().left")
    assert 0 <= left < 40
    page.locator("#layer-0 summary").click()
    text = page.locator("#layer-0 details p").first
    edges = text.evaluate("text => [text.getBoundingClientRect().left, text.getBoundingClientRect().right]")
    assert edges[0] >= 0
    assert edges[1] <= 400
