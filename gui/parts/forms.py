"""A form made from a pydantic model: one row for each field, with its unit, range, help, and a way back to its default.

What a form holds is what `--set` would say: only the values that differ from the defaults. What is wrong is said beside
its field in the words of the command line, and what was typed stays as it was typed.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from PySide6.QtCore import QEvent, QObject, Qt, Signal
from PySide6.QtGui import QKeyEvent, QWheelEvent
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from .. import theme
from . import fields
from .fields import REQUIRED, Spec
from .files import ask_path

RESET, CHANGED, WRONG = "↺", "●", "▲"
LABEL_EM, EDITOR_EM, RESET_EM = 4.5, 6.0, 1.6  # least widths of the columns, in heights of a line


class _CalmWheel(QObject):
    """Turning the wheel over a control scrolls the form; it changes the value only where the control has the focus."""

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """Keep the wheel from a control that nobody has chosen."""
        if event.type() == QEvent.Type.Wheel and isinstance(watched, QWidget) and not watched.hasFocus():
            event.ignore()
            return True
        return False


def calm(widget: QWidget) -> None:
    """Let the wheel pass a control by until it was clicked or tabbed into."""
    widget.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    widget.installEventFilter(_CalmWheel(widget))


class Editor(QWidget):
    """The control of one field. `edited`: the user, or `put`, has changed what it holds."""

    edited = Signal()

    def take(self) -> Any:
        """What it holds; a text that means nothing as that text."""
        raise NotImplementedError

    def put(self, value: Any) -> None:
        """Show this value."""
        raise NotImplementedError

    def name(self, words: str, tip: str) -> None:
        """Tell tools for the blind, and the mouse, what this is."""
        for child in (self, *self.findChildren(QWidget)):
            child.setToolTip(tip)
            if child.focusPolicy() != Qt.FocusPolicy.NoFocus and not child.accessibleName():
                child.setAccessibleName(words)


def _row_of(owner: QWidget) -> QHBoxLayout:
    row = QHBoxLayout(owner)
    row.setContentsMargins(0, 0, 0, 0)
    row.setSpacing(4)
    return row


class NumberBox(QLineEdit):
    """A number with its unit, typed as people write it (1.5 m, 1.5 ms, 2e-3); arrow keys move its second digit."""

    def __init__(
        self, unit: str = "", integer: bool = False, low: float | None = None, high: float | None = None
    ) -> None:
        super().__init__()
        self.unit, self.integer, self.low, self.high = unit, integer, low, high
        self.setPlaceholderText(f"a number in {unit}" if unit else "a number")
        self.editingFinished.connect(self._tidy)
        calm(self)

    def number(self) -> int | float | None:
        """The number, None where the text is none."""
        try:
            return fields.parse_number(self.text(), self.unit, self.integer)
        except ValueError:
            return None

    def step(self, steps: int) -> None:
        """Up or down by so many steps, within the range; a text that is no number stays."""
        value = self.number()
        if value is None:
            return
        step = Decimal(1) if self.integer else _step(value, down=steps < 0)
        moved = float(Decimal(repr(value)) + steps * step)
        moved = moved if self.low is None else max(moved, self.low)
        moved = moved if self.high is None else min(moved, self.high)
        self.setText(fields.number(int(moved) if self.integer else moved, self.unit))

    def keyPressEvent(self, event: QKeyEvent) -> None:  # noqa: N802 - Qt's name
        """Up and down step, page up and page down by ten; all else is typed."""
        steps = _STEPS.get(Qt.Key(event.key()))
        if steps is None or event.modifiers() & ~Qt.KeyboardModifier.KeypadModifier:
            super().keyPressEvent(event)
        else:
            self.step(steps)

    def wheelEvent(self, event: QWheelEvent) -> None:  # noqa: N802 - Qt's name
        """Steps, where it has the focus."""
        self.step(1 if event.angleDelta().y() > 0 else -1)
        event.accept()

    def _tidy(self) -> None:
        value = self.number()
        if value is not None and (text := fields.number(value, self.unit)) != self.text():
            self.setText(text)


_STEPS = {Qt.Key.Key_Up: 1, Qt.Key.Key_Down: -1, Qt.Key.Key_PageUp: 10, Qt.Key.Key_PageDown: -10}


def _step(value: float, *, down: bool) -> Decimal:
    """One in the second digit of a number; of 0 a tenth."""
    exact = Decimal(repr(value))
    if exact == 0:
        return Decimal("0.1")
    at = exact.adjusted() - 1
    if down == (exact > 0) and abs(exact).scaleb(-exact.adjusted()) == 1:
        at -= 1  # below 1.0 comes 0.99
    return Decimal(1).scaleb(at)


class NumberEditor(Editor):
    """A whole or a real number."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self._spec = spec
        self.box = NumberBox(spec.unit, spec.kind == "int", spec.low, spec.high)
        self.box.textChanged.connect(self._heard)
        _row_of(self).addWidget(self.box)
        self.setFocusProxy(self.box)

    def take(self) -> Any:
        """See Editor."""
        text = self.box.text().strip()
        return REQUIRED if not text and self._spec.default is REQUIRED else fields.parse(self._spec, text)

    def put(self, value: Any) -> None:
        """See Editor."""
        self.box.setText("" if value is None or value is REQUIRED else fields.number(value, self._spec.unit))

    def _heard(self, _text: str) -> None:
        self.edited.emit()


class ChoiceEditor(Editor):
    """One of a few values."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self._choices = spec.choices
        self.combo = choices(tuple(fields.shown(one) for one in spec.choices))
        self.combo.currentIndexChanged.connect(self._heard)
        _row_of(self).addWidget(self.combo)
        self.setFocusProxy(self.combo)

    def take(self) -> Any:
        """See Editor."""
        at = self.combo.currentIndex()
        return self._choices[at] if 0 <= at < len(self._choices) else self.combo.currentText()

    def put(self, value: Any) -> None:
        """A value that is not allowed is shown all the same, and refused in due place."""
        if value not in self._choices:
            if self.combo.count() == len(self._choices):
                self.combo.addItem(str(value))
            self.combo.setItemText(len(self._choices), str(value))
        self.combo.setCurrentIndex(self._choices.index(value) if value in self._choices else len(self._choices))

    def _heard(self, _at: int) -> None:
        self.edited.emit()


def choices(words: tuple[str, ...]) -> QComboBox:
    """A calm combo box that may be narrower than its longest entry."""
    combo = QComboBox()
    combo.addItems(words)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(min(max(map(len, words), default=4), 12))
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    calm(combo)
    return combo


class BoolEditor(Editor):
    """Yes or no, in words beside the box."""

    def __init__(self, _spec: Spec) -> None:
        super().__init__()
        self.check = QCheckBox("no")
        self.check.toggled.connect(self._heard)
        row = _row_of(self)
        row.addWidget(self.check)
        row.addStretch()
        self.setFocusProxy(self.check)

    def take(self) -> Any:
        """See Editor."""
        return self.check.isChecked()

    def put(self, value: Any) -> None:
        """See Editor."""
        self.check.setChecked(bool(value))

    def _heard(self, on: bool) -> None:
        self.check.setText("yes" if on else "no")
        self.edited.emit()


class TextEditor(Editor):
    """A text, or a list as TOML writes it; with a way to pick a file or a folder where it names one."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self._spec = spec
        self._combo: QComboBox | None = None
        row = _row_of(self)
        self.line = self._line(spec, row)
        self.line.textChanged.connect(self._heard)
        self.line.setPlaceholderText(_example(spec))
        if spec.kind in ("path", "folder"):
            self.browse = QToolButton()
            self.browse.setText("…")
            self.browse.setAccessibleName(f"Choose {spec.label.lower()}")
            self.browse.clicked.connect(self._choose)
            row.addWidget(self.browse)
        self.setFocusProxy(self.line)

    def _line(self, spec: Spec, row: QHBoxLayout) -> QLineEdit:
        if not spec.choices:
            line = QLineEdit()
            row.addWidget(line, 1)
            return line
        combo = choices(tuple(map(str, spec.choices)))
        combo.setEditable(True)
        combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        row.addWidget(combo, 1)
        self._combo = combo
        edit = combo.lineEdit()
        assert edit is not None
        return edit

    def take(self) -> Any:
        """See Editor."""
        return fields.parse(self._spec, self.line.text())

    def put(self, value: Any) -> None:
        """See Editor."""
        if value is None or value is REQUIRED or (isinstance(value, tuple) and not value):
            self.line.setText("")
        elif self._spec.kind == "numbers" and isinstance(value, list | tuple):
            self.line.setText(", ".join(fields.number(one, self._spec.unit) for one in value))
        else:
            self.line.setText(fields.shown(value))
        if self._combo is not None and (at := self._combo.findText(self.line.text())) >= 0:
            self._combo.setCurrentIndex(at)  # or the arrow keys would go on from another entry than the one shown

    def _heard(self, _text: str) -> None:
        self.edited.emit()

    def _choose(self) -> None:
        folder = self._spec.kind == "folder"
        start = self.line.text() if folder else ""
        ask_path(self, self._spec.label, self._chosen, wanted="folder" if folder else "file", start=start)

    def _chosen(self, path: Path) -> None:
        self.line.setText(str(path))


def _example(spec: Spec) -> str:
    """What stands in an empty line: what nothing means, or how a list is written."""
    if spec.stands_for:
        return spec.stands_for.replace("`", "")
    return {"numbers": f"10 m{spec.unit}, 20 m{spec.unit}", "toml": "[...]"}.get(spec.kind, "")


class AutoEditor(Editor):
    """A field that may be left to itself: a tick for that, and another editor for when it is not."""

    def __init__(self, spec: Spec, inner: Editor) -> None:
        super().__init__()
        self.inner = inner
        self.check = QCheckBox("auto" if spec.stands_for else "none")
        self.check.setAccessibleName(f"{spec.label}: {self.check.text()}")
        self.meaning = QLabel(spec.stands_for.replace("`", ""))
        self.meaning.setWordWrap(True)
        self.meaning.setProperty("role", "dim")
        self.check.toggled.connect(self._heard)
        inner.edited.connect(self.edited)
        row = _row_of(self)
        row.addWidget(self.check)
        row.addWidget(self.meaning, 1)
        row.addWidget(inner, 1)
        self.check.setChecked(True)
        self.setFocusProxy(self.check)

    def take(self) -> Any:
        """See Editor."""
        return None if self.check.isChecked() else self.inner.take()

    def put(self, value: Any) -> None:
        """See Editor."""
        if value is not None:
            self.inner.put(value)
        self.check.setChecked(value is None)

    def allow_none(self, allowed: bool) -> None:
        """A preset that gives the field a value leaves no way to say nothing."""
        self.check.setEnabled(allowed)

    def _heard(self, on: bool) -> None:
        self.meaning.setVisible(on)
        self.inner.setVisible(not on)
        self.edited.emit()
        if not on and self.check.hasFocus():
            self.inner.setFocus()


class TableEditor(Editor):
    """A table of one of several kinds, such as a pulse scheme: its kind, and a form of that kind's settings below."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self._tables = spec.tables
        self._kept: dict[str, dict[str, Any]] = {}
        self._form: Form | None = None
        self.combo = choices(tuple(spec.tables))
        self._column = QVBoxLayout(self)
        self._column.setContentsMargins(0, 0, 0, 0)
        self._column.addWidget(self.combo)
        self._build(self.combo.currentText())
        self.combo.currentTextChanged.connect(self._kind_chosen)
        self.setFocusProxy(self.combo)

    @property
    def form(self) -> Form:
        """The form of the kind that is chosen."""
        assert self._form is not None
        return self._form

    def take(self) -> Any:
        """See Editor."""
        kind, settings = self.combo.currentText(), self.form.values()
        return {"kind": kind, **settings} if settings else kind

    def put(self, value: Any) -> None:
        """See Editor."""
        told = dict(value) if isinstance(value, Mapping) else {"kind": str(value)}
        kind = str(told.pop("kind", self.combo.currentText()))
        self._kept[kind] = told
        self.combo.setCurrentText(kind)
        self.form.set_values(told)

    def name(self, words: str, tip: str) -> None:
        """The settings below have tips of their own."""
        for one in (self, self.combo):
            one.setToolTip(tip)
            one.setAccessibleName(words)

    def _kind_chosen(self, kind: str) -> None:
        self._build(kind)
        self.edited.emit()

    def _build(self, kind: str) -> None:
        if self._form is not None:
            self._kept[self._form.title] = self._form.values()
            self._column.removeWidget(self._form)
            self._form.setParent(None)
        self._form = Form(self._tables[kind], kind, skip=("kind",), small=True)
        self._form.set_values(self._kept.get(kind, {}))
        self._form.changed.connect(self.edited)
        self._form.setContentsMargins(theme.em() // 2, 4, 0, 4)
        self._column.addWidget(self._form)


_EDITORS: dict[str, Callable[[Spec], Editor]] = {
    "float": NumberEditor, "int": NumberEditor, "bool": BoolEditor, "choice": ChoiceEditor, "text": TextEditor,
    "path": TextEditor, "folder": TextEditor, "numbers": TextEditor, "toml": TextEditor, "table": TableEditor,
}  # fmt: skip


def editor_of(spec: Spec) -> Editor:
    """The control that fits a field."""
    made = _EDITORS[spec.kind](spec)
    return AutoEditor(spec, made) if spec.optional else made


class Row(QObject):
    """One field in a form: its mark and label, its editor, its reset button, and what is wrong with it."""

    def __init__(self, spec: Spec, grid: QGridLayout, at: int) -> None:
        super().__init__()
        self.spec, self.basis = spec, spec.default
        tip = "".join(f"<p>{html.escape(line)}</p>" for line in spec.help_words().split("\n"))
        self.words = spec.label + (f" ({spec.unit})" if spec.kind == "numbers" and spec.unit else "")
        self.label = QLabel(self.words)
        self.label.setWordWrap(True)
        self.label.setToolTip(tip)
        self.editor = editor_of(spec)
        self.editor.put(spec.default)
        self.editor.name(f"{spec.label}{f' in {spec.unit}' if spec.unit else ''}", tip)
        self.label.setBuddy(self.editor)
        self.reset = _reset_button(spec)
        self.problem = QLabel()
        self.problem.setProperty("role", "bad")
        self.problem.setWordWrap(True)
        self.problem.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.problem.hide()
        self._place(grid, 3 * at)
        self.reset.clicked.connect(self.go_back)

    def _place(self, grid: QGridLayout, line: int) -> None:
        middle = Qt.AlignmentFlag.AlignVCenter
        grid.addWidget(self.label, line, 0, middle)
        grid.addWidget(self.reset, line, 2, middle)
        if self.spec.kind == "table":
            grid.addWidget(self.editor, line + 1, 0, 1, 3)
        else:
            grid.addWidget(self.editor, line, 1, middle)
        grid.addWidget(self.problem, line + 2, 0, 1, 3)

    def value(self) -> Any:
        """What the editor holds."""
        return self.editor.take()

    @property
    def changed(self) -> bool:
        """Whether it differs from what stands there where nothing is said."""
        value = self.value()
        return bool(value is not self.basis and value != self.basis) or type(value) is bool is not type(self.basis)

    def go_back(self) -> None:
        """Show the default again."""
        self.editor.put(self.basis)
        self.editor.edited.emit()

    def rebase(self, basis: Any) -> None:
        """Another default, of another preset: what was not changed follows it."""
        follows = not self.changed
        self.basis = basis
        if isinstance(self.editor, AutoEditor):
            self.editor.allow_none(basis is None)
        if follows or (basis is not None and self.value() is None):
            self.editor.put(basis)

    def say(self, words: str) -> None:
        """What is wrong with it, "" if nothing is."""
        self.problem.setText(f"{WRONG} {words}" if words else "")
        self.problem.setAccessibleName(f"{self.spec.label}: {words}" if words else "")

    def show(self, visible: bool) -> None:
        """Show or hide the whole row; what is wrong is never hidden alone."""
        self.label.setVisible(visible)
        self.editor.setVisible(visible)
        self.reset.setVisible(visible)
        self.problem.setVisible(visible and bool(self.problem.text()))

    def mark(self) -> None:
        """Show whether it was changed: a mark, bold letters, and the button that leads back."""
        changed, words = self.changed, html.escape(self.words)
        self.label.setText(f"<b>{CHANGED} {words}</b>" if changed else words)
        self.reset.setEnabled(changed)
        self.reset.setText(RESET if changed else "")


def _reset_button(spec: Spec) -> QToolButton:
    button = QToolButton()
    button.setProperty("role", "flat")
    default = "" if spec.default is REQUIRED else f": {spec.value_words(spec.default)}"
    button.setToolTip(f"Back to the default{default}")
    button.setAccessibleName(f"Reset {spec.label}")
    button.setStyleSheet("padding: 2px;")
    return button


class Form(QWidget):
    """See the module. `name`: how messages call it; `skip`: fields that it leaves out; `small`: a form within a form.

    changed: a value is another one. valid(bool): whether `problems` is empty now, told when it changes.
    """

    changed = Signal()
    valid = Signal(bool)

    def __init__(
        self, model: type[BaseModel], title: str, *, skip: tuple[str, ...] = (), small: bool = False,
        parent: QWidget | None = None,
    ) -> None:  # fmt: skip
        self.rows: dict[str, Row] = {}
        super().__init__(parent)
        self.model, self.title = model, title
        self.whole = QLabel()
        self.more = QPushButton()
        self.search = QLineEdit()
        self._problems: list[str] = []
        self._quiet = False
        self._lay_out([one for one in fields.specs(model) if one.name not in skip], small)
        self._after()

    def _lay_out(self, specs: list[Spec], small: bool) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        if not small:
            self._build_search(column)
        grid = QGridLayout()
        grid.setHorizontalSpacing(6)
        grid.setVerticalSpacing(4)
        grid.setColumnStretch(0, 4)
        grid.setColumnStretch(1, 5)
        self._grid = grid
        for at, spec in enumerate(specs):
            row = self.rows[spec.name] = Row(spec, grid, at)
            row.setParent(self)
            row.editor.edited.connect(self._after)
        column.addLayout(grid)
        self._measure()
        self._build_end(column)
        self._shown_first = {one.name for one in specs if one.default is REQUIRED}
        self._shown_first |= {
            one.name for one in (specs if small else [one for one in specs if one.own][: fields.FIRST])
        }
        self.more.setVisible(len(self._shown_first) < len(specs))

    def _build_search(self, column: QVBoxLayout) -> None:
        self.search.setPlaceholderText("Find a setting")
        self.search.setAccessibleName("Find a setting by name or description")
        self.search.setToolTip("Shows the settings whose name or description holds all these words")
        self.search.setClearButtonEnabled(True)
        self.search.textChanged.connect(self._show_rows)
        column.addWidget(self.search)

    def _build_end(self, column: QVBoxLayout) -> None:
        self.more.setCheckable(True)
        self.more.setAccessibleName(f"More settings of {self.title}")
        self.more.setToolTip("Settings that are seldom changed; what was changed is always shown")
        self.more.setProperty("role", "flat")
        self.more.toggled.connect(self._show_rows)
        column.addWidget(self.more, 0, Qt.AlignmentFlag.AlignLeft)
        self.whole.setProperty("role", "bad")
        self.whole.setWordWrap(True)
        self.whole.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        column.addWidget(self.whole)
        column.addStretch()

    def _measure(self) -> None:
        """Sizes that go with the font."""
        self._grid.setColumnMinimumWidth(0, int(LABEL_EM * theme.em()))
        self._grid.setColumnMinimumWidth(1, int(EDITOR_EM * theme.em()))
        for row in self.rows.values():
            row.reset.setFixedWidth(int(RESET_EM * theme.em()))

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802 - Qt's name
        """Another font."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange and self.rows:
            self._measure()

    # -- values -------------------------------------------------------------------------------------------------

    def values(self) -> dict[str, Any]:
        """What differs from the defaults, as `--set` would say it; wrong values too."""
        found = {name: row.value() for name, row in self.rows.items() if row.changed}
        return {name: value for name, value in found.items() if value is not REQUIRED}

    def set_values(self, values: Mapping[str, Any]) -> None:
        """Show these values, and defaults for all others. Raises UsageError for a field that there is not."""
        fields.check_names(self.model, values, self.title)
        self._quiet = True
        try:
            if "preset" in self.rows:
                self.rows["preset"].editor.put(values.get("preset", self.rows["preset"].basis))
                self._follow_preset()
            for name, row in self.rows.items():
                row.editor.put(fields.as_plain(values[name]) if name in values else row.basis)
        finally:
            self._quiet = False
        self._after()

    def problems(self) -> list[str]:
        """Everything that is wrong, in the words of the command line."""
        return list(self._problems)

    # -- what follows a change ----------------------------------------------------------------------------------

    def _after(self) -> None:
        if self._quiet:
            return
        self._quiet = True
        try:
            self._follow_preset()
        finally:
            self._quiet = False
        was = bool(self._problems)
        self._judge()
        self._show_rows()
        self.changed.emit()
        if was != bool(self._problems):
            self.valid.emit(was)

    def _follow_preset(self) -> None:
        if "preset" in self.rows:
            preset = str(self.rows["preset"].value())
            for name, basis in fields.baseline(self.model, preset).items():
                if name != "preset" and name in self.rows and self.rows[name].basis != basis:
                    self.rows[name].rebase(basis)

    def _judge(self) -> None:
        found = fields.mistakes(self.model, self._asked(), self.title)
        self._problems = [words for _, words in found]
        prefix = f"protocol {self.title}: "
        for name, row in self.rows.items():
            said = [words.removeprefix(prefix).removeprefix(f"{name}: ") for at, words in found if at == name]
            row.say("\n".join(said))
            row.mark()
        left = [words.removeprefix(prefix) for at, words in found if at not in self.rows]
        self.whole.setText("\n".join(f"{WRONG} {words}" for words in left))
        self.whole.setVisible(bool(left))

    def _asked(self) -> dict[str, Any]:
        fixed = {"kind": self.title} if "kind" in self.model.model_fields and "kind" not in self.rows else {}
        return fixed | self.values()

    def _show_rows(self) -> None:
        words = self.search.text().lower().split()
        hidden = 0
        for name, row in self.rows.items():
            first = name in self._shown_first or self.more.isChecked() or row.changed or bool(row.problem.text())
            hidden += not first
            text = f"{name} {row.spec.label} {row.spec.description}".lower()
            row.show(all(word in text for word in words) if words else first)
        count = len(self.rows) - len(self._shown_first)
        self.more.setText("▾ Fewer settings" if self.more.isChecked() else f"▸ {hidden or count} more settings")
        self.more.setEnabled(not words)
