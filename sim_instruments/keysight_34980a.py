"""Keysight (Agilent) 34980A mainframe with 34934A matrix modules, each as 8 rows by 32 columns.

Commands after the 34980A programmer's reference (its help pages for ROUTe and SYSTem:MODule) and public drivers;
settling time and the words of SYSTem:CDEScription? from memory. A channel is slot, row, two digits of the column:
(@1203). Columns 33 to 64 are those of the module's second matrix, which is wired to nothing here. The relays to
the analog buses close and open, and nothing is on the buses. Not there: the DMM, scans, other modules.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from .engine import grammar
from .engine.grammar import quoted
from .engine.matrix import BREAK, Frame, Point
from .engine.scpi import Boolean, Call, ScpiError, ScpiInstrument, Setting, scpi

ROWS, COLUMNS, SLOTS = 8, 32, (1, 2, 3, 4, 5, 6, 7, 8)
SETTLE_S: Final = 4e-3
BUS_RELAYS: Final = (921, 922, 923, 924)  # of a module to the analog buses 1 to 4 (from memory)
LAYOUT: Final = f"{ROWS}x{COLUMNS}"
PROTECTION: Final = ("AUTO100", "AUTO0", "FIXed", "ISOlated")
LONGEST_DELAY_S: Final = 60.0
SWITCHING: Final = grammar.Pattern("[:ROUTe]:{CLOSe|OPEN}[:EXCLusive]")


def point_of(channel: int) -> Point:
    """The crosspoint of 1203."""
    return Point(channel // 1000, channel // 100 % 10, channel % 100)


def channel_of(point: Point) -> int:
    """1203 of a crosspoint."""
    return point.slot * 1000 + point.row * 100 + point.column


def _whole(header: str) -> str:
    """A header of a sequence from the root, in capitals."""
    return ":" + header.lstrip(":").upper()


class Keysight34980A(ScpiInstrument):
    """Simulated 34980A; [instruments.matrix] slots names the slots that hold a module (default: all eight)."""

    MODEL = "keysight-34980a"
    IDN = "Agilent Technologies,34980A,{serial},2.42"
    ROLE = "matrix"

    SETTINGS = (
        Setting("DISPlay[:STATe]", "display", Boolean(True)),
        Setting("SYSTem:BEEPer:STATe", "beeps", Boolean(True), kept=True),
    )

    def build(self) -> None:
        """The modules in their slots."""
        self.frame = Frame(self.world, self.section.slots or SLOTS, ROWS, COLUMNS, SETTLE_S, self.spend)
        cards = [channel_of(point) for slot in self.frame.slots for point in self.frame.card(slot)]
        buses = {slot * 1000 + relay for slot in self.frame.slots for relay in BUS_RELAYS}
        self._known = frozenset(cards) | {channel + COLUMNS for channel in cards} | buses
        self._sequences: dict[str, str] = {}

    def reset(self) -> None:
        """All relays open."""
        super().reset()
        self._second: set[int] = set()  # closed channels of the second matrix of each module
        self._delays: dict[int, float] = {}
        self._modes = dict.fromkeys(self.frame.slots, "AUTO100")
        self._default_mode = "AUTO100"
        self.frame.release()

    def power_cycle(self) -> None:
        """Sequences are kept in volatile memory."""
        with self.world.lock:
            self._sequences.clear()
            super().power_cycle()

    # ---- switching

    def _channels(self, call: Call, place: int = 0) -> list[int]:
        return call.channels(place, self._known)

    def _wired(self, channels: Iterable[int]) -> list[Point]:
        return [point for point in map(point_of, channels) if point in self.frame]

    def _unwired(self, channels: Iterable[int]) -> set[int]:
        return {channel for channel in channels if point_of(channel) not in self.frame}

    def _closed(self) -> set[int]:
        return {channel_of(point) for point in self.frame.closed} | self._second

    def _delay_of(self, channels: Iterable[int]) -> float:
        return max((self._delays.get(channel, 0.0) for channel in channels), default=0.0)

    @scpi("[:ROUTe]:CLOSe")
    def close(self, call: Call) -> str | None:
        """Close these; nothing opens."""
        channels = self._channels(call)
        if call.query:
            return self._states(channels, closed=True)
        self._second |= self._unwired(channels)
        self.frame.close(self._wired(channels), self._delay_of(channels))
        return None

    @scpi("[:ROUTe]:OPEN")
    def open(self, call: Call) -> str | None:
        """Open these."""
        channels = self._channels(call)
        if call.query:
            return self._states(channels, closed=False)
        self._second -= self._unwired(channels)
        self.frame.open(self._wired(channels))
        return None

    def _states(self, channels: list[int], *, closed: bool) -> str:
        now = self._closed()
        return ",".join(str(int((channel in now) == closed)) for channel in channels)

    @scpi("[:ROUTe]:CLOSe:EXCLusive", event=True)
    def close_only(self, call: Call) -> None:
        """Open all other channels of the modules in the list, then close these."""
        channels = self._channels(call)
        slots = {channel // 1000 for channel in channels}
        opening = [point for point in self.frame.closed if point.slot in slots and channel_of(point) not in channels]
        self._second = {one for one in self._second if one // 1000 not in slots} | self._unwired(channels)
        self.frame.exchange(opening, self._wired(channels), BREAK, self._delay_of(channels))

    @scpi("[:ROUTe]:OPEN:ALL", event=True)
    def open_all(self, call: Call) -> None:
        """Open all channels of a slot, or of all slots (ALL, or nothing said)."""
        slots = self._slots(call)
        self._second = {one for one in self._second if one // 1000 not in slots}
        self.frame.open([point for point in self.frame.closed if point.slot in slots])

    def _slots(self, call: Call) -> tuple[int, ...]:
        if not call.args or call.arg(0).upper() == "ALL":
            return self.frame.slots
        return (self._slot(call),)

    def _slot(self, call: Call, place: int = 0) -> int:
        slot = int(call.number(place, low=1, high=len(SLOTS), integer=True))
        if slot not in self.frame.slots:
            raise ScpiError(-241, f"Hardware missing; slot {slot} is empty")
        return slot

    @scpi("[:ROUTe]:CHANnel:DELay", params=2)
    def delay(self, call: Call) -> str | None:
        """Time to wait after these have closed and settled."""
        if call.query:
            return ",".join(self.format_number(self._delays.get(channel, 0.0)) for channel in self._channels(call))
        seconds = call.number(0, "S", low=0, high=LONGEST_DELAY_S, default=0)
        self._delays.update(dict.fromkeys(self._channels(call, 1), seconds))
        return None

    # ---- sequences of switching commands

    @scpi("[:ROUTe]:SEQuence:DEFine", params=2)
    def sequence(self, call: Call) -> str | None:
        """Give closing and opening commands a name."""
        name = call.arg(0).upper()
        if call.query:
            return quoted(self._stored(name))
        text = call.text(1)
        if not all(SWITCHING.match(_whole(command.header)) for command in grammar.commands(text)):
            raise ScpiError(-224, "Illegal parameter value; only ROUTe:CLOSe and ROUTe:OPEN in a sequence")
        self._sequences[name] = text
        return None

    def _stored(self, name: str) -> str:
        if name not in self._sequences:
            raise ScpiError(-224, f"Illegal parameter value; no sequence {name}")
        return self._sequences[name]

    @scpi("[:ROUTe]:SEQuence:TRIGger[:IMMediate]", event=True)
    def run_sequence(self, call: Call) -> None:
        """Carry out a sequence."""
        for command in grammar.commands(self._stored(call.arg(0).upper())):
            self._answer(_whole(command.header), command.args)

    @scpi("[:ROUTe]:SEQuence:CATalog?", params=0)
    def sequences(self) -> str:
        """Names of all sequences."""
        return ",".join(self._sequences)

    @scpi("[:ROUTe]:SEQuence:BUSY?", params=0)
    def busy(self) -> str:
        """A sequence ends before the next command is looked at."""
        return "0"

    @scpi("[:ROUTe]:SEQuence:DELete[:NAME]", event=True)
    def forget_sequence(self, call: Call) -> None:
        """Forget a sequence."""
        self._stored(call.arg(0).upper())
        del self._sequences[call.arg(0).upper()]

    @scpi("[:ROUTe]:SEQuence:DELete:ALL", params=0, event=True)
    def forget_sequences(self) -> None:
        """Forget all sequences."""
        self._sequences.clear()

    # ---- the modules

    def _any_slot(self, call: Call) -> int:
        return int(call.number(0, low=1, high=len(SLOTS), integer=True))

    @scpi("SYSTem:CTYPe?")
    def card_type(self, call: Call) -> str:
        """Maker, model, serial number and firmware of a module; zeros for an empty slot."""
        slot = self._any_slot(call)
        if slot not in self.frame.slots:
            return quoted("Agilent Technologies,0,0,0")
        return quoted(f"Agilent Technologies,34934A-{LAYOUT},{self.serial}S{slot},1.08")

    @scpi("SYSTem:CDEScription?")
    def card_description(self, call: Call) -> str:
        """A module in words."""
        slot = self._any_slot(call)
        return quoted(f"{LAYOUT} High-Density Matrix" if slot in self.frame.slots else "Slot Empty")

    @scpi("SYSTem:MODule:TERMinal:TYPE?")
    def terminal_type(self, call: Call) -> str:
        """How the terminal block makes a matrix of the module."""
        return LAYOUT if self._any_slot(call) in self.frame.slots else "NONE"

    @scpi("SYSTem:MODule:ROW:PROTection", params=2)
    def protection(self, call: Call) -> str | None:
        """How the rows are protected from currents at closing: only kept here, the resistors are not simulated."""
        by_default = call.arg(0).upper() in ("DEF", "DEFAULT")
        if call.query:
            return self._default_mode if by_default else self._modes[self._slot(call)]
        mode = call.word(1, *PROTECTION)
        if by_default:
            self._default_mode = mode
        else:
            self._modes[self._slot(call)] = mode
        return None

    @scpi("SYSTem:CPON", event=True)
    def card_reset(self, call: Call) -> None:
        """A module as after switching on."""
        slots = self._slots(call)
        self._second = {one for one in self._second if one // 1000 not in slots}
        self._modes.update(dict.fromkeys(slots, self._default_mode))
        self.frame.open([point for point in self.frame.closed if point.slot in slots])

    @scpi("SYSTem:PRESet", params=0, event=True)
    def preset(self) -> None:
        """All modules as after switching on."""
        self.reset()

    @scpi("SYSTem:{LOCal|REMote|RWLock}", "SYSTem:BEEPer", params=0, event=True)
    def nothing(self) -> None:
        """Heard or seen at the front panel only."""


plugin = Keysight34980A
