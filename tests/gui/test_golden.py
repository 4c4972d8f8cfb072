"""A few pictures of what is drawn, compared with pictures that somebody has looked at.

Only where they were made: Qt 6.11 without a screen and DejaVu Sans in the system's size. There, no four pixels in a
square may differ much from those of old. `NEUROBENCH_GOLDEN=write pytest tests/gui/test_golden.py` makes them anew:
look at each before it is committed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import snapshots
from neurobench.gui import theme
from neurobench.gui.selection import Selection
from neurobench.gui.views.crossbar import CrossbarView
from neurobench.gui.views.progress import ProgressView
from neurobench.gui.views.stdp import StdpView
from neurobench.gui.views.traces import TracesView
from PySide6.QtCore import qVersion
from PySide6.QtGui import QFontInfo, QGuiApplication, QImage
from PySide6.QtWidgets import QApplication, QWidget

GOLDEN = Path(__file__).parent / "golden"
SQUARE = 2  # pixels: the mean of so many by so many is compared
NEAR = 24  # of 255: what the smoothing of a line may be off by
FEW = 0.002  # of the squares may be off by more


def crossbar() -> QWidget:
    selection = Selection((4, 4))
    selection.set([(1, 1), (1, 2)])
    view = CrossbarView(selection)
    excluded = np.zeros((4, 4), np.bool_)
    excluded[3, 0] = True
    view.draw(snapshots.snapshot(cells=snapshots.cells(excluded=excluded)))
    return view


def traces() -> QWidget:
    view = TracesView(Selection((4, 4)))
    view.draw(snapshots.snapshot(seq=199, last_seq=199))
    return view


def progress() -> QWidget:
    view = ProgressView()
    view.draw(snapshots.trained())
    return view


def window() -> QWidget:
    view = StdpView()
    view.draw(snapshots.window())
    return view


PICTURES: dict[str, tuple[Callable[[], QWidget], str, float]] = {
    "crossbar-dark": (crossbar, "dark", 1.0),
    "traces-light": (traces, "light", 1.0),
    "progress-dark-150": (progress, "dark", 1.5),
    "window-light": (window, "light", 1.0),
}


def squares(image: QImage) -> np.ndarray:
    """Means of small squares, [y, x, colour]: a line that moves by a part of a pixel is no news."""
    rgb = image.convertToFormat(QImage.Format.Format_RGB888)
    lines = np.frombuffer(rgb.constBits(), np.uint8).reshape(rgb.height(), rgb.bytesPerLine())
    pixels = lines[:, : 3 * rgb.width()].reshape(rgb.height(), rgb.width(), 3)
    high, wide = rgb.height() // SQUARE, rgb.width() // SQUARE
    cut = pixels[: high * SQUARE, : wide * SQUARE].astype(float)
    return cut.reshape(high, SQUARE, wide, SQUARE, 3).mean(axis=(1, 3))


def share_off(image: QImage, golden: QImage) -> float:
    """Which share of the squares differs; 1 if the sizes do."""
    if image.size() != golden.size():
        return 1.0
    return float((np.abs(squares(image) - squares(golden)).max(axis=2) > NEAR).mean())


def elsewhere(app: QApplication) -> str:
    """Why pictures made here look otherwise; "" if they should not."""
    here = QGuiApplication.platformName(), qVersion().rsplit(".", 1)[0], QFontInfo(app.font()).family()
    return "" if here == ("offscreen", "6.11", "DejaVu Sans") else f"the pictures are not those of {here}"


@pytest.mark.parametrize("name", PICTURES)
def test_it_looks_as_it_did(window_app: QApplication, qtbot: Any, tmp_path: Path, name: str) -> None:
    if why := elsewhere(window_app):
        pytest.skip(why)
    make, theme_name, scale = PICTURES[name]
    theme.apply(window_app, theme_name, scale)
    view = make()
    qtbot.addWidget(view)
    view.resize(round(420 * scale), round(300 * scale))
    view.show()
    qtbot.waitExposed(view)
    for _ in range(4):
        if (focused := QApplication.focusWidget()) is not None:
            focused.clearFocus()  # no frame of it
        QApplication.processEvents()
    image, kept = view.grab().toImage(), GOLDEN / f"{name}.png"
    if os.environ.get("NEUROBENCH_GOLDEN") == "write":
        assert image.convertToFormat(QImage.Format.Format_RGB888).save(str(kept))
    image.save(str(tmp_path / f"{name}.png"))
    off = share_off(image, QImage(str(kept)))
    assert off <= FEW, f"{off:.2%} of {tmp_path / name}.png is not as in {kept}"


def test_a_picture_of_another_colour_size_or_word_is_another_picture(qt: str) -> None:
    image = QImage(60, 40, QImage.Format.Format_RGB888)
    image.fill(0x202020)
    other = image.copy()
    assert share_off(image, other) == 0
    for x in range(20, 24):  # a letter is larger
        for y in range(20, 28):
            other.setPixel(x, y, 0xE0E0E0)
    assert share_off(image, other) > FEW
    assert share_off(image, image.scaled(61, 40)) == 1.0
