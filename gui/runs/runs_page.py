"""The Runs page: every run of the folder, what it did, what differs, and what can be done with it again.

Nothing is ever deleted here, and a finished run file is never written to: tags and notes lie beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QItemSelectionModel, Qt, QTimer, QUrl, Signal
from PySide6.QtGui import QAction, QDesktopServices, QFontMetrics, QGuiApplication, QHideEvent, QKeyEvent, QShowEvent
from PySide6.QtWidgets import (
    QAbstractItemView,
    QApplication,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QMenu,
    QPushButton,
    QSplitter,
    QTableView,
    QTabWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from neurobench.errors import NeurobenchError, UsageError
from neurobench.runs import launch, library, sweep
from neurobench.runs.request import Request

from .. import theme
from ..parts.aside import Aside
from ..parts.files import ask_path
from ..parts.flow import FlowLayout
from ..parts.working import Working
from ..session.states import LIVE, BenchState
from .runs_details import ComparePanel, DetailsPanel, facts_of
from .runs_figures import FiguresPanel
from .runs_filter import HELP, Filter, parse
from .runs_notes import Notes
from .runs_overlay import MOST, OverlayPanel, curves_of
from .runs_table import (
    BENCH,
    NOTE,
    PROTOCOL,
    RUN,
    SEED,
    SIMULATED,
    STATUS,
    TAGS,
    UPDATES,
    WHEN,
    Entry,
    RunsModel,
    RunsProxy,
    Watcher,
    archive,
    movable,
)
from .sweep_panel import SweepPanel

if TYPE_CHECKING:
    from ..frame.actions import Actions
    from ..selection import Selection
    from ..session.jobs import Job
    from ..session.session import Session
    from ..views.base import View

HAND = "hand"  # what a session by hand is called where others have a protocol
CLOSING_S = 2.0  # how long a closed window waits for the file that is being read
# Texts that a column has room for.
WIDTHS = {
    WHEN: "22 Nov 00:00", RUN: "20261122-000000-measure-curve-s0", STATUS: "◐ not converged", SIMULATED: "REAL.",
    UPDATES: "Updates ..", TAGS: "good paper", NOTE: "first try", PROTOCOL: "measure-curve", BENCH: "emulator",
    SEED: "0:1000",
}  # fmt: skip
FORMATS = (("csv", "CSV, a folder of tables"), ("hdf5", "HDF5"), ("netcdf", "netCDF, for xarray"))


class RunsPage(QWidget):
    """See the module. `load_asked`: a request to be put into the form of the Bench page."""

    load_asked = Signal(object)
    views: tuple[View, ...] = ()
    left: QWidget | None = None

    def __init__(
        self, session: Session, actions: Actions, selection: Selection | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        del selection  # runs have no cells to choose
        self._session, self._actions = session, actions
        self.notes = Notes(session.runs_folder)
        self.model = RunsModel(self.notes, self)
        self.proxy = RunsProxy(self.model, self)
        self.watcher = Watcher(session.runs_folder, self)
        self.working = Working()
        self._wrong = ""  # with the filter
        self._export_folder: Path | None = None  # None: beside the run
        self._looks = {name: Aside(name, self) for name in ("details", "compare", "overlay", "request", "sweep")}
        self._settling = QTimer(self)  # a moment after the last change of the choice
        self._settling.setSingleShot(True)
        self._settling.setInterval(60)
        self._make()
        self._buttons = self._make_buttons()
        self._lay_out()
        self._connect()
        self._show_chosen()

    # -- making -------------------------------------------------------------------------------------------------

    def _make(self) -> None:
        self.filter = QLineEdit()
        self.filter.setPlaceholderText("Filter: words, status:fault  protocol:manhattan  tag:good  seed:7  -tag:old")
        self.filter.setClearButtonEnabled(True)
        self.filter.setAccessibleName("Filter of the runs")
        self.filter.setToolTip(f"{HELP}; - before a part turns it round; all parts have to fit")
        self.count, self.problem = QLabel(), QLabel()
        self.problem.setProperty("role", "bad")
        self.problem.setWordWrap(True)
        self.problem.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.problem.hide()
        self.empty = QLabel()
        self.empty.setProperty("role", "dim")
        self.empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.empty.setWordWrap(True)
        self.table = RunsTable()
        self.table.setModel(self.proxy)
        self.details = DetailsPanel(self.notes)
        self.compare, self.overlay = ComparePanel(), OverlayPanel()
        self.figures, self.sweep = FiguresPanel(), SweepPanel(self._session)
        self.tabs = QTabWidget()
        self.tabs.setAccessibleName("About the chosen runs")
        self.tabs.tabBar().setAccessibleName("About the chosen runs")
        for widget, title in (
            (self.details, "Details"), (self.compare, "Compare"), (self.overlay, "Overlay"),
            (self.figures, "Figures"), (self.sweep, "Sweep"),
        ):  # fmt: skip
            self.tabs.addTab(widget, title)

    def _make_buttons(self) -> dict[str, QPushButton | QToolButton]:
        rows: tuple[tuple[str, str, str, Callable[[], object]], ...] = (
            ("open", "Open", "Show it on the Bench page, with the time slider (Return). A live one is attached",
             self._open),
            ("again", "Run again", "Start a new run with the same settings and seed", self._run_again),
            ("load", "Edit on Bench", "Put its settings into the form of the Bench page", self._load),
            ("resume", "Resume", "Go on with a run that was stopped or cut off; no pulse is fired twice", self._resume),
            ("settle", "Settle", "Ask what became of the last pulse, book the run, free the chip. Sends no volts",
             self._settle),
            ("reveal", "Show the file", "Open its folder and say where it is", self._reveal),
            ("command", "Copy command", "The command line of this run, into the clipboard", self._copy),
            ("archive", "Archive", "Move it into the subfolder 'archive'; nothing is deleted", self._archive),
        )  # fmt: skip
        made: dict[str, QPushButton | QToolButton] = {}
        for name, text, tip, call in rows:
            button = QPushButton(text)
            button.setAccessibleName(text)
            button.setProperty("tip", tip)
            button.clicked.connect(call)
            made[name] = button
        made["open"].setProperty("role", "primary")
        made["export"] = self._export_button()
        return made

    def _export_button(self) -> QToolButton:
        button = QToolButton()
        button.setText("Export")
        button.setAccessibleName("Export")
        button.setProperty("tip", "Write the run beside its file, for other programs (Ctrl+E: CSV)")
        button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        menu = QMenu(button)
        for to, words in FORMATS:
            menu.addAction(words).setData(to)
        menu.addSeparator()
        menu.addAction("Into another folder ...").setData("")
        menu.triggered.connect(self._export_chosen)
        button.setMenu(menu)
        return button

    def _export_chosen(self, action: QAction) -> None:
        if to := str(action.data()):
            self._export(to)
            return
        start = str(self._export_folder or self._session.runs_folder)
        ask_path(self, "Where exports are written", self._export_into, wanted="folder", start=start)

    def _export_into(self, folder: Path) -> None:
        self._export_folder = folder
        self._inform(f"exports of this window go to {folder}")

    def _lay_out(self) -> None:
        top = QHBoxLayout()
        top.addWidget(self.filter, 1)
        top.addWidget(self.count)
        buttons = FlowLayout()
        for button in self._buttons.values():
            buttons.addWidget(button)
        left = QWidget()
        column = QVBoxLayout(left)
        column.setContentsMargins(8, 8, 4, 8)
        column.addLayout(top)
        column.addWidget(self.problem)
        column.addWidget(self.table, 1)
        column.addWidget(self.empty, 1)
        column.addLayout(buttons)
        column.addWidget(self.working)
        split = QSplitter(Qt.Orientation.Horizontal)
        split.addWidget(left)
        split.addWidget(self.tabs)
        split.setChildrenCollapsible(False)
        split.setStretchFactor(0, 3)
        split.setStretchFactor(1, 2)
        split.setSizes([760, 480])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(split)

    def _connect(self) -> None:
        self.watcher.came.connect(self.model.take)
        self.watcher.gone.connect(self.model.drop)
        self.watcher.looked.connect(self._looked)
        self.model.refused.connect(self._warn)
        self.filter.textChanged.connect(self._filter)
        self.table.opened.connect(self._open)
        self.table.selectionModel().selectionChanged.connect(self._changed)
        self._settling.timeout.connect(self._show_chosen)
        self.model.dataChanged.connect(self._changed)
        self.tabs.currentChanged.connect(self._changed)
        self.details.written.connect(self._write)
        self.figures.draw.clicked.connect(self._draw_figures)
        self.sweep.run_asked.connect(self._start)
        self.working.ended.connect(self._changed)
        self.working.cancelled.connect(self._cancelled)
        self._session.state_changed.connect(self._enable)
        self._actions.by_name("export").triggered.connect(self._export_key)

    def restyle(self) -> None:
        """Colours or font sizes have changed."""
        self.table.restyle()
        self.overlay.restyle()
        self.compare.restyle()
        self.sweep.restyle()
        self._show_chosen()

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """The folder is watched while the page is seen."""
        super().showEvent(event)
        self.watcher.start()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """And is left alone while it is not."""
        self.watcher.stop(0.0 if self.window().isVisible() else CLOSING_S)
        for look in self._looks.values():
            look.wait()
        self.figures.close_down()
        if not self.sweep.running:
            self.sweep.close_down()
        super().hideEvent(event)

    # -- the table ----------------------------------------------------------------------------------------------

    def chosen(self) -> list[Entry]:
        """The chosen runs, in the order of the table."""
        rows = self.table.selectionModel().selectedRows()
        return [self.proxy.entry(index) for index in sorted(rows, key=lambda index: index.row())]

    def select(self, paths: Sequence[Path]) -> None:
        """Choose these runs, as far as the filter shows them."""
        model = self.table.selectionModel()
        model.clearSelection()
        for path in paths:
            at = self.model.place(path)
            if at is not None:
                index = self.proxy.mapFromSource(self.model.index(at, 0))
                model.select(index, QItemSelectionModel.SelectionFlag.Select | QItemSelectionModel.SelectionFlag.Rows)

    def _filter(self, text: str) -> None:
        try:
            wanted = parse(text)
        except NeurobenchError as error:
            self._wrong = str(error)
            self._problems()
            return
        self._wrong = ""
        self._problems()
        self.proxy.filter_by(wanted)
        self._count(wanted)

    def _looked(self) -> None:
        if self.notes.refresh():
            self.model.words_changed()
        self._problems()
        self._count(None)

    def _problems(self) -> None:
        """What is wrong now with the filter or with the notes; what was mended is not said any more."""
        words = "\n".join(words for words in (self._wrong, self.notes.problem) if words)
        self.problem.setText(words)
        self.problem.setVisible(bool(words))

    def _count(self, wanted: Filter | None) -> None:
        shown, total = self.proxy.rowCount(), self.model.rowCount()
        self.count.setText(f"{total} run{'s' * (total != 1)}" if shown == total else f"{shown} of {total} runs")
        filtered = (wanted is not None and bool(wanted.parts)) or bool(self.filter.text().strip())
        none = f"No runs in {self._session.runs_folder} yet.\nF5 on the Bench page (Ctrl+1) makes one."
        self.empty.setText("No run fits the filter" if total and filtered else none)
        self.empty.setVisible(shown == 0)
        self.table.setVisible(shown > 0)

    def _changed(self) -> None:
        self._enable()
        self._settling.start()

    # -- what is said about the chosen --------------------------------------------------------------------------

    def _show_chosen(self) -> None:
        chosen = self.chosen()
        self._enable()
        shown = self.tabs.currentWidget()
        self.details.show_entries(chosen)
        if shown is self.details:
            self._ask_details(chosen)
        elif shown is self.compare:
            self._ask_diff(chosen)
        elif shown is self.overlay:
            self._ask_overlay(chosen)
        elif shown is self.figures:
            one = chosen[0] if len(chosen) == 1 else None
            why = "Choose one run" if one is None else f"{one.row.status}" if one.damaged else self.working.words
            why = "A sweep has no figures; its page is Sweep" if one is not None and one.is_sweep else why
            self.figures.show_of(None if one is None or one.is_sweep or one.damaged else one.path, why)
        else:
            self._set_sweep(chosen)

    def _ask_details(self, chosen: Sequence[Entry]) -> None:
        look = self._looks["details"]
        if len(chosen) != 1:
            look.forget()
        elif chosen[0].damaged:
            self.details.show_problem(chosen[0].row.status)
        else:
            path = chosen[0].path
            look.ask(lambda: facts_of(path), self.details.show_facts, self.details.show_problem)

    def _ask_diff(self, chosen: Sequence[Entry]) -> None:
        paths = [entry.path for entry in chosen if not (entry.damaged or entry.is_sweep)]
        if len(paths) < 2:
            self._looks["compare"].forget()
            self.compare.clear("Choose two runs or more in the table (Ctrl or Shift and a click)")
        else:
            self._looks["compare"].ask(lambda: library.compare(paths), self.compare.show_diff, self.compare.clear)

    def _ask_overlay(self, chosen: Sequence[Entry]) -> None:
        entries = [entry for entry in chosen if not (entry.damaged or entry.is_sweep)][:MOST]
        if not entries:
            self._looks["overlay"].forget()
            self.overlay.clear("Choose one run or more in the table; sweeps have a page of their own")
            return
        simulated = any(entry.row.simulated for entry in entries)
        self._looks["overlay"].ask(
            lambda: {entry.row.run_id: curves_of(entry.path) for entry in entries},
            lambda curves: self.overlay.show_curves(curves, simulated),
            self.overlay.clear,
        )

    def _set_sweep(self, chosen: Sequence[Entry]) -> None:
        one = chosen[0] if len(chosen) == 1 else None
        if one is not None and one.is_sweep:
            self.sweep.show_file(one.path)
        if one is not None and not one.damaged:
            self._looks["sweep"].ask(
                lambda: _request_of(one), lambda request: self.sweep.set_request(request, "as the chosen run"),
                self._no_request,
            )  # fmt: skip
        else:
            self._looks["sweep"].forget()
            self._no_request()

    def _no_request(self, *_: object) -> None:
        self.sweep.set_request(self._session.request, "as the last run of this window")

    # -- what can be done ---------------------------------------------------------------------------------------

    def _enable(self) -> None:
        """Enable what the choice allows; the tip of a button that is not enabled says why."""
        chosen = self.chosen()
        for name, button in self._buttons.items():
            why = self._why_not(name, chosen)
            button.setEnabled(not why)
            button.setToolTip(f"{button.property('tip')}" + (f"\nNot now: {why}" if why else ""))

    def _why_not(self, name: str, chosen: Sequence[Entry]) -> str:
        if not chosen:
            return "no run is chosen"
        one = chosen[0]
        if name == "archive":
            return next((f"{e.row.run_id}: {why}" for e in chosen if (why := _unmovable(e))), "")
        if len(chosen) > 1:
            return "several runs are chosen" if name != "reveal" else ""
        if name == "reveal":
            return ""
        if one.damaged:
            return f"the file is damaged: {one.row.status}"
        if one.is_sweep and name not in ("load", "open"):
            return "this is a sweep: see the page Sweep"
        return self._why_not_one(name, one)

    def _why_not_one(self, name: str, one: Entry) -> str:
        if name in ("again", "load", "command", "resume") and one.row.protocol == HAND:
            return "it was done by hand: there is no protocol that could go on or be run again"
        if name in ("settle", "export") and self.working.words:
            return f"{self.working.words} goes on"
        if name in ("again", "resume", "settle") and self._session.state in LIVE:
            return "a run is going on"
        if name == "resume" and (one.live or not (one.row.stopped or one.status in ("crashed", "aborted", "fault"))):
            return f"it is {one.status.replace('_', ' ')}; only a run that was cut off or stopped can go on"
        if name in ("again", "resume") and self._session.state is not BenchState.READY:
            return f"the bench is {self._session.state.value}"
        if name == "settle" and one.status != "crashed":
            return f"it is {one.status.replace('_', ' ')}; only a crashed run has to be settled"
        return ""

    def _one(self) -> Entry | None:
        chosen = self.chosen()
        return chosen[0] if len(chosen) == 1 else None

    def _open(self) -> None:
        one = self._one()
        if one is None or one.damaged:
            self._warn(one.row.status if one else "choose one run to open")
        elif one.is_sweep:
            self.tabs.setCurrentWidget(self.sweep)
            self.sweep.show_file(one.path)
        elif self._session.open_run(one.path):
            self._actions.by_name("mode.bench").trigger()

    def _with_request(self, then: Callable[[Request], None]) -> None:
        """How the chosen run was started, read in a thread: a protocol may be loaded for it."""
        if (one := self._one()) is not None:
            self._looks["request"].ask(lambda: _request_of(one), then, self._warn)

    def _run_again(self) -> None:
        self._with_request(self._start)

    def _start(self, request: Request) -> None:
        if self._session.start(request):
            self._actions.by_name("mode.bench").trigger()

    def _load(self) -> None:
        self._with_request(self._loaded)

    def _loaded(self, request: Request) -> None:
        self._actions.by_name("mode.bench").trigger()
        self.load_asked.emit(request)

    def _resume(self) -> None:
        if (one := self._one()) is not None and self._session.go_on(one.path):
            self._inform(f"going on with {one.row.run_id}")
            self._actions.by_name("mode.bench").trigger()

    def _settle(self) -> None:
        if (one := self._one()) is not None:
            job = self._session.job(["settle", str(one.path)], self._settled, self._warn)
            self._watch(job, f"settling {one.row.run_id}", stoppable=False)

    def _settled(self, found: dict[str, Any]) -> None:
        self.watcher.look()
        if "outcome" not in found:
            self._warn(str(found.get("error")))
            return
        chip = f"; the chip is {found['chip']}" if "chip" in found else ""
        self._inform(f"the last pulse: {found['outcome']}{chip}")

    def _export_key(self) -> None:
        if self.isVisible():
            why = self._why_not("export", self.chosen())
            self._warn(why) if why else self._export("csv")

    def _export(self, to: str) -> None:
        if (one := self._one()) is not None:
            out = ["--out", str(self._export_folder)] if self._export_folder else []
            job = self._session.job(["export", str(one.path), "--format", to, *out], self._exported, self._warn)
            self._watch(job, f"exporting {one.row.run_id} as {to}")

    def _exported(self, found: dict[str, Any]) -> None:
        if "file" in found:
            self._inform(f"exported: {found['file']}")
        else:
            self._warn(str(found.get("error")))

    def _draw_figures(self) -> None:
        if (one := self._one()) is not None:
            path = one.path
            job = self._session.job(
                ["plot", str(path)], lambda found: self._drawn(path, found), lambda words: self._not_drawn(path, words)
            )
            self._watch(job, f"drawing the figures of {one.row.run_id}")

    def _drawn(self, path: Path, found: dict[str, Any]) -> None:
        if "figures" not in found:
            self._not_drawn(path, str(found.get("error")))
        elif not found["figures"]:
            self._not_drawn(path, "This run holds nothing that a figure could show")

    def _not_drawn(self, path: Path, words: str) -> None:
        self.figures.not_drawn(path, words)
        self._warn(words)

    def _watch(self, job: Job, words: str, *, stoppable: bool = True) -> None:
        self.working.watch(job, words, stoppable=stoppable)
        self._changed()

    def _cancelled(self, words: str) -> None:
        self._inform(f"cancelled: {words}")

    def _reveal(self) -> None:
        paths = [entry.path for entry in self.chosen()]
        QGuiApplication.clipboard().setText("\n".join(map(str, paths)))
        opened = bool(paths) and QDesktopServices.openUrl(QUrl.fromLocalFile(str(paths[0].parent)))
        words = "its path is in the clipboard" + ("" if opened else "; nothing here opens folders")
        self._inform(f"{paths[0] if len(paths) == 1 else f'{len(paths)} files'}: {words}")

    def _copy(self) -> None:
        self._with_request(self._copied)

    def _copied(self, request: Request) -> None:
        QGuiApplication.clipboard().setText(request.command())
        self._inform(f"copied: {request.command()}")

    def _archive(self) -> None:
        moved: list[Path] = []
        for entry in self.chosen():
            why = movable(entry)
            try:
                if why:
                    self._warn(f"{entry.row.run_id} stays where it is: {why}")
                else:
                    moved.append(archive(entry))
            except OSError as error:
                self._warn(f"{entry.row.run_id} could not be moved: {error}")
        self.watcher.look()
        if moved:
            self._inform(f"{len(moved)} moved into {moved[0].parent}; nothing was deleted")

    def _write(self, tags: object, note: object) -> None:
        runs = [entry.row.run_id for entry in self.chosen()]
        if runs:
            self.model.write(
                runs,
                tags=tags if isinstance(tags, tuple) else None,
                note=note if isinstance(note, str) else None,
            )

    def _inform(self, words: str) -> None:
        self._session.said.emit("info", words)

    def _warn(self, words: str) -> None:
        self._session.said.emit("warning", words)


def _request_of(one: Entry) -> Request:
    """How a run or a sweep was started; raises UsageError where its file does not say."""
    try:
        return sweep.load(one.path).head.request if one.is_sweep else launch.recorded(one.path).request
    except (NeurobenchError, OSError, ValueError, TypeError) as error:
        raise UsageError("this run does not say how it was started (a script's session never does)") from error


def _unmovable(entry: Entry) -> str:
    """Why a run may not be moved, as far as the table knows; asked again before it is done."""
    return "it is going on" if entry.live else "resume or settle it first" if entry.status == "crashed" else ""


class RunsTable(QTableView):
    """The table: rows are chosen, a double click or Return opens; tags and notes are written in it (F2)."""

    opened = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Runs")
        self.setToolTip("All runs of this folder; Enter opens one, several are compared")
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.ExtendedSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.EditKeyPressed)
        self.setAlternatingRowColors(True)
        self.setShowGrid(False)
        self.setWordWrap(False)
        self.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.setSortingEnabled(True)
        self.setTabKeyNavigation(False)
        self.setHorizontalScrollMode(QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.verticalHeader().hide()
        self.horizontalHeader().setHighlightSections(False)
        self.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.doubleClicked.connect(self._double)

    def setModel(self, model: Any) -> None:  # noqa: N802
        """Newest first, to begin with."""
        super().setModel(model)
        self.sortByColumn(WHEN, Qt.SortOrder.DescendingOrder)
        self.restyle()

    def restyle(self) -> None:
        """Widths that fit the font."""
        em, metrics = theme.em(), QFontMetrics(QApplication.font())
        header = self.horizontalHeader()
        for column, text in WIDTHS.items():
            header.resizeSection(column, metrics.horizontalAdvance(text) + em // 2)
        header.setStretchLastSection(True)
        header.setMinimumSectionSize(em * 2)
        self.verticalHeader().setDefaultSectionSize(int(em * 1.5))

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802
        """Return opens, and F2 writes in the tags, or in the notes if the cursor stands there."""
        if event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self.state() != self.State.EditingState:
            self.opened.emit()
            return
        if event.key() == Qt.Key.Key_F2 and self.currentIndex().isValid():
            index = self.currentIndex()
            self.edit(index if index.column() in (TAGS, NOTE) else index.siblingAtColumn(TAGS))
            return
        super().keyPressEvent(event)

    def _double(self, index: Any) -> None:
        if index.column() in (TAGS, NOTE):
            self.edit(index)
        else:
            self.opened.emit()
