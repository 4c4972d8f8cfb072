"""The Bench page: choose what is run where, look before it is run, run it or let it wait, and watch it.

What stands in the form is the next run, never the one that goes on: views take their words from the run file alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from PySide6.QtCore import QEvent, QObject, QSize, Qt, QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QLabel, QMenu, QSplitter, QTabWidget, QToolButton, QVBoxLayout, QWidget

from neurobench.errors import NeurobenchError
from neurobench.runs import request as requests
from neurobench.runs.request import Request
from neurobench.system import data_folder

from .. import theme
from ..frame.slow_motion import SlowMotion
from ..frame.topbar import ActionButton
from ..parts.files import ask_path
from ..parts.flow import FlowLayout
from ..session.states import LIVE, BenchState
from ..views.activations import ActivationsView
from ..views.base import View
from ..views.console import ConsoleView
from ..views.crossbar import CrossbarView
from ..views.energy import EnergyView
from ..views.iv import IvView
from ..views.late import late
from ..views.progress import ProgressView
from ..views.raster import RasterView
from ..views.schedule import ScheduleView
from ..views.stdp import StdpView
from ..views.traces import TracesView
from ..views.truth import TruthView
from ..views.weights import WeightsView
from . import remembered
from .offer_panel import OfferPanel
from .preview_panel import PreviewPanel
from .queue_panel import QueuePanel
from .run_panel import RunPanel
from .waveform_window import WaveformWindow

if TYPE_CHECKING:
    from ..frame.actions import Actions
    from ..selection import Selection
    from ..session.session import Session

VIEWS: tuple[Callable[[Selection | None, QWidget | None], View], ...] = (
    CrossbarView, TracesView, ProgressView, *map(late, (ActivationsView, WeightsView, RasterView, StdpView, IvView,
    EnergyView, TruthView)), ScheduleView, ConsoleView,
)  # fmt: skip
KEPT = "bench_page.json"
RECIPES = "Recipes (*.toml)"
WIDE_EM = 18
FORM_EM, FORM_PX = 12, 125  # width of a form: what grows with the font, and margins and bars, which do not
LOW_EM = 24  # height below which the form and what stands below it scroll as one
SHORT_S = 5.0  # a run that is over sooner was not seen
SETTLED_MS = 300  # until the last steps of a run were read


class NamedButton(ActionButton):
    """A button of an action whose words may change."""

    def rename(self, words: str) -> None:
        """Other words."""
        self._words = words
        self._show()


class Side(QWidget):
    """As wide as it has to be, and hardly more: the views are what is looked at.

    It scrolls as a whole where there is too little room, and its form does not scroll within that too.
    """

    def __init__(self, run_panel: RunPanel) -> None:
        super().__init__()
        self._area = run_panel.area

    def event(self, event: QEvent) -> bool:
        """Qt's: somewhere else, with other room."""
        frame = self._frame
        if event.type() == QEvent.Type.ParentAboutToChange and frame is not None:
            frame.removeEventFilter(self)
        if event.type() == QEvent.Type.ParentChange and frame is not None:
            frame.installEventFilter(self)
        if event.type() in (QEvent.Type.FontChange, QEvent.Type.Show):
            self._fit()
        return super().event(event)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Qt's: other room."""
        if watched is self._frame and event.type() == QEvent.Type.Resize:
            self._fit()
        return super().eventFilter(watched, event)

    @property
    def _frame(self) -> QWidget | None:
        """What this scrolls in. It is not kept: a child that holds its parent is cleared while Qt still calls it."""
        parent = self.parent()
        return parent if isinstance(parent, QWidget) else None

    def _fit(self) -> None:
        if (frame := self._frame) is not None:
            self._area.show_whole(frame.height() < LOW_EM * theme.em())

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Of the width that forms need, also before one is there: docks share out their room only once."""
        least = super().minimumSizeHint()
        return QSize(max(least.width(), FORM_EM * theme.em() + FORM_PX), least.height())

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """See the class."""
        return QSize(max(self.minimumSizeHint().width(), WIDE_EM * theme.em()), super().sizeHint().height())


class BenchPage(QWidget):
    """`left` is its side panel, `views` what it shows live."""

    def __init__(self, session: Session, actions: Actions, selection: Selection, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session, self._actions = session, actions
        self._editing: int | None = None  # the entry of the queue that the form shows
        self._when_ready: Request | None = None
        self._waves: WaveformWindow | None = None
        self._began_at = self._lasted_s = 0.0
        self._starting = False
        self._file = data_folder() / KEPT
        self.run_panel = RunPanel(selection, remembered.load(self._file))
        self.preview = PreviewPanel(session)
        self.queue = QueuePanel(session)
        self.offer = OfferPanel(session)
        self.motion = SlowMotion(session, self)
        self.left = self._made_left()
        self.views: tuple[View, ...] = tuple(kind(selection, self) for kind in VIEWS)
        self._wire_up()
        self._changed()
        QTimer.singleShot(0, self, self._connect_at_first)

    # -- making it ----------------------------------------------------------------------------------------------

    def _made_left(self) -> QWidget:
        left = Side(self.run_panel)
        left.setAccessibleName("Next run")
        column = QVBoxLayout(left)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        upper = QWidget()
        above = QVBoxLayout(upper)
        above.setContentsMargins(0, 0, 0, 4)
        above.setSpacing(6)
        above.addWidget(self.offer)
        above.addWidget(self.run_panel, 1)
        above.addLayout(self._problem_line())
        above.addLayout(self._buttons())
        self.tabs = QTabWidget()
        self.tabs.tabBar().setAccessibleName("Preview or queue")
        self.tabs.addTab(self.preview, "Preview")
        self.tabs.addTab(self.queue, "Queue")
        self.splitter = QSplitter(Qt.Orientation.Vertical)
        self.splitter.setChildrenCollapsible(False)
        self.splitter.addWidget(upper)
        self.splitter.addWidget(self.tabs)
        self.splitter.setStretchFactor(0, 3)
        self.splitter.setStretchFactor(1, 2)
        self.splitter.setSizes([650, 350])
        column.addWidget(self.splitter)
        return left

    def _problem_line(self) -> QVBoxLayout:
        line = QVBoxLayout()
        line.setContentsMargins(8, 0, 8, 0)
        self.problem = QLabel()
        self.problem.setProperty("role", "bad")
        self.problem.setWordWrap(True)
        self.problem.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.problem.setAccessibleName("Why this cannot be run")
        line.addWidget(self.problem)
        return line

    def _buttons(self) -> QVBoxLayout:
        around = QVBoxLayout()
        around.setContentsMargins(8, 0, 8, 0)
        row = FlowLayout(spacing=6)
        self.run_button = ActionButton(self._actions.by_name("run"))
        self.run_button.setProperty("role", "primary")
        self.preview_button = ActionButton(self._actions.by_name("preview"), words="Preview")
        self.queue_button = NamedButton(self._actions.by_name("queue"), words="Queue")
        self.more_button = QToolButton()
        self.more_button.setText("…")
        self.more_button.setToolTip("Recipes, command line, waveforms")
        self.more_button.setAccessibleName("Recipes, command line, waveforms")
        self.more_button.setToolTip("Recipes, the command line of this run, waveforms")
        self.more_button.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self.more_button.setMenu(self._menu())
        for button in (self.run_button, self.preview_button, self.queue_button, self.more_button):
            row.addWidget(button)
        around.addLayout(row)
        return around

    def _menu(self) -> QMenu:
        menu = QMenu(self)
        menu.addAction("Load a recipe...").triggered.connect(self._ask_for_recipe)
        menu.addAction("Save as a recipe...").triggered.connect(self._ask_where_to_save)
        menu.addAction("Copy the command line").triggered.connect(self.copy_command)
        menu.addSeparator()
        self.waves_action = menu.addAction("Waveforms of the scheme...")
        self.waves_action.triggered.connect(self.show_waveforms)
        self.slow_action = menu.addAction("Show short emulated runs once more, slowly")
        self.slow_action.setCheckable(True)
        self.slow_action.setChecked(True)
        menu.addAction("All settings back to their defaults").triggered.connect(self.reset)
        return menu

    def _wire_up(self) -> None:
        session, panel = self._session, self.run_panel
        for name, call in (("run", self.run), ("preview", self.look_ahead), ("queue", self.enqueue)):
            self._actions.by_name(name).triggered.connect(call)
        panel.changed.connect(self._changed)
        panel.said.connect(session.said)
        panel.bench_chosen.connect(self._bench_chosen)
        self.queue.edit.connect(self._edit)
        self.offer.offers.connect(self.tabs.setHidden)  # its words need the room, and come before the next run
        session.queue_changed.connect(self._queue_changed)
        session.bench_changed.connect(self._bench_changed)
        session.state_changed.connect(self._state_changed)
        for view in self.views:
            if isinstance(view, ConsoleView):
                session.wire.connect(view.hear)
            if isinstance(view, CrossbarView | TracesView):
                view.listen(self._actions)
            if isinstance(view, CrossbarView):
                view.told.connect(session.said)
        app = QGuiApplication.instance()
        if app is not None:
            app.aboutToQuit.connect(self.keep)

    # -- runs ---------------------------------------------------------------------------------------------------

    def request(self) -> Request | None:
        """What the form asks for; None, and it is said why, if that makes no sense."""
        asked = self.run_panel.request()
        if asked is None:
            self._session.said.emit("warning", f"not possible: {self.run_panel.problems()[0]}")
        return asked

    def run(self) -> None:
        """Start what the form asks for; its bench is connected first if it is another one."""
        asked = self.request()
        if asked is None or not self._connected(asked):
            return
        self.motion.stop()
        if self._session.start(asked):
            self.run_panel.forget_confirmation()
            self.keep()

    def _connected(self, asked: Request) -> bool:
        """Whether the bench of a request is the one that is connected; if not, it is being connected now."""
        session = self._session
        wanted = (asked.bench, dict(asked.bench_settings))
        if session.state in LIVE or (session.bench_name, dict(session.bench_settings)) == wanted:
            return True
        if not session.connect_bench(*wanted):
            return False
        if session.state is BenchState.READY:
            return True
        if session.simulated:
            self._when_ready = asked
            session.said.emit("info", f"{asked.bench} is being connected; the run begins as soon as it is ready")
        else:
            session.said.emit("info", f"{asked.bench} is being connected; press Run again once it is ready")
        return False

    def enqueue(self) -> None:
        """Put what the form asks for into the queue, or back into the place that it was taken from."""
        asked = self.request()
        if asked is None:
            return
        if self._editing is not None:
            entry, self._editing = self._editing, None
            self._session.replace(entry, asked)
        else:
            self._session.enqueue(asked)
        self.run_panel.forget_confirmation()
        self._bring(self.queue)
        self._name_queue_button()
        self.keep()

    def look_ahead(self) -> None:
        """Say what the run would do."""
        asked = self.request()
        if asked is not None:
            self._bring(self.preview)
            self.preview.ask(asked)

    def _bring(self, tab: QWidget) -> None:
        self.tabs.show()
        self.tabs.setCurrentWidget(tab)

    def _edit(self, queue_id: int, asked: Request) -> None:
        if self.run_panel.show_request(asked):
            self._editing = queue_id
            self._name_queue_button()

    def _name_queue_button(self) -> None:
        self.queue_button.rename("Queue" if self._editing is None else f"Put back ({self._editing})")

    # -- recipes ------------------------------------------------------------------------------------------------

    def copy_command(self) -> None:
        """The command line that does the same, into the clipboard."""
        asked = self.request()
        if asked is not None:
            QGuiApplication.clipboard().setText(asked.command())
            self._session.said.emit("info", f"copied: {asked.command()}")

    def _ask_for_recipe(self) -> None:
        ask_path(self, "Load a recipe", self.load_recipe, filters=RECIPES)

    def load_recipe(self, path: Path) -> bool:
        """Show what a recipe asks for; False, and it is said why, where it cannot be."""
        try:
            asked = requests.request(path)
        except NeurobenchError as error:
            self._session.said.emit("error", str(error))
            return False
        return self.run_panel.show_request(asked)

    def _ask_where_to_save(self) -> None:
        ask_path(self, "Save as a recipe", self.save_recipe, wanted="new file", name="recipe.toml", filters=RECIPES)

    def save_recipe(self, path: Path) -> bool:
        """Write what the form asks for as a recipe."""
        asked = self.request()
        if asked is None:
            return False
        try:
            path.write_text(recipe_of(asked), encoding="utf-8")
        except OSError as error:
            self._session.said.emit("error", f"cannot write {path}: {error.strerror or error}")
            return False
        self._session.said.emit("info", f"saved: {path}; run it with: neurobench run {path}")
        return True

    def reset(self) -> None:
        """All settings of this protocol as they are where nothing is said."""
        if self.run_panel.form is not None:
            self.run_panel.form.set_values({})

    def show_waveforms(self) -> None:
        """The waveforms of the scheme in the form, in a window of their own."""
        asked, scheme = self.request(), self.run_panel.scheme()
        if asked is None or scheme is None:
            return
        if self._waves is None:
            self._waves = WaveformWindow(self._session, self.left)
        self._waves.ask(scheme, asked)
        self._waves.show()
        self._waves.raise_()

    # -- what follows -------------------------------------------------------------------------------------------

    def _changed(self) -> None:
        problems = self.run_panel.problems()
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        self.problem.setText(f"▲ {problems[0]}{more}" if problems else "")
        self.problem.setVisible(bool(problems))
        self.waves_action.setEnabled(self.run_panel.scheme() is not None)
        self.preview.compare(self.run_panel.request())

    def _queue_changed(self) -> None:
        waiting = sum(one.status == "waiting" for one in self._session.queue)
        self.tabs.setTabText(1, f"Queue ({waiting})" if waiting else "Queue")
        if self._editing is not None and all(one.id != self._editing for one in self._session.queue):
            self._editing = None
            self._name_queue_button()

    def _connect_at_first(self) -> None:
        """Where no bench was asked for yet: an emulator, which cannot be harmed; all else waits to be asked for."""
        session = self._session
        if session.bench is not None:
            self._bench_changed()
        elif not session.asked and self.run_panel.backend == "emulator":
            session.connect_bench(self.run_panel.bench, self.run_panel.bench_settings)

    def _bench_chosen(self, bench: str) -> None:
        session = self._session
        if session.state in LIVE:
            session.said.emit("info", f"the run goes on where it is; the next one is on {bench}")
        elif (bench, self.run_panel.bench_settings) != (session.bench_name, session.bench_settings):
            session.connect_bench(bench, self.run_panel.bench_settings)

    def _bench_changed(self) -> None:
        if self._session.bench is not None and self._session.state not in LIVE:
            self.run_panel.show_bench(self._session.bench_name, self._session.bench_settings)

    def _state_changed(self, state: object) -> None:
        asked = self._when_ready
        if state is BenchState.READY and asked is not None:
            self._when_ready = None
            QTimer.singleShot(0, self, self.run)
        elif state is BenchState.DISCONNECTED:
            self._when_ready = None
        if state is BenchState.STARTING or (state is BenchState.RUNNING and self._starting):
            self._began_at = time.monotonic()  # what an engine takes to begin is nothing to be seen
        elif state not in LIVE and self._began_at:
            self._ended(time.monotonic() - self._began_at)
            self._began_at = 0.0
        self._starting = state is BenchState.STARTING

    def _ended(self, lasted_s: float) -> None:
        """An emulated run that was over at once is shown again, slowly."""
        session = self._session
        queued = any(one.status in ("waiting", "running") for one in session.queue)
        if session.stopped:
            return  # who stops a run wants to see no more of it
        if self.slow_action.isChecked() and session.simulated and lasted_s < SHORT_S and not (queued or session.hand):
            self._lasted_s = lasted_s
            QTimer.singleShot(SETTLED_MS, self, self._show_again)

    def _show_again(self) -> None:
        snapshot = self._session.snapshot
        if snapshot is None or snapshot.status not in ("finished", "not_converged") or not self._session.request:
            return
        if self._session.at_seq is None and self.motion.start():
            self._session.said.emit("info", f"the run took {self._lasted_s:.1f} s; it is shown once more, slowly "
                                    "(Alt+End: its end)")  # fmt: skip

    def keep(self) -> None:
        """Write down what is chosen, for the next time."""
        remembered.save(self._file, self.run_panel.remember())


def recipe_of(asked: Request) -> str:
    """A request as a recipe file, which `neurobench run` takes as well."""
    tables: dict[str, Any] = {"protocol": asked.protocol, "bench": asked.bench, "seed": asked.seed}
    if asked.settings:
        tables["set"] = dict(asked.settings)
    for dotted, value in asked.bench_settings.items():
        section, _, key = dotted.partition(".")
        tables.setdefault("bench-set", {}).setdefault(section, {})[key] = value
    return tomli_w.dumps(tables)
