"""The benches that can be chosen: those that are built in, and bench files that were opened here."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QListWidget, QListWidgetItem

from neurobench.bench.config import bench_names, load_bench
from neurobench.errors import NeurobenchError
from neurobench.system import data_folder, replace_file

from . import bench_text
from .bench_words import is_real

ABOUT = {
    "emulator": "an emulated chip",
    "visa-sim": "simulated SMU, generator, matrix",
    "fpga-sim": "a simulated FPGA board",
}
FILES = "bench-files.txt"  # in the user's data folder: bench files that were opened here, one on each line
KEPT = 20  # of them
BENCH, WHAT = Qt.ItemDataRole.UserRole, Qt.ItemDataRole.UserRole + 1  # its name or file; how it is called, what it is


class BenchList(QListWidget):
    """chosen(str): another bench, by name or file."""

    chosen = Signal(str)

    def __init__(self) -> None:
        super().__init__()
        self.setWordWrap(True)
        self.setSpacing(2)
        for bench in (*bench_names(), *_remembered()):
            self._add(bench)
        self.currentItemChanged.connect(self._chosen)

    def choose(self, bench: str) -> None:
        """Mark a bench by name or file; a file that is new here is added, and remembered where it was opened."""
        self.setCurrentItem(self._item(bench) or self._add(bench))

    def read_anew(self, bench: str) -> None:
        """Its file has been written: it may be called otherwise now."""
        if (item := self._item(bench)) is not None:
            item.setData(WHAT, _label_of(bench))

    def label(self, connected: str, changed: Container[str]) -> None:
        """Mark the bench that is connected ("": none), and those whose text was changed and not saved."""
        for row in range(self.count()):
            item = self.item(row)
            bench, (name, what) = str(item.data(BENCH)), item.data(WHAT)
            mark, draft = "● " if bench == connected else "", " (changed, not saved)" if bench in changed else ""
            item.setText(f"{mark}{name}{draft}\n{what}")
            item.setToolTip(f"{bench}: {what}")

    def _add(self, bench: str) -> QListWidgetItem:
        item = QListWidgetItem(self)
        item.setData(BENCH, bench)
        item.setData(WHAT, _label_of(bench))
        return item

    def _item(self, bench: str) -> QListWidgetItem | None:
        items = (self.item(row) for row in range(self.count()))
        return next((item for item in items if item.data(BENCH) == bench), None)

    def _chosen(self, item: QListWidgetItem | None, _before: QListWidgetItem | None) -> None:
        if item is not None:
            self.chosen.emit(str(item.data(BENCH)))


def remember(bench: str) -> None:
    """Keep a bench file for the next time, the newest first; where that cannot be, it is only not there then."""
    if bench in (known := _remembered()):
        return
    folder = data_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        replace_file(folder / FILES, "\n".join([bench, *known][:KEPT]).encode())
    except OSError:
        return


def _remembered() -> Sequence[str]:
    try:
        lines = (data_folder() / FILES).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
    return [line for line in lines if line.strip() and Path(line).exists()]


def _label_of(bench: str) -> tuple[str, str]:
    """How a bench is called, and what it is; a file that cannot be read says so."""
    if bench_text.is_builtin(bench):
        return bench, f"SIMULATED: {ABOUT.get(bench, bench)}"
    try:
        config = load_bench(bench)
    except (NeurobenchError, OSError):
        return Path(bench).name, "cannot be read as a bench file"
    chip = f", chip {config.chip.id}" if config.chip.id else ""
    return Path(bench).name, f"{'REAL' if is_real(config) else 'SIMULATED'}: {config.bench.backend}{chip}"
