"""Asking for a file or a folder. Nothing else waits meanwhile: ABORT can be pressed, and Esc is heard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFileDialog, QWidget

Wanted = Literal["file", "new file", "folder"]
MODES = {
    "file": QFileDialog.FileMode.ExistingFile,
    "new file": QFileDialog.FileMode.AnyFile,
    "folder": QFileDialog.FileMode.Directory,
}


def ask_path(
    parent: QWidget, title: str, then: Callable[[Path], object], *, wanted: Wanted = "file", start: str = "",
    name: str = "", filters: str = "", otherwise: Callable[[], object] | None = None,
) -> QFileDialog:  # fmt: skip
    """Show the dialog and come back at once; `then` is called with what was chosen, `otherwise` if nothing was.

    `start`: the folder that it shows; `name`: of a new file, whose suffix is added where none is written.
    """
    dialog = QFileDialog(parent, title, start, filters)
    dialog.setOption(QFileDialog.Option.DontUseNativeDialog)  # Esc is not heard in the desktop's own one
    dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
    dialog.setFileMode(MODES[wanted])
    dialog.setOption(QFileDialog.Option.ShowDirsOnly, wanted == "folder")
    if wanted == "new file":
        dialog.setAcceptMode(QFileDialog.AcceptMode.AcceptSave)
        dialog.setDefaultSuffix(Path(name).suffix.removeprefix("."))
        dialog.selectFile(name)
    dialog.fileSelected.connect(lambda chosen: then(Path(chosen)))
    if otherwise is not None:
        dialog.rejected.connect(otherwise)
    dialog.show()
    return dialog
