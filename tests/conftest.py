"""What every test of the suite shares."""

from __future__ import annotations

import os

# The networks here are small: a second thread costs more than it brings, above all where other
# programs run. Set before torch is imported, so that child processes have it too.
os.environ.setdefault("OMP_NUM_THREADS", "1")
