"""`python -m flopscope` -> the command line."""

from __future__ import annotations

from flopscope.commands import main

if __name__ == "__main__":
    main()
