"""The window keeps up: nobody waits for a window that does not draw, words are told calmly, and ON is seen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("PySide6")

from neurobench.gui.frame.actions import Actions
from neurobench.gui.frame.topbar import TopBar
from neurobench.gui.parts.calm import Calm
from neurobench.gui.session import reading
from neurobench.gui.session.reading import Reader
from neurobench.gui.session.session import Session
from neurobench.gui.session.states import BenchState
from neurobench.gui.views.traces import WIDEST, peaks
from PySide6.QtCore import QObject
from PySide6.QtWidgets import QApplication, QMainWindow


def test_calm_calls_at_once_then_once_for_all_that_was_asked(qtbot: Any) -> None:
    calls: list[float] = []
    parent = QObject()
    calm = Calm(lambda: calls.append(time.monotonic()), parent, 0.05)
    for _ in range(20):
        calm.ask()
    assert len(calls) == 1
    qtbot.waitUntil(lambda: len(calls) == 2, timeout=2000)
    assert calls[1] - calls[0] >= 0.045
    qtbot.wait(120)
    assert len(calls) == 2, "nobody asked again"


@pytest.fixture
def session(window_app: QApplication, tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path / "runs")
    yield made
    made.shutdown()


def test_the_lamp_shows_that_the_outputs_were_on(session: Session, qtbot: Any) -> None:
    window = QMainWindow()
    qtbot.addWidget(window)
    bar = TopBar(session, Actions(session, window), window)
    lamp = bar.outputs

    def put(on: bool | None) -> None:
        session.outputs = {"on": on, "how": "emulated", "age_s": 0.0}
        session.outputs_changed.emit()

    put(True)
    began = time.monotonic()
    put(False)
    assert "ON" in lamp.text().split()
    assert "half a second" in lamp.toolTip()
    qtbot.waitUntil(lambda: "OFF" in lamp.text(), timeout=3000)
    assert time.monotonic() - began >= 0.45
    put(True)
    put(False)
    assert "ON" in lamp.text().split()
    session._stand(BenchState.PAUSED)
    assert "OFF" in lamp.text(), "who has halted a run is not told for half a second that its outputs are on"
    session._stand(BenchState.READY)
    put(True)
    put(None)
    assert "UNKNOWN" in lamp.text(), "what nobody knows is told at once"


def test_peaks_of_a_long_curve_stay_in_order() -> None:
    x = np.arange(10_007.0)
    y = np.sin(x / 300)
    y[4321], y[8000] = 9.0, -9.0
    at, seen = peaks(x, y)
    assert len(at) <= 2 * WIDEST + 20
    assert (np.diff(at) >= 0).all()
    assert (seen.max(), seen.min(), at[-1]) == (9.0, -9.0, x[-1])
    assert peaks(x[:500], y[:500])[0] is not at
    assert len(peaks(x[:500], y[:500])[0]) == 500


class Endless:
    """Stands for a run file that always has more."""

    behind = True

    def __init__(self, *_: object) -> None:
        self.told = 0

    def read(self, _budget_s: float | None = None) -> bool:
        return True

    def snapshot(self, _at: int | None) -> object:
        self.told += 1
        return self.told

    def close(self) -> None:
        """Nothing is open."""


def test_no_snapshot_is_made_while_the_last_one_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    monkeypatch.setattr(reading, "Follower", Endless)
    monkeypatch.setattr(reading, "UNDRAWN_S", 30.0)
    news: list[object] = []
    reader = Reader(tmp_path / "a.nbr", lambda _: None, lambda: news.append(reader.latest))
    reader.start()
    try:
        qtbot.waitUntil(lambda: news == [1], timeout=3000)
        qtbot.wait(150)
        assert news == [1]
        reader.go_on()
        qtbot.waitUntil(lambda: news == [1, 2], timeout=3000)
        monkeypatch.setattr(reading, "UNDRAWN_S", 0.01)
        reader.go_on()
        qtbot.waitUntil(lambda: len(news) > 5, timeout=3000)  # a hidden window draws nothing: it is not waited for
    finally:
        reader.stop()
        reader.join(5)
    assert not reader.is_alive()


class Short(Endless):
    """Has more once, and that is read in what a picture leaves of its time."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.budgets: list[float | None] = []

    def read(self, budget_s: float | None = None) -> bool:
        self.budgets.append(budget_s)
        self.behind = len(self.budgets) == 1
        return len(self.budgets) <= 2

    def snapshot(self, _at: int | None) -> object:
        return len(self.budgets), self.budgets[1:2]


def test_what_is_read_between_two_pictures_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, qtbot: Any
) -> None:
    monkeypatch.setattr(reading, "Follower", Short)
    monkeypatch.setattr(reading, "EVERY_S", 0.3)
    monkeypatch.setattr(reading, "UNDRAWN_S", 0.01)
    reader = Reader(tmp_path / "a.nbr", lambda _: None, lambda: None)
    reader.start()
    try:
        qtbot.waitUntil(lambda: reader.reads == 2, timeout=3000)
        shown, (budget_s,) = reader.latest
        assert shown == 3
        assert 0 < budget_s < 0.3
    finally:
        reader.stop()
        reader.join(5)
