"""An emulated chip in the making: its size, spread, broken cells and readout; what it is like; and where it is kept."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt, QTemporaryDir, QTimer, Signal
from PySide6.QtWidgets import (
    QButtonGroup,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QScrollArea,
    QSpinBox,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from neurobench.bench.config import BenchSection, ChipSection, ReadoutSection
from neurobench.runs.chips import GRID_CELLS, KINDS
from neurobench.runs.drawing import SIMULATED, si_scale
from neurobench.runs.request import Request
from neurobench.runs.screen import si

from .. import theme
from ..parts.flow import FlowLayout
from ..parts.forms import Form, calm
from ..parts.plot import Plot
from ..parts.scrolling import scrolled
from .defect_map import BRUSHES, MARKS, MOST, WORKS, DefectMap
from .lab_device import free_name

if TYPE_CHECKING:
    from ..session.jobs import Job
    from ..session.session import Session

# What the list of devices says, what a real chip is asked, and what saving decides.
SKIP_CHIP = (
    "id", "model", "curve", "offset_s", "seed", "file", "potentiating_sign", "top_electrode", "isolation",
    "accept_no_compliance",
)  # fmt: skip
SKIP_BENCH = tuple(name for name in BenchSection.model_fields if name not in ("source_ohm", "series_ohm"))
BRUSH_WORDS = {"stuck": "Stuck", "short": "Short", "open": "Open", WORKS: "Mend"}
BRUSH_TIPS = {
    "stuck": "the cell stays somewhere in its window", "short": "1 kΩ, whatever is done to it",
    "open": "no current at all", WORKS: "the cell works",
}  # fmt: skip
KEEP_TIP = "Write the chip and a bench file that names it; nothing is overwritten"
MAKING = "Making it ..."
WAIT_MS = 500  # after the last change, before the chip is made


class ChipPanel(QWidget):
    """See the module. The chip is made by `neurobench make-chip` in a child process, a moment after each change."""

    use_asked = Signal(str)  # a bench file, to be put on the Bench page

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._device = ""
        self._job: Job | None = None
        self._asked = 0
        self._kept = ""
        self._folder = QTemporaryDir()
        self.forms = {
            "chip": Form(ChipSection, "chip", skip=SKIP_CHIP, small=True),
            "readout": Form(ReadoutSection, "readout", small=True),
            "bench": Form(BenchSection, "wires", skip=SKIP_BENCH, small=True),
        }
        self.seed = QSpinBox()
        self.device = QLabel("no device is chosen")
        self.map = DefectMap()
        self.pointed, self.said, self.words = QLabel(" "), QLabel(), QLabel()
        self.mark = QLabel(SIMULATED)
        self.spread, self.curves = Plot("First conductances"), Plot("Curves of the devices")
        self.out = QLineEdit()
        self.save, self.use = QPushButton("Keep this chip"), QPushButton("Use it on the Bench page")
        self.mend_all = QPushButton("Mend all")
        self.brushes = QButtonGroup(self)
        self._clock = QTimer(self)
        self._clock.setSingleShot(True)
        self._clock.setInterval(WAIT_MS)
        self._name_all()
        self._lay_out()
        self._connect()
        self.restyle()
        self._propose()
        self._enable()

    # -- making -------------------------------------------------------------------------------------------------

    def _name_all(self) -> None:
        for widget, name, tip in (
            (self.seed, "Seed of the chip", "Another seed is another chip of the same kind"),
            (self.out, "Bench file to write", "A new .toml file; the chip is kept beside it as .chip"),
            (self.save, "Keep this chip", KEEP_TIP),
            (self.use, "Use it on the Bench page", "Connect the bench of this chip"),
            (self.mend_all, "Mend all cells", "No cell is broken by hand any more"),
            (self.spread, "First conductances", "How the fresh devices differ"),
            (self.curves, "Curves of the devices", "Mean curves of some working devices, without noise"),
        ):
            widget.setAccessibleName(name)
            widget.setToolTip(tip)
        self.seed.setRange(0, 2**31 - 1)
        calm(self.seed)
        self.mark.setProperty("role", "simulated")
        for label in (self.said, self.words, self.device):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.pointed.setProperty("role", "dim")
        self.pointed.setWordWrap(True)
        for kind in BRUSHES:
            button = QPushButton(f"{MARKS[kind]} {BRUSH_WORDS[kind]}".strip())
            button.setCheckable(True)
            button.setChecked(kind == KINDS[0])
            button.setProperty("kind", kind)
            button.setAccessibleName(f"Brush: {BRUSH_WORDS[kind]}")
            button.setToolTip(f"What the left button makes of a cell: {BRUSH_TIPS[kind]}")
            self.brushes.addButton(button)

    def _lay_out(self) -> None:
        split = QSplitter(Qt.Orientation.Horizontal)
        for widget in (self._settings(), self._middle(), self._looks()):
            split.addWidget(widget)
        split.setChildrenCollapsible(False)
        split.setSizes([300, 340, 320])
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.addWidget(split, 1)
        layout.addLayout(self._keeping())
        layout.addWidget(self.words)
        scrolled(self, inside, "Chip in the making")

    def _settings(self) -> QWidget:
        inside = QWidget()
        column = QVBoxLayout(inside)
        column.setContentsMargins(0, 0, 6, 0)
        top = QHBoxLayout()
        top.addWidget(QLabel("Seed"))
        top.addWidget(self.seed, 1)
        column.addWidget(self.device)
        column.addLayout(top)
        for name, title in (("chip", "Chip and spread"), ("readout", "Readout and noise"), ("bench", "Wires")):
            group = QGroupBox(title)
            QVBoxLayout(group).addWidget(self.forms[name])
            column.addWidget(group)
        column.addStretch(1)
        area = QScrollArea()
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setWidget(inside)
        area.setMinimumWidth(inside.minimumSizeHint().width() + theme.em())
        area.setAccessibleName("Settings of the chip")
        return area

    def _middle(self) -> QWidget:
        widget = QWidget()
        column = QVBoxLayout(widget)
        column.setContentsMargins(0, 0, 0, 0)
        buttons = FlowLayout()
        for button in self.brushes.buttons():
            buttons.addWidget(button)
        buttons.addWidget(self.mend_all)
        how = QLabel("Break cells: choose what, then paint")
        how.setWordWrap(True)
        column.addWidget(how)
        column.addLayout(buttons)
        column.addWidget(self.map, 1)
        widget.setMinimumWidth(theme.em() * 13)
        column.addWidget(self.pointed)
        return widget

    def _looks(self) -> QWidget:
        widget = QWidget()
        column = QVBoxLayout(widget)
        column.setContentsMargins(0, 0, 0, 0)
        head = QHBoxLayout()
        head.addWidget(self.said, 1)
        head.addWidget(self.mark)
        column.addLayout(head)
        column.addWidget(self.spread, 1)
        column.addWidget(self.curves, 1)
        return widget

    def _keeping(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.addWidget(QLabel("Keep as"))
        row.addWidget(self.out, 1)
        row.addWidget(self.save)
        row.addWidget(self.use)
        return row

    def _connect(self) -> None:
        for form in self.forms.values():
            form.changed.connect(self._changed)
        self.seed.valueChanged.connect(self._changed)
        self.map.changed.connect(self._changed)
        self.map.pointed.connect(self.pointed.setText)
        self.brushes.buttonClicked.connect(self._brush)
        self.mend_all.clicked.connect(self._mend)
        self.save.clicked.connect(self._save)
        self.use.clicked.connect(self._use)
        self._clock.timeout.connect(self._look)

    def restyle(self) -> None:
        """Colours or font sizes have changed."""
        for plot in (self.spread, self.curves):
            plot.restyle()
            plot.setMinimumWidth(theme.em() * 13)
        self.out.setMinimumWidth(theme.em() * 10)
        self.map.update()

    # -- what is asked for --------------------------------------------------------------------------------------

    def set_device(self, device: str) -> None:
        """The device of the chip: a name of the library, or a card's file."""
        self._device = device
        self.device.setText(f"Device: {Path(device).stem}")
        self._propose()
        self._changed()

    def settings(self) -> dict[str, Any]:
        """What the forms say, as --bench-set would."""
        found = {
            f"{section}.{key}": value for section, form in self.forms.items() for key, value in form.values().items()
        }
        is_file = self._device.endswith((".toml", ".csv", ".dat", ".txt"))
        return found | {"chip.curve" if is_file else "chip.model": self._device} if self._device else found

    def command(self, out: str = "") -> list[str]:
        """The command that makes this chip, and keeps it where `out` is given."""
        words = shlex.split(Request("-", "emulator", {}, self.settings(), self.seed.value()).command())[3:]
        defects = Path(self._folder.path()) / "defects.csv"
        defects.write_text(self.map.text(), encoding="utf-8")
        return ["make-chip", *words, "--defects", str(defects), *(["--out", out] if out else [])]

    def _brush(self) -> None:
        button = self.brushes.checkedButton()
        if button is not None:
            self.map.brush = str(button.property("kind"))

    def _mend(self) -> None:
        self.map.set_broken({})

    def _changed(self) -> None:
        values = self.forms["chip"].values()
        if not self.forms["chip"].problems():
            self.map.set_shape(int(values.get("rows", 4)), int(values.get("cols", 4)))
        if max(self.map.shape) > MOST:
            self.pointed.setText(f"beyond {MOST} lines single cells cannot be hit: set the stuck and shorted fractions")
        self._kept = ""
        self._propose()
        self._enable()
        self._clock.start()
        if wrong := self.problems():  # what was said of the chip before is not true of this one
            self._asked += 1
            self._unmade(wrong[0])
        elif self._device:
            self.said.setText(MAKING)

    def _propose(self) -> None:
        """A file name that is free, unless somebody wrote one."""
        if not self.out.isModified():
            rows, cols = self.map.shape
            name = f"{Path(self._device).stem or 'chip'}-{rows}x{cols}-s{self.seed.value()}.toml"
            self.out.setText(str(free_name(self._session.runs_folder.parent / "chips" / name)))

    def problems(self) -> list[str]:
        """Everything that is wrong in the forms."""
        return [words for form in self.forms.values() for words in form.problems()]

    # -- what it is like ----------------------------------------------------------------------------------------

    def _look(self) -> None:
        if not self._device or self.problems() or not self.isVisible():
            return
        if self._job is not None:
            self._job.cancel()
        self._asked += 1
        number = self._asked
        self.said.setText(MAKING)
        self._job = self._session.job(
            self.command(), lambda found: self._seen(number, found), lambda words: self._unseen(number, words)
        )

    def _seen(self, number: int, found: dict[str, Any]) -> None:
        if number != self._asked:
            return
        self._job = None
        if "chip_id" not in found:
            self._unseen(number, str(found.get("error")))
            return
        self._say("", "")
        self.said.setText(chip_words(found))
        self.map.set_fresh(None if found["conductance_s"] is None else np.asarray(found["conductance_s"], float))
        self._draw(found)

    def _unseen(self, number: int, words: str) -> None:
        if number == self._asked:
            self._job = None
            self._unmade(words)

    def _unmade(self, words: str) -> None:
        self.said.setText("This chip cannot be made")
        self._say("bad", words)
        self.map.set_fresh(None)
        for plot in (self.spread, self.curves):
            plot.item.clear()

    def _draw(self, found: Mapping[str, Any]) -> None:
        sample = np.asarray(found["sample_s"], float)
        curves = [np.asarray(curve["conductance_s"], float) for curve in found["curves"]]
        whole = sample[(sample > 0) & (sample < 0.9e-3)]  # shorts and open cells would flatten the rest
        factor, unit = si_scale(np.concatenate([whole, *(curve.ravel() for curve in curves)]))
        item = self.spread.item
        item.clear()
        item.setLabels(left="cells", bottom=f"first G ({unit})")
        if whole.size:
            item.addItem(_histogram(whole * factor))
        item = self.curves.item
        item.clear()
        item.setLabels(left=f"G ({unit})", bottom="pulse")
        for n, curve in enumerate(curves):
            for device in curve.T:
                item.plot(device * factor, pen=theme.trace_pen(n))
        for plot in (self.spread, self.curves):
            plot.item.enableAutoRange()

    # -- kept ---------------------------------------------------------------------------------------------------

    def _save(self) -> None:
        path = Path(self.out.text().strip())
        if path.exists():
            self._say("bad", f"{path} exists and is not overwritten; choose another name")
            return
        self.save.setEnabled(False)
        self._say("", f"Writing {path} ...")
        self._session.job(self.command(str(path)), self._saved, self._unsaved)

    def _saved(self, found: dict[str, Any]) -> None:
        if not found.get("bench_file"):
            self._unsaved(str(found.get("error")))
            return
        self._kept = str(found["bench_file"])
        self._say("ok", f"✓ kept: {self._kept} and {found['chip_file']}")
        self._enable()

    def _unsaved(self, words: str) -> None:
        self._say("bad", words)
        self._enable()

    def _use(self) -> None:
        if self._kept:
            self.use_asked.emit(self._kept)

    def _enable(self) -> None:
        wrong = self.problems()
        no = "choose a device first" if not self._device else wrong[0] if wrong else "it is kept" if self._kept else ""
        self.save.setEnabled(not no)
        self.save.setToolTip(f"{KEEP_TIP}" + (f"\nNot now: {no}" if no else ""))
        self.use.setEnabled(bool(self._kept))
        why = "" if self._kept else "\nNot now: keep the chip first"
        self.use.setToolTip(f"Connect the bench of this chip{why}")

    def _say(self, role: str, words: str) -> None:
        self.words.setText(words)
        self.words.setProperty("role", role or "dim")
        self.words.style().polish(self.words)
        self.words.setVisible(bool(words))


def chip_words(found: Mapping[str, Any]) -> str:
    """A chip in two lines."""
    rows, cols = found["shape"]
    broken = ", ".join(f"{found[name]} {name}" for name in ("stuck", "shorted", "open") if found[name])
    words = f"{rows} x {cols} {found['device']}, {found['works']} of {rows * cols} cells work"
    words += f" ({broken})" if broken else ""
    sampled = "" if rows * cols <= GRID_CELLS else " (a sample is drawn)"
    return f"{words}; median {si(found['median_s'], 'S')}, read noise {si(found['read_sigma_s'], 'S')}{sampled}"


def _histogram(values: np.ndarray) -> pg.BarGraphItem:
    low, high = float(values.min()), float(values.max())
    if high - low < 1e-6 * max(abs(high), 1e-30):  # all alike: one bar that can be seen
        half = 0.02 * max(abs(high), 1e-30)
        low, high = low - half, high + half
    times, edges = np.histogram(values, bins=min(max(values.size // 4, 5), 40), range=(low, high))
    centres, width = (edges[:-1] + edges[1:]) / 2, 0.9 * float(edges[1] - edges[0])
    return pg.BarGraphItem(x=centres, height=times, width=width, brush=theme.trace_color(0), pen=None)
