"""A generator that only remembers: what is set is what it answers, unless it is told to lie. And a bench around one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from neurobench.drivers.instruments._generator import Generator
from recorder import FakeClock, Recorder, link_to, section

from neurobench.errors import InstrumentError

OPEN_CIRCUIT = "+9.90000000000000E+37"


class Parrot:
    """Settings by their header; *STB? knows bit 5 only. `lies`: question -> answer, from the `after`th asking on.

    Units of a message are carried out in their order; `cut` carries out only so many of the next message. A *TRG fires
    the pulses of its burst count, if all outputs that are on wait for it.
    """

    def __init__(self, fastest_s: float = 8.4e-9, count: str = ":SOUR1:BURS:NCYC") -> None:
        self.kept: dict[str, str] = {}
        self.lies: dict[str, str] = {}
        self.after: dict[str, int] = {}
        self.fastest_s, self.count = fastest_s, count
        self.ese, self.ended, self.fired = 0, False, 0
        self.errors: list[str] = []
        self.cut: int | None = None
        self.runs = True  # whether a burst ends by itself

    def __call__(self, line: str) -> str | None:
        units = line.split(";")
        cut, self.cut = self.cut, None
        answers = [answer for answer in map(self.unit, units[:cut]) if answer is not None]
        return ";".join(answers) if answers and cut is None else None

    def unit(self, unit: str) -> str | None:
        if unit in self.lies:
            self.after[unit] = self.after.get(unit, 1) - 1
            if self.after[unit] <= 0:
                return self.lies[unit]
        if unit.endswith("?"):
            return self.answer(unit)
        header, _, value = unit.partition(" ")
        acts = {
            "*CLS": self.clear,
            "*TRG": self.trigger,
            "*OPC": self.complete,
            ":ABOR": self.abort,
        }
        if header in acts:
            acts[header]()
        elif header == "*ESE":
            self.ese = int(value)
        else:
            self.kept[header] = self.shown(header, value)
        return None

    def answer(self, question: str) -> str:
        simple = {"*STB?": str(32 * self.ended), "*ESE?": str(self.ese), ":SYST:ERR?": '+0,"No error"'}
        if question == ":SYST:ERR?" and self.errors:
            return self.errors.pop(0)
        return simple.get(question) or self.kept.get(question[:-1], '""' if "TEXT" in question else "0")

    def shown(self, header: str, value: str) -> str:
        if value == "INF":
            return OPEN_CIRCUIT
        return f"{self.fastest_s:.3E}" if value == "MIN" else value

    def clear(self) -> None:
        self.ended = False
        self.errors.clear()

    def trigger(self) -> None:
        self.fired += int(float(self.kept[self.count]))

    def complete(self) -> None:
        self.ended = self.runs

    def abort(self) -> None:
        self.runs = True
        self.complete()

    def reboot(self) -> None:
        self.kept.clear()
        self.ese, self.ended = 0, False


def generator_on(parrot: Parrot, kind: type[Generator], model: str, **settings: Any) -> tuple[Any, Recorder]:
    """A driver that speaks to it, and what it says."""
    recorder = Recorder(answer=parrot, clock=FakeClock())
    return kind(link_to(recorder), section(model, **settings)), recorder


def garble(text: str, at: int, by: str) -> str:
    """One character changed."""
    at %= len(text)
    return text[:at] + by + text[at + 1 :]


def refuses_before_an_output_goes_on(
    driver: Any, parrot: Parrot, recorder: Recorder, load: Callable[[], None], trap: tuple[str, str, str]
) -> None:
    """A generator that answers a question with something else is not loaded, and is not connected afterwards."""
    question, answer, words = trap
    parrot.lies[question] = answer
    with pytest.raises(InstrumentError, match=words):
        load()
    with pytest.raises(InstrumentError, match="not proven"):
        driver.connect()
    assert not any("OUTP1 1" in line or "OUTP2 1" in line for line in recorder.said)
