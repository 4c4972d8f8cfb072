"""What is shown: one run file, live or old, at its newest step or at an earlier one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from .owner import ENDS_S, Owner
from .reading import Reader

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot


class Shown(Owner):
    """`snapshot` is what views draw; a thread reads it from the run file."""

    def __init__(self, folder: Path | None = None, parent: QObject | None = None) -> None:
        super().__init__(folder, parent)
        self.snapshot: Snapshot | None = None
        self.at_seq: int | None = None
        self.run_path: Path | None = None
        self._reader: Reader | None = None

    def show(self, path: Path) -> None:
        """Show another run file from now on."""
        if self._reader is not None:
            self._reader.stop()
        self.run_path, self.snapshot, self.at_seq = path, None, None
        self._reader = Reader(path, lambda lines: self._post(lambda: self._heard_wire(path, lines)), self._news)
        self._reader.start()
        self.snapshot_changed.emit()

    def _news(self) -> None:
        """Called in the reader's thread: there is another snapshot."""
        self._post(self._take)

    def _take(self) -> None:
        reader = self._reader
        if reader is not None and reader.latest is not None and reader.latest is not self.snapshot:
            self.snapshot = reader.latest
            self.snapshot_changed.emit()

    def drawn(self) -> None:
        """The window has drawn and painted the newest snapshot: more may be read."""
        if self._reader is not None:
            self._reader.go_on()

    def _heard_wire(self, path: Path, lines: list[str]) -> None:
        if path == self.run_path:  # the reader of the run before may still have had some
            self.wire.emit(lines)

    def show_at(self, seq: int | None) -> bool:
        """Show the run as it stood after a step (the time slider); None: the newest."""
        if self._reader is None:
            return self._refuse("no run is open")
        self.at_seq = seq
        self._reader.show_at(seq)
        return True

    def _tick(self) -> None:
        super()._tick()
        self._take()
        reader = self._reader
        if reader is not None and reader.problem is not None:
            words, reader.problem = reader.problem, None
            self.said.emit("error", words)

    def shutdown(self) -> None:
        """See above; the run file is let go."""
        if (reader := self._reader) is not None:
            reader.stop()
        super().shutdown()
        if reader is not None:
            reader.join(ENDS_S)
