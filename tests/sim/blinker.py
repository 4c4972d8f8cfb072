"""A small instrument and a world with nothing in it, for tests of what stands between an instrument and its client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from neurobench.sim_instruments.engine.instrument import SimInstrument
from neurobench.sim_instruments.world.clock import PS_PER_S, Timeline

from neurobench.bench.instruments import InstrumentSection


class Nowhere(Timeline):
    """A bench without terminals: only time passes."""

    def settle(self) -> None:
        pass

    def before_time_moves(self) -> None:
        pass

    def now_s(self) -> float:
        return self.now_ps / PS_PER_S

    def run_for(self, seconds: float) -> None:
        self.run_until(self.now_ps + round(seconds * PS_PER_S))


class Blinker(SimInstrument):
    """*IDN?; SET x; GET?; LATER? t (answers after t seconds); SLEEP t (blocks); SRQ t (asks for service); BLOCK?;
    BYTES #..; COUNT? (triggers); BREAK (a fault in its own code); FAIL n (an error of that number)."""

    MODEL = "acme-blinker"
    IDN = "ACME,Blinker,{serial},1.0"
    ROLE = "pulse"

    def build(self) -> None:
        self.value, self.count, self.seen = "", 0, list[bytes]()

    def triggered(self) -> None:
        self.count += 1

    def reset(self) -> None:
        super().reset()
        self.value = ""

    def execute(self, message: bytes) -> Iterator[None]:
        self.seen.append(message)
        word, _, rest = message.partition(b" ")
        if word == b"LATER?":
            self.begin()
            self.world.at(float(rest), self.end)
            self.ask_wait()
            yield
            self.reply(b"late")
        else:
            self._plain(word, rest)

    def _plain(self, word: bytes, rest: bytes) -> None:
        if word == b"SRQ":
            self.status.sre = self.status.ese = 0x20
            self.status.ese = 1
            self.begin()
            self.status.ask_opc()
            self.world.at(float(rest), self.end)
        elif word == b"SLEEP":
            self.spend(float(rest))
        elif word == b"SET":
            self.value = rest.decode("latin-1")
        elif word == b"*TRG":
            self.triggered()
        elif word == b"FAIL":
            self.status.error(int(rest))
        elif word == b"BREAK":
            raise AttributeError("a fault in the instrument")
        elif word == b"ERR?":
            self.reply(str(self.status.next_error().code).encode())
        elif word in (answers := self._answers()):
            self.reply(answers[word])

    def _answers(self) -> dict[bytes, bytes]:
        return {
            b"*IDN?": self.identity.encode(),
            b"GET?": self.value.encode("latin-1"),
            b"BLOCK?": b"#3256" + bytes(range(256)),
            b"COUNT?": str(self.count).encode(),
        }


def blinker(world: Any = None, serial: str = "NBSIM900") -> Blinker:
    """One of them, in a world of its own unless given one."""
    return Blinker(world or Nowhere(), "pulse", serial, InstrumentSection(model="acme-blinker"))
