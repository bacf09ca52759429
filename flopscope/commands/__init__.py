"""Words on the command line -> what is printed, the files and the exit code: the porch.

Nothing heavy is imported before a command needs it, so that `flopscope --help` is instant.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line of this process and end it with one of the documented exit codes."""
    try:
        from flopscope.commands.porch import porch
        from flopscope.commands.streams import accept_any_text

        accept_any_text()
        porch()
    except KeyboardInterrupt:
        # Ctrl-C while Python was still reading the code of the command line.
        sys.exit(130)
