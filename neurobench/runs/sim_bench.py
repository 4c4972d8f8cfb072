"""Simulated instruments and boards kept running for other programs: which benches, and until when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, cast

from neurobench import registry
from neurobench.bench.config import BenchConfig, load_bench
from neurobench.errors import ConfigError, UsageError
from neurobench.runs.request import pairs
from neurobench.system import on_stop_signal

BENCH = "visa-sim"
BACKENDS = ("visa-sim", "fpga-sim")
ROLES = ("smu", "pulse", "matrix")

# With --all: what sits on benches of its own, beside the three instruments of visa-sim. A bench with a matrix is wired
# as visa-sim; an SMU alone is wired to one cell.
FURTHER: dict[str, dict[str, str]] = {
    "keysight": {"smu": "keysight-b2900", "pulse": "keysight-81160a", "matrix": "keysight-34980a"},
    "keithley-2450": {"smu": "keithley-2450"},
    "keithley-2400": {"smu": "keithley-2400"},
}


class Running(Protocol):
    """Benches that are being served."""

    said: dict[str, Any]

    def close(self) -> None:
        """Switch off and keep the chips."""


def benches(
    bench: str | None, settings: Iterable[str], chip: Path | None, every: bool, instant: bool
) -> list[BenchConfig]:
    """The benches that are asked for; the chip's file is the first one's. Raises UsageError, ConfigError."""
    given = pairs(settings, "--bench-set")
    if every and bench not in (None, BENCH):
        raise UsageError(f"--all brings benches of its own beside {BENCH}; it cannot be combined with --bench {bench}")
    time = "virtual" if instant else "wall"
    clock = {"instruments.simulation.clock": time, "board.simulation.clock": time}
    kept = {} if chip is None else {"chip.file": str(chip)}
    first = load_bench(bench or BENCH, given | clock | kept)
    if first.bench.backend not in BACKENDS:
        raise ConfigError(
            f"bench {first.bench.name} has backend = {first.bench.backend!r}; only benches with backend = "
            f"{' or '.join(BACKENDS)} are simulated instruments or boards ([bench] backend, or --bench-set "
            f"bench.backend={BACKENDS[0]})"
        )
    return [first, *(_further(name, given | clock) for name in FURTHER if every)]


def _further(name: str, given: dict[str, Any]) -> BenchConfig:
    """One of the benches of --all. Serial numbers go on where visa-sim has ended."""
    models = FURTHER[name]
    given = {key: value for key, value in given.items() if key != "chip.file"}
    number = len(ROLES) * (1 + [*FURTHER].index(name))
    config = load_bench(BENCH, given if "matrix" in models else given | {"chip.rows": 1, "chip.cols": 1})
    sections = {
        role: {"model": models[role], "serial": f"NBSIM{number + place:03d}"} if role in models else None
        for place, role in enumerate(ROLES, start=1)
    }
    wiring = config.instruments.wiring.model_dump() if "matrix" in models else {}
    kept = config.instruments.model_dump() | sections | {"wiring": wiring}
    return config.model_copy(
        update={
            "bench": config.bench.model_copy(update={"name": name}),
            "instruments": type(config.instruments).model_validate(kept),
        }
    )


@contextmanager
def serving(
    configs: list[BenchConfig], seed: int, *, tcp: bool, serial: bool, port_base: int
) -> Iterator[tuple[dict[str, Any], Callable[[], None]]]:
    """Serve benches inside the block: what to announce, and what waits until somebody asks to stop."""
    serve = cast("Callable[..., Running]", registry.load("simulations", "served"))
    stop = threading.Event()
    with on_stop_signal(lambda _name: stop.set()):
        running = serve(configs, seed, tcp=tcp, serial=serial, port_base=port_base)
        try:
            yield running.said, lambda: _until(stop)
        finally:
            running.close()


def _until(stop: threading.Event) -> None:
    stop.wait()
