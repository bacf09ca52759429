"""Records -> pictures: SVG for pages, notebooks and files, matplotlib for papers.

Every function gives one `<svg>` element, its texts escaped, without a script; "" where there is nothing to
draw. With `static` all looks are presentation attributes and fixed colours, so that the picture is
whole where style sheets are stripped; without it colours are CSS variables (`--kind-conv`,
`--part-kernel`, `--ink`), and whatever belongs to a layer has its `data-row`.
"""

from __future__ import annotations

from flopscope.pictures import palette
from flopscope.pictures.breakdowns import breakdown
from flopscope.pictures.icicles import icicles
from flopscope.pictures.memory import memory
from flopscope.pictures.ratios import ratios
from flopscope.pictures.rooflines import machine_roofline, roofline

__all__ = ["breakdown", "icicles", "machine_roofline", "memory", "palette", "ratios", "roofline"]
