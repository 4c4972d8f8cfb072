"""The window: bar, modes, views and messages around one session. It decides nothing about a run; the session does."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QAction, QActionGroup, QCloseEvent, QKeyEvent, QKeySequence
from PySide6.QtWidgets import (
    QApplication,
    QDialog,
    QFrame,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QMenu,
    QStackedWidget,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from neurobench.runs.runfile import SUFFIX
from neurobench.system import holder_of

from .. import theme
from ..parts.files import ask_path
from ..selection import Selection
from ..session.states import LIVE, BenchState
from . import dialogs, reading_order
from .actions import GROUPS, MODES, SECTIONS, Actions
from .closing import ClosingPanel, holds
from .command_palette import CommandPalette
from .escape import EscapeKey
from .messages import Messages, MessageStrip
from .modes import PAGES, Mode, made_page
from .preferences import Preferences
from .pulse import Pulse
from .statusbar import StatusBar
from .timebar import TimeBar
from .topbar import TopBar

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

    from ..session.session import Session
    from ..views.base import View

SMALLEST = (960, 600)
BEGINS = (1280, 720)


class SideButton(QToolButton):
    """Puts the side panel away, and brings it back."""

    def __init__(self, action: QAction, parent: QWidget) -> None:
        super().__init__(parent)
        self._action = action
        self.setCheckable(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setProperty("role", "flat")
        self.setAccessibleName(action.text())
        self.setToolTip(action.toolTip())
        self.clicked.connect(action.trigger)
        action.changed.connect(self._show)
        self._show()

    def _show(self) -> None:
        on = self._action.isChecked()
        self.setChecked(on)
        self.setText(f"{'◂' if on else '▸'} {self._action.text()}")
        self.setVisible(self._action.isEnabled())


class Rail(QFrame):
    """The modes at the left, one below the other."""

    def __init__(self, actions: Actions, parent: QWidget) -> None:
        super().__init__(parent)
        self.setObjectName("rail")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(6, 6, 6, 6)
        layout.setSpacing(4)
        self.buttons: dict[str, QToolButton] = {}
        for mode in MODES:
            action = actions.by_name(f"mode.{mode}")
            button = QToolButton(self)
            button.setText(action.text())
            button.setToolTip(action.toolTip())
            button.setAccessibleName(f"Mode {action.text()}")
            button.setCheckable(True)
            button.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
            button.setProperty("role", "flat")
            button.clicked.connect(action.trigger)
            layout.addWidget(button)
            self.buttons[mode] = button
        layout.addStretch(1)
        self.side = SideButton(actions.by_name("side"), self)
        layout.addWidget(self.side)
        self.restyle()

    def show_mode(self, mode: str) -> None:
        """Mark the mode that is shown."""
        for name, button in self.buttons.items():
            button.setChecked(name == mode)

    def restyle(self) -> None:
        """The font has changed: all are as wide as the widest."""
        buttons = (*self.buttons.values(), self.side)
        for button in buttons:
            button.setMinimumWidth(0)
        wide = max(button.sizeHint().width() for button in buttons)
        for button in buttons:
            button.setMinimumSize(wide, round(2.1 * theme.em()))


class MainWindow(QMainWindow):
    """See the module. `begin` builds the first page, after the window was painted once."""

    def __init__(self, session: Session, preferences: Preferences | None = None) -> None:
        super().__init__()
        self.setWindowTitle("neurobench")
        self.setObjectName("neurobench")
        self.session, self.preferences = session, preferences or Preferences()
        self.messages = Messages(self)
        self.selection = Selection(parent=self)
        self.actions_of = Actions(session, self)
        self.modes: dict[str, Mode] = {}
        self._closing_now = False
        self._open_dialogs: list[QDialog] = []
        self.pulse = Pulse(session, self.seen, self)
        self._build()
        self._menus()
        self._connect()
        self._escape = EscapeKey(session, self.topbar.abort, self)
        self._app().installEventFilter(self._escape)
        self.resize(*BEGINS)
        if (kept := self.preferences.layout("window")) is not None:
            self.restoreGeometry(kept)
        self._apply_death()

    # -- building -----------------------------------------------------------------------------------------------

    def _build(self) -> None:
        session, actions = self.session, self.actions_of
        self.topbar = TopBar(session, actions, self)
        self.closing = ClosingPanel(session, self._close_now, self)
        self.strip = MessageStrip(self.messages, self)
        self.rail = Rail(actions, self)
        self.stack = QStackedWidget(self)
        self.stack.addWidget(QLabel("", self.stack))
        self.stack.setMinimumSize(1, 1)  # a page that wants more than there is must not push the bars out
        self.timebar = TimeBar(session, actions, self)
        self.status = StatusBar(session, self.pulse, self)
        self.palette_dialog = CommandPalette(session, actions, self)
        body, right = QHBoxLayout(), QVBoxLayout()
        right.addWidget(self.stack, 1)
        right.addWidget(self.timebar)
        body.addWidget(self.rail)
        body.addLayout(right, 1)
        central = QWidget(self)
        whole = QVBoxLayout(central)
        for layout in (body, right, whole):
            layout.setContentsMargins(0, 0, 0, 0)
            layout.setSpacing(0)
        for one in (self.topbar, self.closing, self.strip):
            whole.addWidget(one)
        whole.addLayout(body, 1)
        whole.addWidget(self.status)
        self.setCentralWidget(central)
        self.timebar.hide()
        self.setMinimumSize(*SMALLEST)
        self.restyle()

    def _menus(self) -> None:
        self.actions_of.by_name("side").setChecked(True)
        menus = {group: self.menuBar().addMenu(f"&{group}") for group in GROUPS}
        for action, made in self.actions_of:
            if action.name in SECTIONS:
                menus[action.group].addSeparator()
            menus[action.group].addAction(made)
        self.panels = QMenu("Panels", self)
        self.panels.aboutToShow.connect(self._list_panels)
        menus["View"].addSeparator()
        menus["View"].addMenu(self.panels)
        themes = QActionGroup(self)
        for name in theme.THEMES:
            themes.addAction(self.actions_of.by_name(f"theme.{name}"))

    def focusNextPrevChild(self, forward: bool) -> bool:  # noqa: N802 - Qt's
        """Qt's: Tab goes on as one reads."""
        to = reading_order.next_of(self, self.focusWidget(), 1 if forward else -1)
        if to is None:
            return False
        to.setFocus(Qt.FocusReason.TabFocusReason if forward else Qt.FocusReason.BacktabFocusReason)
        reading_order.show(to)
        return True

    def _list_panels(self) -> None:
        self.panels.clear()
        mode = self.modes.get(self.actions_of.page)
        for dock in mode.docks.values() if mode is not None else ():
            self.panels.addAction(dock.toggleViewAction())
        if self.panels.isEmpty():
            self.panels.addAction("this mode has no panels").setEnabled(False)

    def _connect(self) -> None:
        session = self.session
        session.said.connect(self.messages.add)
        session.state_changed.connect(self._new_run)
        session.snapshot_changed.connect(self._shape)
        session.bench_changed.connect(self._shape)
        does = {
            "pause": self._pause, "stop": session.stop, "abort": session.abort, "acknowledge": session.acknowledge,
            "queue.start": session.start_queue, "disconnect": session.disconnect_bench, "quit": self.close,
            "keep_running": self._keep_running, "open": self._open, "palette": self.palette_dialog.ask,
            "reset_layout": self._reset_layout, "limits": self.show_limits, "messages": self.show_messages,
            "help": self.show_help, "diagnostics": self.show_diagnostics, "about": self.show_about,
            "side": self._show_side, "text.larger": self._larger, "text.smaller": self._smaller,
        }  # fmt: skip
        for name, do in does.items():
            self._on(name, do)
        for mode in MODES:
            self._on(f"mode.{mode}", self._go)
        for name in theme.THEMES:
            self._on(f"theme.{name}", self._choose_theme)
        self._app().styleHints().colorSchemeChanged.connect(self._desktop_changed)

    @staticmethod
    def _app() -> QApplication:
        app = QApplication.instance()
        assert isinstance(app, QApplication)
        return app

    def _on(self, name: str, do: object) -> None:
        self.actions_of.by_name(name).triggered.connect(do)

    def begin(self) -> None:
        """Show the Bench mode, and what was going on before this window came."""
        self.show_mode("bench")
        self.rail.buttons["bench"].setFocus()
        self.find_live()

    # -- modes --------------------------------------------------------------------------------------------------

    def _go(self) -> None:
        sender = self.sender()
        if isinstance(sender, QAction):
            self.show_mode(sender.objectName().removeprefix("mode."))

    def show_mode(self, name: str) -> Mode:
        """Show a mode; its page is made when it is first needed."""
        mode = self.mode(name)
        at_rail = any(button.hasFocus() for button in self.rail.buttons.values())
        self.stack.setCurrentWidget(mode)
        if at_rail:
            self.rail.buttons[name].setFocus()
        self.rail.show_mode(name)
        self.timebar.setVisible(bool(mode.docks))
        self.actions_of.show_page(name)
        self.pulse.ask()
        return mode

    def mode(self, name: str) -> Mode:
        """A mode, made now if it is not there yet."""
        if name not in self.modes:
            of = next(page for page in PAGES if page.mode == name)
            mode = Mode(of, made_page(of, self.session, self.actions_of, self.selection), self.stack)
            self.modes[name] = mode
            self.stack.addWidget(mode)
            if (load_asked := getattr(mode.page, "load_asked", None)) is not None:
                load_asked.connect(self._load)
            mode.take_layout(self.preferences.layout(name))
            mode.show_side(self.actions_of.by_name("side").isChecked())
            for dock in mode.docks.values():
                dock.visibilityChanged.connect(self.pulse.ask)
        return self.modes[name]

    def _load(self, request: object) -> None:
        """A page asks for a request to be put into the form of the Bench page."""
        panel = getattr(self.mode("bench").page, "run_panel", None)
        if panel is not None:
            panel.show_request(request)

    def seen(self) -> list[View]:
        """Every view of which anything can be seen, in this mode or detached."""
        return [view for mode in self.modes.values() for view in mode.shown()]

    def _show_side(self) -> None:
        for mode in self.modes.values():
            mode.show_side(self.actions_of.by_name("side").isChecked())

    def _reset_layout(self) -> None:
        name = self.actions_of.page
        self.preferences.forget_layout(name)
        self.mode(name).arrange()
        self.messages.add("info", f"the panels of {name} are back where they began")

    def _new_run(self, state: BenchState) -> None:
        """What was said of the run before does not stand above the new one; it is in the list (Ctrl+M)."""
        if state is BenchState.STARTING:
            self.strip.hide()

    def _shape(self) -> None:
        """The array that is shown decides which cells can be chosen."""
        snapshot, bench = self.session.snapshot, self.session.bench
        if snapshot is not None:
            self.selection.set_shape(snapshot.about.shape)
            self._bring_forward(snapshot)
        elif bench is not None:
            self.selection.set_shape((bench.chip.rows, bench.chip.cols))

    def _bring_forward(self, snapshot: Snapshot) -> None:
        mode = self.modes.get(self.actions_of.page)
        if mode is not None and mode.docks:
            mode.bring_forward(snapshot)

    # -- what belongs to the window itself ------------------------------------------------------------------------

    def _pause(self) -> None:
        halted = self.session.state in (BenchState.PAUSED, BenchState.PAUSING)
        self.session.resume() if halted else self.session.pause()

    def _keep_running(self) -> None:
        self.session.keep_running()
        self.messages.add("info", "the run goes on, also without this window")

    def _open(self) -> None:
        start = str(self.session.runs_folder)
        ask_path(self, "Open a run", self._open_run, start=start, filters=f"Runs (*{SUFFIX});;All files (*)")

    def _open_run(self, path: Path) -> None:
        self.open_run(str(path))

    def open_run(self, path: str) -> None:
        """Show a run file in the Bench mode."""
        if self.session.open_run(Path(path)):
            self.show_mode("bench")

    def find_live(self) -> None:
        """Runs that go on without a window: one is shown, several are named."""
        live = live_runs(self.session.runs_folder)
        if len(live) == 1 and self.session.state not in LIVE and self.session.run_path is None:
            self.session.open_run(live[0])
        elif len(live) > 1:
            names = ", ".join(path.name for path in live[:4])
            self.messages.add("info", f"{len(live)} runs are going on in {self.session.runs_folder}: {names} (Ctrl+4)")

    def _text(self, title: str, text: str, *, mono: bool = True) -> None:
        self._show_dialog(dialogs.TextDialog(title, text, self, mono=mono))

    def _show_dialog(self, dialog: QDialog) -> None:
        self._open_dialogs.append(dialog)
        dialog.finished.connect(self._forget_dialogs)
        dialog.show()

    def _forget_dialogs(self) -> None:
        self._open_dialogs = [dialog for dialog in self._open_dialogs if dialog is not self.sender()]

    def show_limits(self) -> None:
        """All limits of this chip."""
        self._show_dialog(dialogs.LimitsDialog(self.session, self))

    def show_messages(self) -> None:
        """All that was said."""
        self._text("Messages", self.messages.text())

    def show_help(self) -> None:
        """What this mode is for, and all keys."""
        self._text("Keys and help", dialogs.help_text(self.actions_of.page))

    def show_diagnostics(self) -> None:
        """Versions and paths."""
        self._text("Diagnostics", dialogs.diagnostics(self.session, self.preferences))

    def show_about(self) -> None:
        """Who this is."""
        self._text("About neurobench", dialogs.ABOUT, mono=False)

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """A key that nobody took: if it belongs to something that is not possible now, say why."""
        words = self.actions_of.explain(QKeySequence(event.keyCombination()))
        if words:
            self.messages.add("warning", words)
        else:
            super().keyPressEvent(event)

    # -- looks --------------------------------------------------------------------------------------------------

    def _choose_theme(self) -> None:
        sender = self.sender()
        if isinstance(sender, QAction):
            self.set_look(theme_name=sender.objectName().removeprefix("theme."))

    def _larger(self) -> None:
        self.set_look(scale=min(theme.scale() + 0.25, theme.SCALES[-1]))

    def _smaller(self) -> None:
        self.set_look(scale=max(theme.scale() - 0.25, theme.SCALES[0]))

    def _desktop_changed(self) -> None:
        if self.preferences.theme == "system":
            self.set_look()

    def set_look(self, theme_name: str | None = None, scale: float | None = None) -> None:
        """Another theme or text size, now and the next time."""
        self.preferences.theme = theme_name or self.preferences.theme
        self.preferences.scale = self.preferences.scale if scale is None else scale
        before = theme.scale()
        theme.apply(self._app(), self.preferences.theme, self.preferences.scale)
        self.restyle()
        if theme.scale() != before:
            for mode in self.modes.values():
                mode.share_width()
                mode.look_for_room()

    def restyle(self) -> None:
        """Everything that keeps a colour or a size of its own takes it anew."""
        self.actions_of.by_name(f"theme.{self.preferences.theme}").setChecked(True)
        for part in (self.topbar, self.strip, self.closing, self.rail, self.timebar):
            part.restyle()
        for mode in self.modes.values():
            for one in (mode.page, *mode.views):
                again = getattr(one, "restyle", None)
                if callable(again):
                    again()
        self.pulse.ask()

    def _apply_death(self) -> None:
        chosen = self.preferences.on_death
        self.session.on_death = None if chosen == "suggested" else chosen

    # -- closing ------------------------------------------------------------------------------------------------

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802 - Qt's name
        """While something goes on the window asks first, and stays until the outputs are off."""
        if not self._closing_now and (holds(self.session) or self.session.sweeping):
            event.ignore()
            self.closing.ask()
            return
        self._closing_now = True
        self._keep_layouts()
        self._end()
        event.accept()

    def end_by(self, signal_name: str) -> None:
        """The system asks the program to end."""
        self.closing.by_signal(signal_name)

    def _close_now(self) -> None:
        self._closing_now = True
        # Not from inside a click on a button that goes away with the window.
        QTimer.singleShot(0, self.close)

    def _keep_layouts(self) -> None:
        for name, mode in self.modes.items():
            if mode.docks:
                self.preferences.keep_layout(name, mode.layout_kept())
        self.preferences.keep_layout("window", self.saveGeometry())
        self.preferences.save()

    def _end(self) -> None:
        self._app().removeEventFilter(self._escape)
        self.pulse.stop()
        self.status.stop()
        for mode in self.modes.values():
            for dock in mode.docks.values():
                if dock.isFloating():
                    dock.close()
        for thread in threading.enumerate():
            if thread.name == "abort":  # an abort that is on its way must arrive
                thread.join(2.0)
        self.session.shutdown()


def live_runs(folder: Path) -> list[Path]:
    """Run files of a folder that are written now: by an engine, as its control file says, or by who holds the lock."""
    from neurobench.runs.engine import CONTROL

    found = {file.with_name(file.name.removesuffix(CONTROL)) for file in folder.glob(f"*{CONTROL}")}
    locked = (file.with_suffix("") for file in folder.glob(f"*{SUFFIX}.lock.holder"))
    found |= {lock.with_suffix("") for lock in locked if holder_of(lock) is not None}
    return sorted(path for path in found if path.is_file())
