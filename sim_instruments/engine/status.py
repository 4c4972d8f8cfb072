"""What an instrument reports about itself: the IEEE 488.2 registers, the SCPI registers and the error queue.

    status = Status(mav=lambda: bool(replies))
    status.error(-222)                       queue entry, and the bit of its class in the event status register
    status.operation.update(16, True)        condition; the event register keeps it until it is read
    status.begin(until_ps); status.end()     a pending operation; *OPC sets its flag when none is left
    status.stb()                             the status byte, bit 6 = master summary status (what *STB? answers)
    status.serial_poll()                     the same with bit 6 = request for service, which polling takes back

Sources: IEEE 488.2-1992 chapter 11 (registers), SCPI-99 volume 2 chapter 21 (error numbers and texts); from memory.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

OPC, QYE, DDE, EXE, CME, PON = 0x01, 0x04, 0x08, 0x10, 0x20, 0x80
EAV, QUES, MAV, ESB, MSS, OPER = 0x04, 0x08, 0x10, 0x20, 0x40, 0x80

TEXTS: Final = {
    0: "No error",
    -101: "Invalid character",
    -102: "Syntax error",
    -104: "Data type error",
    -108: "Parameter not allowed",
    -109: "Missing parameter",
    -111: "Header separator error",
    -112: "Program mnemonic too long",
    -113: "Undefined header",
    -114: "Header suffix out of range",
    -120: "Numeric data error",
    -121: "Invalid character in number",
    -123: "Exponent too large",
    -131: "Invalid suffix",
    -138: "Suffix not allowed",
    -141: "Invalid character data",
    -151: "Invalid string data",
    -161: "Invalid block data",
    -171: "Invalid expression",
    -200: "Execution error",
    -211: "Trigger ignored",
    -213: "Init ignored",
    -221: "Settings conflict",
    -222: "Data out of range",
    -223: "Too much data",
    -224: "Illegal parameter value",
    -230: "Data corrupt or stale",
    -241: "Hardware missing",
    -285: "TSP Syntax error",
    -286: "TSP Runtime error",
    -310: "System error",
    -350: "Queue overflow",
    -363: "Input buffer overrun",
    -410: "Query INTERRUPTED",
    -420: "Query UNTERMINATED",
    -430: "Query DEADLOCKED",
}


class ScpiError(Exception):
    """What a command handler raises to refuse: an error number and, if the standard text does not do, its own text."""

    def __init__(self, code: int, text: str | None = None) -> None:
        self.code = code
        self.text = TEXTS.get(code, "Device-specific error") if text is None else text
        super().__init__(f'{code},"{self.text}"')


class ErrorEntry(NamedTuple):
    """One entry of the error queue; code 0: the queue is empty."""

    code: int
    text: str


def error_bit(code: int) -> int:
    """The bit of the event status register that an error of this number sets."""
    if code > 0:
        return DDE
    return {1: CME, 2: EXE, 3: DDE, 4: QYE}.get(-code // 100, 0)


@dataclass(slots=True)
class Register:
    """A SCPI register set (operation, questionable): condition, event and enable, 15 bits each.

    An event bit is set where its condition goes from 0 to 1, and cleared by reading (transition filters at preset).
    """

    condition: int = 0
    event: int = 0
    enable: int = 0

    def update(self, bits: int, on: bool) -> None:
        """Set or clear condition bits."""
        before = self.condition
        self.condition = (before | bits if on else before & ~bits) & 0x7FFF
        self.event |= self.condition & ~before

    def take_event(self) -> int:
        """Read the event register, which clears it."""
        event, self.event = self.event, 0
        return event

    @property
    def summary(self) -> bool:
        """Whether an enabled event is there."""
        return bool(self.event & self.enable)


@dataclass(slots=True)
class Status:
    """All registers of one instrument. `mav` tells whether a reply waits; `depth`: entries of the error queue."""

    mav: Callable[[], bool]
    depth: int = 20
    esr: int = PON
    ese: int = 0
    sre: int = 0
    operation: Register = field(default_factory=Register)
    questionable: Register = field(default_factory=Register)
    errors: deque[ErrorEntry] = field(default_factory=deque)
    pending: int = 0
    _until_ps: int | None = 0
    _opc_asked: bool = False
    _asserted: int = 0
    _rqs: bool = False

    # ---- errors

    def error(self, code: int, text: str | None = None) -> None:
        """Put an error into the queue and set the bit of its class. A full queue ends with -350."""
        self.esr |= error_bit(code)
        if len(self.errors) < self.depth:
            self.errors.append(ErrorEntry(code, ScpiError(code, text).text))
        else:
            self.esr |= error_bit(-350)
            self.errors[-1] = ErrorEntry(-350, TEXTS[-350])
        self.refresh()

    def next_error(self) -> ErrorEntry:
        """Take the oldest error out of the queue."""
        return self.errors.popleft() if self.errors else ErrorEntry(0, TEXTS[0])

    # ---- pending operations

    def begin(self, until_ps: int | None = None) -> None:
        """An operation has begun that goes on after its command; `until_ps`: when it will end, if that is known."""
        if not self.pending:
            self._until_ps = 0
        self.pending += 1
        known = self._until_ps is not None and until_ps is not None
        self._until_ps = max(self._until_ps or 0, until_ps or 0) if known else None

    def end(self) -> None:
        """A pending operation has ended (nothing if none is pending)."""
        self.pending = max(self.pending - 1, 0)
        self._complete()

    def end_all(self) -> None:
        """All pending operations are broken off (*RST, power)."""
        self.pending = 0
        self._opc_asked = False

    @property
    def until_ps(self) -> int | None:
        """When the last pending operation ends; None: nobody knows, it may wait for a trigger."""
        return self._until_ps if self.pending else 0

    def ask_opc(self) -> None:
        """*OPC: set bit 0 of the event status register as soon as nothing is pending."""
        self._opc_asked = True
        self._complete()

    def forget_opc(self) -> None:
        """Device clear, *CLS and *RST take back an *OPC that is not yet fulfilled."""
        self._opc_asked = False

    def _complete(self) -> None:
        if self._opc_asked and not self.pending:
            self._opc_asked = False
            self.esr |= OPC
        self.refresh()

    # ---- registers

    def take_esr(self) -> int:
        """Read the event status register, which clears it."""
        esr, self.esr = self.esr, 0
        self.refresh()
        return esr

    def clear(self) -> None:
        """*CLS: events and errors, not the enable registers."""
        self.esr = self.operation.event = self.questionable.event = 0
        self.errors.clear()
        self.forget_opc()
        self.refresh()

    def preset(self) -> None:
        """STATus:PRESet: nothing of the SCPI registers is enabled."""
        self.operation.enable = self.questionable.enable = 0

    def power_on(self) -> None:
        """Registers as after switching on."""
        self.operation, self.questionable = Register(), Register()
        self.ese = self.sre = self._asserted = 0
        self._rqs = False
        self.end_all()
        self.clear()
        self.esr = PON

    def _summary(self) -> int:
        parts = (
            (EAV, bool(self.errors)),
            (QUES, self.questionable.summary),
            (MAV, self.mav()),
            (ESB, bool(self.esr & self.ese)),
            (OPER, self.operation.summary),
        )
        return sum(bit for bit, on in parts if on)

    def stb(self) -> int:
        """The status byte with bit 6 = master summary status; reading it changes nothing."""
        summary = self._summary()
        return summary | (MSS if summary & self.sre else 0)

    def refresh(self) -> None:
        """Ask for service if there is a new reason; to be called whenever something has changed."""
        reasons = self._summary() & self.sre & ~MSS
        if reasons & ~self._asserted:
            self._rqs = True
        if not reasons:
            self._rqs = False
        self._asserted = reasons

    def serial_poll(self) -> int:
        """The status byte with bit 6 = request for service, which this takes back."""
        self.refresh()
        byte = self._summary() | (MSS if self._rqs else 0)
        self._rqs = False
        return byte
