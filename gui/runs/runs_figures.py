"""The figures of a run, drawn by `neurobench plot` in a child process, as pictures to look at and to open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PySide6.QtCore import QSize, Qt, QUrl
from PySide6.QtGui import QDesktopServices, QIcon, QPixmap
from PySide6.QtWidgets import QLabel, QListWidget, QListWidgetItem, QPushButton, QVBoxLayout, QWidget

from .. import theme


class FiguresPanel(QWidget):
    """A list of pictures; a double click opens one with the system's own viewer."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.draw = QPushButton("Draw the figures of this run")
        self.draw.setToolTip("neurobench plot: PNG files in a folder beside the run file, from the run file alone")
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setProperty("role", "dim")
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

    def show_of(self, run: Path | None) -> None:
        """The figures that lie beside a run already."""
        self.draw.setEnabled(run is not None)
        found = sorted(run.with_suffix("").glob("*.png")) if run is not None else []
        self.show_files(found)
        if run is None:
            self.words.setText("Choose one run; a sweep has no figures")

    def show_files(self, files: Sequence[Path]) -> None:
        """These pictures."""
        self.list.clear()
        size = QSize(theme.em() * 13, theme.em() * 9)
        self.list.setIconSize(size)
        for file in files:
            picture = QPixmap(str(file)).scaled(
                size, Qt.AspectRatioMode.KeepAspectRatio, Qt.TransformationMode.SmoothTransformation
            )
            item = QListWidgetItem(QIcon(picture), file.stem.rpartition("-")[2])
            item.setData(Qt.ItemDataRole.UserRole, str(file))
            item.setToolTip(f"{file}: a double click or Return opens it")
            self.list.addItem(item)
        self.words.setText(f"{len(files)} figures in {files[0].parent}" if files else "No figures yet")

    def _open(self, item: QListWidgetItem) -> None:
        path = str(item.data(Qt.ItemDataRole.UserRole))
        opened = QDesktopServices.openUrl(QUrl.fromLocalFile(path))
        self.words.setText(path if opened else f"nothing here opens pictures; the file is {path}")
