"""A recording resource with scripted answers, and its clock: what a driver says, without an instrument."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from neurobench.drivers.instruments._link import Link
from pyvisa.constants import StatusCode
from pyvisa.errors import VisaIOError

from neurobench.bench.instruments import InstrumentSection


class FakeClock:
    """Time that passes only when somebody sleeps or waits."""

    def __init__(self) -> None:
        self.time_s = 0.0

    def now_s(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.time_s += seconds


class Recorder:
    """A VISA resource. `script`: (what must be said, its answers), in order; or `answer`: a function of the line.

    Answers are None (there is none), one or a list of: a text (its line end is added), raw bytes, or an exception,
    which the read raises. A read with nothing to read times out, in fake time. `said` holds all messages.
    """

    def __init__(
        self,
        script: Iterable[tuple[str, Any]] = (),
        *,
        answer: Callable[[str], Any] | None = None,
        clock: FakeClock | None = None,
        name: str = "GPIB0::1::INSTR",
    ) -> None:
        self.resource_name = name
        self.timeout: float = 2000.0
        self.read_termination: str | None = "\n"
        self.clock = clock or FakeClock()
        self.script = list(script)
        self.answer = answer
        self.said: list[str] = []
        self.events: list[str] = []
        self.waiting: list[Any] = []
        self.slices_ms: list[float] = []

    def write_raw(self, message: bytes) -> int:
        line = message.decode("ascii")
        assert line.endswith("\n"), f"{line!r} is not ended"
        assert line.count("\n") == 1, f"{line!r} is more than one message"
        line = line[:-1]
        self.said.append(line)
        self.waiting += _as_list(self._answers(line))
        return len(message)

    def read_raw(self) -> bytes:
        if not self.waiting:
            self.slices_ms.append(self.timeout)
            self.clock.sleep(self.timeout / 1000)
            raise VisaIOError(StatusCode.error_timeout)
        found = self.waiting.pop(0)
        if isinstance(found, BaseException):
            raise found
        return found if isinstance(found, bytes) else str(found).encode("ascii") + b"\n"

    def read_bytes(self, count: int, *, break_on_termchar: bool = False) -> bytes:
        """Byte by byte, as a serial line gives them; None among the waiting answers is a pause."""
        if break_on_termchar:
            return self.read_raw()[:count]
        if self.waiting and self.waiting[0] is None:
            self.waiting.pop(0)
            self.clock.sleep(self.timeout / 1000)
            raise VisaIOError(StatusCode.error_timeout)
        whole = self.read_raw()
        if whole[count:]:
            self.waiting.insert(0, whole[count:])
        return whole[:count]

    def clear(self) -> None:
        self.events.append("clear")
        self.waiting.clear()

    def open(self, *, open_timeout: int) -> None:
        assert open_timeout <= 50, "no call into a link blocks longer"
        self.events.append("open")

    def close(self) -> None:
        self.events.append("close")

    def finished(self) -> None:
        """Assert that the whole script was spoken and every answer taken."""
        assert not self.script, f"never said: {self.script[0][0]!r} and {len(self.script) - 1} more"
        assert not self.waiting, f"never read: {self.waiting}"

    def _answers(self, line: str) -> Any:
        if self.answer is not None:
            return self.answer(line)
        assert self.script, f"said {line!r} after the end of the script"
        expected, answers = self.script.pop(0)
        assert line == expected, f"said     {line!r}\nexpected {expected!r}"
        return answers


def _as_list(answers: Any) -> list[Any]:
    if answers is None:
        return []
    return list(answers) if isinstance(answers, list | tuple) else [answers]


def link_to(recorder: Recorder, timeout_s: float = 1.0, name: str = "instrument") -> Link:
    """A link to it, with its clock."""
    return Link(recorder, recorder.clock, name, timeout_s)


def section(model: str, **settings: Any) -> InstrumentSection:
    """The part of a bench file for one instrument."""
    return InstrumentSection(model=model, **settings)
