"""The emulator lab as people use it: a curve is dropped, a chip is made, its cells are broken with the mouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import seen
from neurobench.gui.frame.preferences import Preferences
from neurobench.gui.frame.window import MainWindow
from neurobench.gui.lab.defect_map import MARKS, DefectMap
from neurobench.gui.lab.lab_device import ImportPanel, cards_folder, free_name, own_cards
from neurobench.gui.lab.lab_page import LabPage
from neurobench.gui.session.session import Session
from PySide6.QtCore import QEvent, QMimeData, QPoint, QPointF, Qt, QUrl
from PySide6.QtGui import QDragEnterEvent, QDropEvent, QMouseEvent
from PySide6.QtWidgets import QApplication, QWidget

from neurobench.bench.config import load_bench
from neurobench.physics import library
from neurobench.physics.chip import SHORTED_S, load_chip

LEFT, RIGHT = Qt.MouseButton.LeftButton, Qt.MouseButton.RightButton
NONE = Qt.KeyboardModifier.NoModifier
LONG_MS = 20_000


class Lab:
    """The window with the lab shown."""

    def __init__(self, tmp_path: Path) -> None:
        self.session = Session(tmp_path / "runs")
        self.window = MainWindow(self.session, Preferences(tmp_path / "window.ini"))
        self.window.resize(1280, 720)
        page = self.window.show_mode("lab").page
        assert isinstance(page, LabPage)
        self.page = page


@pytest.fixture
def lab(window_app: Any, qtbot: Any, tmp_path: Path) -> Iterator[Lab]:
    one = Lab(tmp_path)
    seen.active(qtbot, one.window)
    qtbot.waitUntil(lambda: one.page.devices.list.count() > 10, timeout=LONG_MS)
    yield one
    one.window.close()


def _drop(widget: QWidget, path: Path) -> bool:
    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path))])
    enter = QDragEnterEvent(QPoint(5, 5), Qt.DropAction.CopyAction, data, LEFT, NONE)
    QApplication.sendEvent(widget, enter)
    event = QDropEvent(QPointF(5, 5), Qt.DropAction.CopyAction, data, LEFT, NONE)
    QApplication.sendEvent(widget, event)
    return enter.isAccepted() and event.isAccepted()


def _curve(tmp_path: Path) -> Path:
    path = tmp_path / "wafer 3.csv"
    path.write_text("".join(f"{1e-6 + n * 2e-8}\n" for n in range(30)))
    return path


def test_a_dropped_curve_becomes_a_card_that_is_shown(lab: Lab, qtbot: Any, tmp_path: Path) -> None:
    importer, curve = lab.page.importer, _curve(tmp_path)
    assert not importer.form.isVisible(), "nothing is asked before there is a file"
    assert not _drop(lab.page, tmp_path) or "is not a file" in importer.words.text()
    assert _drop(lab.page, curve), "anywhere on the page"
    assert importer.file.text() == str(curve)
    qtbot.keyClicks(importer.volts, "1.5")
    qtbot.keyClicks(importer.seconds, "2 m")
    qtbot.keyClicks(importer.source, "measured by hand, wafer 3")
    qtbot.mouseClick(importer.start, LEFT)
    assert importer.working.isVisible()
    assert importer.working.line.text().startswith("reading wafer 3.csv")
    written = tmp_path / "cards" / "wafer 3.toml"
    qtbot.waitUntil(lambda: lab.page.devices.device() == str(written), timeout=LONG_MS)
    card = library.card(written)
    assert (card.curve[0].amplitude_v, card.curve[0].width_s) == (1.5, 2e-3)
    assert card.source == "measured by hand, wafer 3"
    shown = lab.page.device
    assert shown.title.text() == "wafer 3: reading ..."
    assert not shown.curves.item.listDataItems(), "no curve of another device below this name"
    qtbot.waitUntil(lambda: "30 points" in shown.text.toPlainText(), timeout=LONG_MS)
    assert "only potentiation is known" in shown.text.toPlainText()
    points, fit = shown.curves.item.listDataItems()
    assert np.allclose(points.getData()[1], card.curve[0].points() * 1e6)
    assert len(fit.getData()[1]) == 30
    residual = shown.residuals.item.listDataItems()[0].getData()[1]
    assert np.allclose(residual, points.getData()[1] - fit.getData()[1])
    devices = lab.page.devices
    assert "1 of them yours" in devices.words.text()
    assert own_cards(cards_folder(lab.session)) == [written], "the next window finds it"
    qtbot.keyClick(devices.list, Qt.Key.Key_Delete)
    assert "is off the list, and stays where it is" in devices.words.text()
    assert written.exists()


@pytest.mark.slow
def test_a_curve_that_is_none_says_file_and_line(lab: Lab, qtbot: Any, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("1e-6\nnan\n2e-6\n")
    importer = lab.page.importer
    _drop(importer, bad)
    qtbot.mouseClick(importer.start, LEFT)
    qtbot.waitUntil(lambda: "bad.csv:2" in importer.words.text(), timeout=LONG_MS)
    assert importer.words.property("role") == "bad"
    assert not (tmp_path / "cards").exists()


def test_an_existing_card_is_not_overwritten(window_app: Any, qtbot: Any, tmp_path: Path) -> None:
    session = Session(tmp_path / "runs")
    importer = ImportPanel(session)
    qtbot.addWidget(importer)
    importer.show()
    kept = tmp_path / "cards" / "wafer 3.toml"
    kept.parent.mkdir()
    kept.write_text("precious")
    importer.take(_curve(tmp_path))
    assert importer.out.text() == str(tmp_path / "cards" / "wafer 3-2.toml")
    importer.out.setText(str(kept))
    qtbot.mouseClick(importer.start, LEFT)
    assert "not overwritten" in importer.words.text()
    assert kept.read_text() == "precious"
    importer.volts.setText("many")
    importer.out.setText(str(tmp_path / "new.toml"))
    qtbot.mouseClick(importer.start, LEFT)
    assert "'many' is not a number" in importer.words.text()
    session.shutdown()


def test_free_names(tmp_path: Path) -> None:
    assert free_name(tmp_path / "a.toml") == tmp_path / "a.toml"
    for name in ("a.toml", "a-2.toml"):
        (tmp_path / name).touch()
    assert free_name(tmp_path / "a.toml") == tmp_path / "a-3.toml"


# ---------------------------------------------------------------------------------------------- breaking cells


def _send(one: DefectMap, kind: QEvent.Type, cell: tuple[int, int], button: Qt.MouseButton) -> None:
    point = one.rect_of(cell).center()
    moved = kind == QEvent.Type.MouseMove
    held = Qt.MouseButton.NoButton if kind == QEvent.Type.MouseButtonRelease else button
    event = QMouseEvent(kind, point, one.mapToGlobal(point), Qt.MouseButton.NoButton if moved else button, held, NONE)
    QApplication.sendEvent(one, event)


def _drag(one: DefectMap, start: tuple[int, int], end: tuple[int, int], button: Qt.MouseButton = LEFT) -> None:
    _send(one, QEvent.Type.MouseButtonPress, start, button)
    _send(one, QEvent.Type.MouseMove, end, button)
    _send(one, QEvent.Type.MouseButtonRelease, end, button)


@pytest.fixture
def cells(window_app: Any, qtbot: Any) -> DefectMap:
    one = DefectMap()
    qtbot.addWidget(one)
    one.set_shape(6, 8)
    one.resize(420, 340)
    one.show()
    qtbot.waitExposed(one)
    return one


def test_a_fast_drag_breaks_every_cell_on_its_way(cells: DefectMap, qtbot: Any) -> None:
    with qtbot.waitSignal(cells.changed):
        _drag(cells, (1, 0), (1, 7))
    assert cells.broken == {(1, col): "stuck" for col in range(8)}
    cells.brush = "open"
    _drag(cells, (0, 0), (5, 5))
    assert cells.broken[(3, 3)] == "open"
    assert cells.broken[(1, 1)] == "open"
    _drag(cells, (1, 0), (1, 7), RIGHT)
    assert not any(row == 1 for row, _ in cells.broken)


def test_cells_are_broken_with_keys_alone(cells: DefectMap, qtbot: Any) -> None:
    cells.setFocus()
    cells.brush = "short"
    for key in (Qt.Key.Key_Down, Qt.Key.Key_Right, Qt.Key.Key_Right, Qt.Key.Key_Space):
        qtbot.keyClick(cells, key)
    assert cells.broken == {(1, 2): "short"}
    qtbot.keyClick(cells, Qt.Key.Key_Down, Qt.KeyboardModifier.ShiftModifier)
    assert cells.broken == {(1, 2): "short", (2, 2): "short"}
    qtbot.keyClick(cells, Qt.Key.Key_Delete)
    qtbot.keyClick(cells, Qt.Key.Key_Up)
    qtbot.keyClick(cells, Qt.Key.Key_Space)
    assert cells.broken == {}


def test_another_size_keeps_what_is_still_there(cells: DefectMap) -> None:
    cells.set_broken({(5, 7): "open", (0, 0): "stuck", (9, 9): "short"})
    assert cells.text() == "0,0,stuck\n5,7,open\n"
    cells.set_shape(3, 3)
    assert cells.broken == {(0, 0): "stuck"}
    assert cells.cursor_cell == (0, 0)


def test_every_kind_has_a_mark_and_is_drawn(cells: DefectMap) -> None:
    assert len(set(MARKS.values())) == len(MARKS)
    plain = cells.grab().toImage()
    for kind in ("stuck", "short", "open"):
        cells.set_broken({(2, 3): kind})
        assert cells.grab().toImage() != plain
    cells.set_broken({})
    cells.set_fresh(np.linspace(1e-6, 2e-6, 48).reshape(6, 8))
    image = cells.grab().toImage()
    colors = {image.pixelColor(cells.rect_of((row, 1)).center().toPoint()).name() for row in range(6)}
    assert len(colors) == 6, "each first conductance has its colour"


# ---------------------------------------------------------------------------------------------- the chip


def test_a_chip_with_cells_broken_by_mouse_is_kept_and_goes_to_the_bench(lab: Lab, qtbot: Any, tmp_path: Path) -> None:
    page, panel = lab.page, lab.page.chip
    page.tabs.setCurrentWidget(panel)
    page.devices.choose("ag-a-si")
    panel.forms["chip"].set_values({"rows": 3, "cols": 5, "step_spread": 0.3})
    panel.seed.setValue(7)
    for button, cell in zip(panel.brushes.buttons(), ((0, 1), (2, 2), (1, 4)), strict=False):
        qtbot.mouseClick(button, LEFT)
        _drag(panel.map, cell, cell)
    assert panel.map.broken == {(0, 1): "stuck", (2, 2): "short", (1, 4): "open"}
    qtbot.waitUntil(lambda: "12 of 15 cells work" in panel.said.text(), timeout=LONG_MS)
    assert panel.spread.item.items
    assert len(panel.curves.item.listDataItems()) == 24, "up and down of twelve devices"
    out = tmp_path / "deep" / "drawer 3.toml"
    panel.out.selectAll()
    qtbot.keyClicks(panel.out, str(out))
    assert not panel.use.isEnabled()
    qtbot.mouseClick(panel.save, LEFT)
    qtbot.waitUntil(panel.use.isEnabled, timeout=LONG_MS)
    chip = load_chip(out.with_suffix(".chip"), library.load_model("ag-a-si"))
    g = chip.conductance_s()
    assert (g[2, 2], g[1, 4]) == (SHORTED_S, 0.0)
    assert [tuple(cell) for cell in np.argwhere(chip.devices.step.reshape(3, 5) == 0).tolist()] == [
        (0, 1),
        (1, 4),
        (2, 2),
    ]
    qtbot.mouseClick(panel.use, LEFT)
    assert lab.session.bench is not None
    assert lab.session.bench.chip == load_bench(out).chip
    assert lab.session.bench.chip.seed == 7


def test_a_chip_that_cannot_be_says_why(lab: Lab, qtbot: Any) -> None:
    page, panel = lab.page, lab.page.chip
    page.tabs.setCurrentWidget(panel)
    page.devices.choose("ag-a-si")
    panel.forms["chip"].set_values({"threshold_spread": 0.1})
    qtbot.waitUntil(lambda: "threshold_spread" in panel.words.text(), timeout=LONG_MS)
    assert panel.words.property("role") == "bad"
    panel.forms["chip"].set_values({})
    qtbot.waitUntil(lambda: "16 of 16 cells work" in panel.said.text(), timeout=LONG_MS)
    assert not panel.words.isVisible()
    panel.forms["chip"].set_values({"rows": 0})
    assert panel.said.text() == "This chip cannot be made", "what was said of the one before is not true of this one"
    assert "greater than or equal to 1" in panel.words.text()
    assert "Not now" in panel.save.toolTip()
    panel.forms["chip"].set_values({})


def test_a_name_that_is_taken_is_refused(lab: Lab, qtbot: Any, tmp_path: Path) -> None:
    panel = lab.page.chip
    lab.page.tabs.setCurrentWidget(panel)
    (tmp_path / "mine.toml").write_text("precious")
    panel.out.setText(str(tmp_path / "mine.toml"))
    qtbot.mouseClick(panel.save, LEFT)
    assert "not overwritten" in panel.words.text()
    assert (tmp_path / "mine.toml").read_text() == "precious"
