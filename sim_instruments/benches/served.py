"""Simulated benches kept running for other programs, on sockets and pseudo-terminals of this computer.

    served = serve([load_bench("visa-sim", {"instruments.simulation.clock": "wall"})], seed=0, tcp=True)
    served.said                the JSON object that `neurobench sim-bench` begins with
    served.close()             finishes what is under way, switches off, keeps the chips

A bench with an FPGA board is served by itself: raw bytes at the `url` of what is said, and at `serial_url`.

Every bench has a chip and a time of its own. With clock = "virtual" what would block takes no time, but time goes on
with the clients' clocks. Whoever wants faults wraps an instrument in `serve.faults.Faulty`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from neurobench.system import Lock

from ..fpga.served import TcpBoard, TerminalBoard
from ..serve.line import Line, Pace, Ticker
from ..serve.serial_line import SerialPort
from ..serve.tcp import TcpServer
from .fpga import open_simulation as open_board
from .visa import SimulatedBench, open_simulation

if TYPE_CHECKING:
    from neurobench.bench.config import BenchConfig
    from neurobench.physics.chip import Chip

GRACE_S = 5.0  # how long an operation under way may go on at the end; what takes longer is broken off
BOARD = "fpga-sim"  # the backend of a bench with an FPGA board
ROLES = ("smu", "pulse", "matrix")  # in the order in which they are announced
SOURCES = ("pulse", "smu")


@dataclass
class Served:
    """Benches that are being served. `said`: bench, clock, chip; instruments (role, model, resource, idn, bench), or
    the url of a board."""

    said: dict[str, Any] = field(default_factory=dict)
    _closing: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Hang up, let what was triggered come to its end, switch the sources off, keep the chips."""
        self._closing.close()


def serve(
    configs: Sequence[BenchConfig], seed: int, *, tcp: bool = True, serial: bool = False, port_base: int = 0
) -> Served:
    """Serve these benches; the first one gives the name, the clock and the chip that are announced.

    port_base: the first port, the others follow; 0: free ones. Raises what `open_simulation` does, InUse if another
    program serves the same chip, UsageError for a port that is taken.
    """
    if configs[0].bench.backend == BOARD:
        return _serve_board(configs[0], seed, tcp=tcp, serial=serial, port=port_base)
    with ExitStack() as closing:
        benches = {config.bench.name: _opened(config, seed, closing) for config in configs}
        lines = {(name, role): line for name, bench in benches.items() for role, line in _lines(bench).items()}
        places = _places(lines, tcp, serial, port_base, closing)
        by_name = {config.bench.name: config for config in configs}
        rows = [_row(*key, by_name[key[0]], benches[key[0]], place) for key, place in places.items()]
        head = _head(configs[0], next(iter(benches.values())).world.chip, configs[0].instruments.simulation.clock)
        return Served(head | {"instruments": rows}, closing.pop_all())


def _serve_board(config: BenchConfig, seed: int, *, tcp: bool, serial: bool, port: int) -> Served:
    """A board has one line: clients of both ways share it, and answers go to the one that has asked last."""
    with ExitStack() as closing:
        _lock(config, closing)
        bench = open_board(config, seed, served=True)
        closing.callback(bench.close)
        places: list[TcpBoard | TerminalBoard] = []
        if tcp:
            places.append(TcpBoard(bench, port))
            closing.callback(places[-1].close)
        if serial:
            places.append(TerminalBoard(bench))
            closing.callback(places[-1].close)
        urls = dict(zip(("url", "serial_url"), (place.url for place in places), strict=False))
        said = _head(config, bench.board.chip, config.board.simulation.clock) | urls
        return Served(said, closing.pop_all())


def _lock(config: BenchConfig, closing: ExitStack) -> None:
    file = config.chip.file
    if file is not None:
        # Not the lock of its passport: a client's bench file may well name the same file for its own books.
        closing.enter_context(Lock(file.with_name(f"{file.name}.served.lock"), f"sim-bench {config.bench.name}"))


def _opened(config: BenchConfig, seed: int, closing: ExitStack) -> SimulatedBench:
    _lock(config, closing)
    bench = open_simulation(config, seed)
    closing.callback(_switch_off, bench)
    closing.callback(Ticker(bench.world).stop)
    return bench


def _lines(bench: SimulatedBench) -> dict[str, Line]:
    pace = Pace(bench.world)
    made = bench.instruments
    return {role: Line(made[role], pace, bench.round_trip_s) for role in ROLES if role in made}


def _places(
    lines: dict[tuple[str, str], Line], tcp: bool, serial: bool, port_base: int, closing: ExitStack
) -> dict[tuple[str, str], dict[str, str]]:
    """Where each instrument is: {"resource": ...}, and {"serial_resource": ...} where it has both."""
    found: dict[tuple[str, str], dict[str, str]] = {key: {} for key in lines}
    if serial:
        for key, line in lines.items():
            port = SerialPort(line)
            closing.callback(port.close)
            found[key] = {"resource": port.resource}
    if tcp:
        server = TcpServer({f"{name} {role}": line for (name, role), line in lines.items()}, port_base)
        closing.callback(server.close)
        for name, role in lines:
            also = {"serial_resource": found[name, role]["resource"]} if serial else {}
            found[name, role] = {"resource": server.resources[f"{name} {role}"]} | also
    for line in lines.values():
        closing.callback(line.close)
    return found


def _row(name: str, role: str, config: BenchConfig, bench: SimulatedBench, place: dict[str, str]) -> dict[str, Any]:
    section = config.instruments.by_role()[role]  # type: ignore[index]
    identity = bench.instruments[role].identity
    return {"role": role, "model": section.model, **place, "idn": identity, "bench": name}


def _head(config: BenchConfig, chip: Chip, clock: str) -> dict[str, Any]:
    file = config.chip.file
    about = {
        "id": chip.chip_id,
        "rows": chip.shape[0],
        "cols": chip.shape[1],
        "file": None if file is None else str(file),
    }
    return {"bench": config.bench.name, "clock": clock, "chip": about}


def _switch_off(bench: SimulatedBench) -> None:
    """What was triggered comes to its end first: the chip has had all of its pulses, and its file says so."""
    world = bench.world
    with world.lock:
        ends = [i.status.until_ps for i in bench.instruments.values()]
        last_ps = max((end for end in ends if end is not None), default=0)
        if world.now_ps < last_ps <= world.now_ps + GRACE_S * 1e12:
            world.run_until(last_ps)
    for role in SOURCES:
        if role in bench.instruments:
            bench.instruments[role].power_cycle()
    bench.close()


plugin = serve
