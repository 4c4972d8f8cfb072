"""The process that outlives an engine by a moment: if the engine dies, it brings the bench to rest."""

from __future__ import annotations

import sys
from pathlib import Path

from neurobench.runs.engine import watch

if __name__ == "__main__":
    watch(Path(sys.argv[1]))
