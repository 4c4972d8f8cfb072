"""What a run would do, asked of `neurobench preview` in a child process, and shown with the limits beside it.

It says when it is out of date: as soon as the form asks for something else than was looked at.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import QFrame, QGridLayout, QHBoxLayout, QLabel, QPushButton, QScrollArea, QVBoxLayout, QWidget

from neurobench.runs.screen import si

from .. import theme

if TYPE_CHECKING:
    from neurobench.runs.request import Request

    from ..session.jobs import Job
    from ..session.session import Session

Level = Literal["ok", "warn", "bad", "plain"]
MARKS: dict[Level, str] = {"ok": "✓", "warn": "▲", "bad": "✕", "plain": ""}
ROLES: dict[Level, str] = {"ok": "ok", "warn": "warn", "bad": "bad", "plain": ""}
CLOSE = 0.9  # a share of a limit from which on it is pointed out
STALE = "▲ out of date: the form has changed since"


@dataclass(frozen=True)
class Fact:
    """One line of a preview: how it is, what it is, what was found."""

    level: Level
    name: str
    words: str


def words_of(request: Request) -> list[str]:
    """The words behind `neurobench` that preview this request."""
    return ["preview", *shlex.split(request.command())[2:]]


def facts_of(found: Mapping[str, Any]) -> list[Fact]:
    """What `neurobench preview --json` printed, as lines; the verdict first."""
    if "needs" not in found:
        return [Fact("bad", "Refused", str(found.get("error", "no reason was given")))]
    facts = [_verdict(found)]
    if said := found.get("preflight"):
        facts.append(Fact("ok" if str(said).startswith("reachable") else "warn", "Reach", str(said)))
    if "pulses" in found:
        facts += _cost(found)
    needs = found["needs"]
    facts.append(Fact("plain", "Array", f"{needs['rows']} x {needs['cols']} at least, of {_shape(found)}"))
    if needs["multiply"]:
        facts.append(Fact("plain", "Products", {"array": "in the array", "host": "on the host, from cell reads"}.get(
            str(found["multiply"]), str(found["multiply"]))))  # fmt: skip
    return [*facts, Fact("plain", "How", str(found["dry_run"]))]


def _verdict(found: Mapping[str, Any]) -> Fact:
    where = f"on {found['bench']}, SIMULATED" if found["simulated"] else f"on {found['bench']}"
    if found.get("error"):
        return Fact("bad", "Verdict", f"it would fail {where}: {found['error']}")
    status = str(found.get("status", "the bench has what it needs")).replace("_", " ")
    return Fact("warn" if status == "not converged" else "ok", "Verdict", f"{status} {where}")


def _shape(found: Mapping[str, Any]) -> str:
    return " x ".join(str(n) for n in found["capabilities"]["shape"])


def _cost(found: Mapping[str, Any]) -> list[Fact]:
    limits = found["limits"]
    updates = "" if found["updates"] is None else f" in {found['updates']} updates"
    energy = "not known" if found["energy_j"] is None else si(found["energy_j"], "J")
    return [
        Fact("plain", "Pulses", f"{found['pulses']:,}{updates}".replace(",", " ")),
        Fact("plain", "Reads", f"{int(found['reads']):,}".replace(",", " ")),
        Fact("plain", "Time", f"{duration(float(found['bench_s']))} of the bench"),
        Fact("plain", "Energy", energy),
        _against("Pulse", found["max_pulse_v"], limits["max_cell_v"], "V"),
        _against("Read", found["max_read_v"], limits["max_read_v"], "V"),
        _against("Width", found["longest_pulse_s"], limits["max_width_s"], "s"),
    ]


def _against(name: str, value: float, limit: float | None, unit: str) -> Fact:
    """A value beside its limit, with the share of it."""
    if not limit:
        return Fact("plain", name, f"up to {si(value, unit)}, no limit")
    share = value / limit
    level: Level = "bad" if share > 1 else "warn" if share > CLOSE else "ok"
    return Fact(level, name, f"up to {si(value, unit)} of {si(limit, unit)} allowed ({share:.0%})")


def duration(seconds: float) -> str:
    """A time as people say it."""
    if seconds < 100:
        return si(seconds, "s")
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {left:02} s"


class PreviewPanel(QWidget):
    """`ask` begins, `compare` says whether what is shown still holds. came(dict): what was found."""

    came = Signal(dict)

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._job: Job | None = None
        self._asked: Request | None = None
        self._wanted: Request | None = None  # what the form asks for now
        self._lines: list[QLabel] = []
        self.facts: list[Fact] = []
        self._build()
        self._say("Nothing looked at yet: Preview (F7) says what a run would do, and fires nothing.", "dim")

    def _build(self) -> None:
        column = QVBoxLayout(self)
        column.setContentsMargins(6, 4, 2, 2)
        column.setSpacing(2)
        top = QHBoxLayout()
        self.head = QLabel()
        self.head.setWordWrap(True)
        self.head.setAccessibleName("State of the preview")
        self.cancel_button = QPushButton("Cancel")
        self.cancel_button.setAccessibleName("Cancel the preview")
        self.cancel_button.setToolTip("Give up the preview that is being made")
        self.cancel_button.clicked.connect(self.cancel)
        self.cancel_button.hide()
        top.addWidget(self.head, 1)
        top.addWidget(self.cancel_button, 0, Qt.AlignmentFlag.AlignTop)
        column.addLayout(top)
        self._inside = QWidget()
        self._grid = QGridLayout(self._inside)
        self._grid.setContentsMargins(0, 0, 4, 0)
        self._grid.setHorizontalSpacing(8)
        self._grid.setVerticalSpacing(2)
        self._grid.setColumnStretch(1, 1)
        area = QScrollArea()
        area.setFrameShape(QFrame.Shape.NoFrame)
        area.setWidgetResizable(True)
        area.setWidget(self._inside)
        area.setAccessibleName("What the preview found")
        column.addWidget(area, 1)

    @property
    def stale(self) -> bool:
        """Whether what is shown is out of date, and says so."""
        return self.head.text() == STALE

    def ask(self, request: Request) -> None:
        """Look at this request; a preview that is going on is dropped."""
        self.cancel()
        self._asked = self._wanted = request
        self._say("Looking: the run is tried out on a copy of the emulated chip ...", "dim")
        self._show([])
        self.cancel_button.show()
        self._job = self._session.job(words_of(request), self._done, self._failed)

    def cancel(self) -> None:
        """Stop looking."""
        job, self._job = self._job, None
        self.cancel_button.hide()
        if job is not None:
            job.cancel()
            self._asked = None
            self._say("Cancelled: nothing is known of this run.", "dim")

    def compare(self, request: Request | None) -> None:
        """The form asks for this now (None: for nothing that makes sense)."""
        self._wanted = request
        if not self.facts or self._asked is None:
            return
        stale = request != self._asked
        if stale and not self.stale:
            self._say(STALE, "warn")
        elif not stale and self.stale:
            self._say_whose()
        self._inside.setEnabled(not stale)

    def _done(self, found: dict[str, Any]) -> None:
        self._job = None
        self.cancel_button.hide()
        self._say_whose()
        self._show(facts_of(found))
        self.compare(self._wanted)  # the form may have changed meanwhile
        self.came.emit(found)

    def _failed(self, words: str) -> None:
        self._done({"error": words})

    def _say_whose(self) -> None:
        asked = self._asked
        if asked is not None:
            self._say(f"{asked.protocol} on {asked.bench}, seed {asked.seed}", "")

    def _say(self, words: str, role: str) -> None:
        self.head.setText(words)
        self.head.setProperty("role", role)
        self.head.style().polish(self.head)

    def _show(self, facts: list[Fact]) -> None:
        self.facts = facts
        for label in self._lines:
            self._grid.removeWidget(label)
            label.setParent(None)
        self._lines = []
        self._inside.setEnabled(True)
        for at, fact in enumerate(facts):
            self._line(at, fact)
        self._grid.setRowStretch(len(facts), 1)

    def _line(self, at: int, fact: Fact) -> None:
        name, words = QLabel(fact.name), QLabel(f"{MARKS[fact.level]} {fact.words}".strip())
        name.setProperty("role", "dim")
        words.setProperty("role", ROLES[fact.level])
        words.setWordWrap(True)
        words.setTextFormat(Qt.TextFormat.PlainText)
        words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        words.setAccessibleName(f"{fact.name}: {fact.words}")
        words.setMinimumWidth(6 * theme.em())
        self._grid.addWidget(name, at, 0, Qt.AlignmentFlag.AlignTop)
        self._grid.addWidget(words, at, 1)
        self._lines += [name, words]
