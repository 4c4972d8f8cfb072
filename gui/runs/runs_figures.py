"""The figures of a run, drawn by `neurobench plot` in a child process, as pictures to look at and to open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QIcon, QImage, QPixmap
from PySide6.QtWidgets import QLabel, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from .. import theme
from ..parts.aside import Aside

TIP = "neurobench plot: PNG files in a folder beside the run file, from the run file alone"


def pictures_of(folder: Path, size: QSize) -> list[tuple[Path, QImage]]:
    """The pictures of a folder, small. Reads files: not for the window's thread."""
    files = sorted(folder.glob("*.png"))
    fit, smooth = Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
    return [(file, QImage(str(file)).scaled(size, fit, smooth)) for file in files]


class FiguresPanel(QWidget):
    """A list of pictures; a double click opens one with the system's own viewer."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.draw = QPushButton("Draw the figures of this run")
        self.draw.setToolTip(TIP)
        self._aside = Aside("figures", self)
        self._none: tuple[Path | None, str] = (None, "")
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setProperty("role", "dim")
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.list = QListWidget()
        self.list.setAccessibleName("Figures of the run")
        self.list.setToolTip("Figures that can be drawn of this run")
        self.list.setViewMode(QListWidget.ViewMode.IconMode)
        self.list.setMovement(QListWidget.Movement.Static)
        self.list.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.list.itemActivated.connect(self._open)
        layout = QVBoxLayout(self)
        layout.addWidget(self.draw)
        layout.addWidget(self.words)
        layout.addWidget(self.list, 1)

    def show_of(self, run: Path | None, why: str = "") -> None:
        """The figures that lie beside a run already; `why` none can be drawn now, or of which run."""
        self.draw.setEnabled(run is not None and not why)
        self.draw.setToolTip(TIP + (f"\nNot now: {why}" if why else ""))
        if run is None:
            self._aside.forget()
            self.list.clear()
            self.say(why)
            return
        size, folder = QSize(theme.em() * 13, theme.em() * 9), run.with_suffix("")
        self._aside.ask(lambda: pictures_of(folder, size), lambda found: self._fill(run, size, found), self.say)

    def say(self, words: str) -> None:
        """What is to be said about them."""
        self.words.setText(words)

    def not_drawn(self, run: Path, words: str) -> None:
        """Why a run has none."""
        self._none = (run, words)
        self.say(words)

    def close_down(self) -> None:
        """The page is seen no more: let the thread end."""
        self._aside.wait()

    def _fill(self, run: Path, size: QSize, found: Sequence[tuple[Path, QImage]]) -> None:
        self.list.clear()
        self.list.setIconSize(size)
        for file, picture in found:
            item = QListWidgetItem(QIcon(QPixmap.fromImage(picture)), file.stem.removeprefix(f"{run.stem}-"))
            item.setData(Qt.ItemDataRole.UserRole, str(file))
            item.setToolTip(f"{file}: a double click or Return opens it")
            self.list.addItem(item)
        self.say(
            f"{len(found)} figure{'s' * (len(found) > 1)} in {found[0][0].parent}"
            if found
            else self._none[1]
            if self._none[0] == run
            else "No figures yet"
        )

    def _open(self, item: QListWidgetItem) -> None:
        path = str(item.data(Qt.ItemDataRole.UserRole))
        opened = QDesktopServices.openUrl(QUrl.fromLocalFile(path))
        self.words.setText(path if opened else f"nothing here opens pictures; the file is {path}")
