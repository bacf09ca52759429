"""A file or an address -> a model, never by running code from a file unless told to.

Importing this package, telling kinds of files apart and opening a saved report need no torch.
"""

from __future__ import annotations

from .opening import Opened, load_model, open_address
from .sniffing import sniff

__all__ = ["Opened", "load_model", "open_address", "sniff"]
