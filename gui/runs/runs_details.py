"""What one run did, as text to read and copy; and what differs between several."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor
from PySide6.QtWidgets import (
    QFormLayout,
    QLabel,
    QLineEdit,
    QTableWidget,
    QTableWidgetItem,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from neurobench.runs import library, sweep
from neurobench.runs.screen import si, word

from .. import theme
from .runs_notes import Notes, tags_of
from .runs_table import Entry, look_of, when_of

UNITS = {"_v": "V", "_a": "A", "_j": "J", "_hz": "Hz", "_ohm": "Ω"}
# A name that ends in _s may mean seconds or siemens; one that is not known to be either is shown as it stands.
SIEMENS = re.compile(r"(conductance|sigma|offset|noise|window|(^|\.)d?g\d*(_\w+)?)_s$")
SECONDS = re.compile(
    r"(width|wall|bench|duration|batch|overhead|delay|period|settle|timeout|preflight|tau\w*|rise|fall|reach|trip|clock"
    r"|watchdog|gap|interval|at|dt)_s$"
)
PER = re.compile(r"_per_([asvj])$")  # beta_per_a is one over amperes, not amperes
MANY = "several runs are chosen: see Compare and Overlay"


def told(name: str, value: Any) -> str:
    """A value with its unit, by the end of its name."""
    unit = unit_of(name)
    if name == "status":
        return str(value).replace("_", " ")
    if unit and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return f"{word(value)} {unit}" if unit.startswith("/") else si(float(value), unit)
    return word(value)


def unit_of(name: str) -> str:
    """The unit that the end of a name says; "" where it could be two."""
    if per := PER.search(name):
        return f"/{UNITS.get(f'_{per[1]}', per[1])}"
    if name.endswith("_s"):
        return "S" if SIEMENS.search(name) else "s" if SECONDS.search(name) else ""
    return next((unit for end, unit in UNITS.items() if name.endswith(end)), "")


def facts_of(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """What is known of a run or a sweep, by headings. Reads the file: not for the window's thread."""
    if library.is_sweep(path):
        found = sweep.load(path)
        said = sweep.report(found, "aborted" if found.missing else "finished")
        return [("Sweep", {k: v for k, v in said.items() if k != "result"}), ("Result", said["result"])]
    report, more = library.report(path), library.background(path)
    result, parameters = report.pop("result") or {}, more.pop("parameters") or {}
    limits, machine = more.pop("limits") or {}, more.pop("machine") or {}
    outcome = {name: report[name] for name in ("status", "error", "harm", "stopped") if report.get(name)}
    return [
        ("Outcome", outcome | {n: report[n] for n in ("pulses", "energy_j", "energy_basis", "wall_s")}),
        ("Result", result),
        ("Run", {n: report[n] for n in ("run_id", "protocol", "bench", "seed", "simulated")} | more),
        ("Settings", parameters),
        ("Limits", limits),
        ("Machine", machine if isinstance(machine, dict) else {"machine": machine}),
        ("File", {"path": report["run_file"]}),
    ]


def page_of(sections: Iterable[tuple[str, Mapping[str, Any]]]) -> str:
    """The facts as a page of HTML; what an instrument answered is never taken for markup."""
    t = theme.tokens()
    parts = []
    for heading, facts in sections:
        if not facts:
            continue
        parts.append(f"<h4 style='margin:10px 0 2px 0; color:{t.accent}'>{heading}</h4><table cellspacing='0'>")
        for name, value in facts.items():
            shown = html.escape(told(name, value))
            parts.append(
                f"<tr><td style='color:{t.text_dim}; padding:1px 12px 1px 0'>{html.escape(label_of(name))}</td>"
                f"<td style='padding:1px 0'>{shown}</td></tr>"
            )
        parts.append("</table>")
    return "".join(parts)


def label_of(name: str) -> str:
    """A name as people read it: wall_s -> wall."""
    short = name.rpartition("_")[0].removesuffix("_per") if unit_of(name) else name
    return (short or name).replace("_", " ")


class DetailsPanel(QWidget):
    """Tags and note of the chosen runs, and everything that is known of one."""

    written = Signal(object, object)  # tags, note; None: not changed

    def __init__(self, notes: Notes, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._notes = notes
        self.title = QLabel("No run is chosen")
        self.title.setProperty("role", "heading")
        self.title.setWordWrap(True)
        self.title.setTextFormat(Qt.TextFormat.PlainText)  # a file may be called anything
        self.title.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.state = QLabel()
        self.state.setWordWrap(True)
        self.state.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.tags, self.note = QLineEdit(), QLineEdit()
        _name(self.tags, "Tags", "Words of your own, apart by blanks; on all chosen runs. Return writes them")
        _name(self.note, "Note", "A line of your own; on all chosen runs. Return writes it")
        self.text = QTextBrowser()
        self.text.setOpenLinks(False)
        _name(self.text, "Details of the run", "What it was asked to do, and what came of it")
        self._lay_out()
        self.tags.editingFinished.connect(self._tags_written)
        self.note.editingFinished.connect(self._note_written)
        self.show_entries([])

    def _lay_out(self) -> None:
        form = QFormLayout()
        form.addRow("Tags", self.tags)
        form.addRow("Note", self.note)
        layout = QVBoxLayout(self)
        for widget in (self.title, self.state):
            layout.addWidget(widget)
        layout.addLayout(form)
        layout.addWidget(self.text, 1)

    def show_entries(self, entries: Sequence[Entry]) -> None:
        """Say which runs are meant; the details of one come later, by `show_facts`."""
        one = entries[0] if len(entries) == 1 else None
        self.title.setText(one.row.run_id if one else f"{len(entries)} runs" if entries else "No run is chosen")
        self.state.setText(_state_words(one) if one else MANY if entries else "Choose a run in the table")
        self.text.clear()
        for edit in (self.tags, self.note):
            edit.setEnabled(bool(entries))
        self.show_words([entry.row.run_id for entry in entries])

    def show_words(self, runs: Sequence[str]) -> None:
        """Tags and note of the chosen runs; where they differ, the field is empty and says so."""
        words = [self._notes.of(run) for run in runs]
        tags, notes = {w.tags for w in words}, {w.note for w in words}
        _fill(self.tags, " ".join(tags.pop()) if len(tags) == 1 else "", "they differ" if tags else "good 300K paper")
        _fill(self.note, notes.pop() if len(notes) == 1 else "", "they differ" if notes else "")

    def show_facts(self, sections: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Everything that is known of the run."""
        self.text.setHtml(page_of(sections))

    def show_problem(self, words: str) -> None:
        """Why nothing is known."""
        self.text.setPlainText(words)

    def _tags_written(self) -> None:
        if self.tags.isModified():
            self.tags.setModified(False)
            self.written.emit(tags_of(self.tags.text()), None)

    def _note_written(self) -> None:
        if self.note.isModified():
            self.note.setModified(False)
            self.written.emit(None, self.note.text().strip())


def _fill(edit: QLineEdit, text: str, hint: str) -> None:
    if not (edit.hasFocus() and edit.isModified()):  # somebody is typing
        edit.setText(text)
        edit.setPlaceholderText(hint)


def _state_words(entry: Entry) -> str:
    mark, words, tone = look_of(entry)
    words = entry.row.status if entry.damaged or entry.is_sweep else words
    sim = {True: "SIMULATED", False: "measured on a real chip", None: ""}[entry.row.simulated]
    color = getattr(theme.tokens(), tone)
    parts = [f"<span style='color:{color}'><b>{mark} {html.escape(words)}</b></span>", html.escape(when_of(entry.row))]
    if sim:
        tone = theme.tokens().simulated if entry.row.simulated else theme.tokens().text
        parts.append(f"<span style='color:{tone}'><b>{sim}</b></span>")
    return " &nbsp; ".join(parts)


def _name(widget: QWidget, name: str, tip: str) -> None:
    widget.setAccessibleName(name)
    widget.setToolTip(tip)


# ---------------------------------------------------------------------------------------------- several runs


def diff_rows(said: Mapping[str, Any]) -> list[tuple[str, list[str], bool]]:
    """What `library.compare` said, as lines of a table: name, one text for each run, and whether it is a heading."""
    runs, found = list(said["runs"]), said["settings"]
    lines: list[tuple[str, list[str], bool]] = [(f"Settings that differ ({said['same']} are the same)", [], True)]
    once = [item for item in found.items() if not _twice(item[0], found)]
    settings = sorted(once, key=lambda item: (_rank(item[0], found), item[0]))
    lines += [(name, [told(name, values[run]) for run in runs], False) for name, values in settings]
    lines.append(("Results", [], True))
    names = dict.fromkeys(name for run in runs for name in said["results"][run])
    for name in names:
        lines.append((name, [told(name, said["results"][run].get(name)) for run in runs], False))
    return lines


ASKED = ("request.settings.", "request.bench_settings.", "request.")
MEANT = ("protocol.parameters.", "bench_config.", "config.", "")  # where what was asked for stands as it was taken


def _leaf(name: str, starts: Sequence[str]) -> str:
    """A dotted name without the first of these beginnings that it has."""
    return next((name[len(start) :] for start in starts if name.startswith(start)), name)


def _twice(name: str, found: Mapping[str, Any]) -> bool:
    """Whether what was asked for is also listed as it was taken."""
    leaf = _leaf(name, ASKED)
    return name.startswith("request.") and any(start + leaf in found for start in MEANT)


def _rank(name: str, found: Mapping[str, Any]) -> int:
    """What was asked for comes first, then what followed from it."""
    first = ("seed", "request", "protocol", "bench", "limits", "config")
    asked = any(start + _leaf(name, MEANT) in found for start in ASKED)
    return -1 if asked else next((n for n, start in enumerate(first) if name.startswith(start)), len(first))


def short_ids(runs: Sequence[str]) -> list[str]:
    """Names for the heads of columns: without the time, where they can still be told apart."""
    short = [re.sub(r"^\d{8}-\d{6}-", "", run) for run in runs]
    return short if len(set(short)) == len(runs) else list(runs)


class ComparePanel(QWidget):
    """Settings that differ between the chosen runs, and their results side by side."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.words = QLabel("Choose two runs or more in the table (Ctrl or Shift and a click)")
        self.words.setWordWrap(True)
        self.words.setProperty("role", "dim")
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.table = QTableWidget(0, 0)
        self.table.setTabKeyNavigation(False)
        self.table.setAccessibleName("Differences between the chosen runs")
        self.table.setToolTip("What is different between the chosen runs: settings and results")
        self.table.setEditTriggers(QTableWidget.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().hide()
        self.table.setShowGrid(False)
        self.table.horizontalHeader().setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.table.setAlternatingRowColors(True)
        self.table.horizontalHeader().setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        self.table.setHorizontalScrollMode(QTableWidget.ScrollMode.ScrollPerPixel)
        layout = QVBoxLayout(self)
        layout.addWidget(self.words)
        layout.addWidget(self.table, 1)

    def clear(self, words: str) -> None:
        """Nothing to compare, and why."""
        self.words.setText(words)
        self.table.setRowCount(0)
        self.table.setColumnCount(0)

    def show_diff(self, said: Mapping[str, Any]) -> None:
        """What `library.compare` found."""
        runs, lines = list(said["runs"]), diff_rows(said)
        self.words.setText(f"{len(runs)} runs; what is the same in all is left out")
        self.table.clearSpans()
        self.table.setColumnCount(len(runs) + 1)
        self.table.setHorizontalHeaderLabels(["", *short_ids(runs)])
        for n, run in enumerate(runs, start=1):
            if (head := self.table.horizontalHeaderItem(n)) is not None:
                head.setToolTip(run)
        self.table.setRowCount(len(lines))
        for n, (name, values, heading) in enumerate(lines):
            self._line(n, name, values, heading)
        self.restyle()

    def restyle(self) -> None:
        """Widths and heights that fit the font."""
        em, header = theme.em(), self.table.horizontalHeader()
        self.table.resizeColumnsToContents()
        for column in range(self.table.columnCount()):
            header.resizeSection(column, min(header.sectionSize(column) + em // 2, em * (9 if column else 12)))
        self.table.verticalHeader().setDefaultSectionSize(int(em * 1.5))

    def _line(self, n: int, name: str, values: Sequence[str], heading: bool) -> None:
        shown = name if heading else _leaf(name, (*MEANT[:-1], *ASKED))
        for column, text in enumerate([shown, *values]):
            item = QTableWidgetItem(text)
            item.setToolTip(text if column else name)
            if heading:
                item.setForeground(QColor(theme.tokens().accent))
            elif len(set(values)) > 1 and column:
                item.setForeground(QColor(theme.tokens().text))
            else:
                item.setForeground(QColor(theme.tokens().text_dim))
            self.table.setItem(n, column, item)
        if heading:
            self.table.setSpan(n, 0, 1, self.table.columnCount())
