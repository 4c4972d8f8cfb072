"""Keysight (Agilent) 81160A pulse generator as a source of pulses.

Sources: 81150A and 81160A User's Guide (width from the start of one edge to the start of the next: page 435; period:
page 142; status: page 580; trigger count, which also sets the burst state, and ranges: as public drivers use them).
Figures marked [memory] were not seen there.
"""

from __future__ import annotations

from collections.abc import Sequence
from secrets import randbelow
from typing import ClassVar

from neurobench.errors import UsageError

from ._generator import COUNT, SECONDS, Edge, Generator, Mark, OpenCircuit, State, Vocabulary, Volts
from ._link import garbled, is_number
from ._roles import Train
from ._table import Flag, Knob, Word

FASTEST_S = 1.5e-9  # 1 ns into 50 ohm [memory: some functions 1.5 ns]
MOST_PULSES = 2_147_483_647
TAGS = 0x7FFF  # what a SCPI enable register holds: 15 bits
SHOT_BITS, STATE_BITS = 0x1F, 0xA0  # of *SRE; bit 6 cannot be set

STATES: dict[State, int] = {"idle": 0, "cut": 0x20, "armed": 0x80, "fired": 0xA0}

_EDGE = Edge(FASTEST_S)
_SOURCE = Knob(
    "arming source", ":ARM:SOUR{c} {v}", ":ARM:SOUR{c}?", codec=Word(), doc="MAN: *TRG only; IMM runs freely"
)
_SENSE = Knob("arming sense", ":ARM:SENS{c} {v}", ":ARM:SENS{c}?", codec=Word(), doc="EDGE: once for every trigger")
_DELAY = Knob("pulse delay", ":PULS:DEL{c} {v}", ":PULS:DEL{c}?", "s", 0, 1e6, SECONDS)
_COUNT = Knob(
    "trigger count", ":TRIG{c}:COUN {v}", ":TRIG{c}:COUN?", low=1, high=MOST_PULSES, codec=COUNT,
    doc="pulses per trigger; more than one switches burst on",
)  # fmt: skip

WORDS = Vocabulary(
    output=Knob("output", ":OUTP{c} {v}", ":OUTP{c}?", codec=Flag()),
    load=Knob(
        "load", ":VOLT{c}:LIM:STAT 0;:OUTP{c}:LOAD {v}", ":OUTP{c}:LOAD?", "ohm", codec=OpenCircuit("1E6", 9.99e5),
        doc="1 Mohm is its most: levels are 0.005 % high into an open circuit",
    ),
    function=Knob(
        "function", ":ARM:SOUR{c} MAN;:FUNC{c} PULS;:VOLT{c} MIN;:VOLT{c}:OFFS 0;:FUNC{c} {v}", ":FUNC{c}?",
        codec=Word(), doc="PULS or DC",
    ),
    offset=Knob("offset", ":VOLT{c}:OFFS {v}", ":VOLT{c}:OFFS?", "V", codec=Volts(), doc="the level of DC"),
    limit_high=Knob("upper limit", ":VOLT{c}:LIM:HIGH {v}", ":VOLT{c}:LIM:HIGH?", "V", -10, 10, Volts()),
    limit_low=Knob("lower limit", ":VOLT{c}:LIM:LOW {v}", ":VOLT{c}:LIM:LOW?", "V", -10, 10, Volts()),
    limited=Knob("limits", ":VOLT{c}:LIM:STAT {v}", ":VOLT{c}:LIM:STAT?", codec=Flag()),
    period=Knob(
        "period", ":FUNC{c}:PULS:TRAN MIN;:FUNC{c}:PULS:TRAN:TRA MIN;:PULS:WIDT{c} MIN;:PULS:PER{c} {v}",
        ":PULS:PER{c}?", "s", 3.03e-9, 1e6, SECONDS, "page 142",
    ),
    width=Knob(
        "width", ":PULS:WIDT{c} {v}", ":PULS:WIDT{c}?", "s", 1.5e-9, 1e6, SECONDS,
        "from the start of the rising edge to the start of the falling one (page 435)",
    ),
    rise=Knob("rise time", ":FUNC{c}:PULS:TRAN:LEAD {v}", ":FUNC{c}:PULS:TRAN:LEAD?", "s", 0, 1e3, _EDGE),
    fall=Knob("fall time", ":FUNC{c}:PULS:TRAN:TRA {v}", ":FUNC{c}:PULS:TRAN:TRA?", "s", 0, 1e3, _EDGE),
    polarity=Knob(
        "polarity", ":OUTP{c}:POL {v}", ":OUTP{c}:POL?", codec=Word(), doc="INV: the output rests at HIGH",
    ),
    high=Knob("high level", ":VOLT{c}:HIGH {v}", ":VOLT{c}:HIGH?", "V", -10, 10, Volts()),
    low=Knob("low level", ":VOLT{c}:LOW {v}", ":VOLT{c}:LOW?", "V", -10, 10, Volts()),
    count=_COUNT,
    firing=((_SOURCE, "MAN"), (_SENSE, "EDGE"), (_DELAY, 0.0), (_COUNT, 1.0)),
    flat=((_SOURCE, "IMM"),),
)  # fmt: skip


class Keysight81160A(Generator):
    """Two channels. It has no text to write on, so the mark is in masks that act on nothing but the status byte.

    `STAT:QUES:ENAB` holds a random tag of the stimulus, `STAT:OPER:ENAB` the shot, and `*SRE` its last five bits with
    the state. `*SRE` alone changes shot and state in one step: the other mask is written before, and is then one ahead.
    """

    MODELS = (r"811[56]0A",)
    WORDS: ClassVar[Vocabulary] = WORDS
    MAX_V: ClassVar[float] = 9.99  # 10 V into an open circuit, less what the load setting takes
    MARK_QUESTIONS: ClassVar[tuple[str, ...]] = ("*SRE?", ":STAT:OPER:ENAB?", ":STAT:QUES:ENAB?")
    min_width_s = 4e-9  # 1.5 ns by the manual; shorter ones are hardly rectangular
    max_width_s = 9.99e5
    max_pulses = MOST_PULSES

    def programmed_width_s(self, train: Train) -> float:
        """The rising edge belongs to the width, the falling one does not."""
        return train.width_s + train.rise_s

    def first_mark(self, seq: int) -> Mark:
        """Shot 0, under a new tag; the number of the stimulus finds no room."""
        del seq
        return Mark(f"{1 + randbelow(TAGS):04x}", -1, 0, "idle")

    def write_mark(self, mark: Mark) -> str:
        """Masks. Raises UsageError for more shots than they count."""
        if mark.shot > TAGS:
            raise UsageError(f"{self.link.name} tells {TAGS} shots of one stimulus apart; this is shot {mark.shot}")
        tag = f":STAT:QUES:ENAB {int(mark.nonce, 16)};" if mark.shot == 0 and mark.state == "idle" else ""
        return f"{tag}:STAT:OPER:ENAB {mark.shot};*SRE {mark.shot & SHOT_BITS | STATES[mark.state]}"

    def read_mark(self, answers: Sequence[str]) -> Mark | None:
        """The masks; None where they do not fit together or hold no tag."""
        if not all(is_number(answer) and float(answer).is_integer() for answer in answers):
            raise garbled(self.link, ";".join(answers), "three whole numbers")
        sre, shot, tag = (int(float(answer)) for answer in answers)
        shots = [k for k in (shot, shot - 1) if k >= 0 and k & SHOT_BITS == sre & SHOT_BITS]
        state = next((name for name, bits in STATES.items() if bits == sre & STATE_BITS), None)
        return Mark(f"{tag:04x}", -1, shots[0], state) if tag and shots and state else None


plugin = Keysight81160A
