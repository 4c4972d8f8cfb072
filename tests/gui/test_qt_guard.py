"""PySide6 6.12.0 lets go of True and None once too often with every signal and update; after a while the program dies.

The loss is seen long before the crash: the reference counts fall. Nothing else of the window needs to be there for it.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator

import pytest

TIMES = 500
SLACK = 20  # counts may move by a few when something else is kept or let go


@pytest.fixture
def widget(qtbot: object) -> Iterator[object]:
    from PySide6.QtWidgets import QCheckBox

    box = QCheckBox("guard")
    yield box
    box.close()
    box.deleteLater()


def lost(work: Callable[[], object]) -> dict[str, int]:
    """How many references to True, False and None are gone after `work` was done many times."""
    work()
    gc.collect()
    before = [sys.getrefcount(one) for one in (True, False, None)]
    for _ in range(TIMES):
        work()
    gc.collect()
    after = [sys.getrefcount(one) for one in (True, False, None)]
    return {name: b - a for name, b, a in zip(("True", "False", "None"), before, after, strict=True)}


def works(box: object) -> dict[str, Callable[[], object]]:
    """What lost references in 6.12.0, by name."""
    from PySide6.QtCore import QObject, Signal
    from PySide6.QtWidgets import QCheckBox, QGraphicsRectItem

    class Sender(QObject):
        told = Signal(object)
        switched = Signal(bool)

    assert isinstance(box, QCheckBox)
    sender, item = Sender(box), QGraphicsRectItem(0, 0, 1, 1)
    heard: list[object] = []
    sender.told.connect(lambda _value: heard.clear())
    sender.switched.connect(lambda _value: heard.clear())
    flag = QGraphicsRectItem.GraphicsItemFlag.ItemIsMovable
    return {
        "emit an object": lambda: sender.told.emit(True),
        "emit None": lambda: sender.told.emit(None),
        "emit a bool": lambda: sender.switched.emit(True),
        "setVisible": lambda: item.setVisible(True),
        "update": lambda: item.update(),
        "prepareGeometryChange": lambda: item.prepareGeometryChange(),
        "setFlag": lambda: item.setFlag(flag, True),
        "toggle": lambda: box.setChecked(not box.isChecked()),
    }


NAMES = (
    "emit an object", "emit None", "emit a bool", "setVisible", "update", "prepareGeometryChange", "setFlag", "toggle",
)  # fmt: skip


@pytest.mark.usefixtures("qt")
@pytest.mark.parametrize("name", NAMES)
def test_qt_keeps_its_references(widget: object, name: str) -> None:
    assert max(lost(works(widget)[name]).values()) <= SLACK


def test_a_loss_would_be_seen() -> None:
    """The measure itself: one reference kept per call is a rise of as many, so one lost would be a fall."""
    if sys.version_info >= (3, 12):
        pytest.skip("True and None are immortal from Python 3.12 on: there is nothing to count")
    kept: list[object] = []
    assert lost(lambda: kept.append(None))["None"] <= -TIMES + SLACK
