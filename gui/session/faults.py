"""After a fault: nothing begins before it is acknowledged, and that only goes once the outputs are known to be off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QObject

from neurobench.runs.request import flags

from .running import Running
from .states import BenchState, Event


class Faults(Running):
    """Where nobody knows how the outputs stand, the bench of the run that failed is brought to rest first."""

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(folder, parent)
        self._resting = False

    def acknowledge(self) -> bool:
        """Leave FAULT, once the outputs are verified to be off."""
        if self.state is not BenchState.FAULT:
            return self._refuse("there is no fault to acknowledge")
        if self.outputs.get("on") is False:
            return self._move(Event.ACKNOWLEDGE)
        if self._resting:
            return self._refuse("the bench is being brought to rest already")
        bench = self._faulty_bench()
        if bench is None:
            return self._refuse(
                "the run does not say which bench it was on: bring it to rest (neurobench rest BENCH), look at the "
                "instruments, then disconnect here (Ctrl+2)"
            )
        self._resting = True
        self.said.emit(
            "info", f"bringing {bench[1]} to rest first, since nobody has read back that its outputs are off"
        )
        self.job(bench, self._rested, self._not_rested)
        return True

    def _faulty_bench(self) -> list[str] | None:
        """How the bench of the run that failed is brought to rest; it may be another than the one connected."""
        ran, own = self.run_bench, self.bench
        if ran is not None and ran.named:
            return ["rest", ran.named, *flags("--bench-set", ran.settings)]
        if own is not None and (ran is None or ran.bench == own.bench.name):
            return ["rest", self.bench_name, *flags("--bench-set", self.bench_settings)]
        return None

    def _rested(self, found: dict[str, Any]) -> None:
        if found["exit_code"] != 0:
            self._not_rested(str(found.get("error")))
            return
        self._resting = False
        self._set_outputs({"on": False, "age_s": 0.0, "how": "brought to rest"})
        self._move(Event.ACKNOWLEDGE)

    def _not_rested(self, words: str) -> None:
        self._resting = False
        self.said.emit("error", f"the bench could not be brought to rest: {words}")
