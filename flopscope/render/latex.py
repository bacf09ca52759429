"""Report -> a LaTeX tabular with booktabs rules, to paste into a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flopscope.render.grid import Grid, escaped, lay_out, plan
from flopscope.render.registry import Options, renderer

if TYPE_CHECKING:
    from flopscope.reports import Report

_ESCAPES = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        **{char: f"\\{char}" for char in "&%$#_{}"},
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        # A row that begins with a bracket would be read as an argument of the line break before it.
        "[": "{[}",
        "]": "{]}",
        "≥": r"$\geq$",
        "µ": r"$\mu$",
    }
)


NEEDS = "% \\usepackage{booktabs}"
"""What the tables need; a paper's preamble has it once."""


@renderer("latex")
def render_latex(report: Report, options: Options) -> str:
    r"""One `tabular`; needs `\usepackage{booktabs}` and nothing else."""
    return f"{NEEDS}\n{ruled(escaped(plan(report, options), escape))}\n"


def ruled(grid: Grid) -> str:
    """A grid of escaped texts as a `tabular` with the rules of booktabs."""
    *body, end = lay_out(grid, "latex_raw").splitlines()
    rules = iter((r"\toprule", r"\midrule", r"\bottomrule"))
    lines = [next(rules) if line == r"\hline" else line for line in body]
    if grid.total is not None:
        lines.insert(-2, r"\midrule")
    return "\n".join([*lines, end])


def floating(tabular: str, *, caption: str = "", label: str = "") -> str:
    r"""The `tabular` in a `table` with its caption above, as tables have it, and a label to refer to."""
    head = [r"\begin{table}", r"\centering"]
    head += [rf"\caption{{{escape(caption)}}}"] if caption else []
    head += [rf"\label{{{label}}}"] if label else []
    return "\n".join([*head, tabular.rstrip("\n"), r"\end{table}"]) + "\n"


def escape(text: str) -> str:
    """The text so that LaTeX prints it as it is."""
    return text.translate(_ESCAPES)
