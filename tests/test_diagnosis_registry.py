"""The registry of rules, the wording of findings, and their pages in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from diagnosed import PAIRS, found, made

from flopscope.diagnosis import RULES, Case, rule
from flopscope.errors import FlopscopeError
from flopscope.records import Verdict
from flopscope.render.findings import REMEDIES, TITLES, WORDINGS, remedy_text, sentence, wording


def test_third_parties_enter_their_rules() -> None:
    @rule("always-there", explains=("kernel",))
    def always(case: Case) -> Verdict | None:
        return Verdict("always-there", None, {"share": case.share(case.part("kernel")), "what": "x"})

    try:
        findings = made("kernel 60 compute 40").findings()
        assert "unknown" not in findings
        assert sentence(findings["always-there"]) == "share 0.600, what x"
        with pytest.raises(FlopscopeError, match=r"always-there.*already has a rule: .*always"):
            rule("always-there")(always)
    finally:
        del RULES["always-there"]


@pytest.mark.parametrize("code", ["", "Two Words", "Upper"])
def test_a_code_is_a_slug(code: str) -> None:
    with pytest.raises(FlopscopeError, match="no code of a finding"):
        rule(code)(lambda case: None)


def test_a_rule_that_is_there_names_its_holder() -> None:
    with pytest.raises(FlopscopeError, match=r"convolution_rules\.no_gemm"):
        rule("no-gemm")(lambda case: None)


def test_a_wording_that_is_there_names_its_holder() -> None:
    with pytest.raises(FlopscopeError, match="_no_gemm"):
        wording("no-gemm", "again")(lambda its: "")


@pytest.mark.parametrize("code", PAIRS)
def test_every_finding_is_one_text_without_gaps(code: str) -> None:
    text = sentence(found(code))
    assert text.endswith(".")
    assert "?" not in text, text
    assert "None" not in text
    assert "slow" not in text.replace("Slow2d", "").lower()


def test_time_that_no_data_explain_names_what_would_look_so() -> None:
    numbers = {"part": "memory", "share": 0.9, "expected_s": 5e-6, "far_s": 20e-6, "no_data": 1}
    text = sentence(Verdict("unknown", 1e-3, numbers))
    assert "main memory in 20.0 µs" in text
    assert "slow" not in text
    assert "main memory" not in sentence(Verdict("unknown", 1e-3, {**numbers, "no_data": 0}))


def test_a_remedy_is_said_once() -> None:
    several = (
        "stop other work; stop other work, or pin; stop other work, or sample longer; repeat at rest; "
        "repeat at rest and cool; see doctor"
    )
    text = sentence(Verdict("disturbed", None, {"word": "disturbed", "remedy": several}))
    assert text.endswith(
        "disturbed. stop other work, or pin, or sample longer; repeat at rest and cool; see doctor."
    )


def test_remedies_are_said_in_words() -> None:
    assert remedy_text("threads=2") == "--threads 2"
    assert remedy_text("dtype=bfloat16") == "--dtype bfloat16"
    assert remedy_text("channels=32").startswith("32 channels")
    assert remedy_text("somebody-elses") == "somebody-elses"
    fixed = {found(code).remedy for code in PAIRS} - {""}
    assert all(remedy in REMEDIES or "=" in remedy for remedy in fixed)


DOCS = Path(__file__).parent.parent / "docs" / "findings"


def test_every_finding_has_a_page_a_wording_and_a_line_in_the_index() -> None:
    pages = {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert pages == set(RULES) == set(WORDINGS) == set(TITLES)
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\[`([a-z-]+)`\]\(\1\.md\)", index)) == pages


@pytest.mark.parametrize("code", PAIRS)
def test_the_page_states_the_condition_of_the_code(code: str) -> None:
    page = " ".join((DOCS / f"{code}.md").read_text(encoding="utf-8").split())
    condition = " ".join((RULES[code].judge.__doc__ or "").split()).removeprefix("Fire where ")
    assert condition.removeprefix("Fire ") in page


@pytest.mark.parametrize("code", PAIRS)
def test_the_page_has_its_parts_in_order_and_says_something_in_each(code: str) -> None:
    page = (DOCS / f"{code}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# `{code}`: {TITLES[code]}\n")
    parts = re.split(r"^## (.*)$", page, flags=re.MULTILINE)[1:]
    assert parts[::2] == [
        "What it means",
        "How it was found",
        "What to do",
        "What it looks like",
        "What it does not mean",
    ]
    assert all(len(text.split()) >= 4 for text in parts[1::2])
