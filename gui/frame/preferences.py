"""What the window remembers for its user: theme, text size, layouts, and what happens to a run if the window dies.

An ini file in the user's data folder. A file of another version is read for its plain values, never for its layouts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PySide6.QtCore import QByteArray, QSettings

from neurobench.system import data_folder

from .. import theme

LAYOUT_VERSION = 1
SOFT_SHARES = (0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0)  # of max_cell_v: above it a pulse by hand is held for
DEATHS = ("suggested", "keep", "abort")  # what happens to a run if the window dies


class Preferences:
    """Reads and writes the file; a value that makes no sense is taken as not there."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or data_folder() / "window.ini"
        self._file = QSettings(str(self.path), QSettings.Format.IniFormat)

    def _text(self, key: str, allowed: tuple[str, ...], default: str) -> str:
        value = str(self._file.value(key, default))
        return value if value in allowed else default

    def _put(self, key: str, value: Any) -> None:
        self._file.setValue(key, value)

    def save(self) -> bool:
        """Write it now; False where the folder cannot be written."""
        self._file.sync()
        return self._file.status() == QSettings.Status.NoError

    @property
    def theme(self) -> str:
        """Theme by name."""
        return self._text("look/theme", theme.THEMES, "system")

    @theme.setter
    def theme(self, value: str) -> None:
        """Keep another theme."""
        self._put("look/theme", value)

    @property
    def scale(self) -> float:
        """Font scale, 1 to 2."""
        try:
            value = float(str(self._file.value("look/scale", 1.0)))
        except ValueError:
            return 1.0
        return min(max(value, theme.SCALES[0]), theme.SCALES[-1])

    @scale.setter
    def scale(self, value: float) -> None:
        """Keep another font scale."""
        self._put("look/scale", value)

    @property
    def on_death(self) -> str:
        """What happens to a run if the window dies: one of DEATHS."""
        return self._text("run/on_death", DEATHS, "suggested")

    @on_death.setter
    def on_death(self, value: str) -> None:
        """Keep another choice."""
        self._put("run/on_death", value)

    @property
    def soft_share(self) -> float:
        """Share of max_cell_v above which a pulse by hand is held for: one of SOFT_SHARES."""
        known = {str(share): share for share in SOFT_SHARES}
        return known[self._text("hand/soft_share", tuple(known), str(SOFT_SHARES[0]))]

    @soft_share.setter
    def soft_share(self, value: float) -> None:
        """Keep another share."""
        self._put("hand/soft_share", value)

    def layout(self, key: str) -> QByteArray | None:
        """A layout that was kept under this key by the same version; None if there is none."""
        value = self._file.value(f"layout{LAYOUT_VERSION}/{key}")
        return value if isinstance(value, QByteArray) and not value.isEmpty() else None

    def keep_layout(self, key: str, value: QByteArray) -> None:
        """Keep a layout."""
        self._put(f"layout{LAYOUT_VERSION}/{key}", value)

    def forget_layout(self, key: str) -> None:
        """Forget a layout."""
        self._file.remove(f"layout{LAYOUT_VERSION}/{key}")
