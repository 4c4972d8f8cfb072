"""Tags and notes on runs: the user's own words, beside the runs and never inside a finished run file. No Qt."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurobench.errors import UsageError
from neurobench.system import Lock, replace_file, utc_now

NAME = ".notes.json"
VERSION = 1


@dataclass(frozen=True)
class Words:
    """What somebody wrote about one run."""

    tags: tuple[str, ...] = ()
    note: str = ""


NONE = Words()


def tags_of(text: str) -> tuple[str, ...]:
    """Tags out of a line of text: words, apart by blanks or commas, each once, in lower case."""
    found = (tag.lower().lstrip("#") for tag in re.split(r"[\s,;]+", text))
    return tuple(dict.fromkeys(tag for tag in found if tag))


class Notes:
    """The words on the runs of one folder. Another window may write them too: what it wrote is kept.

    `problem` says why they could not be read; a file that cannot be read is put aside before a new one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self.problem = ""
        self._words: dict[str, Words] = {}
        self._seen: tuple[int, int] | None = None
        self.refresh()

    def of(self, run_id: str) -> Words:
        """What was written about a run."""
        return self._words.get(run_id, NONE)

    def all_tags(self) -> list[str]:
        """Every tag that is in use."""
        return sorted({tag for words in self._words.values() for tag in words.tags})

    def refresh(self) -> bool:
        """Read the file again if it has changed; True if it had."""
        seen = _state(self.path)
        if seen == self._seen:
            return False
        self._seen = seen
        self._words, self.problem = _read(self.path)
        return True

    def set(self, run_ids: Iterable[str], *, tags: Iterable[str] | None = None, note: str | None = None) -> None:
        """Write tags, or a note, on some runs; None leaves what was written. UsageError if that is impossible."""
        try:
            with Lock(self.path.with_name(NAME + ".lock"), "notes"):
                self._seen = None
                self.refresh()
                if self.problem:
                    self._put_aside()
                for run_id in run_ids:
                    old = self.of(run_id)
                    self._words[run_id] = Words(
                        old.tags if tags is None else tuple(tags), old.note if note is None else note
                    )
                self._write()
        except OSError as error:
            raise UsageError(f"cannot write {self.path}: {error.strerror or error}") from error

    def _write(self) -> None:
        words = {run: {"tags": w.tags, "note": w.note} for run, w in sorted(self._words.items()) if w != NONE}
        text = json.dumps({"version": VERSION, "runs": words}, indent=1, ensure_ascii=False)
        replace_file(self.path, text.encode())
        self._seen, self.problem = _state(self.path), ""

    def _put_aside(self) -> None:
        moment = utc_now()[:19].replace(":", "").replace("-", "")
        with contextlib.suppress(FileNotFoundError):
            self.path.rename(self.path.with_name(f"{NAME}.damaged-{moment}"))


def _state(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _read(path: Path) -> tuple[dict[str, Words], str]:
    try:
        runs = json.loads(path.read_text(encoding="utf-8"))["runs"]
        return {str(run): _words(said) for run, said in runs.items()}, ""
    except FileNotFoundError:
        return {}, ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, f"tags and notes cannot be read from {path} ({error}); the file is kept when new ones are written"


def _words(said: Any) -> Words:
    return Words(tuple(str(tag) for tag in said.get("tags", ())), str(said.get("note", "")))
