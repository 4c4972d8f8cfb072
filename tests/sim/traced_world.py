"""A world without physics that keeps what instruments do to it: levels on terminals, relays, and when."""

from __future__ import annotations

from typing import Any, NamedTuple

from neurobench.sim_instruments.world.clock import Timeline

from neurobench.bench.instruments import InstrumentSection


class Level(NamedTuple):
    ps: int
    volts: float | None  # None: open


class TracedTerminal:
    def __init__(self, world: TracedWorld) -> None:
        self._world = world
        self.trace: list[Level] = [Level(0, None)]
        self.ohm = 0.0

    def _now(self, volts: float | None) -> None:
        if volts != self.trace[-1].volts:
            self.trace.append(Level(self._world.now_ps, volts))

    def drive(self, volts: float, ohm: float = 0.0, limit_a: float = float("inf")) -> None:
        self.ohm = ohm
        self._now(volts)

    def release(self) -> None:
        self._now(None)

    @property
    def now_v(self) -> float | None:
        return self.trace[-1].volts

    def pulses(self, idle_v: float = 0.0) -> list[tuple[float, int]]:
        """(volts, picoseconds) of every level but the idle one that has ended."""
        pairs = zip(self.trace, self.trace[1:], strict=False)
        return [(a.volts, b.ps - a.ps) for a, b in pairs if a.volts not in (None, idle_v) and b.ps > a.ps]  # type: ignore[misc]


class TracedRelays:
    def __init__(self, world: TracedWorld, rows: int, columns: int) -> None:
        self._world, self.shape = world, (rows, columns)
        self.closed: frozenset[tuple[int, int]] = frozenset()
        self.trace: list[tuple[int, str, tuple[int, int]]] = []

    def close(self, row: int, column: int) -> None:
        assert 1 <= row <= self.shape[0]
        assert 1 <= column <= self.shape[1]
        self.closed |= {(row, column)}
        self.trace.append((self._world.now_ps, "close", (row, column)))

    def open(self, row: int, column: int) -> None:
        self.closed -= {(row, column)}
        self.trace.append((self._world.now_ps, "open", (row, column)))

    def open_all(self) -> None:
        for at in sorted(self.closed):
            self.open(*at)


class TracedWorld(Timeline):
    def __init__(self, source_ohm: float = 0.0) -> None:
        super().__init__()
        self.source_ohm = source_ohm
        self.moves = 0
        self._terminals: dict[str, TracedTerminal] = {}
        self.matrix: TracedRelays | None = None

    def before_time_moves(self) -> None:
        self.moves += 1

    def settle(self) -> None:
        pass

    def terminal(self, name: str) -> TracedTerminal:
        return self._terminals.setdefault(name, TracedTerminal(self))

    def relays(self, rows: int, columns: int) -> TracedRelays:
        self.matrix = self.matrix or TracedRelays(self, rows, columns)
        return self.matrix


class Talk:
    """One instrument, line by line; `ask` wants exactly one reply."""

    def __init__(self, kind: Any, world: Any = None, **section: Any) -> None:
        self.world = TracedWorld() if world is None else world
        self.instrument = kind(self.world, kind.ROLE, "NBSIM009", InstrumentSection(model=kind.MODEL, **section))

    def say(self, *lines: str) -> None:
        for line in lines:
            self.instrument.receive(line.encode("latin-1") + b"\n")
            assert self.instrument.take() is None, f"{line} was answered"

    def ask(self, line: str) -> str:
        self.instrument.receive(line.encode("latin-1") + b"\n")
        reply = self.instrument.take()
        assert reply is not None, f"{line} was not answered; {self.instrument.status.errors}"
        assert self.instrument.take() is None
        return reply.decode("latin-1").removesuffix("\n")

    def number(self, line: str) -> float:
        return float(self.ask(line))

    def errors(self) -> list[int]:
        found = [entry.code for entry in self.instrument.status.errors]
        self.instrument.status.errors.clear()
        return found

    def terminal(self, n: int = 1) -> TracedTerminal:
        return self.world.terminal(f"{self.instrument.ROLE}.{n}")  # type: ignore[no-any-return]
