"""The crossbar map: what was read back of every cell, as colours or as a table; cells are chosen here."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import QPoint, Qt, QTimer, Signal
from PySide6.QtGui import QAction, QActionGroup, QCloseEvent, QGuiApplication, QHideEvent, QResizeEvent, QShowEvent
from PySide6.QtWidgets import QHBoxLayout, QLabel, QMenu, QStackedLayout, QToolButton, QVBoxLayout, QWidget

from neurobench.bench.stimulus import BoolArray, FloatArray
from neurobench.runs.drawing import SIMULATED
from neurobench.system import utc_now

from .. import theme
from ..parts.flow import FlowLayout
from ..parts.line import Line
from ..parts.spoken import announce
from ..selection import Cell, Selection, name_of
from .base import BY_HAND, View
from .cell_table import CellTable
from .map_canvas import KEYS_OF_MAP, Bar, MapCanvas, Picture
from .quantities import (
    BY_KEY,
    EXCLUDED,
    NEVER_READ,
    QUANTITIES,
    STATES,
    Field,
    Quantity,
    beyond,
    cell_words,
    field_of,
    levels_of,
    plural,
    scale_of,
    states,
)

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

    from ..frame.actions import Actions

NO_RUN = "No run is open. F5 starts one."
STALE_S = 2.0
LOOK_MS = 500
MAPS = ("viridis", "cividis", "grey")
FIRST, BEFORE, MARKED = range(3)  # what a change is measured against
DIFFERENCES = ("the first value read", "the value read before", "the marked values")


class CrossbarView(View):
    """See the module. `told`: words for the status line, such as where a picture was written."""

    name = "crossbar"
    title = "Crossbar"
    told = Signal(str, str)

    def __init__(self, selection: Selection | None = None, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.selection = selection if selection is not None else Selection(parent=self)
        self.quantity: Quantity = BY_KEY["G"]
        self.log, self.hold, self.numbers = False, False, True
        self.map_name = MAPS[0]
        self.levels: tuple[float, float] | None = None
        self.field: Field | None = None
        self.nothing = NO_RUN
        self._marked: FloatArray | None = None
        self._against = FIRST
        self._snapshot: Snapshot | None = None
        self._drawn: tuple[object, ...] = ()
        self._run = ""
        self._hovered: Cell | None = None
        self._rgba: Any = None
        self._heard = time.monotonic()
        self._build()
        self._clock = QTimer(self)
        self._clock.setInterval(LOOK_MS)
        self._clock.timeout.connect(self.look_for_news)
        self.selection.changed.connect(self._selected)
        self.restyle()

    # -- what it is made of -------------------------------------------------------------------------------------

    def _build(self) -> None:
        self.canvas = MapCanvas(self.selection, self)
        self.canvas.hovered.connect(self._hover)
        self.canvas.menu_asked.connect(self._open_menu)
        self.table = CellTable(self.selection, self)
        self._stack = QStackedLayout()
        self._stack.addWidget(self.canvas)
        self._stack.addWidget(self._table_page())
        self._line, self.badge = Line(self), QLabel(self)
        self.badge.setProperty("role", "warn")
        self.badge.setAccessibleName("Age of what is shown")
        self.badge.hide()
        self._line.setAccessibleName("The cell under the mouse or the cursor")
        self._bar = self._buttons()
        whole = QVBoxLayout(self)
        whole.setContentsMargins(6, 4, 6, 4)
        whole.setSpacing(3)
        whole.addWidget(self._bar)
        whole.addLayout(self._stack, 1)
        whole.addWidget(self.badge)
        whole.addWidget(self._line)
        self.setAutoFillBackground(True)
        self.setAccessibleName("Crossbar")

    def _table_page(self) -> QWidget:
        """The table below what it shows, in which unit, and that it is simulated."""
        page, head = QWidget(self), QHBoxLayout()
        self._table_title, self._table_tag = Line(page), QLabel(SIMULATED, page)
        self._table_title.setAccessibleName("What the table shows")
        self._table_tag.setProperty("role", "simulated")
        self._table_tag.hide()
        head.addWidget(self._table_title, 1)
        head.addWidget(self._table_tag)
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(head)
        column.addWidget(self.table, 1)
        return page

    def _buttons(self) -> QWidget:
        bar = QWidget(self)
        row = self._row = FlowLayout(bar, 3)
        self._group = QActionGroup(self)
        self.buttons: dict[str, QToolButton] = {}
        self._one = self._button(row, "quantity", QAction("G", self), "Choose what the map shows", "What the map shows")
        for quantity in QUANTITIES:
            act = self._group.addAction(quantity.letter)
            act.setCheckable(True)
            act.setChecked(quantity is self.quantity)
            act.triggered.connect(partial(self.show_quantity, quantity.key))
            self._button(row, quantity.key, act, f"Show {quantity.title}", f"Show {quantity.title}")
        choose = QMenu("What the map shows", self)
        choose.addActions(self._group.actions())
        self._one.setMenu(choose)
        self._one.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        self._one.hide()
        self._log = QAction("log", self, checkable=True)
        self._log.toggled.connect(self.set_log)
        self._button(row, "log", self._log, "Logarithmic colours (L)", "Logarithmic colours")
        fit = QAction("Fit", self)
        fit.triggered.connect(self.fit_range)
        self._button(row, "range", fit, "Fit the colours to the values of now", "Fit the colours to the values")
        self._table = QAction("Show as a table", self, checkable=True)
        self._table.toggled.connect(self._show_table)
        self._menu = self._filled_menu()
        more = self._button(row, "more", QAction("More", self), "Colours, marks, export", "More about the map")
        more.setMenu(self._menu)
        more.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
        return bar

    def _fit_bar(self) -> None:
        """Where the buttons do not fit into one line, one of them opens the choice."""
        wide = sum(button.sizeHint().width() + 3 for key, button in self.buttons.items() if key != "quantity")
        narrow = wide > self.width() - 12
        if self._one.isHidden() == narrow:
            self._one.setVisible(narrow)
            for quantity in QUANTITIES:
                self.buttons[quantity.key].setVisible(not narrow)
            self._row.invalidate()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802
        """Another width: other buttons fit."""
        super().resizeEvent(event)
        self._fit_bar()

    def _button(self, row: FlowLayout, key: str, act: QAction, tip: str, name: str) -> QToolButton:
        button = QToolButton(self)
        button.setDefaultAction(act)
        act.setToolTip(tip)
        button.setAccessibleName(name)
        button.setFocusPolicy(Qt.FocusPolicy.TabFocus)
        self.buttons[key] = button
        row.addWidget(button)
        return button

    def _filled_menu(self) -> QMenu:
        menu = QMenu("Crossbar", self)
        colours = menu.addMenu("Colours")
        group = QActionGroup(self)
        for name in MAPS:
            self._choice(colours, name, partial(self.set_map, name), group, on=name == self.map_name)
        against = menu.addMenu("ΔG is measured against")
        group = QActionGroup(self)
        for n, words in enumerate(DIFFERENCES):
            self._choice(against, words, partial(self.set_against, n), group, on=n == FIRST)
        against.addSeparator()
        against.addAction("Mark the values of now").triggered.connect(self.mark_now)
        menu.addSeparator()
        menu.addAction(self._table)
        self._choice(menu, "Hold the range of colours", self.set_hold)
        self._choice(menu, "Numbers in the cells", self.set_numbers, on=True)
        menu.addAction("Show the whole array").triggered.connect(self.canvas.fit)
        menu.addSeparator()
        menu.addAction("Copy the numbers").triggered.connect(self.copy)
        menu.addAction("Export as PNG").triggered.connect(self.export_png)
        menu.addAction("Export as CSV").triggered.connect(self.export_csv)
        return menu

    def _choice(
        self,
        menu: QMenu,
        words: str,
        call: Callable[..., object],
        group: QActionGroup | None = None,
        *,
        on: bool = False,
    ) -> None:
        act = menu.addAction(words)
        act.setCheckable(True)
        act.setChecked(on)
        if group is None:
            act.toggled.connect(call)
        else:
            group.addAction(act)
            act.triggered.connect(lambda _on: call())

    def _open_menu(self, at: QPoint) -> None:
        self._menu.popup(at)

    def listen(self, actions: Actions, *, export: bool = True) -> None:
        """Do what the window's keys ask for, while this view can be seen; `export`: Ctrl+E too."""
        if export:
            actions.by_name("export").triggered.connect(partial(self._if_seen, self.export))
        for name, call in (
            ("unit.g", partial(self.show_quantity, "G")), ("unit.r", partial(self.show_quantity, "R")),
            ("unit.i", partial(self.show_quantity, "I")), ("log", self._log.toggle), ("fit", self.fit_range),
            ("select_all", self.selection.all),
        ):  # fmt: skip
            actions.by_name(name).triggered.connect(partial(self._if_seen, call))

    def _if_seen(self, call: Callable[[], object], _on: bool = False) -> None:
        if self.isVisible():
            call()

    # -- settings of the view -----------------------------------------------------------------------------------

    def show_quantity(self, key: str, _on: bool = True) -> None:
        """Show another quantity; its range is fitted anew."""
        self.quantity = BY_KEY[key]
        self.buttons[key].defaultAction().setChecked(True)
        self._one.defaultAction().setText(self.quantity.letter)
        self._log.setEnabled(self.quantity.log)
        self._again(fit=True)

    def set_log(self, on: bool) -> None:
        """Logarithmic or linear colours."""
        self.log = on
        self._again(fit=True)

    def set_map(self, name: str) -> None:
        """Other colours, for what has no sign."""
        self.map_name = name
        self._again()

    def set_hold(self, on: bool) -> None:
        """Keep the range of colours even if values leave it; else it grows when they do."""
        self.hold = on
        self._again()

    def set_numbers(self, on: bool) -> None:
        """Numbers in the cells, where there is room."""
        self.numbers = on
        self._again()

    def set_against(self, what: int) -> None:
        """Measure dG against FIRST, BEFORE or MARKED values."""
        self._against = what
        if what == MARKED and self._marked is None:
            self.mark_now()
        self._again(fit=True)

    def mark_now(self) -> None:
        """Keep the conductances of now, to measure dG against."""
        if self._snapshot is None:
            self.told.emit("warning", "there are no values to mark: no run is open")
            return
        self._marked = np.array(self._snapshot.cells.conductance_s)
        self.told.emit("info", "marked: ΔG can be measured against these values (More)")
        self._again(fit=True)

    def fit_range(self) -> None:
        """Fit the range of colours to the values of now."""
        self._again(fit=True)

    def _again(self, *, fit: bool = False) -> None:
        if fit:
            self.levels = None
        self._drawn = ()
        self.draw(self._snapshot)

    # -- drawing ------------------------------------------------------------------------------------------------

    def draw(self, snapshot: Snapshot | None) -> None:
        """Show what was read back up to this snapshot."""
        if snapshot is self._snapshot and self._drawn:
            return
        self._snapshot, self._heard = snapshot, time.monotonic()
        if snapshot is None:
            self._draw_nothing()
            return
        parts = (snapshot.about, snapshot.cells, snapshot.weights_s)
        same = len(parts) == len(self._drawn) and all(a is b for a, b in zip(parts, self._drawn, strict=True))
        if same and self.quantity.key != "age":
            self._say_cell()
            return
        self._drawn = parts
        if snapshot.about.path != self._run:  # another run: nothing of the old scale holds
            self._run, self.levels, self._marked = snapshot.about.path, None, None
        self.selection.set_shape(snapshot.about.shape)
        self._take(snapshot)
        self.look_for_news()

    def _draw_nothing(self) -> None:
        """Cells can be chosen before anything was read of them."""
        self._drawn, self.field, self._run = (), None, ""
        shape = self.selection.shape
        blank: Picture | None = None
        if min(shape) > 0:
            self._rgba = np.empty((*shape, 4), np.uint8)
            self._rgba[:] = _rgba(theme.tokens().field)
            none, every = np.zeros(shape, np.bool_), np.ones(shape, np.bool_)
            blank = Picture(self._rgba, none, every, self.quantity.title, empty=self.nothing)
        self.canvas.show_picture(blank, self.nothing)
        self.table.show_field(None)
        self._table_title.say(self.nothing)
        self._table_tag.hide()
        self._line.say("")
        self.badge.hide()

    def _take(self, snapshot: Snapshot) -> None:
        quantity = self.quantity
        self.field = field_of(quantity.key, snapshot, self._base(snapshot))
        self._set_levels(self.field.values)
        kinds = states(snapshot.cells.excluded, snapshot.cells.conductance_s)
        factor, unit = scale_of(max(map(abs, self.levels)) if self.levels else math.nan, quantity.unit)
        picture = self._picture(snapshot, self.field, kinds, factor, unit)
        self.canvas.show_picture(picture)
        self._table_title.say(picture.title)
        self._table_tag.setVisible(bool(picture.tag))
        decimals = None if self._is_log else _decimals(self.levels, factor)
        self.table.show_field(self.field.values * factor, kinds, unit, decimals)
        self._say_cell()

    @property
    def against(self) -> int:
        """What dG is measured against now: where nothing was marked, nothing can be measured against it."""
        return FIRST if self._against == MARKED and self._marked is None else self._against

    def _base(self, snapshot: Snapshot) -> FloatArray | None:
        """The values that dG is measured against; None: the first ones."""
        return (None, snapshot.cells.before_s, self._marked)[self.against]

    def _set_levels(self, values: FloatArray) -> None:
        """The range is fitted once; it grows when values leave it, in generous steps, unless it is held."""
        quantity, log = self.quantity, self._is_log
        if quantity.key == "mask":
            self.levels = None
            return
        scaled = values[values > 0] if log else values
        outside = self.levels is not None and not self.hold and beyond(scaled, self.levels) > 0
        if self.levels is None or outside:
            found = levels_of(values, signed=quantity.signed, log=log)
            if found is not None and self.levels is not None:
                found = _grown(self.levels, found, log=log)
            self.levels = found

    def _picture(self, snapshot: Snapshot, field: Field, kinds: Any, factor: float, unit: str) -> Picture:
        values, quantity = field.values, self.quantity
        hatched = np.ascontiguousarray(kinds == EXCLUDED)
        unread = np.ascontiguousarray(kinds == NEVER_READ)
        about = snapshot.about
        title = f"{quantity.title} ({unit})" if unit else quantity.title
        if quantity.key == "dG":
            title += f", against {DIFFERENCES[self.against]}"
        lut = self._lut()
        if quantity.key == "mask":
            colors = _mask_colors()
            self._rgba = np.ascontiguousarray(colors[kinds])
            bar, legend = None, tuple(zip(_hex(colors), STATES, strict=True))
        else:
            self._rgba = self._colored(values, lut)
            bar, legend = Bar(lut, self._ticks(factor)) if self.levels else None, ()
        return Picture(
            self._rgba, hatched, unread, f"{title}   {about.protocol} on chip {about.chip_id}",
            bar, legend, self._texts(values, kinds, factor) if self.numbers else None,
            SIMULATED if about.simulated else "", field.why,
        )  # fmt: skip

    def _lut(self) -> Any:
        name = "vik" if self.quantity.signed else self.map_name
        lut = theme.map_of(name).getLookupTable(nPts=256, alpha=True)
        return np.ascontiguousarray(lut, dtype=np.uint8)

    def _colored(self, values: FloatArray, lut: Any) -> Any:
        """Colours [rows, cols, 4]; cells without a value have the colour of no scale."""
        known = np.isfinite(values)
        if self.levels is None:
            share = np.zeros(values.shape)
        elif self._is_log:
            known &= values > 0
            low, high = (math.log10(one) for one in self.levels)
            share = (np.log10(np.where(known, values, 1.0)) - low) / (high - low or 1.0)
        else:
            low, high = self.levels
            share = (np.where(known, values, low) - low) / (high - low or 1.0)
        out = lut[(np.clip(share, 0.0, 1.0) * 255).astype(np.uint8)]
        out[~known] = _rgba(theme.tokens().field)
        return np.ascontiguousarray(out)

    def _ticks(self, factor: float) -> tuple[tuple[float, str], ...]:
        assert self.levels is not None
        low, high = self.levels
        decimals = _decimals(self.levels, factor)
        if self._is_log:
            ends = math.log10(low), math.log10(high)
            at = [10**k * m for k in range(math.floor(ends[0]), math.ceil(ends[1]) + 1) for m in (1, 2, 5)]
            inside = [one for one in at if low <= one <= high]
            inside = inside if len(inside) > 1 else [low, high]
            return tuple(
                ((math.log10(one) - ends[0]) / (ends[1] - ends[0]), f"{one * factor:.3g}") for one in inside[-12:]
            )
        step = _nice((high - low) / 5)
        at = [k * step for k in range(math.ceil(low / step), math.floor(high / step) + 1)]
        return tuple(((one - low) / (high - low), f"{one * factor + 0.0:.{decimals}f}") for one in at)

    def _texts(self, values: FloatArray, kinds: Any, factor: float) -> Callable[[Cell], str] | None:
        if self.quantity.key == "mask":
            marks = ("", "?", "x")
            return lambda cell: marks[int(kinds[cell])]
        decimals = _decimals(self.levels, factor) + (values.size <= 64)

        def text(cell: Cell) -> str:
            value = float(values[cell])
            if math.isfinite(value):
                shown = value * factor + 0.0
                if self._is_log:  # over decades, decimals would make small values 0
                    return f"{shown:.2g}" if abs(shown) < 100 else f"{shown:.0f}"
                return f"{shown:.{0 if abs(shown) >= 100 else decimals}f}"  # three digits fit where four do not
            return "?" if kinds[cell] == NEVER_READ else ""

        return text

    # -- words --------------------------------------------------------------------------------------------------

    def _selected(self) -> None:
        blank = self.canvas.picture
        if self._snapshot is None and (blank.shape if blank else (0, 0)) != self.selection.shape:
            self._draw_nothing()
        self._say_cell()
        if self.canvas.hasFocus():
            chosen = ", chosen" if self.selection.cursor in self.selection else ""
            announce(self.canvas, f"{self._words_of(self.selection.cursor)}{chosen}")

    def _hover(self, cell: Cell | None) -> None:
        self._hovered = cell
        self._say_cell()

    def _say_cell(self) -> None:
        """The cell under the mouse, else the one under the cursor; to who cannot see the map, always the latter."""
        told = self._words_of(self.selection.cursor)
        words = self._words_of(self._hovered) if self._hovered else told
        if words:
            self._line.say(words)
            self.canvas.setToolTip("")
        if told:
            self.canvas.setAccessibleDescription(f"{told}. {KEYS_OF_MAP}")

    def _words_of(self, cell: Cell) -> str:
        """What is known of a cell; "" of one that is not there."""
        snapshot = self._snapshot
        if not self.selection.inside(cell):
            return ""
        if snapshot is None:
            return f"{name_of(cell)}   never read"
        if self.field is None or self.field.values.shape != self.selection.shape:
            return ""
        return cell_words(snapshot, cell, self.quantity, self.field)

    @property
    def words(self) -> str:
        """What the line below the map says."""
        return self._line.text()

    def look_for_news(self) -> None:
        """A live run that is silent, or values that left the scale, are told above the line."""
        said = self._stale_words() or self._nowhere_words() or self._beyond_words()
        self.badge.setText(said)
        self.badge.setVisible(bool(said))

    def _stale_words(self) -> str:
        snapshot, silent_s = self._snapshot, time.monotonic() - self._heard
        if snapshot is None or not snapshot.live or snapshot.about.protocol == BY_HAND or silent_s < STALE_S:
            return ""
        if snapshot.status not in ("running", "") or snapshot.seq < snapshot.last_seq:
            return ""
        return f"! STALE: no news of this run for {silent_s:.0f} s"

    @property
    def _is_log(self) -> bool:
        """Whether colours are logarithmic now."""
        return self.log and self.quantity.log

    def _nowhere_words(self) -> str:
        """Noise makes a small conductance 0 or less: that has no logarithm, and no colour then."""
        if self.field is None or not self._is_log:
            return ""
        none = int(np.count_nonzero(self.field.values <= 0))
        return f"! {plural(none, 'cell')} at 0 or below: no place on a logarithmic scale" if none else ""

    def _beyond_words(self) -> str:
        if self.levels is None or self.field is None or not self.hold:
            return ""
        values = self.field.values
        outside = beyond(values[values > 0] if self._is_log else values, self.levels)
        return f"! {plural(outside, 'cell')} beyond the colours (Fit takes them in)" if outside else ""

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Look for news while somebody looks."""
        super().showEvent(event)
        self._heard = time.monotonic()
        self._clock.start()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """Nobody looks."""
        super().hideEvent(event)
        self._clock.stop()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """The end of the window."""
        self._clock.stop()
        super().closeEvent(event)

    def restyle(self) -> None:
        """Colours or font sizes have changed."""
        self.setMinimumSize(11 * theme.em(), 10 * theme.em())
        side = max(theme.em() // 4, 3)
        arrow = f'QToolButton[popupMode="2"] {{ padding-right: {side + 6}px; }}'
        for button in self.buttons.values():
            button.setStyleSheet(f"QToolButton {{ padding: 2px {side}px; }} {arrow}")
        self._fit_bar()
        self._again()

    # -- table and files ----------------------------------------------------------------------------------------

    def _show_table(self, on: bool) -> None:
        self._stack.setCurrentIndex(1 if on else 0)

    def rows(self) -> list[list[str]]:
        """The numbers that are shown, in SI units, with a line of names above and one column of names."""
        assert self.field is not None
        names = [f"B{col}" for col in range(self.field.values.shape[1])]
        unit = f"{self.quantity.key}_{self.quantity.unit}".rstrip("_").replace("Ω", "ohm")
        body = [[f"W{row}", *map(self._exact, values)] for row, values in enumerate(self.field.values.tolist())]
        return [[unit, *names], *body]

    def _exact(self, value: float) -> str:
        """A number as files have it."""
        if self.quantity.key == "mask":
            return STATES[int(value)]
        return "" if math.isnan(value) else f"{value:.9g}"

    def copy(self) -> None:
        """Put the numbers on the clipboard, as a spreadsheet takes them."""
        if self.field is None:
            self.told.emit("warning", "there are no numbers to copy: no run is open")
            return
        QGuiApplication.clipboard().setText("\n".join("\t".join(row) for row in self.rows()))
        self.told.emit("info", f"copied: {self.quantity.title} of {plural(self.field.values.size, 'cell')}")

    def export(self) -> None:
        """Write the picture and the numbers beside the run file."""
        if self.export_csv() is not None:
            self.export_png()

    def export_png(self) -> Path | None:
        """Write the map as a picture beside its run file, and say where."""
        path = self._new_path("png")
        if path is not None and not self.canvas.grab().save(str(path)):
            self.told.emit("error", f"the map could not be written to {path}")
            return None
        return self._written(path)

    def export_csv(self) -> Path | None:
        """Write the numbers beside the run file, and say where."""
        path = self._new_path("csv")
        if path is None or self._snapshot is None:
            return None
        about = self._snapshot.about
        kind = f"{SIMULATED}, " if about.simulated else ""
        said = f"{self.quantity.title}, {kind}run {about.run_id}, chip {about.chip_id}, after step {self._snapshot.seq}"
        try:
            with path.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([[f"# {said}"], *self.rows()])
        except OSError as error:
            self.told.emit("error", f"the numbers could not be written: {error}")
            return None
        return self._written(path)

    def _written(self, path: Path | None) -> Path | None:
        if path is not None:
            self.told.emit("info", f"written: {path}")
        return path

    def _new_path(self, ending: str) -> Path | None:
        if self._snapshot is None or self.field is None:
            self.told.emit("warning", "there is no map to export: no run is open")
            return None
        run = Path(self._snapshot.about.path)
        stamp = utc_now().replace(":", "").replace("-", "").split(".")[0].removesuffix("Z")
        return run.with_name(f"{run.stem}-{self.quantity.key}-step{self._snapshot.seq}-{stamp}.{ending}")


def _grown(old: tuple[float, float], new: tuple[float, float], *, log: bool) -> tuple[float, float]:
    """A range that holds both and has room to spare where it grew, so that it does not grow with every read."""
    low, high = min(old[0], new[0]), max(old[1], new[1])
    if log:
        return low / 1.3 if low < old[0] else low, high * 1.3 if high > old[1] else high
    spare = 0.15 * (high - low)
    down = low - spare if low < old[0] else low
    return (max(down, 0.0) if low >= 0 else down), (high + spare if high > old[1] else high)


def _nice(step: float) -> float:
    """The next of 1, 2, 5, 10, ... above."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(n * power for n in (1, 2, 5, 10) if n * power >= step * (1 - 1e-9))


def _decimals(levels: tuple[float, float] | None, factor: float) -> int:
    """So many that neighbouring ticks of a linear scale can be told apart."""
    if levels is None or levels[1] <= levels[0]:
        return 1
    step = _nice((levels[1] - levels[0]) * factor / 5)
    return min(max(-math.floor(math.log10(step) + 1e-9), 0), 4)


def _rgba(color: str) -> tuple[int, int, int, int]:
    red, green, blue = (int(color[k : k + 2], 16) for k in (1, 3, 5))
    return red, green, blue, 255


def _mask_colors() -> Any:
    t = theme.tokens()
    return np.array([_rgba(t.accent), _rgba(t.field), _rgba(t.text_dim)], np.uint8)


def _hex(colors: BoolArray | Any) -> list[str]:
    return ["#" + "".join(f"{part:02x}" for part in color[:3]) for color in colors.tolist()]
