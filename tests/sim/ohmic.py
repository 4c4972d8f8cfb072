"""A world with one known conductance between two channels, for tests of source-measure units: everything is exact."""

from __future__ import annotations

import itertools
from math import inf
from typing import Any, cast

from neurobench.sim_instruments.engine.instrument import SimInstrument
from neurobench.sim_instruments.world.clock import PS_PER_S, Timeline
from neurobench.sim_instruments.world.world import World

from neurobench.bench.instruments import InstrumentSection

SIEMENS = 2e-6


class OhmicTerminal:
    """One end of the conductance; a released other end is an open circuit, `smu.2` unless it is driven is ground."""

    def __init__(self, world: OhmicWorld, name: str) -> None:
        self.world, self.name = world, name
        self.driven: tuple[float, float] | None = None
        self.history: list[tuple[int, float | None]] = []

    def drive(self, volts: float, ohm: float = 0.0, limit_a: float = inf) -> None:
        if self.driven is None or self.driven[0] != volts:
            self.history.append((self.world.now_ps, volts))
        self.driven = (volts, limit_a)

    def release(self) -> None:
        if self.driven is not None:
            self.history.append((self.world.now_ps, None))
        self.driven = None

    @property
    def connected(self) -> bool:
        return self.driven is not None

    def _other_v(self) -> float | None:
        other = self.world.terminals.get({"smu.1": "smu.2", "smu.2": "smu.1"}.get(self.name, ""))
        if self.name == "smu.1" and (other is None or not other.connected):
            return 0.0
        return None if other is None or other.driven is None else other.driven[0]

    def current_a(self) -> float:
        other_v = self._other_v()
        if self.driven is None or other_v is None:
            return 0.0
        wanted = self.world.siemens * (self.driven[0] - other_v)
        limit = self.driven[1]
        return max(-limit, min(limit, wanted))

    @property
    def limited(self) -> bool:
        other_v = self._other_v()
        if self.driven is None or other_v is None:
            return False
        return abs(self.world.siemens * (self.driven[0] - other_v)) > self.driven[1]

    def voltage_v(self) -> float:
        other_v = self._other_v()
        if self.driven is None:
            return 0.0
        return self.driven[0] if other_v is None else other_v + self.current_a() / self.world.siemens

    def measure_a(self, aperture_s: float, averages: int = 1) -> float:
        return self.current_a()


class OhmicWorld(Timeline):
    """Time, and the conductance between smu.1 and smu.2."""

    def __init__(self, siemens: float = SIEMENS) -> None:
        super().__init__()
        self.siemens = siemens
        self.terminals: dict[str, OhmicTerminal] = {}

    def settle(self) -> None:
        pass

    def before_time_moves(self) -> None:
        pass

    def terminal(self, name: str) -> OhmicTerminal:
        return self.terminals.setdefault(name, OhmicTerminal(self, name))


class Dialogue:
    """An instrument on this world, spoken to line by line."""

    def __init__(self, model: type[SimInstrument], siemens: float = SIEMENS, noise: bool = False) -> None:
        self.world = OhmicWorld(siemens)
        section = InstrumentSection(model=model.MODEL)
        self.instrument = model(cast("World", self.world), "smu", "NBSIM001", section, noise=noise)
        self.instrument.streaming = True

    def write(self, *lines: str) -> None:
        for line in lines:
            self.instrument.receive(line.encode() + b"\n")

    def read(self) -> str:
        reply = self.instrument.take()
        assert reply is not None, "no reply"
        return reply.decode().rstrip("\n")

    def ask(self, line: str) -> str:
        self.write(line)
        reply = self.instrument.take()
        assert reply is not None, f"no reply to {line}"
        assert self.instrument.take() is None, f"more than one reply to {line}"
        return reply.decode().rstrip("\n")

    def floats(self, line: str, separator: str = ",") -> list[float]:
        return [float(word) for word in self.ask(line).split(separator)]

    def silent(self, line: str) -> None:
        self.write(line)
        assert self.instrument.take() is None, f"a reply to {line}"

    def wait(self, seconds: float) -> None:
        with self.world.lock:
            self.world.run_for(seconds)

    def pulses(self, name: str = "smu.1") -> list[tuple[float, float]]:
        """(volts, seconds) of every time at another level than 0 V on a terminal, from its history; exact."""
        found: list[tuple[float, float]] = []
        history: list[Any] = self.world.terminal(name).history
        for (start, volts), (stop, _) in itertools.pairwise(history):
            if volts and stop > start:
                found.append((volts, (stop - start) / PS_PER_S))
        return found
