"""Everything that can be asked of the window: one table, from which keys, menus, palette, tips and docs are made.

An action is enabled by its states and its pages alone. Who does the work connects to `triggered` of the action; the
window itself does only what belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject
from PySide6.QtGui import QAction, QKeySequence
from PySide6.QtWidgets import QWidget

from ..session.states import LIVE, BenchState

if TYPE_CHECKING:
    from ..session.session import Session

S = BenchState
ALL = frozenset(S)
OPEN = frozenset({S.READY})  # a bench is connected and nothing goes on
HAND = frozenset({S.READY, S.STARTING, S.RUNNING, S.PAUSED})  # reads and pulses by hand; the page says what is missing
LIVE_VIEWS = "bench characterise"
MODES = ("bench", "connect", "characterise", "runs", "lab", "settings")


@dataclass(frozen=True)
class Action:
    """One thing that can be asked for.

    `keys`: the key, as Qt writes it, "" if there is none. `states`: where it is possible. `page`: the modes in which
    it means something, words with a blank between; "" is all of them. `group`: its menu. `checkable`: it is on or off.
    """

    name: str
    text: str
    keys: str
    tip: str
    states: frozenset[BenchState] = ALL
    page: str = ""
    group: str = ""
    checkable: bool = False


# fmt: off
ACTIONS: tuple[Action, ...] = (
    Action("run", "Run", "F5", "Start what the Bench page shows, and record it in a new run file", OPEN, "", "Run"),
    Action("pause", "Pause", "F6", "Halt between two steps with the outputs off; again: go on",
           frozenset({S.RUNNING, S.PAUSING, S.PAUSED}), "", "Run"),
    Action("stop", "Stop", "Shift+F5", "End in order after the step under way",
           frozenset({S.RUNNING, S.PAUSING, S.PAUSED}), "", "Run"),
    Action("abort", "Abort", "Esc", "Outputs off now. A second press within 2 s ends the engine itself (hard off)",
           LIVE | {S.CONNECTING}, "", "Run"),
    Action("acknowledge", "Acknowledge fault", "Ctrl+Shift+F", "Leave the fault: its cause was read and the outputs "
           "are off", frozenset({S.FAULT}), "", "Run"),
    Action("preview", "Preview", "F7", "Say what a run would do: pulses, time, energy, volts. Fires nothing", ALL,
           "bench", "Run"),
    Action("queue", "Add to queue", "Ctrl+Return", "Put what the Bench page shows at the end of the queue", ALL,
           "bench", "Run"),
    Action("queue.start", "Start queue", "Ctrl+F5", "Run what waits in the queue, one after the other", OPEN, "",
           "Run"),
    Action("keep_running", "Let it go on headless", "Ctrl+Shift+K", "The run goes on when this window is closed or "
           "dies", LIVE - {S.ABORTING}, "", "Run"),
    Action("disconnect", "Disconnect the bench", "Ctrl+D", "Give the bench back; its outputs are off",
           frozenset({S.READY, S.FAULT, S.CONNECTING}), "", "Run"),

    Action("open", "Open a run...", "Ctrl+O", "Show a run file, also one that is being written", ALL, "", "File"),
    Action("export", "Export...", "Ctrl+E", "Write the run, or what the view shows, into a file", ALL,
           "bench characterise runs", "File"),
    Action("quit", "Close the window", "Ctrl+Q", "While a run goes on it asks: keep it running, or abort it", ALL, "",
           "File"),

    Action("mode.bench", "Bench", "Ctrl+1", "Choose, run and watch", ALL, "", "View"),
    Action("mode.connect", "Connect", "Ctrl+2", "Instruments, self-test, limits, the chip's passport", ALL, "", "View"),
    Action("mode.characterise", "Characterise", "Ctrl+3", "Read and pulse single cells by hand", ALL, "", "View"),
    Action("mode.runs", "Runs", "Ctrl+4", "All runs: filter, compare, export, run again", ALL, "", "View"),
    Action("mode.lab", "Emulator lab", "Ctrl+5", "Make an emulated chip from a measured curve", ALL, "", "View"),
    Action("mode.settings", "Settings", "Ctrl+6", "Theme, text size, what happens if the window dies, diagnostics",
           ALL, "", "View"),

    Action("select_all", "Select all cells", "Ctrl+A", "Select every cell of the array", ALL, LIVE_VIEWS, "Cells"),
    Action("read_selection", "Read the selection", "R", "Read the selected cells", HAND, "characterise", "Cells"),
    Action("pulse_up", "Pulse: potentiate", "+", "Fire the pulse that raises the conductance; needs Arm", HAND,
           "characterise", "Cells"),
    Action("pulse_down", "Pulse: depress", "-", "Fire the pulse that lowers the conductance; needs Arm", HAND,
           "characterise", "Cells"),
    Action("log", "Logarithmic colours", "L", "Colours of the crossbar on a logarithmic or a linear scale", ALL,
           LIVE_VIEWS, "Cells"),
    Action("unit.g", "Show conductance", "G", "Show G in siemens", ALL, LIVE_VIEWS, "Cells"),
    Action("unit.r", "Show resistance", "Shift+R", "Show R in ohms (R alone reads the selection)", ALL, LIVE_VIEWS,
           "Cells"),
    Action("unit.i", "Show current", "I", "Show the current at the read voltage", ALL, LIVE_VIEWS, "Cells"),
    Action("fit", "Fit to what there is", "F", "Scale the views to their data once", ALL, LIVE_VIEWS, "Cells"),
    Action("step.back", "Step back", "Alt+Left", "Show the run as it stood one step earlier", ALL, LIVE_VIEWS, "Cells"),
    Action("step.forward", "Step forward", "Alt+Right", "Show the run as it stood one step later", ALL, LIVE_VIEWS,
           "Cells"),
    Action("step.newest", "Newest step", "Alt+End", "Show the newest step again, and follow the run", ALL, LIVE_VIEWS,
           "Cells"),

    Action("palette", "Command palette", "Ctrl+K", "Find any command by a few letters", ALL, "", "View"),
    Action("side", "Side panel", "F9", "Show the panel at the left, or put it away: more room for the views", ALL,
           LIVE_VIEWS, "View", True),
    Action("reset_layout", "Reset layout", "Ctrl+Shift+R", "Bring the panels of this mode back to where they began",
           ALL, "", "View"),
    Action("theme.system", "Theme: as the desktop", "", "Dark or light, as the desktop is", ALL, "", "View", True),
    Action("theme.dark", "Theme: dark", "", "Light text on a dark ground", ALL, "", "View", True),
    Action("theme.light", "Theme: light", "", "Dark text on a light ground", ALL, "", "View", True),
    Action("text.larger", "Larger text", "Ctrl++", "Up to twice the size", ALL, "", "View"),
    Action("text.smaller", "Smaller text", "Ctrl+-", "Down to the system's size", ALL, "", "View"),

    Action("limits", "Limits of this chip", "Ctrl+L", "All limits, whose rule each is, and where it is changed", ALL,
           "", "Help"),
    Action("messages", "Messages", "Ctrl+M", "Everything that was said in this session, as text to copy", ALL, "",
           "Help"),
    Action("help", "Keys and help", "F1", "All keys, and what this mode is for", ALL, "", "Help"),
    Action("diagnostics", "Diagnostics", "", "Versions, platform and paths, as text to copy", ALL, "", "Help"),
    Action("about", "About neurobench", "", "Version and licence", ALL, "", "Help"),
)
# fmt: on

GROUPS = ("File", "Run", "Cells", "View", "Help")
SECTIONS = frozenset({  # these begin a section of their menu
    "acknowledge", "preview", "keep_running", "quit", "read_selection", "log", "step.back", "palette", "theme.system",
    "text.larger", "help", "diagnostics",
})  # fmt: skip
_WHY = {
    S.DISCONNECTED: "no bench is connected (Ctrl+2 connects one)",
    S.CONNECTING: "the bench is being connected",
    S.READY: "nothing is running",
    S.STARTING: "a run is starting",
    S.RUNNING: "a run goes on",
    S.PAUSING: "the run is about to pause",
    S.PAUSED: "the run is paused",
    S.STOPPING: "the run is ending",
    S.ABORTING: "the run is being aborted",
    S.FAULT: "there is a fault; acknowledge it first",
}


def possible(action: Action, state: BenchState, page: str = "") -> bool:
    """Whether an action may be asked for in a state, on a page ("": whatever the page)."""
    return state in action.states and (not page or not action.page or page in action.page.split())


def why_not(action: Action, state: BenchState) -> str:
    """Words for a command that was asked for in vain."""
    if action.name == "acknowledge" and state is not S.FAULT:
        return "there is no fault to acknowledge"
    if state not in action.states:
        return f"{action.text} is not possible now: {_WHY[state]}"
    return f"{action.text} belongs to {' or '.join(word.capitalize() for word in action.page.split())}: go there first"


class Actions(QObject):
    """A QAction for every row of the table, enabled as state and page allow."""

    def __init__(self, session: Session, window: QWidget) -> None:
        super().__init__(window)
        self._session = session
        self.page = MODES[0]
        self._by_name = {action.name: self._made(action, window) for action in ACTIONS}
        session.state_changed.connect(self.refresh)
        self.refresh()

    def _made(self, action: Action, window: QWidget) -> QAction:
        made = QAction(action.text, window)
        made.setObjectName(action.name)
        # Esc is heard by the program as a whole, from pop-ups and dialogs too (see escape.EscapeKey).
        if action.keys and action.name != "abort":
            made.setShortcut(QKeySequence(action.keys))
        key = f" ({action.keys})" if action.keys else ""
        made.setToolTip(f"{action.tip}{key}")
        made.setStatusTip(action.tip)
        made.setCheckable(action.checkable)
        window.addAction(made)
        return made

    def by_name(self, name: str) -> QAction:
        """The QAction of that name; KeyError if the table has none."""
        return self._by_name[name]

    def __iter__(self) -> Iterator[tuple[Action, QAction]]:
        return ((action, self._by_name[action.name]) for action in ACTIONS)

    def show_page(self, page: str) -> None:
        """Another page is shown: what belongs to others is disabled."""
        self.page = page
        self.refresh()

    def refresh(self) -> None:
        """Enable what state and page allow."""
        state = self._session.state
        for action, made in self:
            made.setEnabled(possible(action, state, self.page))
        paused = state in (S.PAUSED, S.PAUSING)
        self.by_name("pause").setText("Resume" if paused else "Pause")

    def explain(self, keys: QKeySequence) -> str:
        """Why nothing happened when these keys were pressed; "" if they mean nothing, or something did."""
        for action, made in self:
            if not made.isEnabled() and action.keys and QKeySequence(action.keys) == keys:
                elsewhere = self._session.elsewhere if action.name in ("pause", "stop", "abort") else ""
                return f"{action.text}: {elsewhere}" if elsewhere else why_not(action, self._session.state)
        return ""


def keys_table() -> str:
    """The table of keys as Markdown, for docs/window.md."""
    rows = [f"| {a.text} | {f'`{a.keys}`' if a.keys else ''} | {a.tip} |" for a in ACTIONS]
    return "\n".join(["| What | Key | |", "|---|---|---|", *rows])
