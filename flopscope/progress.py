"""Stages of a walk -> a line on stderr, for whatever takes longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, float], None]

PATIENCE_S = 1.0  # nothing is shown before


@contextmanager
def shown(progress: Progress | bool | None) -> Iterator[Progress]:
    """Turn what `profile` was given as `progress` into a callback.

    A callable is used as it is; True shows a bar on stderr, False nothing, and None a bar where
    stderr is a terminal.
    """
    if callable(progress):
        yield progress
    elif progress is False or (progress is None and not sys.stderr.isatty()):
        yield lambda stage, share: None
    else:
        bar = _Bar()
        try:
            yield bar.tell
        finally:
            bar.close()


class _Bar:
    """A bar that appears after a second and leaves no trace when it is done."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._bar: Any = None
        self._task: Any = None

    def tell(self, stage: str, share: float) -> None:
        if self._bar is None:
            if time.monotonic() - self._started < PATIENCE_S:
                return
            self._open()
        self._bar.update(self._task, description=stage, completed=share)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("", total=1.0)
        self._bar.start()
