"""The order that protects the chip, on the simulated bench: watched at every relay, for every set of instruments."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from visa_bench import PARTS, SimulatedBench, open_simulated

from neurobench.bench.stimulus import CellRead, Pulse, PulseBatch
from neurobench.errors import BenchFault, NeurobenchError

CHIP = {"chip.rows": 2, "chip.cols": 3, "chip.model": "lsmo-gaq3-mirror"}
SHAPE = (2, 3)
PULSE = Pulse(2.0, 1e-3)
ALL = np.ones(SHAPE, np.bool_)


class Watched:
    """A bench whose relays look at every source before they move."""

    def __init__(self, bench: SimulatedBench) -> None:
        self.bench, self.moves, self.hot = bench, 0, list[str]()
        for name in ("join", "part"):
            self._watch(bench.world, name)

    def _watch(self, world: Any, name: str) -> None:
        move = getattr(world, name)

        def moved(a: int, b: int) -> None:
            self.moves += 1
            self.hot += [f"{name} with {t.name} at {t.volts:g} V" for t in world._terminals.values() if t.volts]
            move(a, b)

        setattr(world, name, moved)

    def cold(self) -> None:
        assert self.moves
        assert self.hot == []
        assert self.bench.world.mishaps == ()
        assert self.bench.world.damage == ()


@pytest.fixture(params=PARTS)
def watched(request: pytest.FixtureRequest) -> Iterator[Watched]:
    bench = open_simulated({**CHIP, **PARTS[request.param]})
    found = Watched(bench)
    yield found
    bench.close()
    found.cold()


def counts(*rows: list[int]) -> np.ndarray[Any, Any]:
    return np.array(rows, np.int16)


BOTH_SIGNS = counts([1, 0, -2], [0, -1, 3])


def test_no_relay_moves_under_volts(watched: Watched) -> None:
    """Reads, pulses of both signs, measured ones where it can, pause, resume, another kind of pulse, close."""
    guard = watched.bench.guard()
    guard.sense(CellRead(ALL, 0.05))
    guard.stage(0, PulseBatch(BOTH_SIGNS, PULSE))
    guard.fire(0)
    guard.sense(CellRead(ALL, -0.05, both_polarities=False))
    guard.rest()
    guard.stage(1, PulseBatch(BOTH_SIGNS, PULSE))
    guard.rest()
    guard.stage(1, PulseBatch(-BOTH_SIGNS, PULSE))
    guard.fire(1)
    if guard.capabilities.measures_while_pulsing:
        guard.stage(2, PulseBatch(BOTH_SIGNS, PULSE, measure=True))
        assert guard.fire(2).currents_a is not None
    guard.sense(CellRead(ALL, 0.05))
    assert watched.bench.world.pulses_fired() == int(np.abs(BOTH_SIGNS).sum()) * (
        3 if guard.capabilities.measures_while_pulsing else 2
    )


def test_no_relay_moves_under_volts_when_an_exception_ends_it_anywhere(watched: Watched) -> None:
    """Every message of a read and a stimulus in turn raises; then the bench is brought to rest, and works on."""
    bench = watched.bench
    guard, links = bench.guard(), bench.crossbar._connected.links.values()
    for at in range(3, 60, 8):
        heard = 0

        def hear(direction: str, line: str, at: int = at) -> None:
            nonlocal heard
            heard += direction == ">"
            if heard == at:
                raise KeyboardInterrupt

        for link in links:
            link.log = hear
        try:
            guard.sense(CellRead(ALL, 0.05))
            guard.stage(at, PulseBatch(BOTH_SIGNS, PULSE))
            guard.fire(at)
        except KeyboardInterrupt:
            pass
        for link in links:
            link.log = None
        guard.rest()
        assert all(t.volts == 0.0 for t in bench.world._terminals.values())
    guard.sense(CellRead(ALL, 0.05))


def test_no_relay_moves_under_volts_when_a_burst_is_cut(watched: Watched) -> None:
    """The clock is stopped in the middle of the pulses and the bench brought to rest, by another thread."""
    bench = watched.bench
    guard, fired = bench.guard(), int(np.abs(BOTH_SIGNS).sum())
    guard.stage(0, PulseBatch(50 * (BOTH_SIGNS > 0).astype(np.int16), PULSE))
    source = bench.crossbar._last.source if bench.crossbar._last else None
    assert source is not None
    _then(source, "trigger", lambda: (bench.simulation.clock.sleep(0.02), _aside(guard.rest)))
    with pytest.raises(BenchFault):
        guard.fire(0)
    assert all(t.volts == 0.0 for t in bench.world._terminals.values())
    pulses = bench.world.pulses_fired()
    assert pulses < 50 * fired
    bench.simulation.clock.sleep(1.0)
    assert bench.world.pulses_fired() == pulses, "the burst went on behind the outputs"


def _then(source: Any, name: str, also: Callable[[], object]) -> None:
    first = getattr(source, name)

    def both() -> None:
        first()
        setattr(source, name, first)
        also()

    setattr(source, name, both)


def _aside(do: Callable[[], None]) -> None:
    # the gate is held by the thread that triggers, as it is in the moment in which the message leaves
    thread = threading.Thread(target=do)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_outputs_stay_off_until_the_limits_are_read_back(watched: Watched) -> None:
    said: list[str] = []
    connected = watched.bench.crossbar._connected
    for link in connected.links.values():
        link.log = lambda direction, line: said.append(line) if direction == ">" else None
    watched.bench.crossbar.enforce(watched.bench.config.limits)
    on = [line for line in said if any(word in line for word in ("OUTP1 1", "OUTP 1", "OUTP2 1", "source.output=1"))]
    assert not on
    assert said
    watched.bench.crossbar.sense(CellRead(ALL, 0.05))


def test_every_way_out_of_a_refused_stimulus_leaves_the_bench_cold(watched: Watched) -> None:
    guard = watched.bench.guard()
    for pulse in (Pulse(9.0, 1e-3), Pulse(2.0, 2.0), Pulse(2.0, 1e-12)):
        with pytest.raises(NeurobenchError):
            guard.stage(0, PulseBatch(BOTH_SIGNS, pulse))
        with pytest.raises(NeurobenchError):
            guard.fire(0)
    guard.sense(CellRead(ALL, 0.05))
    assert watched.bench.world.pulses_fired() == 0
