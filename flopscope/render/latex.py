"""Report -> a LaTeX tabular with booktabs rules, to paste into a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flopscope.render.grid import escaped, lay_out, plan
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


@renderer("latex")
def render_latex(report: Report, options: Options) -> str:
    r"""One `tabular`; needs `\usepackage{booktabs}` and nothing else."""
    grid = escaped(plan(report, options), escape)
    *body, end = lay_out(grid, "latex_raw").splitlines()
    rules = iter((r"\toprule", r"\midrule", r"\bottomrule"))
    lines = [next(rules) if line == r"\hline" else line for line in body]
    lines.insert(-2, r"\midrule")
    return "\n".join(["% \\usepackage{booktabs}", *lines, end]) + "\n"


def escape(text: str) -> str:
    """The text so that LaTeX prints it as it is."""
    return text.translate(_ESCAPES)
