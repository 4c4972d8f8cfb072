"""Networks in files: one .npz without pickle, with the weights asked for, those read back, and whose chip it was.

Entries: `about` (JSON text: format, descriptions, chip), and for layer k `asked_k`, `weights_k` [inputs, outputs],
`conductances_s_k` [rows, cols] in siemens (nan outside the layer), `readout_k` where the layer is a reservoir.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from neurobench.errors import NeurobenchError, UsageError
from neurobench.learning.networks import Kept, described
from neurobench.system import replace_file

FORMAT = "neurobench network 1"
# what numpy, zipfile and json raise at a file that is none, or damaged
_DAMAGE = (
    OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, zlib.error, zipfile.BadZipFile,
    NeurobenchError,
)  # fmt: skip


def save_network(path: Path, kept: Kept) -> Path:
    """Write a network (`bench.do(network.kept())`) to `path`, replacing it at once or not at all; answers the path."""
    about = {"format": FORMAT, "layers": [one.model_dump(mode="json") for one in kept.descriptions], **kept.about}
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
    for k, (asked, weights, grid) in enumerate(zip(kept.asked, kept.weights, kept.conductances_s, strict=True)):
        arrays |= {f"asked_{k}": asked, f"weights_{k}": weights, f"conductances_s_{k}": grid}
    arrays |= {f"readout_{k}": out for k, out in enumerate(kept.readouts) if out is not None}
    try:
        replace_file(path, _packed(arrays))
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}; choose another folder") from error
    return path


def _packed(arrays: dict[str, Any]) -> bytes:
    from io import BytesIO

    buffer = BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def load_network(path: Path) -> Kept:
    """Read a network from `path`; UsageError says what is wrong with a file that is none."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return _unpacked({name: file[name] for name in file.files})
    except _DAMAGE as error:
        raise UsageError(f"{path} holds no network of neurobench: {error}") from error


def _unpacked(arrays: dict[str, Any]) -> Kept:
    about = json.loads(str(arrays["about"]))
    if about.pop("format", None) != FORMAT:
        raise UsageError(f"its format is not {FORMAT!r}")
    descriptions = described(about.pop("layers"))
    layers = range(len(descriptions))
    kept = Kept(
        descriptions, [arrays[f"asked_{k}"] for k in layers], [arrays[f"weights_{k}"] for k in layers],
        [arrays[f"conductances_s_{k}"] for k in layers], [arrays.get(f"readout_{k}") for k in layers], about,
    )  # fmt: skip
    for k, one in enumerate(descriptions):
        rows, cols = one.block
        for name, array in (("asked", kept.asked[k]), ("weights", kept.weights[k])):
            if array.shape != (rows, cols // 2) or array.dtype != np.float64:
                raise UsageError(
                    f"{name}_{k} is {array.shape} {array.dtype}, layer {k} has {rows} x {cols // 2} weights"
                )
    return kept
