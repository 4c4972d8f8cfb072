"""What a pulse scheme puts on lines and cells, with the limits beside it, in a window of its own; nothing is played."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import Qt
from PySide6.QtWidgets import QLabel, QVBoxLayout, QWidget

from neurobench.runs.screen import si

from .. import theme
from ..parts.fields import shown
from ..views.plots import Canvas, Curves, Marks, dash_of, line_of, milliseconds, name

if TYPE_CHECKING:
    from neurobench.runs.request import Request

    from ..session.session import Session

SIDES = (("lines", "line", ("max_line_v",)), ("cells", "cell", ("max_cell_v", "threshold_v")))
NAMES = {"max_line_v": "limit of a line", "max_cell_v": "limit of a cell", "threshold_v": "threshold"}
SHOWN_WITHIN = 2.0  # a limit farther away than so many times the volts shown is told in words


def words_of(scheme: Any, request: Request) -> list[str]:
    """The words behind `neurobench` that preview the waveforms of a scheme on the bench of a request."""
    settings = dict(scheme) if isinstance(scheme, Mapping) else {"kind": str(scheme)}
    words = ["waveform", "preview", str(settings.pop("kind")), "--bench", request.bench]
    for flag, values in (("--set", settings), ("--bench-set", request.bench_settings)):
        for key, value in values.items():
            words += [flag, f"{key}={shown(value)}"]
    return words


class WaveformWindow(QWidget):
    """`ask` has the waveforms computed in a child process and shows them."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Window)
        self._session = session
        self.setWindowTitle("Waveforms")
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.words.setAccessibleName("What the waveforms come to")
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.key = QLabel()
        self.key.setWordWrap(True)
        self.canvas = Canvas()
        self.canvas.setAccessibleName("Volts over time on lines and cells")
        column = QVBoxLayout(self)
        column.addWidget(self.words)
        column.addWidget(self.canvas, 1)
        column.addWidget(self.key)
        self.resize(48 * theme.em(), 34 * theme.em())

    def ask(self, scheme: Any, request: Request) -> None:
        """Show this scheme on the bench of this request."""
        self._say("Computing ...", "dim")
        self.canvas.clear()
        self.canvas.restyle()
        self.key.clear()
        self._session.job(words_of(scheme, request), self.take, self._failed)

    def _failed(self, text: str) -> None:
        self._say(f"▲ {text}", "bad")

    def _say(self, text: str, role: str) -> None:
        self.words.setText(text)
        self.words.setProperty("role", role)
        self.words.style().polish(self.words)

    def take(self, found: Mapping[str, Any]) -> None:
        """Show what `neurobench waveform preview --json` printed."""
        if "pairs" not in found:
            self._failed(str(found.get("error")))
            return
        kind, where = found["scheme"]["kind"], f"{found['bench']}{', SIMULATED' if found['simulated'] else ''}"
        if found["refused"]:
            self._say(f"▲ {kind} on {where}: refused: {found['refused']}", "bad")
        else:
            self._say(
                f"✓ {kind} on {where}: allowed, up to {si(found['peak_v'], 'V')}; computed, nothing was played", "ok"
            )
        self.canvas.clear()
        played = [(pair["dt_s"], one) for pair in found["pairs"] for one in pair["stimuli"] if one["lines"]]
        for row, (dt_s, one) in enumerate(played):
            self._row(row, float(dt_s), one, found)
        if played:
            self.key.setText(self._key(played[0][1]))

    def _row(self, row: int, dt_s: float, one: Mapping[str, Any], found: Mapping[str, Any]) -> None:
        factor, unit = milliseconds(np.array([0.0, float(one["duration_s"])]))
        for col, (side, what, limits) in enumerate(SIDES):
            plot = self.canvas.add(row, col, "V", f"t ({unit})")
            times = f", {one['repeat']} times" if one["repeat"] > 1 else ""
            name(plot, "left", f"{what}s (V)")
            plot.setTitle(f"dt = {si(dt_s, 's')}{times}" if col == 0 else "V_row - V_col", size=f"{theme.em() // 2}pt")
            curves = Curves(plot)
            curves.begin()
            for n, curve in enumerate(one[side]):
                curves.put(curve[what], np.asarray(curve["t_s"]) * factor, np.asarray(curve["v"]), pen=_pen(n))
            curves.end()
            self._limits(plot, one[side], found, limits)

    def _limits(
        self, plot: Any, curves: list[Mapping[str, Any]], found: Mapping[str, Any], names: tuple[str, ...]
    ) -> None:
        reach = max((max(abs(one["max_v"]), abs(one["min_v"])) for one in curves), default=0.0)
        tokens, wanted = theme.tokens(), []
        for limit in names:
            volts = found["limits"].get(limit)
            if volts is not None and volts <= SHOWN_WITHIN * reach:
                color = tokens.warn if limit == "threshold_v" else tokens.bad
                wanted += [(sign * volts, f"{NAMES[limit]} {si(sign * volts, 'V')}", False, color) for sign in (1, -1)]
        Marks(plot).show(wanted)

    @staticmethod
    def _key(one: Mapping[str, Any]) -> str:
        return "<br>".join(f"{side}: {_names(one[side], what)}" for side, what, _ in SIDES)


def _names(curves: Sequence[Mapping[str, Any]], what: str) -> str:
    parts = (
        f'<span style="white-space:nowrap"><span style="color:{theme.trace_color(n)}">{dash_of(n)}</span> '
        f"{curve[what]}</span>"
        for n, curve in enumerate(curves)
    )
    return "&nbsp;&nbsp; ".join(parts)


def _pen(n: int) -> Any:
    return line_of(theme.trace_color(n))
