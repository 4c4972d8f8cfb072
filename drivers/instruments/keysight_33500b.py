"""Keysight (Agilent) 33500B and 33600A waveform generators as sources of pulses.

Sources: 33500 Series Operating and Service Guide (pulse width and edges: page 69; output termination and limits: page
62; burst: page 177; attributes of samples and what amplitude means for them: page 192). Figures marked [memory] were
not seen there: burst count, smallest period, longest text, memory and sample rates. Between bursts a waveform rests at
its first sample (phase 0; said of the 33210A, page 215, and of the 81160A, page 357). The 33600A is held to the figures
of the slower 33500B where they are the narrower ones.

Amplitude "is limited if the data points do not span the full range" (page 192) leaves open what HIGH and LOW mean for
samples that do not: so they always do, and HIGH and LOW are the extremes of what is played.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_hex
from typing import TYPE_CHECKING, ClassVar

from neurobench.errors import UsageError

from ._generator import (
    COUNT,
    SECONDS,
    Edge,
    Generator,
    Mark,
    Memory,
    OpenCircuit,
    State,
    UploadedCodes,
    Vocabulary,
    Volts,
    number_in,
)
from ._roles import Train
from ._sampling import SampleClock
from ._table import Flag, Knob, Value, Word

if TYPE_CHECKING:
    from neurobench.bench.instruments import InstrumentSection

    from ._link import Link

FASTEST_S = 8.4e-9
LONGEST_TEXT = 40  # characters of DISP:TEXT [memory]
MOST_PULSES = 100_000_000  # [memory]
FULL = 32767
# 62.5 MSa/s is the most with the filter off, 32 samples the least of a 33600A, 1e6 the most of either [memory]. More
# than 16384 would make stairs finer than a device can tell, and long messages.
SAMPLES = SampleClock(least_ps=16_000, least=32, most=16_384)

_EDGE = Edge(FASTEST_S)
_STATES: dict[str, State] = {"idle": "idle", "armed": "armed", "fired": "fired", "cut": "cut"}
_MODE = Knob(
    "burst mode", ":SOUR{c}:BURS:MODE {v}", ":SOUR{c}:BURS:MODE?", codec=Word(), doc="TRIG: a count per trigger"
)
_SOURCE = Knob("trigger source", ":TRIG{c}:SOUR {v}", ":TRIG{c}:SOUR?", codec=Word(), doc="BUS: *TRG only")
_COUNT = Knob(
    "burst count", ":SOUR{c}:BURS:NCYC {v}", ":SOUR{c}:BURS:NCYC?", low=1, high=MOST_PULSES, codec=COUNT, doc="pulses"
)
_READY = Knob("trigger system", ":INIT{c}:CONT {v}", ":INIT{c}:CONT?", codec=Flag(), doc="off: it ignores triggers")
_DELAY = Knob("trigger delay", ":TRIG{c}:DEL {v}", ":TRIG{c}:DEL?", "s", 0, 1000, SECONDS)
_PHASE = Knob(
    "burst phase", ":SOUR{c}:BURS:PHAS {v}", ":SOUR{c}:BURS:PHAS?", "deg", codec=SECONDS, doc="where it rests"
)
_GATE = Knob("output mode", ":OUTP{c}:MODE {v}", ":OUTP{c}:MODE?", codec=Word(), doc="GAT: pulses may not come out")
_BURST = Knob("burst", ":SOUR{c}:BURS:STAT {v}", ":SOUR{c}:BURS:STAT?", codec=Flag(), doc="off: it runs freely")

WORDS = Vocabulary(
    output=Knob("output", ":OUTP{c} {v}", ":OUTP{c}?", codec=Flag()),
    load=Knob(
        "load", ":SOUR{c}:VOLT:LIM:STAT 0;:OUTP{c}:LOAD {v}", ":OUTP{c}:LOAD?", "ohm", codec=OpenCircuit(),
        doc="what the levels are meant for; cannot be changed under limits (page 62)",
    ),
    function=Knob(
        "function",
        ":SOUR{c}:BURS:STAT 0;:SOUR{c}:FUNC PULS;:SOUR{c}:VOLT MIN;:SOUR{c}:VOLT:OFFS 0;:SOUR{c}:FUNC {v}",
        ":SOUR{c}:FUNC?", codec=Word(), doc="PULS or DC",
    ),
    offset=Knob("offset", ":SOUR{c}:VOLT:OFFS {v}", ":SOUR{c}:VOLT:OFFS?", "V", codec=Volts(), doc="the level of DC"),
    limit_high=Knob("upper limit", ":SOUR{c}:VOLT:LIM:HIGH {v}", ":SOUR{c}:VOLT:LIM:HIGH?", "V", codec=Volts()),
    limit_low=Knob("lower limit", ":SOUR{c}:VOLT:LIM:LOW {v}", ":SOUR{c}:VOLT:LIM:LOW?", "V", codec=Volts()),
    limited=Knob("limits", ":SOUR{c}:VOLT:LIM:STAT {v}", ":SOUR{c}:VOLT:LIM:STAT?", codec=Flag()),
    period=Knob(
        "period",
        ":SOUR{c}:FUNC:PULS:TRAN:BOTH MIN;:SOUR{c}:FUNC:PULS:WIDT MIN;:SOUR{c}:FUNC:PULS:PER {v}",
        ":SOUR{c}:FUNC:PULS:PER?", "s", 3.3e-8, 1e6, SECONDS, "[memory: 30 MHz]",
    ),
    width=Knob(
        "width", ":SOUR{c}:FUNC:PULS:WIDT {v}", ":SOUR{c}:FUNC:PULS:WIDT?", "s", 1.6e-8, 1e6, SECONDS,
        "between the 50 % points (page 69)",
    ),
    rise=Knob("rise time", ":SOUR{c}:FUNC:PULS:TRAN:LEAD {v}", ":SOUR{c}:FUNC:PULS:TRAN:LEAD?", "s", 0, 1e-6, _EDGE),
    fall=Knob("fall time", ":SOUR{c}:FUNC:PULS:TRAN:TRA {v}", ":SOUR{c}:FUNC:PULS:TRAN:TRA?", "s", 0, 1e-6, _EDGE),
    polarity=Knob(
        "polarity", ":OUTP{c}:POL {v}", ":OUTP{c}:POL?", codec=Word(),
        doc="INV mirrors about the offset, so that the output rests at HIGH",
    ),
    high=Knob("high level", ":SOUR{c}:VOLT:HIGH {v}", ":SOUR{c}:VOLT:HIGH?", "V", -10, 10, Volts()),
    low=Knob("low level", ":SOUR{c}:VOLT:LOW {v}", ":SOUR{c}:VOLT:LOW?", "V", -10, 10, Volts()),
    count=_COUNT,
    firing=(
        (_MODE, "TRIG"), (_SOURCE, "BUS"), (_READY, True), (_DELAY, 0.0), (_PHASE, 0.0), (_GATE, "NORM"), (_COUNT, 1.0),
        (_BURST, True),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rate:
    """Samples per second, with all digits: what is lost here adds up over the samples."""

    def say(self, value: Value) -> str:
        """Fifteen digits."""
        return f"{float(value):.15g}"

    def agrees(self, value: Value, answer: str) -> bool | None:
        """Equal within 1 ppm, the accuracy of its clock."""
        found = number_in(answer)
        return None if found is None else abs(found - float(value)) <= 1e-6 * float(value)


MEMORY = Memory(
    clock=SAMPLES, full=FULL, function="ARB",
    samples=Knob(
        "samples", ":SOUR{c}:DATA:VOL:CLE;:SOUR{c}:DATA:ARB:DAC {v}", ":SOUR{c}:DATA:ATTR:AVER?",
        codec=UploadedCodes(FULL), doc="a name that is in memory cannot be loaded again; the mean is what can be asked",
    ),
    chosen=Knob("waveform", ":SOUR{c}:FUNC:ARB {v}", ":SOUR{c}:FUNC:ARB?", codec=Word()),
    rate=Knob("sample rate", ":SOUR{c}:FUNC:ARB:SRAT {v}", ":SOUR{c}:FUNC:ARB:SRAT?", "Sa/s", 1e-6, 6.25e7, Rate()),
    ways=(
        (Knob("filter", ":SOUR{c}:FUNC:ARB:FILT {v}", ":SOUR{c}:FUNC:ARB:FILT?", codec=Word(),
              doc="OFF: one that smooths would overshoot the extremes"), "OFF"),
        (Knob("advance", ":SOUR{c}:FUNC:ARB:ADV {v}", ":SOUR{c}:FUNC:ARB:ADV?", codec=Word()), "SRAT"),
    ),
)  # fmt: skip


class Keysight33500B(Generator):
    """One or two channels. The mark is the text on its display: `NB <nonce> <stimulus> <shot> idle|armed|fired|cut`."""

    MODELS = (r"335\d\d[AB]", r"336\d\dA")
    WORDS: ClassVar[Vocabulary] = WORDS
    MEMORY: ClassVar[Memory | None] = MEMORY
    MAX_V: ClassVar[float] = 10.0
    ABORT: ClassVar[str] = ":ABOR"
    MARK_QUESTIONS: ClassVar[tuple[str, ...]] = (":DISP:TEXT?",)
    min_width_s = 2e-8  # 16 ns alone; 20 ns with edges slower than the fastest (page 69)
    max_width_s = 9.99e5
    max_pulses = MOST_PULSES

    def __init__(self, link: Link, section: InstrumentSection) -> None:
        super().__init__(link, section)
        self._nonce = token_hex(3)

    def programmed_width_s(self, train: Train) -> float:
        """Half of each edge belongs to the width."""
        return train.width_s + (train.rise_s + train.fall_s) / 2

    def first_mark(self, seq: int) -> Mark:
        """Shot 0 of the stimulus, counted by this connection."""
        return Mark(self._nonce, seq, 0, "idle")

    def write_mark(self, mark: Mark) -> str:
        """The text on the display. Raises UsageError where it does not fit."""
        text = f"NB {mark.nonce} {mark.seq} {mark.shot} {mark.state}"
        if len(text) > LONGEST_TEXT:
            raise UsageError(f"{text!r} does not fit on the display of {self.link.name} ({LONGEST_TEXT} characters)")
        return f':DISP:TEXT "{text}"'

    def read_mark(self, answers: Sequence[str]) -> Mark | None:
        """The text on the display, if we wrote it."""
        found = re.fullmatch(r'"NB ([0-9a-f]{6}) (\d+) (\d+) (idle|armed|fired|cut)"', answers[0].strip())
        return Mark(found[1], int(found[2]), int(found[3]), _STATES[found[4]]) if found else None


plugin = Keysight33500B
