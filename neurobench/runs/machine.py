"""What arithmetic depends on: steps of a resumed run compare bit for bit only where these facts are the same."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from functools import cache
from typing import Any, cast

import numba
import numpy as np

from neurobench.errors import ResumeRefused


@cache
def machine() -> dict[str, str]:
    """Versions of numpy and numba, the class of the processor, and the BLAS."""
    numpy = cast("dict[str, Any]", np.show_config(mode="dicts"))
    blas, simd = numpy["Build Dependencies"]["blas"], numpy["SIMD Extensions"]
    # numpy and the BLAS choose their kernels by these.
    features = " ".join(sorted([*simd.get("baseline", []), *simd.get("found", [])]))
    return {
        "numpy": np.__version__,
        "numba": numba.__version__,
        "cpu": f"{platform.machine()} {hashlib.sha256(features.encode()).hexdigest()[:12]}",
        "blas": f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip(),
    }


def check_machine(recorded: Mapping[str, str], present: Mapping[str, Any] | None = None) -> None:
    """Raise ResumeRefused, naming every difference, unless a run recorded on `recorded` can be repeated here."""
    now = machine() if present is None else present
    differ = [f"{key}: {recorded.get(key)} then, {now.get(key)} now" for key in now if recorded.get(key) != now[key]]
    if differ:
        raise ResumeRefused(
            "this run cannot be resumed here, because its steps would not compare bit for bit "
            f"({'; '.join(differ)}); resume it where it began, or start a new run from its chip"
        )
