"""The next run as a form: bench, chip, protocol, its settings, and the seed. It asks for runs; it starts none."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from pydantic import BaseModel, Field, create_model
from PySide6.QtCore import QEvent, QObject, QSize, Qt, Signal
from PySide6.QtGui import QResizeEvent
from PySide6.QtWidgets import (
    QComboBox,
    QCompleter,
    QFrame,
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from neurobench import registry
from neurobench.bench.config import SIMULATED_BACKENDS, ChipSection, load_bench
from neurobench.errors import NeurobenchError, UnknownName, unknown
from neurobench.physics.library import names as device_names
from neurobench.runs.library import catalogue
from neurobench.runs.request import Request, protocol_class

from .. import theme
from ..parts.aside import Aside
from ..parts.fields import shown
from ..parts.files import ask_path
from ..parts.forms import Form, NumberBox, choices
from .remembered import FIRST_SIZE, Remembered, first_settings, is_first, why_first

if TYPE_CHECKING:
    from neurobench.bench.steps import Protocol

    from ..selection import Selection

FROM_FILE = "Choose a file..."
CHIP_FIELDS = ("rows", "cols", "model", "curve", "stuck_fraction", "seed")
SEEDS = 2**31
CONFIRMATION = "confirm_chip_id"  # of protocols that may destroy cells; never filled in by a program
LEAST_EM = 9  # height in which a form can still be used


def chip_model() -> type[BaseModel]:
    """A few fields of [chip], each of which may be left as bench file and protocol have it."""
    made: dict[str, Any] = {}
    for name in CHIP_FIELDS:
        info = ChipSection.model_fields[name]
        said = (info.description or "").split(";")[0]
        bounds = {key: value for mark in info.metadata for key in ("ge", "gt", "le", "lt")
                  if (value := getattr(mark, key, None)) is not None}  # fmt: skip
        kept = "that of the run" if name == "seed" else "unchanged"
        names = device_names() if name == "model" else None
        asked = Field(None, description=f"{said}; none: {kept}", examples=names, **bounds)
        made[name] = (Optional[info.annotation], asked)  # noqa: UP045 - made at run time
    return create_model("Chip", **made)


class TallArea(QScrollArea):
    """Scrolls up and down only: it is as wide as what it holds, so that nothing is cut off at the right.

    Where what is around it scrolls, it does not: `show_whole` makes it as high as what it holds.
    """

    def __init__(self, inside: QWidget) -> None:
        super().__init__()
        self._whole = False
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._inside = inside
        self.setWidget(inside)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """What it holds has become wider or narrower."""
        if watched is self._inside and event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Another width: its words take more or fewer lines."""
        super().resizeEvent(event)
        if self._whole and event.size().width() != event.oldSize().width():
            self.updateGeometry()

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """As wide as its widget has to be, with the bar beside it."""
        width = self._inside.minimumSizeHint().width() + self.verticalScrollBar().sizeHint().width()
        return QSize(width, self._whole_height if self._whole else LEAST_EM * theme.em())

    @property
    def _whole_height(self) -> int:
        """Of what it holds, whose words may take more lines than they would like."""
        layout = self._inside.layout()
        wrapped = layout.totalHeightForWidth(self.viewport().width()) if layout is not None else 0
        return max(self._inside.sizeHint().height(), wrapped)

    def show_whole(self, on: bool) -> None:
        """Show all of it, or scroll."""
        if on != self._whole:
            self._whole = on
            policy = Qt.ScrollBarPolicy.ScrollBarAlwaysOff if on else Qt.ScrollBarPolicy.ScrollBarAsNeeded
            self.setVerticalScrollBarPolicy(policy)
            self.updateGeometry()

    def sizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Neither wider."""
        return QSize(self.minimumSizeHint().width(), super().sizeHint().height())


class RunPanel(QWidget):
    """changed: it asks for something else now. said(level, words): what could not be done, and why.

    bench_chosen(str): the user, not a program, chose a bench.
    """

    changed = Signal()
    said = Signal(str, str)
    bench_chosen = Signal(str)

    def __init__(self, selection: Selection | None, kept: Remembered, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._selection, self._kept = selection, kept
        self._beyond: dict[str, Any] = {}
        self._size = FIRST_SIZE
        self._classes: dict[str, type[Protocol]] = {}
        self._chosen = kept.bench
        self._aside = Aside("protocols", self)
        self._plugins = registry.find("protocols")
        self.form: Form | None = None
        self.protocol = ""
        self._build()
        self._choose_bench(kept.bench)
        self.chip.set_values({name: value for name, value in kept.chip.items() if name in self.chip.rows})
        self.seed.setText(str(kept.seed))
        self.choose_protocol(kept.protocol if kept.protocol in self._plugins else next(iter(self._plugins)))

    # -- making it ----------------------------------------------------------------------------------------------

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(6)
        inside = QWidget()
        self._column = QVBoxLayout(inside)
        self._column.setContentsMargins(8, 6, 8, 6)
        self._column.setSpacing(6)
        self.chip_button = QToolButton()
        self._column.addLayout(self._head())
        self._build_chip()
        self._place = QVBoxLayout()
        self._column.addLayout(self._place)
        self._column.addStretch(1)
        area = TallArea(inside)
        area.setAccessibleName("Settings of the next run")
        column.addWidget(area, 1)
        self.area = area
        column.addLayout(self._seed_row())

    def _head(self) -> QGridLayout:
        grid = QGridLayout()
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(1, 1)
        self.benches = choices(())
        self.benches.setAccessibleName("Bench")
        self.benches.setToolTip("Where the next run takes place; what runs already is not touched")
        self.benches.activated.connect(self._bench_activated)
        self.protocols = self._protocol_combo()
        self.about_bench, self.about = QLabel(), QLabel()
        for label in (self.about_bench, self.about):
            label.setProperty("role", "dim")
            label.setWordWrap(True)
        for row, (name, control) in enumerate((("Bench", self.benches), ("Protocol", self.protocols))):
            label = QLabel(name)
            label.setBuddy(control)
            grid.addWidget(label, 2 * row, 0)
            grid.addWidget(control, 2 * row, 1, 1, 1 if control is self.benches else 2)
            grid.addWidget((self.about_bench, self.about)[row], 2 * row + 1, 0, 1, 3)
        grid.addWidget(self.chip_button, 0, 2)
        return grid

    def _protocol_combo(self) -> QComboBox:
        combo = choices(tuple(self._plugins))
        combo.setEditable(True)
        combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        combo.setAccessibleName("Protocol")
        combo.setToolTip("What is done: type a few letters of its name, or open the list")
        for at, plugin in enumerate(self._plugins.values()):
            combo.setItemData(at, plugin.error or plugin.summary, Qt.ItemDataRole.ToolTipRole)
        completer = QCompleter(combo.model(), combo)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        completer.setCaseSensitivity(Qt.CaseSensitivity.CaseInsensitive)
        combo.setCompleter(completer)
        combo.activated.connect(self._protocol_activated)
        line = combo.lineEdit()
        assert line is not None
        line.editingFinished.connect(self._protocol_typed)
        return combo

    def _build_chip(self) -> None:
        self.chip_button.setText("Chip")
        self.chip_button.setAccessibleName("Settings of the emulated chip")
        self.chip_button.setCheckable(True)
        self.chip_button.setToolTip("Size and devices of the emulated chip, where they are to differ")
        self.chip_button.toggled.connect(self._show_chip)
        self.chip = Form(chip_model(), "chip", small=True)
        self.chip.changed.connect(self._chip_changed)
        self.chip_box = QGroupBox("Emulated chip")
        QVBoxLayout(self.chip_box).addWidget(self.chip)
        self.chip_box.hide()
        self._column.addWidget(self.chip_box)

    def _seed_row(self) -> QHBoxLayout:
        row = QHBoxLayout()
        row.setContentsMargins(8, 0, 8, 0)
        label = QLabel("Seed")
        self.seed = NumberBox(integer=True, low=0)
        self.seed.setAccessibleName("Seed")
        self.seed.setToolTip("Seed of the run, and of an emulated chip: the same seed gives the same run")
        self.seed.textChanged.connect(self._tell)
        label.setBuddy(self.seed)
        dice = QToolButton()
        dice.setText("New")
        dice.setAccessibleName("New seed")
        dice.setToolTip("Draw another seed")
        dice.clicked.connect(self._new_seed)
        for widget, stretch in ((label, 0), (self.seed, 1), (dice, 0)):
            row.addWidget(widget, stretch)
        return row

    # -- what it asks for ---------------------------------------------------------------------------------------

    @property
    def bench(self) -> str:
        """Name or file of the bench that is chosen."""
        return self._chosen

    @property
    def bench_settings(self) -> dict[str, Any]:
        """What is said of the bench besides its file; of a chip that is not made for the run nothing in this form."""
        said = {f"chip.{name}": value for name, value in self.chip.values().items()} if self._emulated else {}
        return {**self._beyond, **said}

    def settings(self) -> dict[str, Any]:
        """What is said of the protocol."""
        return dict(self._kept.settings.get(self.protocol, {})) if self.form is None else self.form.values()

    def scheme(self) -> Any:
        """The pulse scheme in the form, as it is asked for; None where the protocol has none."""
        tables = [] if self.form is None else [row for row in self.form.rows.values() if row.spec.kind == "table"]
        return tables[0].value() if tables else None

    def problems(self) -> list[str]:
        """Why this cannot be run, in the words of the command line; [] if it can."""
        seed = self.seed.number()
        words = [] if self.form is None else self.form.problems()
        if self._emulated:
            words += self.chip.problems()
        if seed is None or seed < 0:
            words.append(f"seed = {self.seed.text()!r}: a seed is a whole number from 0 on")
        return words

    def request(self) -> Request | None:
        """The run that is asked for; None if it makes no sense (see `problems`)."""
        if self.problems():
            return None
        seed = self.seed.number()
        return Request(self.protocol, self.bench, self.settings(), self.bench_settings, int(seed or 0))

    def show_request(self, request: Request) -> bool:
        """Bring a request into the form, as it was asked; False where it cannot be shown, and it says why."""
        try:
            if request.protocol not in self._plugins:
                raise UnknownName(unknown("protocol", request.protocol, self._plugins))
            load_bench(request.bench)
            self._keep_values()
            said = request.settings.items()
            self._kept.settings[request.protocol] = {key: value for key, value in said if key != CONFIRMATION}
            self._choose_bench(request.bench)
            self._show_bench_settings(request.bench_settings)
            self.seed.setText(str(request.seed))
            self.protocol = ""
            self.choose_protocol(request.protocol)
        except (NeurobenchError, OSError) as error:
            self.said.emit("error", str(error))
            return False
        return True

    def _show_bench_settings(self, settings: Mapping[str, Any]) -> None:
        """The chip's values in its form; what has no place there stays as it is."""
        names = {f"chip.{name}": name for name in self.chip.rows} if self._emulated else {}
        known = {names[key]: value for key, value in settings.items() if key in names}
        self._beyond = {key: value for key, value in settings.items() if key not in names}
        self.chip.set_values(known)
        self._say_bench()

    def remember(self) -> Remembered:
        """What is to be kept until the next time."""
        self._keep_values()
        kept = self._kept
        kept.protocol, kept.bench, kept.seed = self.protocol, self.bench, int(self.seed.number() or 0)
        kept.chip = self.chip.values()
        return kept

    def _keep_values(self) -> None:
        if self.form is not None:
            values = self.form.values()
            self._kept.settings[self.protocol] = {key: values[key] for key in values if key != CONFIRMATION}

    def forget_confirmation(self) -> None:
        """The chip's id is typed for each run anew: it was asked for so that somebody looks before every ramp."""
        if self.form is not None and CONFIRMATION in self.form.rows:
            self.form.rows[CONFIRMATION].go_back()

    # -- protocol -----------------------------------------------------------------------------------------------

    def choose_protocol(self, name: str) -> None:
        """Show the form of a protocol, with what was set for it before; its code is read in a thread."""
        if name == self.protocol:
            return
        self._keep_values()
        self._take_form(None)
        self.protocol = name
        self.protocols.setCurrentText(name)
        self._say_protocol()
        if name in self._classes:
            self._have(name, self._classes[name])
        else:
            self._aside.ask(lambda: protocol_class(name), lambda kind: self._have(name, kind), self._cannot)
        self.changed.emit()

    def _have(self, name: str, kind: type[Protocol]) -> None:
        self._classes[name] = kind
        if name != self.protocol:
            return
        form = Form(kind, name)
        try:
            form.set_values(self._kept.settings.get(name, {}))
        except NeurobenchError as error:  # it has other parameters than when they were kept
            self.said.emit("warning", f"{error}; the defaults are shown")
        self._offer_selection(form)
        self._take_form(form)
        self._say_protocol()
        self.changed.emit()

    def _say_protocol(self) -> None:
        if not self.protocol:
            return
        plugin = self._plugins[self.protocol]
        first = why_first(self.protocol, self.backend, self.settings())
        self.about.setText(plugin.error or "\n".join(filter(None, (plugin.summary, first))))

    def _suit_first(self) -> None:
        """What was set for a newcomer is set for the bench that is chosen now; what somebody has set stays."""
        if not self.protocol or not is_first(self.protocol, self.settings()):
            return
        if self.form is None:
            self._kept.settings[self.protocol] = first_settings(self.backend, self._size)
        else:
            self.form.set_values(first_settings(self.backend, self._size))

    def _cannot(self, words: str) -> None:
        self.about.setText(f"▲ {words}")
        self.said.emit("error", words)

    def _take_form(self, form: Form | None) -> None:
        if self.form is not None:
            self._place.removeWidget(self.form)
            self.form.setParent(None)
            self.form.deleteLater()
        self.form = form
        if form is not None:
            form.changed.connect(self._tell)
            self._place.addWidget(form)
            self._column.activate()  # its height is known before the first picture of it
        self.area.updateGeometry()

    def _offer_selection(self, form: Form) -> None:
        """A field for cells can take those that are selected on the map."""
        row = form.rows.get("cells")
        layout = None if row is None else row.editor.layout()
        if layout is None or self._selection is None:
            return
        take = QToolButton()
        take.setText("From map")
        take.setAccessibleName("Take the cells that are selected on the map")
        take.setToolTip("Take the cells that are selected on the map")
        take.clicked.connect(self._take_selection)
        layout.addWidget(take)

    def _take_selection(self) -> None:
        if self.form is None or self._selection is None:
            return
        cells = tuple(self._selection.cells)
        if not cells:
            self.said.emit("warning", "no cell is selected on the map: click one, or drag over several")
            return
        self.form.rows["cells"].editor.put(cells)

    def _protocol_activated(self, at: int) -> None:
        self.choose_protocol(self.protocols.itemText(at))

    def _protocol_typed(self) -> None:
        typed = self.protocols.currentText().strip()
        fitting = [typed] if typed in self._plugins else [name for name in self._plugins if typed.lower() in name]
        if len(fitting) == 1 and typed:
            self.choose_protocol(fitting[0])
        else:
            self.said.emit("warning", unknown("protocol", typed, self._plugins))
        self.protocols.setCurrentText(self.protocol)

    # -- bench --------------------------------------------------------------------------------------------------

    def _fill_benches(self) -> None:
        self.benches.clear()
        for one in catalogue("benches"):
            self.benches.addItem(one["name"], one["name"])
            self.benches.setItemData(self.benches.count() - 1, one["summary"], Qt.ItemDataRole.ToolTipRole)
        for file in self._kept.benches:
            self.benches.addItem(Path(file).stem, file)
            self.benches.setItemData(self.benches.count() - 1, file, Qt.ItemDataRole.ToolTipRole)
        self.benches.insertSeparator(self.benches.count())
        self.benches.addItem(FROM_FILE)

    def _choose_bench(self, bench: str) -> None:
        """Show a bench by name or file, and what it is; one that cannot be read gives way to the emulator."""
        wanted = {"chip.rows": FIRST_SIZE[0], "chip.cols": FIRST_SIZE[1]}  # unless its file says another size
        try:
            config = load_bench(bench, None, wanted)
        except (NeurobenchError, OSError) as error:
            self.said.emit("error", str(error))
            bench, config = "emulator", load_bench("emulator", None, wanted)
        if bench.endswith(".toml") and bench not in self._kept.benches:
            self._kept.benches = [bench, *self._kept.benches][:8]
        self._chosen = bench
        self._fill_benches()
        self.benches.setCurrentIndex(max(self.benches.findData(bench), 0))
        self.backend, self._limit_v = config.bench.backend, config.limits.max_cell_v
        self._emulated = self.backend in SIMULATED_BACKENDS
        self._size = config.chip.rows, config.chip.cols
        self._beyond = {}
        self._say_bench()
        self.chip_button.setVisible(self._emulated)
        self.chip_box.setVisible(self._emulated and self.chip_button.isChecked())

    def _say_bench(self) -> None:
        what = "SIMULATED" if self._emulated else "a real bench"
        besides = ", ".join(f"{key}={shown(value)}" for key, value in self._beyond.items())
        words = f"{what}, {self.backend}; up to {self._limit_v:g} V at a cell"
        self.about_bench.setText(words + (f"; with {besides}" if besides else ""))
        self.about_bench.setProperty("role", "simulated" if self._emulated else "dim")
        self.about_bench.style().polish(self.about_bench)

    def show_bench(self, bench: str, settings: Mapping[str, Any]) -> None:
        """The window has connected this bench, so."""
        if bench != self.bench:
            self._choose_bench(bench)
            self._suit_first()
        if dict(settings) != self.bench_settings:
            self._show_bench_settings(settings)
        self._say_protocol()
        self.changed.emit()

    def _bench_activated(self, at: int) -> None:
        if self.benches.itemText(at) == FROM_FILE:
            ask_path(self, "Choose a bench file", lambda path: self.choose_bench(str(path)),
                     filters="Bench files (*.toml)", otherwise=lambda: self.choose_bench(self._chosen))  # fmt: skip
        else:
            self.choose_bench(str(self.benches.itemData(at)))

    def choose_bench(self, bench: str) -> None:
        """The user wants the next run on this bench."""
        self._choose_bench(bench)
        self._suit_first()
        self._say_protocol()
        self.changed.emit()
        self.bench_chosen.emit(self.bench)

    # -- small things -------------------------------------------------------------------------------------------

    def _show_chip(self, on: bool) -> None:
        self.chip_box.setVisible(on)
        self._chip_changed()

    def _chip_changed(self) -> None:
        said = len(self.chip.values())
        self.chip_button.setText(f"Chip ● {said}" if said else "Chip")
        self._tell()

    def _new_seed(self) -> None:
        self.seed.setText(str(secrets.randbelow(SEEDS)))

    def _tell(self, *_: object) -> None:
        self._say_protocol()
        self.changed.emit()
