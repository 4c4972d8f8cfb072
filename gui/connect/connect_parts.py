"""The parts of the Connect page: what was found, who answers, the bench file and its wiring, limits and passport."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QColor, QGuiApplication, QKeyEvent, QKeySequence
from PySide6.QtWidgets import (
    QAbstractItemView,
    QHBoxLayout,
    QHeaderView,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QTableWidget,
    QTableWidgetItem,
    QVBoxLayout,
    QWidget,
)

from neurobench.bench.config import BenchConfig

from .. import theme
from ..parts.toml_editor import TomlEditor
from . import bench_text
from .bench_words import MARKS, WORDS, Level, Line

W = TypeVar("W", bound=QWidget)
READ_AFTER_MS = 250  # a text is read as a bench file so long after the last key
TERMINALS = {
    "smu": "SMU, channel for word lines", "meter": "SMU, ammeter at 0 V", "guard": "SMU, guard",
    "pulse_row": "generator, channel for word lines", "pulse_col": "generator, channel for bit lines",
    "ground": "common ground",
}  # fmt: skip


def named(widget: W, name: str, tip: str) -> W:
    """A control with the name that a screen reader says, and its tip."""
    widget.setAccessibleName(name)
    widget.setToolTip(tip)
    return widget


def button(text: str, tip: str, role: str = "") -> QPushButton:
    """A button; `role` chooses its look."""
    made = named(QPushButton(text), text.replace("&", ""), tip)
    if role:
        made.setProperty("role", role)
    return made


def sentence(role: str = "") -> QLabel:
    """Text that wraps, and that can be copied with mouse and keys."""
    label = QLabel()
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(
        Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
    )
    label.setProperty("role", role)
    return label


def look(label: QLabel, role: str) -> None:
    """Give a label another role of the style sheet."""
    if label.property("role") != role:
        label.setProperty("role", role)
        label.style().unpolish(label)
        label.style().polish(label)


class Grid(QTableWidget):
    """A table to read: rows can be selected and copied, Tab leaves it, long texts wrap."""

    def __init__(self, columns: Sequence[str], stretch: Sequence[int], name: str, tip: str) -> None:
        super().__init__(0, len(columns))
        named(self, name, tip)
        self.setHorizontalHeaderLabels(list(columns))
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setTabKeyNavigation(False)
        self.setShowGrid(False)
        self.setWordWrap(True)
        self.verticalHeader().hide()
        header = self.horizontalHeader()
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setHighlightSections(False)
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        for column in stretch:
            header.setSectionResizeMode(column, QHeaderView.ResizeMode.Stretch)
        self._fitting = QTimer(self)  # once for all columns that a wider table makes wider
        self._fitting.setSingleShot(True)
        self._fitting.timeout.connect(self._fit)
        header.sectionResized.connect(lambda: self._fitting.start(0))

    def put(self, rows: Sequence[Sequence[str]], tips: Sequence[str] = (), colours: Sequence[str] = ()) -> None:
        """Show these rows; `tips` and `colours` (of the first column) are per row."""
        self.setRowCount(len(rows))
        for at, row in enumerate(rows):
            for column, text in enumerate(row):
                item = QTableWidgetItem(text)
                item.setTextAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
                item.setToolTip(tips[at] if at < len(tips) else text)
                if column == 0 and at < len(colours):
                    item.setForeground(QColor(colours[at]))
                self.setItem(at, column, item)
        self._fitting.start(0)
        self._fit()

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Ctrl+C copies."""
        if event.matches(QKeySequence.StandardKey.Copy):
            self.copy()
        else:
            super().keyPressEvent(event)

    def copy(self) -> None:
        """The selected rows, or all of them, as text with tabs between."""
        chosen = sorted({index.row() for index in self.selectedIndexes()}) or range(self.rowCount())
        QGuiApplication.clipboard().setText("\n".join("\t".join(self._texts(row)) for row in chosen))

    def _texts(self, row: int) -> list[str]:
        items = (self.item(row, column) for column in range(self.columnCount()))
        return [item.text() if item is not None else "" for item in items]

    def _fit(self) -> None:
        self.verticalHeader().setMinimumSectionSize(theme.em())
        for row in range(self.rowCount()):
            self.setRowHeight(row, self.sizeHintForRow(row) + theme.em() // 3)


class LinesView(Grid):
    """Lines of a check or of a passport: a mark with its word, what it is, what was found."""

    def __init__(self, name: str, tip: str) -> None:
        super().__init__(("", "part", "what was found"), (2,), name, tip)
        self._lines: Sequence[Line] = ()
        self.horizontalHeader().hide()

    def show_lines(self, lines: Sequence[Line]) -> None:
        """Show these."""
        self._lines = lines
        t = theme.tokens()
        colours: dict[Level, str] = {"ok": t.ok, "look": t.warn, "bad": t.bad, "plain": t.text_dim}
        rows = [(f"{MARKS[one.level]} {WORDS[one.level]}".strip(), one.part, one.words) for one in lines]
        self.put(rows, [one.text() for one in lines], [colours[one.level] for one in lines])

    def restyle(self) -> None:
        """Colours of now."""
        self.show_lines(self._lines)


class InstrumentsTab(QWidget):
    """Who answers on this computer (or on the simulated bench), and a bench file made from it."""

    search = Signal()
    write = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.ask = button("Ask &who answers", "Ask every address of this computer (*IDN? and its like) who is there; "
                          "serial lines are only listed. Nothing is fired")  # fmt: skip
        self.make = button("&Write bench file...", "Write a commented bench file from what answers; what nobody can "
                           "ask for is marked TODO")  # fmt: skip
        self.library = named(QLineEdit(), "VISA library", "pyvisa library: empty for its own choice, @py for pyvisa-py")
        self.library.setPlaceholderText("pyvisa's choice")
        self.where = sentence("dim")
        self.table = Grid(("resource", "answers", "model and role"), (0, 1), "instruments that answer",
                          "What answered where. Ctrl+C copies")  # fmt: skip
        label = QLabel("VISA &library")
        label.setBuddy(self.library)
        layout = QVBoxLayout(self)
        for pair in ((self.ask, self.make), (label, self.library)):
            row = QHBoxLayout()
            for widget in pair:
                row.addWidget(widget)
            layout.addLayout(row)
        layout.addWidget(self.where)
        layout.addWidget(self.table, 1)
        self.ask.clicked.connect(self.search)
        self.make.clicked.connect(self.write)

    def show_found(self, rows: Sequence[Mapping[str, Any]], where: str) -> None:
        """Show what a search found; `where`: what was searched."""
        self.table.put([_answer_row(row) for row in rows])
        what = "nothing answers" if not rows else f"{len(rows)} address{'es' if len(rows) > 1 else ''} found"
        self.where.setText(f"{what} on {where}")


def _answer_row(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """An address, what answered there or why nobody was asked, and what neurobench knows it as."""
    known = f"{row['model']} ({row['role']})" if row.get("model") else "not known"
    return str(row["resource"]), str(row.get("answers") or row.get("why") or "no answer"), known


class BenchFileTab(QWidget):
    """The bench file as text, read as one while it is typed; mistakes stand below, each with its line."""

    edited = Signal()
    save = Signal()
    save_as = Signal()
    revert = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.name = ""
        self._putting = False
        self.config: BenchConfig | None = None
        self.editor = named(TomlEditor(), "bench file", "The bench file (TOML). docs/bench.md explains every key")
        self.verdict = sentence()
        self.save_button = button("&Save", "Write the text into its file")
        self.save_as_button = button("Save &as...", "Write the text into a new bench file, and choose that bench")
        self.revert_button = button("Re&vert", "Take back what was changed since the file was read")
        self.wiring = WiringTab(self)
        row = QHBoxLayout()
        row.addWidget(self.save_button)
        row.addWidget(self.save_as_button)
        row.addWidget(self.revert_button)
        row.addStretch(1)
        layout = QVBoxLayout(self)
        layout.addWidget(self.editor, 1)
        layout.addWidget(self.verdict)
        layout.addLayout(row)
        self._later = QTimer(self)
        self._later.setSingleShot(True)
        self._later.setInterval(READ_AFTER_MS)
        self._later.timeout.connect(self.check)
        self.editor.textChanged.connect(self._changed)
        self.save_button.clicked.connect(self.save)
        self.save_as_button.clicked.connect(self.save_as)
        self.revert_button.clicked.connect(self.revert)

    def show_text(self, text: str, name: str) -> None:
        """Show another bench file; what is undone is undone in this one only."""
        self.name, self._putting = name, True
        self.editor.setPlainText(text)
        self._putting = False
        self.check()

    def text(self) -> str:
        """What stands there."""
        return self.editor.toPlainText()

    def _changed(self) -> None:
        if not self._putting:
            self._later.start()
            self.edited.emit()

    def check(self) -> None:
        """Read the text as a bench file and say what is wrong with it."""
        self._later.stop()
        self.config, mistakes = bench_text.read(self.text(), self.name)
        self.editor.mark({one.line: one.words for one in mistakes})
        look(self.verdict, "bad" if mistakes else "ok")
        words = [f"line {one.line}: {one.words}" if one.line else one.words for one in mistakes]
        self.verdict.setText("\n".join(f"✕ {line}" for line in words) or "✓ This is a valid bench file.")
        self.wiring.show_bench(self.config)

    def set_value(self, section: str, key: str, value: str) -> None:
        """Change one key in the text."""
        self.editor.put(bench_text.with_value(self.text(), section, key, value))
        self.check()


class WiringTab(QWidget):
    """Lines of the chip and terminals of the instruments, and the matrix column or row that each is on.

    A number that is typed here is written into the text of the bench file; the text alone is saved.
    """

    def __init__(self, file: BenchFileTab) -> None:
        super().__init__()
        self._file = file
        self._showing = False
        self._config: BenchConfig | None = None
        self.words = sentence("dim")
        self.table = Grid(("what", "on the matrix", "number"), (0,), "wiring",
                          "Type a number to change it; it goes into the text of the bench file")  # fmt: skip
        self.table.setEditTriggers(
            QAbstractItemView.EditTrigger.DoubleClicked
            | QAbstractItemView.EditTrigger.EditKeyPressed
            | QAbstractItemView.EditTrigger.AnyKeyPressed
        )
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectItems)
        self.table.itemChanged.connect(self._typed)
        layout = QVBoxLayout(self)
        layout.addWidget(self.words)
        layout.addWidget(self.table, 1)

    def show_bench(self, config: BenchConfig | None) -> None:
        """Show the wiring that a valid bench file says."""
        self._config, self._showing = config, True
        rows = self._rows(config)
        self.words.setText(self._about(config))
        self.table.setVisible(bool(rows))
        self.table.put(rows)
        for row in range(self.table.rowCount()):
            for column in (0, 1):
                if (item := self.table.item(row, column)) is not None:
                    item.setFlags(item.flags() & ~Qt.ItemFlag.ItemIsEditable)
        self._showing = False

    @staticmethod
    def _about(config: BenchConfig | None) -> str:
        if config is None:
            return "The bench file has mistakes: see Bench file. The wiring is shown once it is valid."
        if not config.instruments.by_role():
            what = "Lines of the board are lines of the chip" if "fpga" in config.bench.backend else "An emulated chip"
            return f"{what}: this bench has no switch matrix, so there is nothing to wire."
        if config.instruments.matrix is None:
            return "This bench has no switch matrix: its instruments are on one cell, or wired by hand."
        matrix = config.instruments.matrix
        where = f"{matrix.model} at {matrix.resource}" if matrix.resource else matrix.model
        return (
            f"Matrix {where}: row of each terminal (1 is A; 0: not wired), column of each line. "
            "Type a number to change it; then save the bench file."
        )

    @staticmethod
    def _rows(config: BenchConfig | None) -> list[tuple[str, str, str]]:
        if config is None or config.instruments.matrix is None:
            return []
        wiring, rows, cols = config.instruments.wiring, config.chip.rows, config.chip.cols
        on_row = ((words, getattr(wiring, name)) for name, words in TERMINALS.items())
        terminals = [(words, _row_words(row), str(row)) for words, row in on_row]
        word_lines = [(f"word line {n}", f"column {at}", str(at)) for n, at in enumerate(wiring.rows_of(rows))]
        bit_lines = [(f"bit line {n}", f"column {at}", str(at)) for n, at in enumerate(wiring.cols_of(rows, cols))]
        return [*terminals, *word_lines, *bit_lines]

    def _typed(self, item: QTableWidgetItem) -> None:
        config = self._config
        if self._showing or config is None or item.column() != 2:
            return
        if not (item.text().isdecimal() and len(item.text()) < 6):
            kind = "row" if item.row() < len(TERMINALS) else "column"
            self.words.setText(f"✕ {item.text()!r} is no number of a matrix {kind}; nothing was changed.")
            self.show_numbers(config)
            return
        key, value = self._key_of(config, item.row(), int(item.text()))
        # the table is made anew from the text, which must not happen inside its own signal
        QTimer.singleShot(0, self, lambda: self._file.set_value("instruments.wiring", key, value))

    def show_numbers(self, config: BenchConfig) -> None:
        """Put the numbers back as the file says them."""
        self._showing = True
        for row, (_, _, number) in enumerate(self._rows(config)):
            if (item := self.table.item(row, 2)) is not None:
                item.setText(number)
        self._showing = False

    @staticmethod
    def _key_of(config: BenchConfig, row: int, number: int) -> tuple[str, str]:
        """Which key a row of the table is, and its new value as TOML."""
        if row < len(TERMINALS):
            return list(TERMINALS)[row], str(number)
        wiring, rows, cols = config.instruments.wiring, config.chip.rows, config.chip.cols
        at = row - len(TERMINALS)
        key, columns = ("word_lines", wiring.rows_of(rows)) if at < rows else ("bit_lines", wiring.cols_of(rows, cols))
        changed = list(columns)
        changed[at if at < rows else at - rows] = number
        return key, str(changed)


def _row_words(row: int) -> str:
    return f"row {row} ({chr(ord('A') + row - 1)})" if 0 < row <= 26 else "not wired" if row == 0 else f"row {row}"


class LimitsPanel(QWidget):
    """All limits of the chip, whose rule each is, and the operator's word that they are right for this chip."""

    confirm = Signal(str)
    change = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.table = Grid(("limit", "value", "said by"), (2,), "limits of the chip",
                          "What this chip bears. What would go beyond is refused, never clipped")  # fmt: skip
        self.where = sentence("dim")
        self.edit = button("&Change limits...", "Limits are changed in the bench file, under [limits], nowhere else")
        self.asked = sentence()
        self.typed = named(QLineEdit(), "id of the chip", "Type the id that stands on the chip's box, to confirm that "
                           "these limits are the limits of this chip")  # fmt: skip
        self.typed.setPlaceholderText("id of the chip")
        self.confirm_button = button("Con&firm limits", "The limits above are right for the chip with this id: runs "
                                     "may start on it", "primary")  # fmt: skip
        row = QHBoxLayout()
        row.addWidget(self.typed, 1)
        row.addWidget(self.confirm_button)
        below = QHBoxLayout()
        below.addWidget(self.where, 1)
        below.addWidget(self.edit)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.table, 1)
        layout.addLayout(below)
        layout.addWidget(self.asked)
        layout.addLayout(row)
        self.edit.clicked.connect(self.change)
        self.confirm_button.clicked.connect(self._confirm)
        self.typed.returnPressed.connect(self._confirm)

    def _confirm(self) -> None:
        if self.confirm_button.isEnabled():
            self.confirm.emit(self.typed.text().strip())

    def show_limits(self, config: BenchConfig | None, bench: str, settings: Mapping[str, Any]) -> None:
        """Show the limits of a bench; None: its file has mistakes."""
        rows = [] if config is None else bench_text.limit_rows(config, bench, settings)
        values = [f"{row.value}, forming {row.forming}" if row.forming else row.value for row in rows]
        shown = [(row.name, value, row.said_by) for row, value in zip(rows, values, strict=True)]
        self.table.put(shown, [row.meaning for row in rows])
        builtin = bench_text.is_builtin(bench)
        own = f"In {Path(bench).name}, [limits]."
        where = "Built in: save a bench file of your own to change them." if builtin else own
        self.where.setText(where if config is not None else "The bench file cannot be read: see Bench file.")

    def show_confirmed(self, words: str, role: str, may: bool) -> None:
        """Say whether they are confirmed, and let them be where the operator `may`."""
        look(self.asked, role)
        self.asked.setText(words)
        self.typed.setVisible(may)
        self.confirm_button.setVisible(may)


class ChipPanel(QWidget):
    """The chip's passport: who it is, what it has been through, and what to do about a run that did not end."""

    settle = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.lines = LinesView("passport of the chip", "Identity, polarity, life used, cells out of use. Ctrl+C copies")
        self.settle_button = button("Settle the last run", "Ask what became of the pulse that was under way, book the "
                                    "run in the passport, free the chip. Sends no volts", "primary")  # fmt: skip
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.lines, 1)
        layout.addWidget(self.settle_button)
        self.settle_button.clicked.connect(self.settle)
        self.settle_button.hide()
        self.lines.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
