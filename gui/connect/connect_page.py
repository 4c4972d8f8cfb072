"""The Connect page: which bench, who is on it, is it well, what its chip bears; and the word that lets runs start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PySide6.QtWidgets import (
    QGroupBox,
    QHBoxLayout,
    QListWidgetItem,
    QProgressBar,
    QPushButton,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from neurobench.bench.config import BenchConfig, load_bench
from neurobench.errors import NeurobenchError
from neurobench.system import replace_file

from .. import theme
from ..parts.files import Wanted, ask_path
from ..session.states import LIVE, BenchState
from . import bench_text
from .asking import Asking
from .bench_list import BenchList, remember
from .bench_words import Chip, Line, check_lines, chip_of, is_real
from .columns import Columns
from .connect_parts import (
    BenchFileTab,
    ChipPanel,
    InstrumentsTab,
    LimitsPanel,
    LinesView,
    button,
    look,
    named,
    sentence,
)

if TYPE_CHECKING:
    from ..frame.actions import Actions
    from ..selection import Selection
    from ..session.session import Session
    from ..views.base import View

NOT_CONNECTED = (BenchState.CONNECTING, BenchState.DISCONNECTED)
TOML = "Bench files (*.toml)"


class ConnectPage(QWidget):
    """See the module. The bench that is chosen here need not be the one that is connected; both are said."""

    def __init__(
        self, session: Session, _actions: Actions, _selection: Selection | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        self.session = session
        self.views: tuple[View, ...] = ()
        self.left: QWidget | None = None
        self.bench = "emulator"
        self._drafts: dict[str, str] = {}
        self._checked: dict[str, dict[str, Any]] = {}
        self._asking = Asking(session, self)
        self._config: BenchConfig | None = None
        self._chip = Chip(())
        self._build()
        session.state_changed.connect(self._refresh)
        session.bench_changed.connect(self._bench_changed)
        session.said.connect(self._heard)
        self.choose(session.bench_name or self.bench)

    # -- how it is built ----------------------------------------------------------------------------------------

    def _build(self) -> None:
        self._build_list()
        self.self_test = LinesView("self-test", "What the check found, part by part. Ctrl+C copies")
        self.instruments, self.file = InstrumentsTab(), BenchFileTab()
        self.limits, self.chip = LimitsPanel(), ChipPanel()
        self.tabs = named(QTabWidget(), "about this bench", "What is known of the chosen bench")
        self.tabs.tabBar().setAccessibleName("about this bench")
        for widget, title, tip in (
            (self.self_test, "Self-test", "Who and what is on the bench, and is it well"),
            (self.instruments, "Instruments", "Everything that answers on this computer"),
            (self.file, "Bench file", "The bench as text"),
            (self.file.wiring, "Wiring", "Which line is on which column of the switch matrix"),
        ):
            self.tabs.setTabToolTip(self.tabs.addTab(widget, title), tip)
        self.columns = Columns(self._left(), self.tabs, self._right())
        layout = QVBoxLayout(self)
        layout.addWidget(self.columns)
        self._wire_up()
        self._fit()

    def _build_list(self) -> None:
        self.benches = named(BenchList(), "benches", "Benches that are built in, and bench files that were opened")
        self.open_button = button("&Open bench file...", "Choose a bench.toml of your own")
        self.connect_button = button("&Connect", "Take this bench: it is checked first; nothing is fired", "primary")
        self.disconnect_button = button("&Disconnect", "Let go of the bench that is connected")
        self.test_button = button("Self-&test", "Ask who is there, read the reference cell, leave the bench at rest. "
                                  "Fires nothing")  # fmt: skip
        self.rest_button = button("Bring to &rest", "Outputs to 0 V, lines as the bench file says")
        self.cancel_button = button("Ca&ncel", "Give up what is going on; the bench is left in order")
        self.busy = named(QProgressBar(), "at work", "Something is being asked of the bench")
        self.busy.setRange(0, 0)
        self.busy.setTextVisible(False)
        self.words = sentence()
        self.words.setAccessibleName("what came of it")
        self.now = sentence("heading")

    def _left(self) -> QWidget:
        panel = QWidget()
        layout = QVBoxLayout(panel)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.benches, 1)
        layout.addWidget(self.open_button)
        layout.addWidget(self.now)
        for one in (self.connect_button, self.disconnect_button, self.test_button, self.rest_button):
            layout.addWidget(one)
        row = QHBoxLayout()
        row.addWidget(self.busy, 1)
        row.addWidget(self.cancel_button)
        layout.addLayout(row)
        layout.addWidget(self.words)
        return panel

    def _right(self) -> QWidget:
        panel = QWidget()
        layout = QVBoxLayout(panel)
        layout.setContentsMargins(0, 0, 0, 0)
        for title, widget, share in (("Limits of this chip", self.limits, 5), ("Passport of this chip", self.chip, 3)):
            box = QGroupBox(title)
            inside = QVBoxLayout(box)
            inside.addWidget(widget)
            layout.addWidget(box, share)
        return panel

    def _wire_up(self) -> None:
        self.benches.chosen.connect(self._chosen)
        self._asking.said.connect(self._say)
        self._asking.changed.connect(self._refresh)
        self.benches.itemActivated.connect(self._activated)
        self.open_button.clicked.connect(self._ask_for_file)
        self.connect_button.clicked.connect(self.connect_bench)
        self.disconnect_button.clicked.connect(self.session.disconnect_bench)
        self.test_button.clicked.connect(self.run_self_test)
        self.rest_button.clicked.connect(self.bring_to_rest)
        self.cancel_button.clicked.connect(self.cancel)
        self.instruments.search.connect(self.search)
        self.instruments.write.connect(self._ask_where_to_write)
        self.file.edited.connect(self._edited)
        self.file.save.connect(self.save)
        self.file.save_as.connect(self._ask_save_as)
        self.file.revert.connect(self.revert)
        self.limits.confirm.connect(self.session.confirm_limits)
        self.limits.change.connect(self._show_limits_in_file)
        self.chip.settle.connect(self.settle)

    # -- which bench --------------------------------------------------------------------------------------------

    def choose(self, bench: str) -> None:
        """Show a bench by name or file; a file that is new here is added to the list."""
        self.benches.choose(bench)
        self._show(bench)

    def _chosen(self, bench: str) -> None:
        if bench != self.bench:
            self._show(bench)

    def _activated(self, _item: QListWidgetItem) -> None:
        if self.connect_button.isEnabled():
            self.connect_bench()

    def _show(self, bench: str) -> None:
        self.bench = bench
        self._say("", "")
        try:
            text = self._drafts.get(bench) or bench_text.text_of(bench)
        except (OSError, UnicodeDecodeError) as error:
            text = ""
            self._say(f"cannot read {bench}: {error}", "bad")
        self.file.show_text(text, Path(bench).name)
        self._read()

    def _read(self) -> None:
        """Take in the bench as it is saved: what is connected, run and confirmed is never a draft."""
        try:
            self._config = load_bench(self.bench, self._settings())
        except (NeurobenchError, OSError) as error:
            self._config = None
            said = (
                str(error) if self.file.config is not None else f"{Path(self.bench).name} has mistakes: see Bench file"
            )
            self._say(f"✕ {said}", "bad")
        self._chip = Chip(()) if self._config is None else chip_of(self._config)
        self._refresh()

    def _settings(self) -> dict[str, Any]:
        """Settings that were laid over this bench when it was connected, for a chip of another size say."""
        return self.session.bench_settings if self.bench == self.session.bench_name else {}

    def _ask_for_file(self) -> None:
        self._ask_path("Open a bench file", "", self.open_file)

    def _ask_path(self, title: str, new_name: str, then: Callable[[Path], object]) -> None:
        """Ask for a file, a new one if it has a name."""
        wanted: Wanted = "new file" if new_name else "file"
        ask_path(self, title, then, wanted=wanted, name=new_name, filters=TOML)

    def open_file(self, path: Path) -> None:
        """Choose a bench file, and remember it."""
        bench = str(path.absolute())
        remember(bench)
        self.choose(bench)

    # -- connect, check, rest -----------------------------------------------------------------------------------

    def connect_bench(self) -> None:
        """Take the bench that is chosen."""
        if self.bench in self._drafts:
            self._say(f"{Path(self.bench).name} is changed and not saved: save it, or revert it, then connect", "warn")
            self.tabs.setCurrentWidget(self.file)
            return
        self._say("", "")
        self.session.connect_bench(self.bench, self._settings())

    def run_self_test(self) -> None:
        """Check the bench that is chosen, connected or not."""
        bench = self.bench
        self.tabs.setCurrentWidget(self.self_test)
        words = ["check", bench, *self._overrides()]
        self._asking.ask("checking " + Path(bench).name, words, lambda found: self._tested(bench, found))

    def _tested(self, bench: str, found: dict[str, Any]) -> None:
        self._checked[bench] = found
        if found["exit_code"]:
            self._say("the self-test found a fault, see its lines", "bad")
        else:
            self._say("the self-test passed", "ok")
        self._refresh()

    def bring_to_rest(self) -> None:
        """Bring the bench that is chosen to rest."""
        self._asking.ask("bringing to rest", ["rest", self.bench, *self._overrides()],
                    lambda found: self._asking.plain_end(found, f"{Path(self.bench).name} is at rest"))  # fmt: skip

    def search(self) -> None:
        """Ask who answers: on the simulated benches if one of them is chosen, else on this computer."""
        simulated = self._config is not None and not is_real(self._config) and self._config.bench.backend != "emulator"
        where = f"the simulated bench {self.bench}" if simulated else "this computer"
        words = ["check", "--list", *([self.bench] if simulated else [])]
        self.tabs.setCurrentWidget(self.instruments)
        self._asking.ask(f"asking on {where}", words, lambda found: self._found(found, where))

    def _found(self, found: dict[str, Any], where: str) -> None:
        if "found" not in found:
            self._asking.plain_end(found, "")
            return
        self.instruments.show_found(found["found"], where)
        self._say("", "")

    def _ask_where_to_write(self) -> None:
        self._ask_path("Write a bench file from what answers", "bench.toml", self.write_new)

    def write_new(self, path: Path) -> None:
        """Have a bench file written from what answers, and choose it."""
        words = ["bench", "new", "--out", str(path)]
        if library := self.instruments.library.text().strip():
            words += ["--library", library]

        def written(found: dict[str, Any]) -> None:
            self._asking.plain_end(found, f"{path.name} is written; fill in what is marked TODO")
            if found["exit_code"] == 0:
                self.open_file(path)
                self.tabs.setCurrentWidget(self.file)

        self._asking.ask("asking who answers", words, written)

    def settle(self) -> None:
        """Settle the run that used the chip last and did not end."""
        run = self._chip.unsettled_run

        def settled(found: dict[str, Any]) -> None:
            outcome, chip = found.get("outcome"), found.get("chip")
            self._asking.plain_end(found, f"settled: the pulse under way is {outcome}; the chip is {chip}")
            self._read()

        self._asking.ask("settling " + Path(run).name, ["settle", run], settled)

    def _overrides(self) -> list[str]:
        words: list[str] = []
        for key, value in self._settings().items():
            words += ["--bench-set", f"{key}={value}"]
        return words

    def cancel(self) -> None:
        """Give up the job that is going on, or connecting."""
        if not self._asking.cancel() and self.session.state is BenchState.CONNECTING:
            self.session.disconnect_bench()
            self._say("cancelled", "warn")
        self._refresh()

    # -- the bench file -----------------------------------------------------------------------------------------

    def _edited(self) -> None:
        try:
            same = self.file.text() == bench_text.text_of(self.bench)
        except (OSError, UnicodeDecodeError):
            same = False
        if same:
            self._drafts.pop(self.bench, None)
        else:
            self._drafts[self.bench] = self.file.text()
        self._refresh()

    def save(self) -> None:
        """Write the text into its file. A bench that is connected is connected anew: its limits may be others now."""
        if bench_text.is_builtin(self.bench):
            self._say("a built-in bench is not changed: save it as a file of your own", "warn")
            return
        self._write(Path(self.bench))

    def _ask_save_as(self) -> None:
        self._ask_path("Save the bench file as", f"my-{Path(self.bench).stem}.toml", self.save_as)

    def save_as(self, path: Path) -> None:
        """Write the text into another file, and choose that bench."""
        if self._write(path):
            self._drafts.pop(self.bench, None)
            self.open_file(path)
            self._say(f"saved as {path}", "ok")

    def _write(self, path: Path) -> bool:
        if self.session.state in LIVE and str(path) == self.session.bench_name:
            self._say("a run is going on with this bench file: it is not changed under it", "warn")
            return False
        try:
            replace_file(path, self.file.text().encode())
        except OSError as error:
            self._say(f"cannot write {path}: {error}; the text is still here", "bad")
            return False
        self._drafts.pop(str(path), None)
        self.benches.read_anew(str(path))
        self.file.check()
        valid = self.file.config is not None
        self._say(f"{path.name} is saved" + ("" if valid else ", with its mistakes"), "ok" if valid else "warn")
        if str(path) == self.session.bench_name and self.session.bench is not None:
            self.session.connect_bench(self.session.bench_name, self.session.bench_settings)
        self._read()
        return True

    def revert(self) -> None:
        """Take back what is not saved."""
        self._drafts.pop(self.bench, None)
        self._show(self.bench)

    def _show_limits_in_file(self) -> None:
        self.tabs.setCurrentWidget(self.file)
        self.file.editor.go_to(bench_text.line_of(self.file.text(), "limits"))
        self.file.editor.setFocus()

    # -- what is seen -------------------------------------------------------------------------------------------

    def _bench_changed(self) -> None:
        if self.session.bench is not None and self.session.checked is not None:
            self._checked[self.session.bench_name] = self.session.checked
        if self.session.bench is not None and self.session.bench_name == self.bench:
            self._read()
        self._refresh()

    def _heard(self, level: str, words: str) -> None:
        if level in ("error", "warning") and self.isVisible():
            self._say(words, "bad" if level == "error" else "warn")

    def _say(self, words: str, role: str) -> None:
        look(self.words, role)
        self.words.setText(words)

    def _refresh(self) -> None:
        self.benches.label(self.session.bench_name if self._connected else "", self._drafts)
        self._show_found()
        self.limits.show_limits(self._config, self.bench, self._settings())
        self._show_confirmed()
        self.chip.lines.show_lines(self._chip.lines)
        self.chip.settle_button.setVisible(bool(self._chip.unsettled_run))
        self._enable()

    def _show_found(self) -> None:
        found = self._checked.get(self.bench)
        none = [Line("plain", "not tested", "press Self-test: it asks who is there and fires nothing")]
        self.self_test.show_lines(none if found is None else check_lines(found))

    def _show_confirmed(self) -> None:
        session, config = self.session, self._config
        words, role, may = "! Connect first; then confirm these limits. Nothing fires before.", "warn", False
        if config is not None and not is_real(config):
            words, role = "SIMULATED: no chip can be harmed, so nothing has to be confirmed.", "simulated"
        elif self._here and session.confirmed:
            words, role = f"✓ Confirmed for chip {session.chip_id}, until it is disconnected.", "ok"
        elif self._here:
            name = session.chip_id or "it has none: say it in [chip] id, and save"
            words, may = f"! Not confirmed. Nothing fires before you type the id of the chip: {name}", True
        self.limits.show_confirmed(words, role, may)

    @property
    def _here(self) -> bool:
        """Whether the bench that is chosen is the one that is connected."""
        return self._connected and self.session.bench_name == self.bench

    @property
    def _connected(self) -> bool:
        return self.session.bench is not None and self.session.state not in NOT_CONNECTED

    def _enable(self) -> None:
        session, working = self.session, self._asking.working
        live, connecting = session.state in LIVE, session.state is BenchState.CONNECTING
        why = "a run is going on" if live else "a bench is being connected" if connecting else ""
        fault = "acknowledge the fault first" if session.state is BenchState.FAULT else ""
        bad = "the bench file has mistakes" if self._config is None else ""
        asked = "something is being asked already" if working else ""
        _allow(self.connect_button, why or fault or bad or asked)
        free = "" if self._connected else "no bench is connected"
        _allow(self.disconnect_button, "a run is going on" if live else free)
        for one in (self.test_button, self.rest_button):
            _allow(one, why or bad or asked)
        for one in (self.instruments.ask, self.instruments.make, self.chip.settle_button):
            _allow(one, why or asked)
        self.busy.setVisible(working or connecting)
        self.cancel_button.setVisible(working or connecting)
        self.connect_button.setText("&Connect again" if self._here else "&Connect")
        self.now.setText(self._now_words())
        unchanged = "" if self.bench in self._drafts else "nothing is changed"
        builtin = "a built-in bench is not changed, use Save as" if bench_text.is_builtin(self.bench) else ""
        _allow(self.file.save_button, builtin or unchanged)
        _allow(self.file.revert_button, unchanged)

    def _now_words(self) -> str:
        session = self.session
        if session.bench is None or not (self._connected or session.state is BenchState.CONNECTING):
            return "No bench is connected"
        return f"{'Connected:' if self._connected else 'Connecting'} {session.bench.bench.name}"

    def _fit(self) -> None:
        self.file.editor.setMinimumHeight(6 * theme.em())
        self.columns.lay_out()

    def restyle(self) -> None:
        """Colours and font of now."""
        self.self_test.restyle()
        self.chip.lines.restyle()
        self.file.editor.restyle()
        for part in (self.instruments, self.file, self.file.wiring):
            if (inside := part.layout()) is not None:
                inside.invalidate()  # a page that is not seen would keep the room that another font took
        self._fit()
        self._refresh()


def _allow(one: QPushButton, why_not: str) -> None:
    """Enable a button, or say in its tip why it is not."""
    tip = one.property("tip")
    if tip is None:
        tip = one.toolTip()
        one.setProperty("tip", tip)
    one.setEnabled(not why_not)
    one.setToolTip(f"Not now: {why_not}. {tip}" if why_not else str(tip))
