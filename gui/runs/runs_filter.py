"""What is written into the filter box of the runs: words, and `key:value`. No Qt.

    manhattan status:fault tag:good seed:7 -tag:old "two words"

All parts have to fit; `-` before a part turns it round; a value fits where it is a part of what the run has, a seed
as a whole. Case does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from neurobench.errors import UsageError, unknown

KEYS = ("id", "protocol", "bench", "status", "seed", "tag", "note", "kind", "simulated", "when")
WHOLE = ("seed", "kind", "simulated")  # 7 is not 17
HELP = "words, or " + " ".join(f"{key}:..." for key in ("status", "protocol", "tag", "seed", "bench"))

_PART = re.compile(r'(-(?=\S))?(?:([A-Za-z]+):)?(?:"([^"]*)("?)|(\S+))')

_UNFINISHED = {f"{key}:" for key in KEYS}  # somebody is still typing

Facts = Mapping[str, str]  # what a run has, by the keys above, in lower case


@dataclass(frozen=True)
class Part:
    """One condition; key "" looks everywhere."""

    key: str
    value: str
    wanted: bool = True

    def fits(self, facts: Facts) -> bool:
        """Whether a run is as this part wants it."""
        return self._found(facts) is self.wanted

    def _found(self, facts: Facts) -> bool:
        if not self.key:
            return any(self.value in fact for fact in facts.values())
        fact = facts.get(self.key, "")
        return fact == self.value if self.key in WHOLE else self.value in fact

    def __str__(self) -> str:
        value = f'"{self.value}"' if re.search(r"\s|^-|:", self.value) or not self.value else self.value
        return f"{'' if self.wanted else '-'}{f'{self.key}:' if self.key else ''}{value}"


@dataclass(frozen=True)
class Filter:
    """All parts of a filter; without any, every run fits."""

    parts: tuple[Part, ...] = ()

    def fits(self, facts: Facts) -> bool:
        """Whether a run fits all parts."""
        return all(part.fits(facts) for part in self.parts)

    def __str__(self) -> str:
        return " ".join(map(str, self.parts))


def parse(text: str) -> Filter:
    """A filter out of what was typed. UsageError for a key that is none, or quotes that do not end."""
    parts, at = [], 0
    while at < len(text):
        if text[at].isspace():
            at += 1
            continue
        found = _PART.match(text, at)
        if found is None or found[0] == "-":
            raise UsageError(f"{text[at:]!r} says nothing to look for; write {HELP}")
        at = found.end()
        if found[5] not in _UNFINISHED:
            parts.append(_part(*found.groups()))
    return Filter(tuple(parts))


def _part(minus: str, key: str | None, quoted: str | None, end: str | None, word: str | None) -> Part:
    if quoted is not None and not end:
        raise UsageError(f'the quotes of "{quoted} do not end')
    named = (key or "").lower()
    if named and named not in KEYS:
        raise UsageError(unknown("key", named, KEYS, "the filter"))
    return Part(named, (word if quoted is None else quoted).lower(), not minus)  # type: ignore[union-attr]
