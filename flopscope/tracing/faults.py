"""What a run ended with -> the error that says where it was."""

from __future__ import annotations


class TraceError(Exception):
    """The model raised while it was traced.

    `path` names the innermost module that did; `stage` what was being done: "forward", "loss",
    "backward" or "optimizer".
    """

    def __init__(self, path: str, *, stage: str = "forward") -> None:
        super().__init__(path)
        self.path = path
        self.stage = stage
