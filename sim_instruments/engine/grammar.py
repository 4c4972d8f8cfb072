"""The SCPI grammar as pure functions: header patterns, messages cut into commands, parameters read.

Sources: IEEE 488.2-1992 chapters 7 and 8 (program messages, data elements, suffixes), SCPI-99 volume 1 chapters 5 to 8
(short and long forms, numeric suffixes, header path, MIN/MAX/DEF/INF); from memory.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from .status import ScpiError

if TYPE_CHECKING:
    from collections.abc import Container

INFINITY: Final = 9.9e37  # SCPI's number for "infinite"

# ---------------------------------------------------------------------------------------------- headers

_PIECE = re.compile(
    r"(?P<open>\[)|(?P<close>\])|:|\{(?P<any>[^}]+)\}|(?P<node>\*?[A-Za-z]\w*)|#(?P<max>[0-9]*)|(?P<digits>[0-9]+)"
)


class Match(NamedTuple):
    """A header that fits a pattern: its numeric suffixes, and the short forms of the alternatives taken."""

    suffixes: tuple[int, ...]
    choices: tuple[str, ...]


def forms(mnemonic: str) -> tuple[str, str]:
    """Short and long form of a mnemonic written as `VOLTage`, both in capitals."""
    return re.sub("[a-z]", "", mnemonic), mnemonic.upper()


def _either(mnemonic: str) -> str:
    return "|".join(re.escape(form) for form in dict.fromkeys(forms(mnemonic)))


class Pattern:
    """A header as manuals write it: `[:SOURce#]:VOLTage[:LEVel]`, `{VOLTage|CURRent}:RANGe`, `OUTPut#2`, `*CLS`.

    [] may be left out, also digits (`INTernal[1]`); # is a numeric suffix (1 if left out), #2 one that goes to 2; {|}
    are alternatives.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._limits: list[int | None] = []  # of each suffix; None: no limit
        self._shorts: list[dict[str, str]] = []  # of each alternative: form -> short form
        self._order: list[bool] = []  # of each group: True is a suffix, False an alternative
        self._regex = re.compile("".join(map(self._compile, _PIECE.finditer(text))))
        if "".join(piece.group() for piece in _PIECE.finditer(text)) != text:
            raise ValueError(f"not a header pattern: {text!r}")

    def _compile(self, piece: re.Match[str]) -> str:
        if piece["open"] or piece["close"]:
            return "(?:" if piece["open"] else ")?"
        if piece["any"]:
            words = piece["any"].split("|")
            self._shorts.append({form: forms(word)[0] for word in words for form in forms(word)})
            self._order.append(False)
            return f":({'|'.join(map(_either, words))})"
        if piece["node"]:
            return f"{'' if piece['node'].startswith('*') else ':'}(?:{_either(piece['node'])})"
        if piece["digits"]:
            return piece["digits"]
        if piece["max"] is not None:
            self._limits.append(int(piece["max"]) if piece["max"] else None)
            self._order.append(True)
            return "([0-9]*)"
        return ""  # a colon: every node brings its own

    def match(self, header: str) -> Match | None:
        """Fit a header in capitals that begins with `:` or `*`. Raises ScpiError -114 for a suffix out of range."""
        found = self._regex.fullmatch(header)
        if found is None:
            return None
        digits = [text for text, suffix in zip(found.groups(), self._order, strict=True) if suffix]
        taken = [text for text, suffix in zip(found.groups(), self._order, strict=True) if not suffix]
        return Match(
            tuple(map(_suffix, digits, self._limits)),
            tuple(shorts.get(text, "") for text, shorts in zip(taken, self._shorts, strict=True)),
        )


def _suffix(digits: str | None, limit: int | None) -> int:
    if not digits:
        return 1
    value = int(digits) if len(digits) < 10 else 0
    if value < 1 or (limit is not None and value > limit):
        raise ScpiError(-114)
    return value


# ---------------------------------------------------------------------------------------------- messages

_BLANK = "".join(map(chr, range(33)))  # IEEE 488.2: codes 0 to 32 are white space
_STOPS = re.compile(r"""[;,"'(#]""")
_HEADER = re.compile(r":?\*?[A-Za-z]\w*(?::[A-Za-z]\w*)*\??", re.ASCII)
_IN_LINE = re.compile(rb""" "[^"\n]*"? | '[^'\n]*'? | (?<=[\x00-\x20,])\#([1-9]) """, re.VERBOSE)


class Command(NamedTuple):
    """One command of a message: its header as typed and its parameters."""

    header: str
    args: tuple[str, ...]


def message_end(buffer: bytes | bytearray) -> int:
    """Index of the line feed that ends the first message, or -1; one inside a definite block does not count."""
    start = 0
    while (end := buffer.find(b"\n", start)) >= 0:
        after = _first_block(buffer, start, end)
        if after is None:
            return end
        if after > len(buffer):
            return -1
        start = after
    return -1


def _first_block(buffer: bytes | bytearray, start: int, end: int) -> int | None:
    """Where the first block that begins before `end` is over."""
    for found in _IN_LINE.finditer(buffer, start, end):
        if found[1] is None:  # a string: what looks like a block in it is none
            continue
        first = found.end()
        digits = bytes(buffer[first : first + int(found[1])])
        if digits.isdigit() and len(digits) == int(found[1]):
            return first + len(digits) + int(digits)
    return None


def commands(text: str) -> Iterator[Command]:
    """The commands of a message, one after the other. Raises ScpiError where it is reached."""
    start = 0
    while start <= len(text):
        pieces: list[str] = []
        separator = ","
        while separator == ",":
            begin = start if pieces else _parameters(text, start)
            if not pieces:
                pieces.append(text[start:begin].strip(_BLANK))
            piece, start, separator = _piece(text, begin)
            pieces.append(piece)
        header, args = pieces[0], tuple(pieces[1:])
        if header:
            yield Command(header, () if args == ("",) else args)


def _parameters(text: str, start: int) -> int:
    """Where the parameters of the command at `start` begin. Raises ScpiError if there is no header."""
    while start < len(text) and text[start] in _BLANK:
        start += 1
    if start == len(text) or text[start] == ";":
        return start
    found = _HEADER.match(text, start)
    end = found.end() if found else start
    if end < len(text) and text[end] not in _BLANK and text[end] != ";":
        if not "!" <= text[end] <= "~":
            raise ScpiError(-101)
        raise ScpiError(-102 if found is None or text[end] in ":?*," else -111)
    return end


def _piece(text: str, start: int) -> tuple[str, int, str]:
    """One parameter, where the next begins, and what stood between; strings, blocks and (lists) are kept whole."""
    at = start
    while (stop := _STOPS.search(text, at)) is not None:
        if stop.group() in ";,":
            return _checked(text[start : stop.start()]), stop.end(), stop.group()
        at = _skip(text, start, stop.start())
    return _checked(text[start:]), len(text) + 1, ""


def _checked(piece: str) -> str:
    """A parameter without the white space around it; the data of a block are left as they are."""
    piece = piece.lstrip(_BLANK)
    if re.match("#[1-9]", piece):
        end = _block_end(piece, 0)
        if piece[end:].strip(_BLANK):
            raise ScpiError(-161)
        return piece[:end]
    if not piece.isascii():
        raise ScpiError(-101)
    return piece.rstrip(_BLANK)


def _skip(text: str, start: int, at: int) -> int:
    """The end of what begins at `at`: a string, a block or an expression in parentheses."""
    if text[at] in "\"'":
        end = text.find(text[at], at + 1)
        if end < 0:
            raise ScpiError(-151)
        return end + 1
    if text[at] == "(":
        return _closing(text, at)
    if text[start:at].strip(_BLANK) or not re.match("#[1-9]", text[at : at + 2]):
        return at + 1
    return _block_end(text, at)


def _closing(text: str, at: int) -> int:
    depth = 0
    for found in re.compile(r"""[()]|"[^"]*"|'[^']*'""").finditer(text, at):
        depth += {"(": 1, ")": -1}.get(found.group(), 0)
        if not depth:
            return found.end()
    raise ScpiError(-171)


def _block_end(text: str, at: int) -> int:
    first = at + 2
    digits = text[first : first + int(text[at + 1])]
    if not re.fullmatch("[0-9]+", digits):
        raise ScpiError(-161)
    end = first + len(digits) + int(digits)
    if end > len(text):
        raise ScpiError(-161)
    return end


# ---------------------------------------------------------------------------------------------- parameters

_NUMBER = re.compile(r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:\s*[eE]\s*[+-]?[0-9]+)?)\s*([A-Za-z%/][A-Za-z0-9%/.-]*)?")
_OTHER_BASE = re.compile(r"#(?:[Hh]([0-9A-Fa-f]+)|[Qq]([0-7]+)|[Bb]([01]+))")
_MULTIPLIERS: Final = {
    "EX": 1e18, "PE": 1e15, "T": 1e12, "G": 1e9, "MA": 1e6, "K": 1e3, "": 1.0,
    "M": 1e-3, "U": 1e-6, "N": 1e-9, "P": 1e-12, "F": 1e-15, "A": 1e-18,
}  # fmt: skip


def scale(suffix: str, unit: str) -> float:
    """What a suffix such as US stands for, in the unit; several units are written `V|VPP`.

    M is milli, except in MHZ and MOHM, where it is mega. Raises ScpiError -131 (no such suffix) or -138 (none allowed).
    """
    if not suffix:
        return 1.0
    if not unit:
        raise ScpiError(-138)
    for one in unit.upper().split("|"):
        prefix = suffix.upper().removesuffix(one)
        if suffix.upper().endswith(one) and prefix in _MULTIPLIERS:
            return 1e6 if prefix == "M" and one in ("HZ", "OHM") else _MULTIPLIERS[prefix]
    raise ScpiError(-131)


def number(text: str, unit: str = "") -> float:
    """A number as typed: NR1, NR2, NR3, #H1F, #Q17, #B101, with a suffix of the unit, INF or NINF."""
    word = text.upper()
    if word in ("INF", "INFINITY", "NINF", "NINFINITY"):
        return -math.inf if word.startswith("N") else math.inf
    if (based := _OTHER_BASE.fullmatch(text)) is not None:
        return float(_integer(based))
    found = _NUMBER.fullmatch(text)
    if found is None:
        raise ScpiError(-121 if text[:1] and text[0] in "+-.0123456789" else -104)
    value = float(re.sub(r"\s", "", found[1]))
    if math.isinf(value):
        raise ScpiError(-222)
    value *= scale(found[2] or "", unit)
    return value if abs(value) < INFINITY else math.copysign(math.inf, value)


def _integer(based: re.Match[str]) -> int:
    digits, base = next((text, base) for text, base in zip(based.groups(), (16, 8, 2), strict=True) if text)
    value = int(digits, base)
    if value >= 1 << 64:
        raise ScpiError(-222)
    return value


@dataclass(frozen=True, slots=True)
class Range:
    """Which numbers a parameter may be, and what MIN, MAX and DEF stand for. `infinite`: INF is allowed as well."""

    low: float = -math.inf
    high: float = math.inf
    default: float | None = None
    unit: str = ""
    integer: bool = False
    infinite: bool = False

    def named(self, text: str) -> float | None:
        """MIN, MAX or DEF; None: it is none of these words."""
        word = match_word(text, "MINimum", "MAXimum", "DEFault")
        if word is None:
            return None
        value = {"MIN": self.low, "MAX": self.high, "DEF": self.default}[word]
        if value is None or not (math.isfinite(value) or self.infinite):
            raise ScpiError(-224)
        return value

    def read(self, text: str) -> float:
        """The number. Raises ScpiError -222 outside of the range."""
        value = self.named(text)
        if value is not None:
            return value
        value = number(text, self.unit)
        if math.isinf(value):
            if self.infinite and value > 0:
                return value
            raise ScpiError(-222)
        if self.integer:
            value = float(math.floor(value + 0.5))
        if not self.low <= value <= self.high:
            raise ScpiError(
                -222, f"Data out of range; {value:g} is not in {self.low:g} .. {self.high:g} {self.unit}".rstrip()
            )
        return value


def match_word(text: str, *words: str) -> str | None:
    """The short form of the word that `text` is the short or long form of; words may have optional parts."""
    for word in words:
        if _word(word).match(":" + text.upper()) is not None:
            return short_form(word)
    return None


_word = lru_cache(maxsize=1024)(Pattern)  # the words of all instruments are few


def short_form(word: str) -> str:
    """`PULS` of `PULSe`, `CURR` of `CURRent[:DC]`."""
    return re.sub(r"\[[^]]*\]|[a-z]", "", word)


def truth(text: str) -> bool:
    """ON, OFF, or a number (0 after rounding is off)."""
    word = text.upper()
    if word in ("ON", "OFF"):
        return word == "ON"
    value = number(text)
    return not abs(value) < 0.5


def unquoted(text: str) -> str:
    """The contents of a quoted string; a doubled quote in it stands for one."""
    if len(text) < 2 or text[0] not in "\"'" or text[-1] != text[0]:
        raise ScpiError(-104)
    inner = text[1:-1]
    if text[0] in inner.replace(text[0] * 2, ""):
        raise ScpiError(-151)
    return inner.replace(text[0] * 2, text[0])


def quoted(text: str) -> str:
    """A string reply."""
    return '"' + text.replace('"', '""') + '"'


def block(data: bytes) -> bytes:
    """A definite-length block: #, number of digits, length, data."""
    length = str(len(data)).encode()
    return b"#%d%s%s" % (len(length), length, data)


def unblocked(text: str) -> bytes:
    """The data of a parameter that is a definite-length block."""
    if not re.match("#[1-9]", text):
        raise ScpiError(-104)
    return text[2 + int(text[1]) :].encode("latin-1")


_MANY = 100_000  # channels of one list: more is a mistake, and would only cost memory


def channel_list(text: str, known: Container[int] | None = None) -> list[int]:
    """The channels of `(@1203,1204)` or `(@1101:1104)`, in their order.

    With `known`, a channel that is not in it is refused (-224), but a range skips those between its ends.
    """
    found = re.fullmatch(r"\(\s*@([0-9:,\s]*)\)", text)
    if found is None:
        raise ScpiError(-171 if text.startswith("(") else -104)
    channels: list[int] = []
    for item in found[1].split(","):
        first, *rest = [_channel(part, known) for part in item.split(":")]
        if len(rest) > 1 or (rest and abs(rest[0] - first) > _MANY) or len(channels) > _MANY:
            raise ScpiError(-171)
        channels += _span(first, rest[0], known) if rest else [first]
    return channels


def _channel(part: str, known: Container[int] | None) -> int:
    digits = part.strip()
    if not 0 < len(digits) < 10 or not digits.isdigit():
        raise ScpiError(-171)
    if known is not None and int(digits) not in known:
        raise ScpiError(-224, f"Illegal parameter value; no channel {digits}")
    return int(digits)


def _span(first: int, last: int, known: Container[int] | None) -> list[int]:
    step = 1 if last >= first else -1
    return [n for n in range(first, last + step, step) if known is None or n in known]
