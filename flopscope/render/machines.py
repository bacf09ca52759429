"""Machine -> text for a terminal: its roofs as tables, and the roofline as a picture in characters."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil, floor, log10

from flopscope.records import Bandwidth, Machine, Peak
from flopscope.render.grid import Grid, lay_out_ruled, printable
from flopscope.units import (
    PREFIXES,
    bytes_text,
    giga_text,
    number_text,
    rate_text,
    seconds_text,
    share_text,
)

Dot = tuple[str, float, float]
"""What is entered in a roofline: a label, its FLOP/B, its FLOP/s."""

WIDTH, HEIGHT = 80, 20
"""Of the picture where nobody says how large it should be."""

_ONE_LEVEL = 0.7  # a curve that never falls below this share of its best has no knee
_PLATEAU = 0.25  # its last two points lie within this share of each other where DRAM was reached
_CALLS = {
    "op": "element-wise operator",
    "convolution": "convolution",
    "matmul": "matrix product",
    "module": "empty module",
    "probe": "product of 128x128 (pace)",
}


def machine_text(machine: Machine, *, width: int | None = None, plain: bool = False) -> str:
    """Header, peaks with their ridge points, bandwidth, costs of a call and of a page fault, the picture.

    Args:
        machine: what to show.
        width: of the terminal; None for `WIDTH`.
        plain: ASCII alone.
    """
    width = width or WIDTH
    parts = [
        _wrapped(header_lines(machine), width),
        lay_out_ruled(_peak_grid(machine)),
        _wrapped([f"{dtype} has no roof: {reason}" for dtype, reason in machine.absent.items()], width),
        lay_out_ruled(_bandwidth_grid(machine)) if machine.bandwidth else "",
        lay_out_ruled(_cost_grid(machine)) if machine.overheads_s or machine.fault_s else "",
        roofline_picture(machine, width=min(width, 100), height=HEIGHT, plain=plain),
        _wrapped(_method(machine), width),
    ]
    text = "\n\n".join(part for part in parts if part)
    return text.translate(str.maketrans("µ×", "ux")) if plain else text


def grids(machine: Machine) -> list[Grid]:
    """The tables that have rows: peaks, bandwidth, costs of a call."""
    found = [_peak_grid(machine), _bandwidth_grid(machine), _cost_grid(machine)]
    return [grid for grid in found if grid.rows]


def levels(machine: Machine) -> tuple[tuple[str, Bandwidth], ...]:
    """The bandwidths worth a name: the fastest "cache" level, and "DRAM", where the curve ends.

    A curve without a knee has one level, "DRAM". Where the last points still fall, the working sets did not
    leave the caches, and the last one is called "largest".
    """
    if not machine.bandwidth:
        return ()
    last = machine.bandwidth[-1]
    best = max(machine.bandwidth, key=lambda point: point.bytes_per_s)
    if last.bytes_per_s >= _ONE_LEVEL * best.bytes_per_s:
        return (("DRAM", last),)
    before = machine.bandwidth[-2].bytes_per_s
    flat = abs(before - last.bytes_per_s) <= _PLATEAU * max(before, last.bytes_per_s)
    return (("cache", best), ("DRAM" if flat else "largest", last))


def knee_bytes(machine: Machine) -> int | None:
    """The largest measured working set before the knee; None where the curve has none."""
    knee = machine.knee_bytes() if len(levels(machine)) > 1 else None
    sizes = [point.working_set_bytes for point in machine.bandwidth]
    return None if knee is None else max(size for size in sizes if size <= knee)


# --------------------------------------------------------------------------- tables


def header_lines(machine: Machine) -> Iterator[str]:
    """Name, device and threads, and how the roofs were come by."""
    cores = f" of {machine.cores} cores" if machine.cores else ""
    threads = f"{machine.threads} thread{'s' if machine.threads != 1 else ''}{cores}"
    vector = f"vectors of {machine.vector_bytes} bytes" if machine.vector_bytes else ""
    sheet = machine.form == "sheet"
    run = [] if sheet else [threads, vector, f"torch {machine.torch}" if machine.torch else ""]
    yield "   ".join(text for text in (machine.name, machine.device, *run) if text)
    if sheet:
        yield "from a data sheet, not measured: what follows from it is an estimate"
        yield printable(machine.source)
    else:
        yield f"measured {machine.date}, {machine.passes} passes: {machine.quality}"


def _peak_grid(machine: Machine) -> Grid:
    named = levels(machine)
    headings = ["peak", "GFLOP/s", "spread %", *(f"ridge {name}" for name, _ in named), "reached by"]
    sides = ["left", "right", "right", *("right" for _ in named), "left"]
    return Grid(headings, sides, [_peak_row(machine, peak) for peak in machine.peaks])


def _peak_row(machine: Machine, peak: Peak) -> list[str]:
    ridges = [number_text(peak.flops_per_s / point.bytes_per_s) for _, point in levels(machine)]
    spread = share_text(peak.spread) if machine.form == "measured" else "-"
    return [printable(text) for text in (peak.dtype, giga_text(peak.flops_per_s), spread, *ridges, peak.how)]


def _bandwidth_grid(machine: Machine) -> Grid:
    names = {point.working_set_bytes: name for name, point in levels(machine)}
    knee = knee_bytes(machine)
    rows = []
    for point in machine.bandwidth:
        spread = share_text(point.spread) if machine.form == "measured" else "-"
        note = names.get(point.working_set_bytes, "")
        note += " knee" if point.working_set_bytes == knee else ""
        size = bytes_text(point.working_set_bytes) if len(machine.bandwidth) > 1 else "any"
        rows.append([size, giga_text(point.bytes_per_s), spread, note.strip()])
    return Grid(["working set", "GB/s", "spread %", ""], ["right", "right", "right", "left"], rows)


def _cost_grid(machine: Machine) -> Grid:
    costs = [
        (_CALLS.get(kind, kind), seconds, machine.spreads.get(kind))
        for kind, seconds in machine.overheads_s.items()
    ]
    if machine.fault_s is not None:
        page = f"page fault of {machine.page_bytes} bytes"
        costs.append((page, machine.fault_s, machine.spreads.get("fault")))
    rows = [
        [name, seconds_text(seconds), "-" if spread is None else share_text(spread)]
        for name, seconds, spread in costs
    ]
    return Grid(["cost of one", "", "spread %"], ["left", "right", "right"], rows)


def _method(machine: Machine) -> Iterator[str]:
    if machine.form == "measured":
        yield (
            "Best of the passes that agree; spread is how far the others were from it. 1 MAC = 2 FLOPs."
            " GB/s are bytes read plus bytes written by torch's own operators. A ridge is the FLOP/B from"
            " which a roof of compute is the lower one."
        )
    for text in machine.warnings:
        yield printable(text)


def _wrapped(lines: Iterator[str] | Sequence[str], width: int) -> str:
    folded = [textwrap.wrap(line, max(20, width), break_on_hyphens=False) for line in lines]
    return "\n".join(text for lines in folded for text in lines)


# --------------------------------------------------------------------------- the picture


def roofline_picture(
    machine: Machine,
    dots: Sequence[Dot] = (),
    *,
    width: int = WIDTH,
    height: int = HEIGHT,
    plain: bool = False,
) -> str:
    """The roofline in characters: FLOP/s over FLOP/B, both by powers of ten.

    A slope for each named level of memory, a ceiling for each dtype, a letter for each dot; a list below the
    picture tells what the letters are.

    Args:
        machine: its roofs; one without peaks or bandwidth has no picture ("").
        dots: what to enter; those without a positive place are left out.
        width: columns of the whole picture.
        height: its rows, axes included.
        plain: ASCII alone, for terminals that cannot show more.
    """
    placed = [dot for dot in dots if dot[1] > 0 and dot[2] > 0]
    signs = [(_letter(place), dot[1], dot[2]) for place, dot in enumerate(placed)]
    lines = roofline_lines(machine, signs, width=width, height=height, plain=plain)
    listing = [
        f"{_letter(place)} {printable(label)}   {number_text(intensity)} FLOP/B   {rate_text(rate)}"
        for place, (label, intensity, rate) in enumerate(placed)
    ]
    return "\n".join([*lines, *listing]) if lines else ""


def roofline_lines(
    machine: Machine, signs: Sequence[Dot], *, width: int = WIDTH, height: int = HEIGHT, plain: bool = False
) -> list[str]:
    """The picture alone, with signs of one column each in place of labels; later ones lie over earlier ones.

    Args:
        machine: its roofs; one without peaks or bandwidth has no picture.
        signs: what to write where: a character, which may be painted, its FLOP/B and its FLOP/s, positive.
        width: columns of the whole picture.
        height: its rows, axes included.
        plain: ASCII alone.
    """
    named = levels(machine)
    if not machine.peaks or not named:
        return []
    across, along = _scales(machine, named, signs)
    rows = max(6, height - 3)
    beside = _ceiling_names(machine, _Page(1, rows, plain), along) if width >= _WIDE else {}
    room = width - _MARGIN - 1 - max(map(len, beside.values()), default=0)
    page = _Page(max(20, room), rows, plain)
    _draw(page, machine, named, across, along)
    for sign, intensity, rate in signs:
        page.texts[page.column(across(intensity)), page.row(along(rate))] = sign
    for name, point in named:
        _name_slope(page, name, point, across, along)
    return list(_framed(page, beside, across, along))


_WIDE = 60  # columns from which the ceilings are named beside the picture
_MARGIN = 8  # columns for the numbers of the upright axis, and for the axis
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # bits by row and column of a cell


@dataclass(frozen=True, slots=True)
class _Scale:
    """Powers of ten along an axis: a value -> its place, 0 at the low end and 1 at the high one."""

    low: float
    high: float

    def __call__(self, value: float) -> float:
        return (log10(value) - self.low) / (self.high - self.low)

    def value(self, place: float) -> float:
        return float(10 ** (self.low + place * (self.high - self.low)))

    def ticks(self) -> list[int]:
        """The whole powers of ten on the axis."""
        return list(range(ceil(self.low), floor(self.high) + 1))


@dataclass(slots=True)
class _Page:
    """Cells of characters: lines in dots of braille, or in ASCII; and text over them."""

    columns: int
    rows: int
    plain: bool
    bits: dict[tuple[int, int], int] = field(default_factory=dict)
    texts: dict[tuple[int, int], str] = field(default_factory=dict)

    def column(self, place: float) -> int:
        return min(self.columns - 1, max(0, floor(place * self.columns)))

    def row(self, place: float) -> int:
        """The row of a height between 0 and 1; the uppermost is 0."""
        return self.rows - 1 - min(self.rows - 1, max(0, floor(place * self.rows)))

    def write(self, column: int, row: int, text: str) -> bool:
        """Write a text if there is room for it; say whether it was written."""
        cells = [(column + k, row) for k in range(len(text))]
        free = all(0 <= x < self.columns and 0 <= y < self.rows for x, y in cells)
        if not free or any(cell in self.bits or cell in self.texts for cell in cells):
            return False
        self.texts.update(zip(cells, text, strict=True))
        return True

    def line(self, height: Callable[[float], float | None], sign: str) -> None:
        """Draw a line of a height for each place along the page; None leaves a gap."""
        fine_x, fine_y = (1, 1) if self.plain else (2, 4)
        width, tall = self.columns * fine_x, self.rows * fine_y
        before: int | None = None
        for x in range(width):
            at = height((x + 0.5) / width)
            if at is None or not 0 <= at <= 1:
                before = None
                continue
            y = min(tall - 1, floor(at * tall))
            for step in range(y if before is None or before >= y else before + 1, y + 1):
                self._set(x, tall - 1 - step, sign)
            before = y

    def _set(self, x: int, y: int, sign: str) -> None:
        if self.plain:
            self.bits.setdefault((x, y), ord(sign))
        else:
            cell = (x // 2, y // 4)
            self.bits[cell] = self.bits.get(cell, 0x2800) | _BRAILLE[y % 4][x % 2]

    def text(self, row: int) -> str:
        cells = ((column, row) for column in range(self.columns))
        return "".join(
            self.texts.get(cell) or (chr(self.bits[cell]) if cell in self.bits else " ") for cell in cells
        )


def _scales(
    machine: Machine, named: Sequence[tuple[str, Bandwidth]], dots: Sequence[Dot]
) -> tuple[_Scale, _Scale]:
    """Axes that hold every ridge point with room on both sides, and every dot."""
    rates = [peak.flops_per_s for peak in machine.peaks]
    ridges = [rate / point.bytes_per_s for rate in rates for _, point in named]
    low = min(log10(min(ridges)) - 1, *(log10(dot[1]) - 0.2 for dot in dots), 99.0)
    high = max(log10(max(ridges)) + 0.6, *(log10(dot[1]) + 0.2 for dot in dots), -99.0)
    slowest = min(point.bytes_per_s for _, point in named)
    foot = min(log10(slowest) + low, *(log10(dot[2]) - 0.2 for dot in dots), 99.0)
    top = max(log10(max(rates)) + 0.15, *(log10(dot[2]) + 0.2 for dot in dots), -99.0)
    return _Scale(low, high), _Scale(foot, top)


def _draw(
    page: _Page, machine: Machine, named: Sequence[tuple[str, Bandwidth]], across: _Scale, along: _Scale
) -> None:
    """Slopes up to the highest ceiling; each ceiling from where the fastest slope meets it."""
    highest = max(peak.flops_per_s for peak in machine.peaks)
    fastest = max(point.bytes_per_s for _, point in named)

    def slope(bytes_per_s: float) -> Callable[[float], float | None]:
        def height(place: float) -> float | None:
            rate = bytes_per_s * across.value(place)
            return along(rate) if rate <= highest else None

        return height

    def ceiling(flops_per_s: float) -> Callable[[float], float | None]:
        def height(place: float) -> float | None:
            return along(flops_per_s) if fastest * across.value(place) >= flops_per_s else None

        return height

    for _, point in named:
        page.line(slope(point.bytes_per_s), "/")
    for peak in machine.peaks:
        page.line(ceiling(peak.flops_per_s), "-")


def _name_slope(page: _Page, name: str, point: Bandwidth, across: _Scale, along: _Scale) -> None:
    """Write a level's name right of its slope, as low as there is room for it."""
    for row in range(page.rows - 2, -1, -1):
        rate = along.value((page.rows - row - 0.5) / page.rows)
        place = across(rate / point.bytes_per_s)
        for text in (f"{name} {giga_text(point.bytes_per_s)} GB/s", name):
            if 0 <= place <= 1 and page.write(page.column(place) + 2, row, f"{text} "):
                return


def _ceiling_names(machine: Machine, page: _Page, along: _Scale) -> dict[int, str]:
    """What stands right of the picture by row; ceilings that share a row share the line."""
    found: dict[int, list[Peak]] = {}
    for peak in sorted(machine.peaks, key=lambda one: one.flops_per_s, reverse=True):
        found.setdefault(page.row(along(peak.flops_per_s)), []).append(peak)
    return {
        row: f"{', '.join(peak.dtype for peak in peaks)} {rate_text(peaks[0].flops_per_s, '')}"
        for row, peaks in found.items()
    }


def _framed(page: _Page, beside: dict[int, str], across: _Scale, along: _Scale) -> Iterator[str]:
    """The page with its axes, their numbers, and the names of the ceilings."""
    upright, notch, corner, flat, tick = "||+-+" if page.plain else "│┤└─┴"
    yield "FLOP/s".rjust(_MARGIN - 1)
    marks = {page.row(along(10.0**power)): power for power in along.ticks()}
    for row in range(page.rows):
        number = f"{_power(marks[row])} " if row in marks else ""
        line = number.rjust(_MARGIN - 1) + (notch if row in marks else upright) + page.text(row)
        yield f"{line} {beside.get(row, '')}".rstrip()
    places = {page.column(across(10.0**power)): power for power in across.ticks()}
    foot = "".join(tick if column in places else flat for column in range(page.columns))
    yield " " * (_MARGIN - 1) + corner + foot
    unit = "FLOP/B"
    numbers = [" "] * (page.columns - len(unit))
    for column, power in places.items():
        if column + len(_power(power)) < len(numbers):
            numbers[column : column + len(_power(power))] = _power(power)
    yield " " * _MARGIN + "".join(numbers) + unit


def _letter(place: int) -> str:
    return _LETTERS[place] if place < len(_LETTERS) else "*"


def _power(power: int) -> str:
    """A power of ten in few signs: 10 -> "10 G", 0 -> "1", -2 -> "0.01"."""
    if power < 0:
        return f"{10.0**power:.{-power}f}"
    step = min(power // 3 * 3, max(PREFIXES.values()))
    prefix = next(name for name, size in PREFIXES.items() if size == step)
    return f"{10 ** (power - step)} {prefix}".strip()
