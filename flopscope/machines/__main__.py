"""`python -m flopscope.machines` -> the calibration in a process of its own; JSON lines on stdout."""

from __future__ import annotations

import argparse
import json


def main() -> None:
    """Measure, and write progress lines and at last the session, each a JSON object on a line."""
    parser = argparse.ArgumentParser(prog="python -m flopscope.machines", description=__doc__)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--passes", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--largest", type=int, required=True)
    asked = parser.parse_args()

    from .calibration import calibrate
    from .passes import plain

    session = calibrate(
        asked.threads,
        passes=asked.passes,
        seconds=asked.seconds,
        largest=asked.largest,
        told=lambda stage, share: _say({"stage": stage, "share": share}),
    )
    _say({"session": plain(session)})


def _say(line: object) -> None:
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
