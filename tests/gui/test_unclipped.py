"""Nothing is cut off at 1280 x 720, nor at twice the text size; every control says what it is, and Tab reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from neurobench.gui.frame.actions import MODES
from neurobench.gui.frame.window import MainWindow
from neurobench.gui.session.states import BenchState
from PySide6.QtCore import Qt
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QAbstractScrollArea,
    QAbstractSlider,
    QAbstractSpinBox,
    QApplication,
    QCheckBox,
    QComboBox,
    QDialog,
    QLabel,
    QLineEdit,
    QPlainTextEdit,
    QProgressBar,
    QPushButton,
    QRadioButton,
    QScrollArea,
    QScrollBar,
    QTabBar,
    QTextEdit,
    QToolButton,
    QWidget,
)
from pytestqt.qtbot import QtBot

from neurobench.runs.request import Request

pytestmark = pytest.mark.usefixtures("qt")

CONTROLS = (
    QAbstractButton, QComboBox, QLineEdit, QAbstractSpinBox, QAbstractSlider, QAbstractItemView, QPlainTextEdit,
    QTextEdit,
)  # fmt: skip
SLACK = 2  # pixels that a style rounds away


def shown(window: QWidget, kinds: Any) -> Iterator[Any]:
    """Widgets that can be seen, or can be scrolled to."""
    for one in window.findChildren(QWidget):
        if isinstance(one, kinds) and one.isVisibleTo(window) and one.width() > 0:
            yield one


def inside(one: QWidget, kinds: Any) -> bool:
    """Whether it is a part of such a widget: the button of a combo, the header of a table."""
    above = one.parentWidget()
    while above is not None:
        if isinstance(above, kinds):
            return True
        above = above.parentWidget()
    return False


def described(one: QWidget) -> str:
    """Enough to find it."""
    text = getattr(one, "text", str)() if not isinstance(one, QAbstractSpinBox) else one.text()
    above = [type(one).__name__]
    parent = one.parentWidget()
    while parent is not None and len(above) < 4:
        above.append(type(parent).__name__)
        parent = parent.parentWidget()
    return f"{' < '.join(above)} {one.accessibleName() or text!r} {one.width()} x {one.height()}"


# -- what is cut off ------------------------------------------------------------------------------------------------


def clipped(one: QWidget) -> str:
    """Why its text cannot be read as a whole; "" if it can."""
    if isinstance(one, QLabel):
        return clipped_label(one)
    if isinstance(one, QProgressBar):
        needs = QFontMetrics(one.font()).horizontalAdvance(one.text()) if one.isTextVisible() else 0
        return f"needs {needs} px of width" if needs > one.width() - 2 * SLACK else ""
    if isinstance(one, QComboBox):
        # A combo with a text of its own may be long: it scrolls like a line of text.
        return "" if one.isEditable() or elided(one) else too_small(one)
    if isinstance(one, QToolButton | QPushButton | QCheckBox | QRadioButton):
        return "" if not one.text() or elided(one) else too_small(one)
    return ""


def elided(one: QWidget) -> bool:
    """It says the whole text in its tip, and shows that there is more."""
    return bool(one.toolTip()) and "paintEvent" in vars(type(one))  # it paints itself, with an ellipsis


def clipped_label(label: QLabel) -> str:
    if not label.text() or label.textFormat() == Qt.TextFormat.RichText or elided(label):
        return ""
    if label.wordWrap():
        needs = label.heightForWidth(label.width())
        return f"needs {needs} px of height" if needs > label.height() + SLACK else ""
    wide = max(QFontMetrics(label.font()).horizontalAdvance(line) for line in label.text().splitlines() or [""])
    room = label.contentsRect().width()
    return f"needs {wide} px of width" if wide > room + SLACK and not inside(label, QAbstractItemView) else ""


def too_small(one: QWidget) -> str:
    text = one.currentText() if isinstance(one, QComboBox) else one.text()
    if len(text) <= 2 and QFontMetrics(one.font()).horizontalAdvance(text) + SLACK <= one.width():
        return ""  # a mark without much around it
    hint = one.minimumSizeHint() if isinstance(one, QComboBox) else one.sizeHint()
    if hint.width() > one.width() + SLACK or hint.height() > one.height() + SLACK:
        return f"needs {hint.width()} x {hint.height()}"
    return ""


def out_of_reach(window: QWidget, one: QWidget) -> str:
    """Whether it lies beyond the edge of what it is in, where no scroll bar leads."""
    area = one.parentWidget()
    while area is not None and area is not window:
        above = area.parentWidget()
        if isinstance(above, QAbstractScrollArea) and above.viewport() is area:
            break
        area = above
    if isinstance(area, QWidget) and isinstance(area.parentWidget(), QScrollArea):
        return ""  # it can be scrolled to
    seen = one.visibleRegion().boundingRect()
    if seen.width() < one.width() - SLACK or seen.height() < one.height() - SLACK:
        return f"only {seen.width()} x {seen.height()} of it can be seen"
    return ""


def settle(qtbot: QtBot, times: int = 6) -> None:
    """Layouts answer to each other over several rounds of the loop."""
    for _ in range(times):
        QApplication.processEvents()
    qtbot.wait(1)


@pytest.mark.parametrize("scale", [1.0, pytest.param(1.5, marks=pytest.mark.slow), 2.0])
def test_no_text_is_cut_off(window: MainWindow, qtbot: QtBot, scale: float) -> None:
    a_run(window, qtbot)
    problems = set()
    for theme_name in ("dark", "light"):
        window.set_look(theme_name, scale)
        for mode in MODES:
            window.show_mode(mode)
            settle(qtbot)
            assert (window.width(), window.height()) == (1280, 720), f"{mode} makes the window larger"
            problems |= {f"{mode}: {words}" for words in cut_off(window)}
    assert not problems, "\n".join(sorted(problems))


@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_no_text_of_a_dialog_is_cut_off_and_all_of_it_has_names(window: MainWindow, qtbot: QtBot, scale: float) -> None:
    window.set_look("light", scale)
    problems = set()
    for name in ("limits", "messages", "help", "diagnostics", "about", "palette"):
        window.actions_of.by_name(name).trigger()
        dialog = next(one for one in window.findChildren(QDialog) if one.isVisible())
        settle(qtbot)
        assert dialog.width() <= window.width(), name
        assert dialog.height() <= window.height(), name
        problems |= {f"{name}: {words}" for words in (*cut_off(dialog), *unnamed(dialog))}
        dialog.close()
        settle(qtbot)
    assert not problems, "\n".join(sorted(problems))


def a_run(window: MainWindow, qtbot: QtBot) -> None:
    """Most texts are there only when there is something to say."""
    session = window.session
    assert session.start(Request("manhattan"))
    qtbot.waitUntil(lambda: session.state is BenchState.READY and session.snapshot is not None, timeout=30_000)
    qtbot.waitUntil(lambda: not session.snapshot.live, timeout=10_000)


def cut_off(window: QWidget) -> Iterator[str]:
    """What cannot be read as a whole in the window as it stands."""
    for one in shown(window, (QLabel, QAbstractButton, QComboBox, QProgressBar)):
        if inside(one, (QTabBar, QComboBox, QScrollBar, QLineEdit)) or one.visibleRegion().isEmpty():
            continue
        if why := clipped(one) or out_of_reach(window, one):
            yield f"{described(one)}: {why}"


# -- names, tips, keys ----------------------------------------------------------------------------------------------


def is_control(one: QWidget) -> bool:
    """What somebody works with; not the parts that a control is made of."""
    parts = (QComboBox, QAbstractSpinBox, QAbstractItemView, QScrollBar, QTabBar, QPlainTextEdit, QTextEdit, QLineEdit)
    built_in = one.objectName().startswith(("qt_", "ScrollLeft", "ScrollRight"))
    return not (isinstance(one, QScrollBar) or inside(one, parts) or built_in)


def unnamed(window: QWidget) -> Iterator[str]:
    """Controls that say nothing of themselves."""
    for one in window.findChildren(QWidget):
        if not isinstance(one, CONTROLS) or not is_control(one):
            continue
        # buttons are read out by their text
        named = one.accessibleName() or (isinstance(one, QAbstractButton) and one.text().strip())
        if not named:
            yield f"no name: {described(one)}"
        if not (one.toolTip() or one.statusTip()):
            yield f"no tip: {described(one)}"


def test_every_control_has_a_name_and_a_tip(window: MainWindow, qtbot: QtBot) -> None:
    problems = set()
    for mode in MODES:
        window.show_mode(mode)
        settle(qtbot)
        problems |= set(unnamed(window))
    assert not problems, "\n".join(sorted(problems))


def test_tab_reaches_every_control_and_nothing_that_has_no_name(window: MainWindow, qtbot: QtBot) -> None:
    problems = set()
    for mode in MODES:
        page = window.show_mode(mode)
        settle(qtbot)
        wanted = {
            one for one in shown(page, CONTROLS)
            if is_control(one) and one.isEnabled() and not one.visibleRegion().isEmpty() and not in_group(one)
        }  # fmt: skip
        begin = window.rail.buttons[mode]
        reached = by_tab(window, begin, qtbot)
        qtbot.keyClick(begin, Qt.Key.Key_Tab)
        qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Backtab)
        assert QApplication.focusWidget() is begin
        problems |= {f"{mode}, no name: {described(one)}" for one in reached if not name_of(one)}
        problems |= {f"{mode}, not in sight: {described(one)}" for one in reached if not inside(one, QScrollArea)
                     and not window.rect().contains(one.mapTo(window, one.rect().center()))}  # fmt: skip
        missed = {one for one in wanted if one not in reached and one.focusProxy() not in reached}
        problems |= {f"{mode}: {described(one)}" for one in missed}
    assert not problems, "\n".join(sorted(problems))


def test_tab_goes_as_one_reads(window: MainWindow, qtbot: QtBot) -> None:
    window.show_mode("bench")
    settle(qtbot)
    reached = [name_of(one) for one in by_tab(window, window.rail.buttons["bench"], qtbot)]
    wanted = ("Mode Connect", "Side panel", "Bench", "Protocol", "Preset", "Seed", "Run", "Preview or queue",
              "Show conductance", "Crossbar map", "Pulse schedule", "Conductance over time", "Progress",
              "Limits")  # fmt: skip
    assert sorted(wanted, key=reached.index) == list(wanted)


def name_of(one: QWidget) -> str:
    return one.accessibleName() or (one.text() if isinstance(one, QAbstractButton) else "")


def by_tab(window: QWidget, begin: QWidget, qtbot: QtBot) -> list[QWidget]:
    """Everything that has the focus while Tab is pressed again and again, until it is where it began."""
    window.activateWindow()
    begin.setFocus(Qt.FocusReason.TabFocusReason)
    reached = [begin]
    while True:
        qtbot.keyClick(reached[-1], Qt.Key.Key_Tab)
        at = QApplication.focusWidget()
        assert at is not None, f"nobody has the keyboard after {described(reached[-1])}"
        if at is begin:
            return reached
        assert at not in reached, f"Tab comes back to {described(at)}, and not to where it began"
        reached.append(at)


def in_group(one: QWidget) -> bool:
    """Radio buttons of a group are reached by arrow keys from the chosen one."""
    return isinstance(one, QAbstractButton) and (isinstance(one, QRadioButton) or one.group() is not None)
