"""The bench that is connected: how it was asked for, what its check found, whether its limits are confirmed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject

from neurobench.bench.config import SIMULATED_BACKENDS, BenchConfig, load_bench
from neurobench.errors import NeurobenchError, UsageError
from neurobench.runs.request import flags

from .jobs import Job
from .owner import EMULATED, UNKNOWN
from .shown import Shown
from .states import LIVE, BenchState, Event

CONFIRMED = ("bench", "chip", "limits", "instruments", "board")  # as they stood when the operator confirmed the limits


class Connection(Shown):
    """Nothing holds a bench between runs: to be connected is to be known, checked, and confirmed where it is real."""

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(folder, parent)
        self.bench_name, self.bench_settings = "", dict[str, Any]()
        self.checked: dict[str, Any] | None = None
        self.confirmed = False
        self.asked = False  # whether any bench was asked for, also one that could not be taken
        self._checking: Job | None = None

    def connect_bench(self, bench: str, settings: Mapping[str, Any] | None = None) -> bool:
        """Take a bench by name or file. What is not emulated is checked first: who is there, nothing is fired."""
        if self.state in LIVE:
            return self._refuse("the bench cannot be changed while a run is going on")
        if self.state is BenchState.CONNECTING:
            return self._refuse("a bench is being connected already")
        self.asked = True
        try:
            config = load_bench(bench, dict(settings or {}))
        except (NeurobenchError, OSError) as error:
            return self._refuse(str(error))
        self.bench, self.bench_name, self.bench_settings = config, str(bench), dict(settings or {})
        self.checked, self.confirmed = None, False
        self._move(Event.CONNECT)
        self._set_outputs(UNKNOWN)  # what was known is known of another bench
        self.bench_changed.emit()
        if config.bench.backend == "emulator":
            self._connected(None)
        else:
            self._check(str(bench), self.bench_settings)
        return True

    def _check(self, bench: str, settings: Mapping[str, Any]) -> None:
        words = ["check", bench, *flags("--bench-set", settings)]
        self._checking = self.job(words, self._checked, self._not_connected)

    def _check_no_more(self) -> None:
        """The answer of a check that was given up must never be taken for that of the next bench."""
        if self._checking is not None:
            self._checking.cancel()
            self._checking = None

    def _checked(self, found: dict[str, Any]) -> None:
        if found["exit_code"] == 0:
            self._connected(found)
        else:
            self.checked = found  # what was found by then
            self._set_outputs(found.get("outputs") or UNKNOWN)
            why = found.get("fault") or found.get("error") or f"the check ended with code {found['exit_code']}"
            self._not_connected(str(why))

    def _connected(self, found: dict[str, Any] | None) -> None:
        if self.state is not BenchState.CONNECTING:
            return  # somebody thought better of it
        self.checked, self._checking = found, None
        self._set_outputs(EMULATED if found is None else found.get("outputs") or UNKNOWN)
        self._move(Event.CONNECTED)
        self.bench_changed.emit()

    def _not_connected(self, words: str) -> None:
        self._checking = None
        if self._move(Event.FAILED):
            self.said.emit("error", f"{self.bench_name} is not connected: {words}")
            self.bench_changed.emit()

    def disconnect_bench(self) -> bool:
        """Let go of the bench; nothing holds it between runs anyway."""
        if not self._move(Event.DISCONNECT):
            return self._refuse(f"there is nothing to disconnect while {self.state.value}")
        self._let_go()
        return True

    def _let_go(self) -> None:
        self._check_no_more()
        self.bench, self.checked, self.confirmed = None, None, False
        self._set_outputs(UNKNOWN)
        self.bench_changed.emit()

    @property
    def simulated(self) -> bool:
        """Whether the bench is an emulator or a simulated one: then no chip can be harmed."""
        return self.bench is not None and self.bench.bench.backend in SIMULATED_BACKENDS

    @property
    def chip_id(self) -> str:
        """The chip on the bench, by its check or its file."""
        told = (self.checked or {}).get("chip_id") or (self.checked or {}).get("chip")
        return str(told) if isinstance(told, str) else ("" if self.bench is None else self.bench.chip.id)

    def confirm_limits(self, chip_id: str) -> bool:
        """The operator has typed the chip's name below its limits; from now on runs may start on it."""
        if self.bench is None:
            return self._refuse("no bench is connected, so there are no limits to confirm")
        if not self.simulated and chip_id.strip() != self.chip_id:
            return self._refuse(f"the chip on this bench is called {self.chip_id!r}, not {chip_id.strip()!r}")
        self.confirmed = True
        self.bench_changed.emit()
        return True

    def _check_confirmed(self, asked: BenchConfig) -> None:
        """A request may name another bench, or other limits, than those that were confirmed: not on a real chip."""
        known = self.bench
        if asked.bench.backend in SIMULATED_BACKENDS:
            return
        others = [name for name in CONFIRMED if known is None or getattr(asked, name) != getattr(known, name)]
        if others or not self.confirmed:
            own = f" with {' and '.join(others)} of its own" if others else ""
            raise UsageError(
                f"this run asks for bench {asked.bench.name!r}{own}; connected and confirmed "
                f"is {self.bench_name!r}: connect that bench (Ctrl+2) and confirm its limits first"
            )
