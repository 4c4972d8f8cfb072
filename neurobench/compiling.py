"""How kernels are compiled, and where what was compiled is kept.

numba keeps it beside the source and asks only whether the kernel's own file has changed. A kernel holds functions,
constants and named tuples of other files too: after an update of those it would go on as before without a word, or
end in an error about a name that is gone. So each file's kernels are kept in a folder that is named by what it and all
files it takes from say.

The kernels of closed loops (`outer`, `inner`, `summing`) are compiled in half the time, because what nobody uses is
left out: they neither make nor keep arrays, so that none need be counted (`_nrt`); what only kernels call needs no way
in from Python or C. tests/benchmarks/bench_snn.py measures the first use.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar, overload

import numba
from numba import njit

F = TypeVar("F")

SETTINGS: Any = numba.config
ROOT = Path(__file__).parent
DIGITS = 16  # of a digest, in a folder's name
KEPT_S = 7 * 24 * 3600.0
# At the beginning of a line: an import inside a function or for the type checker brings nothing into a kernel.
IMPORT = re.compile(r"^(?:from|import) +(\.*[\w.]*)", re.MULTILINE)

_PLAIN: dict[str, Any] = {"_nrt": False, "no_cfunc_wrapper": True}
_INNER: dict[str, Any] = {**_PLAIN, "no_cpython_wrapper": True}


@overload
def compiled(kernel: F, /) -> F: ...
@overload
def compiled(**options: Any) -> Callable[[F], F]: ...
def compiled(kernel: Any = None, /, **options: Any) -> Any:
    """A kernel that is kept on disk. With options of numba: `@compiled(inline="always")`."""
    if kernel is None:
        return partial(compiled, **options)
    with _keeping(Path(kernel.__code__.co_filename)) as keeps:
        return njit(cache=keeps, **options)(kernel)


def plain(kernel: F) -> F:
    """The Python behind a kernel."""
    function: Any = kernel
    found: F = function.py_func
    return found


def outer(kernel: F) -> F:
    """A kernel of a closed loop that Python calls, kept on disk."""
    made: F = compiled(**_PLAIN)(kernel)
    return made


def inner(kernel: F) -> F:
    """A part of kernels, which they alone call."""
    made: F = njit(**_INNER)(kernel)
    return made


def summing(kernel: F) -> F:
    """An `inner` one whose sums may be taken in any order; all else in it happens as written."""
    made: F = njit(fastmath={"reassoc", "nsz"}, **_INNER)(kernel)
    return made


@contextmanager
def _keeping(file: Path) -> Iterator[bool]:
    """Inside, numba keeps what it compiles where this file's kernels belong; False where nothing can be written."""
    before = SETTINGS.CACHE_DIR
    folder = folder_of(file, before)
    SETTINGS.CACHE_DIR = "" if folder is None else str(folder)
    try:
        yield folder is not None
    finally:
        SETTINGS.CACHE_DIR = before


@cache
def folder_of(file: Path, wanted: str) -> Path | None:
    """Where the kernels of this file are kept: below NUMBA_CACHE_DIR, beside the file or in the user's place."""
    try:
        name = f"{file.stem}-{digest(file)}"
    except OSError:  # without its sources nobody can tell what a kernel was made from
        return None
    return _made(Path(wanted) / name) if wanted else _beside(file, name) or _of_the_user(name)


def _beside(file: Path, name: str) -> Path | None:
    folder = file.parent / "__pycache__" / name
    new = not folder.exists()
    made = _made(folder)
    if new and made is not None:
        _forget_older(folder)
    return made


def _of_the_user(name: str) -> Path | None:
    import platformdirs

    return _made(platformdirs.user_cache_path("neurobench", appauthor=False) / name)


def _made(folder: Path) -> Path | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _forget_older(folder: Path) -> None:
    """What was compiled from earlier states of the same file, unless so lately that a run may still go on with it."""
    for other in folder.parent.glob(f"{folder.name[:-DIGITS]}{'[0-9a-f]' * DIGITS}"):
        with suppress(OSError):
            newest_s = max(one.stat().st_mtime for one in (other, *other.iterdir()))
            if time.time() - newest_s > KEPT_S:
                shutil.rmtree(other)


def digest(file: Path) -> str:
    """Of this file and all files of ours that it takes from."""
    found, left = {file}, [file]
    while left:
        new = _taken_from(left.pop()) - found
        found |= new
        left.extend(new)
    said = hashlib.sha256()
    for one in sorted(found):
        said.update(_text(one)[1])
    return said.hexdigest()[:DIGITS]


@cache
def _taken_from(file: Path) -> frozenset[Path]:
    """Files that a file imports from; of a package, all of them: which of its names are files is not looked at."""
    return frozenset(one for name in IMPORT.findall(_text(file)[0]) for one in _files(name, file))


@cache
def _text(file: Path) -> tuple[str, bytes]:
    """What a file says, and its digest."""
    data = file.read_bytes()
    return data.decode("utf-8"), hashlib.sha256(data).digest()


def _files(module: str, here: Path) -> list[Path]:
    """Those of a module by its name, as `here` would import it; none if it is not ours."""
    dots = len(module) - len(module.lstrip("."))
    words = module[dots:].split(".") if module[dots:] else []
    if dots:
        place = here.parents[dots - 1].joinpath(*words)
    elif words[:1] == ["neurobench"]:
        place = ROOT.joinpath(*words[1:])
    else:
        return []
    file = place.with_name(f"{place.name}.py")
    return [file] if file.is_file() else sorted(place.glob("*.py"))
