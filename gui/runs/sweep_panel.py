"""A sweep: one protocol on many emulated chips, in a child process; the rate as it grows, read from its file."""

from __future__ import annotations

import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QAbstractItemView,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QProgressBar,
    QPushButton,
    QSplitter,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from neurobench.errors import NeurobenchError
from neurobench.learning.convergence import wilson
from neurobench.runs import sweep
from neurobench.runs.drawing import SIMULATED
from neurobench.runs.request import Request

from .. import theme
from ..frame.facts import clock
from ..parts.aside import Aside
from ..parts.flow import FlowLayout
from ..parts.plot import Plot
from ..parts.scrolling import scrolled
from .runs_table import LOOKS

if TYPE_CHECKING:
    from ..session.jobs import Job
    from ..session.session import Session

EVERY_MS = 400
POINTS = 200  # of the growing rate that are drawn
SHOWN_CHIPS = 2000  # rows of the table of chips


@dataclass(frozen=True)
class Grown:
    """How the rate has grown: over so many chips the rate, and its interval (Wilson, 95 %)."""

    chips: np.ndarray
    rate: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Picture:
    """A sweep file as it is now, with its statistics."""

    found: sweep.Sweep
    summary: Mapping[str, Any]
    grown: Grown


def grown(found: sweep.Sweep) -> Grown:
    """The rate after 1, 2, ... chips, in the order in which they came."""
    total = len(found.chips)
    at = np.unique(np.linspace(1, total, min(total, POINTS)).astype(int)) if total else np.zeros(0, int)
    reached = np.cumsum([chip.reached for chip in found.chips])[at - 1] if total else np.zeros(0, int)
    ends = np.array([wilson(int(k), int(n)) for k, n in zip(reached, at, strict=True)]).reshape(-1, 2)
    return Grown(at, reached / np.maximum(at, 1), ends[:, 0], ends[:, 1])


def look(path: Path) -> Picture:
    """Read a sweep file, also one that is being written."""
    found = sweep.load(path)
    return Picture(found, sweep.summary(found), grown(found))


def words_of(request: Request, seeds: str, folder: Path) -> list[str]:
    """The command that sweeps a request: its own command line, with seeds in the place of one seed."""
    words = shlex.split(replace(request, seed=0).command())[1:]
    at = words.index("--seed")
    return ["sweep", *words[1:at], *words[at + 2 :], "--seeds", seeds, "--out", str(folder)]


def newest_of(folder: Path, request: Request, before: frozenset[Path]) -> Path | None:
    """The sweep file of this request that was not there before."""
    for path in sorted(set(folder.glob(f"*{sweep.SUFFIX}")) - before, reverse=True):
        try:
            asked = sweep.load(path).head.request
        except NeurobenchError:  # its first line is not written yet
            continue
        if asdict(replace(asked, seed=0)) == asdict(replace(request, seed=0)):
            return path
    return None


class SweepPanel(QWidget):
    """Start, follow and cancel a sweep; open one of its chips again."""

    run_asked = Signal(object)  # Request: one chip's run again, with a run file

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._aside = Aside("sweep", self)
        self._request: Request | None = None
        self._asked: Request | None = None
        self._before: frozenset[Path] = frozenset()
        self._path: Path | None = None
        self._job: Job | None = None
        self._stopping = False
        self._drawn: tuple[str, int] = ("", -1)
        self._picture: Picture | None = None
        self._since: tuple[float, int] = (0.0, 0)  # when chips were first seen to come in, and how many there were
        self.what = QLabel("Nothing to sweep: choose a run in the table, or start one on the Bench page")
        self.seeds = QLineEdit("0:100")
        self.start = QPushButton("Start the sweep")
        self.cancel = QPushButton("Cancel")
        self.go_on = QPushButton("Go on")
        self.run_seed = QPushButton("Run this seed")
        self.bar = QProgressBar()
        self.rate = QLabel("No sweep is open")
        self.words = QLabel()
        self.mark = QLabel(SIMULATED)
        self.growth, self.histogram = Plot("Rate over the chips"), Plot("Updates to the goal")
        self.chips = QTableWidget(0, 4)
        self.chips.setTabKeyNavigation(False)
        self._name_all()
        self._lay_out()
        self._connect()
        self._clock = QTimer(self)
        self._clock.setInterval(EVERY_MS)
        self._clock.timeout.connect(self._tick)
        self.restyle()
        self._enable()

    # -- making -------------------------------------------------------------------------------------------------

    def _name_all(self) -> None:
        for widget, name, tip in (
            (self.seeds, "Seeds of the sweep", "first:end; the end is not included. Each seed makes another chip"),
            (
                self.start,
                "Start the sweep",
                "neurobench sweep, in processes of its own; it ends with the window, what has run is kept",
            ),
            (self.cancel, "Cancel the sweep", "What has run is kept, and it can go on later"),
            (self.go_on, "Go on with the sweep", "Run the chips that have not run yet"),
            (self.run_seed, "Run this seed", "Run the chosen chip again as a single run, with a run file"),
            (self.bar, "Progress of the sweep", "Chips that have run"),
            (self.growth, "Rate over the chips", "Share of chips that reached the goal, and its 95 % interval"),
            (self.histogram, "Updates to the goal", "How many updates the chips needed that reached it"),
            (self.chips, "Chips of the sweep", "A double click or Return runs one again, with a run file"),
        ):
            widget.setAccessibleName(name)
            widget.setToolTip(tip)
            widget.setProperty("tip", tip)
        self.mark.setProperty("role", "simulated")
        self.rate.setProperty("role", "heading")
        for label in (self.what, self.rate, self.words):
            label.setWordWrap(True)
            label.setTextFormat(Qt.TextFormat.PlainText)
            label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.chips.setHorizontalHeaderLabels(["Seed", "Status", "Updates", "Why"])
        self.chips.verticalHeader().hide()
        self.chips.setShowGrid(False)
        self.chips.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.chips.horizontalHeader().setStretchLastSection(True)
        self.chips.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.chips.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.chips.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Of", self.what)
        form.addRow("Seeds", self.seeds)
        buttons = FlowLayout()
        for button in (self.start, self.cancel, self.go_on, self.run_seed):
            buttons.addWidget(button)
        head = QHBoxLayout()
        head.addWidget(self.rate, 1)
        head.addWidget(self.mark)
        plots = QSplitter(Qt.Orientation.Vertical)
        for widget in (self.growth, self.histogram, self.chips):
            plots.addWidget(widget)
        plots.setChildrenCollapsible(False)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.addLayout(form)
        layout.addLayout(buttons)
        layout.addWidget(self.bar)
        layout.addLayout(head)
        layout.addWidget(self.words)
        layout.addWidget(plots, 1)
        scrolled(self, inside, "Sweep")

    def _connect(self) -> None:
        self.start.clicked.connect(self._start)
        self.cancel.clicked.connect(self._cancel)
        self.go_on.clicked.connect(self._go_on)
        self.run_seed.clicked.connect(self._run_chosen)
        self.chips.itemActivated.connect(self._run_chosen)
        self.chips.itemSelectionChanged.connect(self._enable)

    def restyle(self) -> None:
        """Colours or font sizes have changed."""
        for plot in (self.growth, self.histogram):
            plot.restyle()
        self.growth.item.setLabels(left="rate", bottom="chips")
        self.growth.item.setYRange(-0.02, 1.04, padding=0)  # a rate of 1 is no line on the frame
        self.histogram.item.setLabels(left="chips", bottom="updates to the goal")
        self.chips.verticalHeader().setDefaultSectionSize(int(theme.em() * 1.5))
        self.chips.setMinimumHeight(theme.em() * 5)
        self._drawn = ("", -1)

    # -- what is asked ------------------------------------------------------------------------------------------

    def set_request(self, request: Request | None, where: str) -> None:
        """What the next sweep would be of; `where` says where it comes from."""
        self._request = request
        if request is None:
            self.what.setText("Nothing to sweep: choose a run in the table, or start one on the Bench page")
        else:
            given = ", ".join(f"{key} = {value}" for key, value in request.settings.items()) or "its defaults"
            self.what.setText(f"{request.protocol} on {request.bench} with {given} ({where})")
        self._enable()

    def show_file(self, path: Path) -> None:
        """Show a sweep that there is already; one that is being written goes on being read."""
        if not self.running:
            self._path = path
            self._read()
        elif path != self._path:
            self._say("warn", f"{path.name} is shown once the sweep that goes on here has ended")

    @property
    def running(self) -> bool:
        """Whether a sweep of this window is going on."""
        return self._job is not None and self._job.running

    def close_down(self) -> None:
        """The window closes: let the thread end. The session ends the child process."""
        self._clock.stop()
        self._aside.wait()

    def _start(self) -> None:
        if self._request is None:
            return
        try:
            sweep.parse_seeds(self.seeds.text().strip())
        except NeurobenchError as error:
            self._say("bad", str(error))
            return
        folder = self._session.runs_folder
        self._before = frozenset(folder.glob(f"*{sweep.SUFFIX}"))
        self._asked, self._path = self._request, None
        self._begin(words_of(self._request, self.seeds.text().strip(), folder), "The sweep is starting")

    def _go_on(self) -> None:
        if self._path is not None:
            self._begin(["resume", str(self._path)], "The sweep goes on")

    def _begin(self, words: list[str], said: str) -> None:
        self._stopping = False
        self._job = self._session.job(words, self._done, self._failed)
        self._say("", said)
        self._since = (0.0, 0)
        self._clock.start()
        self._enable()

    def _cancel(self) -> None:
        if self._job is not None:
            self._stopping = True
            self._job.cancel()
            self._say("", "Cancelling: what has run is kept; a chip that is under way may have to run again")
            self._enable()

    def _done(self, found: dict[str, Any]) -> None:
        self._job = None
        if found["exit_code"] not in (0, 130):
            self._say("bad", str(found.get("error")))
        else:
            self._say("", f"The sweep has ended: {found['run_file']}")
            self._path = Path(found["run_file"])
        self._ended()

    def _failed(self, words: str) -> None:
        self._job = None
        self._say("bad", words)
        self._ended()

    def _ended(self) -> None:
        self._clock.stop()
        if self._path is not None:
            self._read()
        self._enable()

    def _tick(self) -> None:
        if self._job is not None and not self._job.running:  # it was cancelled, and has ended
            self._job = None
            self._say("warn", "Cancelled; what has run is kept")
            self._ended()
        elif not self._aside.busy:
            self._read()

    # -- what is seen -------------------------------------------------------------------------------------------

    def _read(self) -> None:
        path, folder, asked, before = self._path, self._session.runs_folder, self._asked, self._before

        def work() -> Picture | None:
            at = path or (newest_of(folder, asked, before) if asked is not None else None)
            return None if at is None else look(at)

        self._aside.ask(work, self._show, lambda words: self._say("bad", words))

    def _show(self, picture: Picture | None) -> None:
        if picture is None:
            return
        self._path, self._picture = picture.found.path, picture
        self._say_pace(picture)
        drawn = (str(self._path), len(picture.found.chips))
        if drawn == self._drawn:
            self._enable()
            return
        self._drawn = drawn
        head, said = picture.found.head, picture.summary
        self.bar.setMaximum(max(len(head.seeds), 1))
        self.bar.setValue(said["chips"])
        self.bar.setFormat(f"%v of {len(head.seeds)} chips")
        self.rate.setText(_rate_words(said))
        self._draw(picture)
        self._list(picture)
        self._enable()

    def _say_pace(self, picture: Picture) -> None:
        """How far a sweep of this window is, and how long it takes at this pace."""
        chips, missing = len(picture.found.chips), len(picture.found.missing)
        if not self.running or self._stopping:
            return
        if not self._since[0]:
            self._since = (time.monotonic(), chips)
        spent_s, came = time.monotonic() - self._since[0], chips - self._since[1]
        if came:
            self._say("", f"{missing} chips to go, about {clock(spent_s / came * missing)} left")
        else:
            self._say("", f"The first chips are under way; {missing} to go")

    def _draw(self, picture: Picture) -> None:
        item, g = self.growth.item, picture.grown
        item.clear()
        fill = QColor(theme.trace_color(0))
        fill.setAlpha(50)
        edge = QColor(theme.trace_color(0))
        edge.setAlpha(120)
        ends = [pg.PlotDataItem(g.chips, values, pen=pg.mkPen(edge)) for values in (g.low, g.high)]
        for end in ends:
            item.addItem(end)
        item.addItem(pg.FillBetweenItem(*ends, brush=fill))
        item.plot(g.chips, g.rate, pen=theme.trace_pen(0), symbol="o" if len(g.chips) == 1 else None)
        item.setXRange(0, max(len(picture.found.chips), 10))  # the bar says how many there are to come
        bars = picture.summary["updates"]["histogram"]
        at, times = np.array([int(n) for n in bars], float), np.array(list(bars.values()), float)
        self.histogram.item.clear()
        if at.size:
            self.histogram.item.addItem(_bars(at, times))

    def _list(self, picture: Picture) -> None:
        chosen = self._seed()
        chips = sorted(picture.found.chips, key=lambda chip: chip.seed)[:SHOWN_CHIPS]
        self.chips.setRowCount(len(chips))
        for n, chip in enumerate(chips):
            mark, tone = LOOKS.get(chip.status, ("·", "text_dim"))
            texts = (str(chip.seed), f"{mark} {chip.status.replace('_', ' ')}",
                     "" if chip.updates is None else str(chip.updates), chip.why)  # fmt: skip
            for column, text in enumerate(texts):
                item = QTableWidgetItem(text)
                if column == 1:
                    item.setForeground(QColor(getattr(theme.tokens(), tone)))
                self.chips.setItem(n, column, item)
            if chip.seed == chosen:
                self.chips.selectRow(n)

    def _seed(self) -> int | None:
        rows = self.chips.selectionModel().selectedRows()
        item = self.chips.item(rows[0].row(), 0) if rows else None
        return None if item is None else int(item.text())

    def _run_chosen(self) -> None:
        seed = self._seed()
        if seed is None or self._picture is None:
            self._say("warn", "Choose a chip in the list of chips")
            return
        self.run_asked.emit(replace(self._picture.found.head.request, seed=seed))

    def _say(self, role: str, words: str) -> None:
        self.words.setText(words)
        self.words.setProperty("role", role or "dim")
        self.words.style().polish(self.words)

    def _enable(self) -> None:
        going = self.running
        busy = "a sweep of this window is going on" if going else ""
        none = "" if self._request is not None else "there is nothing to sweep"
        left = self.bar.value() < self.bar.maximum() and self._path is not None
        done = "" if left else "no sweep is shown" if self._path is None else "all its chips have run"
        for button, why in (
            (self.start, busy or none),
            (self.cancel, "" if going and not self._stopping else "it is being cancelled" if going else "none goes on"),
            (self.go_on, busy or done),
            (self.run_seed, "" if self._seed() is not None else "no chip is chosen in the list"),
        ):
            button.setEnabled(not why)
            button.setToolTip(f"{button.property('tip')}" + (f"\nNot now: {why}" if why else ""))


def _bars(at: np.ndarray, times: np.ndarray) -> pg.BarGraphItem:
    """Bars of the histogram; where the updates lie far apart they are gathered in forty bins."""
    width = 0.8
    if at.max() - at.min() > 60:
        times, edges = np.histogram(at, bins=40, weights=times)
        at, width = (edges[:-1] + edges[1:]) / 2, 0.9 * float(edges[1] - edges[0])
    return pg.BarGraphItem(x=at, height=times, width=width, brush=theme.trace_color(0), pen=None)


def _rate_words(said: Mapping[str, Any]) -> str:
    if not said["chips"]:
        return "No chip has run yet"
    low, high = said["interval"]
    median = said["updates"]["median"]
    words = f"{said['converged']} of {said['chips']} reached the goal: {said['convergence_rate']:.1%}"
    words += f", 95 % interval {low:.1%} to {high:.1%} (Wilson)"
    return words + ("" if median is None else f"; median {median:g} update{'s' * (median != 1)}")
