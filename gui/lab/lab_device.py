"""Devices of the emulator lab: a list of cards, curves beside their fit, and the import of a measured curve."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import Qt, Signal
from PySide6.QtGui import QColor, QDragEnterEvent, QDragLeaveEvent, QDropEvent, QKeySequence, QPen, QShortcut
from PySide6.QtWidgets import (
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QSplitter,
    QTextBrowser,
    QVBoxLayout,
    QWidget,
)

from neurobench.runs import library
from neurobench.runs.drawing import SIMULATED, si_scale
from neurobench.runs.screen import si

from .. import theme
from ..parts.aside import Aside
from ..parts.files import ask_path
from ..parts.forms import NumberBox
from ..parts.plot import Plot
from ..parts.scrolling import scrolled
from ..parts.working import Working

if TYPE_CHECKING:
    from ..session.session import Session

CURVES = "Curves and cards (*.csv *.dat *.txt *.toml *.nbr);;All files (*)"
ROLE = Qt.ItemDataRole.UserRole
LIST_ONLY = Qt.ShortcutContext.WidgetShortcut


def free_name(path: Path) -> Path:
    """This file, or the next one of that name that does not exist."""
    found, n = path, 2
    while found.exists():
        found, n = path.with_name(f"{path.stem}-{n}{path.suffix}"), n + 1
    return found


def cards_folder(session: Session) -> Path:
    """Where cards of one's own are kept: beside the runs, as the chips are."""
    return session.runs_folder.parent / "cards"


def own_cards(folder: Path) -> list[Path]:
    """The cards that were imported before."""
    return sorted(folder.glob("*.toml"))


class DeviceList(QWidget):
    """The cards by name; those of one's own stand first."""

    chosen = Signal(str)  # name of the library, or path of a card

    def __init__(self, cards: Path, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._aside = Aside("devices", self)
        self.search = QLineEdit()
        self.search.setPlaceholderText("Find a device")
        self.search.setAccessibleName("Find a device by name, material or model")
        self.search.setToolTip("Show only devices in whose name, material or model this stands")
        self.search.setClearButtonEnabled(True)
        self.list = QListWidget()
        self.list.setAccessibleName("Devices")
        self.list.setToolTip("Devices of the library, below those that you imported. Delete takes one of yours off it")
        self.words = QLabel("Reading the library ...")
        self.words.setProperty("role", "dim")
        self.words.setWordWrap(True)  # it may name a file
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        for widget in (self.search, self.list, self.words):
            layout.addWidget(widget)
        self.search.textChanged.connect(self._filter)
        self.list.currentItemChanged.connect(self._choose)
        QShortcut(QKeySequence.StandardKey.Delete, self.list, self._take_off, context=LIST_ONLY)
        self._aside.ask(lambda: (library.catalogue("devices"), own_cards(cards)), self._fill, self.words.setText)

    def close_down(self) -> None:
        """The window closes."""
        self._aside.wait()

    def choose(self, device: str) -> None:
        """Choose a card; one that the list does not hold is put in first."""
        item = self._item(device)
        if item is None:
            item = self._made(device, Path(device).stem, f"your card {device}")
            self.list.insertItem(0, item)
            self._count()
        self.list.setCurrentItem(item)

    def device(self) -> str:
        """What is chosen, "" if nothing is."""
        return str(self.list.currentItem().data(ROLE)) if self.list.currentRow() >= 0 else ""

    def _item(self, device: str) -> QListWidgetItem | None:
        items = (self.list.item(n) for n in range(self.list.count()))
        return next((item for item in items if item.data(ROLE) == device), None)

    def _made(self, device: str, name: str, words: str) -> QListWidgetItem:
        item = QListWidgetItem(name)
        item.setData(ROLE, device)
        item.setData(ROLE + 1, f"{name} {words}".lower())
        item.setToolTip(words)
        return item

    def _fill(self, found: tuple[Iterable[Mapping[str, Any]], Iterable[Path]]) -> None:
        for card in found[1]:
            if self._item(str(card)) is None:
                self.list.addItem(self._made(str(card), card.stem, f"your card {card}"))
        for row in found[0]:
            words = f"{row['title']}; {row['model']}; {row['source']}"
            self.list.addItem(self._made(str(row["name"]), str(row["name"]), words))
        self._count()
        if self.list.currentRow() < 0:
            self.choose("lsmo-gaq3")

    def _own(self) -> list[QListWidgetItem]:
        items = [self.list.item(n) for n in range(self.list.count())]
        return [item for item in items if str(item.data(ROLE)).endswith(".toml")]

    def _count(self) -> None:
        own = len(self._own())
        self.words.setText(f"{self.list.count()} devices" + (f", {own} of them yours" if own else ""))

    def _take_off(self) -> None:
        """A card that was tried and is not wanted in the list; its file is not touched."""
        item = self.list.currentItem()
        if item not in self._own():
            self.words.setText("only a card of your own can be taken off the list")
            return
        self.list.takeItem(self.list.row(item))
        self._count()
        self.words.setText(f"{self.words.text()}; {item.data(ROLE)} is off the list, and stays where it is")

    def _filter(self, text: str) -> None:
        words = text.lower().split()
        for n in range(self.list.count()):
            item = self.list.item(n)
            item.setHidden(not all(word in str(item.data(ROLE + 1)) for word in words))

    def _choose(self, item: QListWidgetItem | None) -> None:
        if item is not None:
            self.chosen.emit(str(item.data(ROLE)))


class ImportPanel(QWidget):
    """A place to drop a curve file, with what the file may not say; the card is made by `neurobench import-curve`."""

    imported = Signal(str, list)  # the card's file, what was read and what was odd

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self.setAcceptDrops(True)
        self.zone = QLabel("Drop a measured curve here\n(CSV, instrument log, Y-Flash text, a run of measure-curve)")
        self.zone.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.zone.setWordWrap(True)
        self.browse = QPushButton("Choose a file ...")
        self.file, self.name, self.source, self.out = (QLineEdit() for _ in range(4))
        self.volts, self.seconds = NumberBox("V"), NumberBox("s", low=0.0)
        self.low, self.high = NumberBox("S", low=0.0), NumberBox("S", low=0.0)
        self.start = QPushButton("Import")
        self.working, self.words = Working(), QLabel()
        self._name_all()
        self._lay_out()
        self.browse.clicked.connect(self._choose)
        self.start.clicked.connect(self._import)
        self.file.textChanged.connect(self._enable)
        self.working.ended.connect(self._enable)
        self.working.cancelled.connect(self._cancelled)
        self._enable()
        self.restyle()

    def _name_all(self) -> None:
        for widget, name, tip in (
            (self.browse, "Choose a curve file", "A curve, or a run file of measure-curve"),
            (self.file, "Curve file", "Path of the curve"),
            (self.name, "Name of the device", "Letters, digits, . _ -; left out: the file's name"),
            (self.source, "Source of the curve", "Who measured it, where: a number without a source is a rumour"),
            (self.volts, "Amplitude of the write pulse in V", "Only where the file does not say it"),
            (self.seconds, "Width of the write pulse in s", "Only where the file does not say it"),
            (self.low, "Lowest conductance in S", "Of a file in arbitrary units: what its lowest value stands for"),
            (self.high, "Highest conductance in S", "Of a file in arbitrary units: what its highest value stands for"),
            (self.out, "Card to write", "A new .toml file; one that exists is not overwritten"),
            (self.start, "Import the curve", "Read it into a device card; nothing is repaired in silence"),
        ):
            widget.setAccessibleName(name)
            widget.setToolTip(tip)
        for box in (self.volts, self.seconds, self.low, self.high):
            box.setPlaceholderText("as the file says")
        self.name.setPlaceholderText("as the file")
        self.source.setPlaceholderText("who, where, when")
        self.words.setTextFormat(Qt.TextFormat.PlainText)
        self.words.setWordWrap(True)
        self.words.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)

    def _lay_out(self) -> None:
        window = QHBoxLayout()
        self.form = QWidget()
        window.addWidget(self.low)
        window.addWidget(self.high)
        form = QFormLayout(self.form)
        form.setContentsMargins(0, 0, 0, 0)
        form.setFieldGrowthPolicy(QFormLayout.FieldGrowthPolicy.AllNonFixedFieldsGrow)
        for label, field in (
            ("File", self.file), ("Name", self.name), ("Source", self.source), ("Amplitude", self.volts),
            ("Width", self.seconds), ("Window", window), ("Card", self.out),
        ):  # fmt: skip
            form.addRow(label, field)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.zone)
        layout.addWidget(self.browse)
        layout.addWidget(self.form)
        layout.addWidget(self.start)
        layout.addWidget(self.working)
        layout.addWidget(self.words)

    def restyle(self, over: bool = False) -> None:
        """The frame of the place to drop on; `over`: a file is held over it."""
        t = theme.tokens()
        color = t.accent if over else t.line
        self.zone.setStyleSheet(f"border: 2px dashed {color}; border-radius: 6px; padding: 10px; color: {t.text_dim}")

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        """A file is welcome."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()
            self.restyle(over=True)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:  # noqa: N802
        """It went on."""
        super().dragLeaveEvent(event)
        self.restyle()

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        """Take the first file; it is imported by the button, when what it does not say was said."""
        self.restyle()
        paths = [url.toLocalFile() for url in event.mimeData().urls() if url.isLocalFile()]
        if not paths:
            self._say("bad", "what was dropped is not a file of this computer")
            return
        event.acceptProposedAction()
        self.take(Path(paths[0]))

    def take(self, path: Path) -> None:
        """Take a curve file; a card of one's own is shown at once."""
        if not path.is_file():
            self._say("bad", f"{path} is not a file")
            return
        if path.suffix == ".toml":
            self.imported.emit(str(path), [])
            return
        self.file.setText(str(path))
        self.out.setText(str(free_name(cards_folder(self._session) / f"{path.stem}.toml")))
        self._say("", f"{path.name}: say what the file does not, then press Import")

    def _choose(self) -> None:
        ask_path(self, "A measured curve", self.take, filters=CURVES)

    def _enable(self) -> None:
        known = bool(self.file.text().strip())
        self.start.setEnabled(known and not self.working.words)
        for widget in (self.form, self.start):
            widget.setVisible(known or self.file.hasFocus())  # what is asked for once there is a file

    def command(self) -> list[str]:
        """The command that imports it."""
        words = ["import-curve", self.file.text().strip(), "--out", self.out.text().strip()]
        words += ["--in", str(self._session.runs_folder)]
        for flag, text in (("--name", self.name.text().strip()), ("--source", self.source.text().strip())):
            words += [flag, text] if text else []
        for flag, box in (("--amplitude-v", self.volts), ("--width-s", self.seconds)):
            words += [flag, repr(box.number())] if box.number() is not None else []
        low, high = self.low.number(), self.high.number()
        return words + (["--window-s", repr(low), repr(high)] if low is not None and high is not None else [])

    def _import(self) -> None:
        boxes = (self.volts, self.seconds, self.low, self.high)
        wrong = next((box for box in boxes if box.text().strip() and box.number() is None), None)
        if wrong is not None:
            self._say("bad", f"{wrong.accessibleName()}: {wrong.text()!r} is not a number")
        elif Path(self.out.text().strip()).exists():
            self._say("bad", f"{self.out.text().strip()} exists and is not overwritten; choose another name")
        elif (self.low.number() is None) != (self.high.number() is None):
            self._say("bad", "a window needs its lowest and its highest conductance")
        else:
            self._say("", "")
            job = self._session.job(self.command(), self._done, self._failed)
            self.working.watch(job, f"reading {Path(self.file.text().strip()).name}")
            self._enable()

    def _done(self, found: dict[str, Any]) -> None:
        self._enable()
        if "written" not in found:
            self._say("bad", str(found.get("error")))
            return
        self._say("ok", f"✓ card written: {found['written'][0]}")
        self.imported.emit(str(found["written"][0]), list(found["report"]))

    def _failed(self, words: str) -> None:
        self._enable()
        self._say("bad", words)

    def _cancelled(self) -> None:
        self._say("warn", "Cancelled; no card was written")

    def _say(self, role: str, words: str) -> None:
        self.words.setText(words)
        self.words.setProperty("role", role or "dim")
        self.words.style().polish(self.words)


class DevicePanel(QWidget):
    """One card: its facts and doubts, its curves beside their fit, and what lies between them."""

    def __init__(self, session: Session, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._session = session
        self._found: dict[str, dict[str, Any]] = {}
        self._reports: dict[str, list[str]] = {}
        self._device = ""
        self.title, self.mark = QLabel("Choose a device"), QLabel()
        self.title.setProperty("role", "heading")
        self.title.setWordWrap(True)
        self.title.setTextFormat(Qt.TextFormat.PlainText)
        self.mark.setProperty("role", "simulated")
        self.text = QTextBrowser()
        self.text.setAccessibleName("Facts and doubts of the device")
        self.text.setToolTip("What is known of this device, and what was never measured")
        self.curves, self.residuals = Plot("Curves of the device"), Plot("Points minus fit")
        self.residuals.item.setXLink(self.curves.item)
        self.curves.item.addLegend(offset=(-8, -8))
        self._lay_out()
        self.restyle()

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.addWidget(self.title, 1)
        head.addWidget(self.mark)
        plots = QSplitter(Qt.Orientation.Vertical)
        plots.addWidget(self.curves)
        plots.addWidget(self.residuals)
        plots.addWidget(self.text)
        plots.setStretchFactor(0, 3)
        plots.setStretchFactor(1, 1)
        plots.setStretchFactor(2, 2)
        plots.setSizes([300, 120, 170])
        plots.setChildrenCollapsible(False)
        inside = QWidget()
        layout = QVBoxLayout(inside)
        layout.addLayout(head)
        layout.addWidget(plots, 1)
        scrolled(self, inside, "Device and its curves")

    def restyle(self) -> None:
        """Colours or font sizes have changed."""
        back = QColor(theme.tokens().panel)
        back.setAlpha(210)
        self.curves.item.legend.setBrush(back)
        for plot in (self.curves, self.residuals):
            plot.restyle()
        self.text.setMinimumHeight(theme.em() * 6)
        if self._device in self._found:
            self._show(self._device)

    def told(self, device: str, report: Sequence[str]) -> None:
        """What was said when this card was imported; it may be another one than before under that name."""
        self._reports[device] = list(report)
        self._found.pop(device, None)

    def show_device(self, device: str) -> None:
        """Show a card; it is read in a child process, once."""
        self._device = device
        if device in self._found:
            self._show(device)
            return
        self._clear(f"{Path(device).stem}: reading ...", "")
        self._session.job(["device", device], self._take(device), self._refuse(device))

    def _take(self, device: str) -> Callable[[dict[str, Any]], None]:
        def take(found: dict[str, Any]) -> None:
            if "curves" not in found:
                self._refuse(device)(str(found.get("error")))
                return
            self._found[device] = found
            if device == self._device:
                self._show(device)

        return take

    def _refuse(self, device: str) -> Callable[[str], None]:
        def refuse(words: str) -> None:
            if device == self._device:
                self._clear(f"{Path(device).stem} cannot be read", words)

        return refuse

    def _clear(self, title: str, words: str) -> None:
        """Nothing of another device stays below a name that it does not have."""
        self.title.setText(title)
        self.mark.setText("")
        self.text.setPlainText(words)
        for plot in (self.curves, self.residuals):
            plot.item.clear()

    def _show(self, device: str) -> None:
        found = self._found[device]
        self.title.setText(f"{found['device']}: {found['title']}")
        self.mark.setText(SIMULATED if found["simulated"] else "")
        self.text.setHtml(facts_page(found, self._reports.get(device, [])))
        self._draw(found)

    def _draw(self, found: Mapping[str, Any]) -> None:
        curves, residuals = self.curves.item, self.residuals.item
        curves.clear()
        residuals.clear()
        every = np.concatenate([np.asarray(c["fit_s"], float) for c in found["curves"]] or [np.zeros(1)])
        factor, unit = si_scale(every)
        for n, curve in enumerate(found["curves"]):
            points, fit = np.asarray(curve["points_s"], float), np.asarray(curve["fit_s"], float)
            color = theme.trace_color(n)
            words = f"{curve['direction']} {pulse_words(curve)}"
            if points.size:
                curves.plot(points * factor, pen=None, symbol="o", symbolSize=4, symbolPen=None, symbolBrush=color,
                            name=f"{words}: points")  # fmt: skip
                residuals.plot(np.asarray(curve["residual_s"], float) * factor, pen=None, symbol="o", symbolSize=3,
                               symbolPen=None, symbolBrush=color)  # fmt: skip
            curves.plot(fit * factor, pen=_fit_pen(n, bool(points.size)), name=f"{words}: replayed")
        curves.setLabels(left=f"G ({unit})", bottom="pulse")
        residuals.setLabels(left=f"residual ({unit})", bottom="pulse")
        self.residuals.setVisible(any(len(c["points_s"]) for c in found["curves"]))
        curves.enableAutoRange()
        residuals.enableAutoRange()
        left = [np.asarray(c["residual_s"], float) * factor for c in found["curves"] if len(c["residual_s"])]
        if left and not np.ptp(np.concatenate(left)):  # no residual at all: an axis of any size would look like some
            residuals.setYRange(-0.01 * float(np.ptp(every * factor)), 0.01 * float(np.ptp(every * factor)))


def _fit_pen(n: int, over_points: bool) -> QPen:
    """A line that is seen on a cloud of points; alone it has the colour of its curve."""
    pen = theme.trace_pen(n, 2)
    if over_points:
        pen.setColor(QColor(theme.tokens().text))
        pen.setStyle(Qt.PenStyle.DashLine if n % 2 else Qt.PenStyle.SolidLine)
    return pen


def pulse_words(curve: Mapping[str, Any]) -> str:
    """The pulse of a curve."""
    volts, width = curve["amplitude_v"], curve["width_s"]
    stated = [si(volts, "V") if volts is not None else "", si(width, "s") if width is not None else ""]
    return ", ".join(part for part in stated if part) or "pulse not stated"


def facts_page(found: Mapping[str, Any], report: Iterable[str]) -> str:
    """Facts and doubts of a card as HTML."""
    t = theme.tokens()
    low, high = found["window_s"]
    facts = {
        "model": found["model"], "window": f"{si(low, 'S')} to {si(high, 'S')}", "read at": si(found["read_v"], "V"),
        "read noise": noise_words(found), "step spread": f"{found['step_spread']:.3g} (lognormal, between devices)",
        "source": found["source"], "notes": found["notes"],
    }  # fmt: skip
    doubts = "".join(f"<li style='color:{t.warn}'>▲ {html.escape(text)}</li>" for text in found["said"])
    read = "".join(f"<li>{html.escape(text)}</li>" for text in report)
    rows = "".join(
        f"<tr><td style='color:{t.text_dim}; padding-right:12px'>{name}</td><td>{html.escape(str(value))}</td></tr>"
        for name, value in facts.items() if value
    )  # fmt: skip
    parts = [f"<ul style='margin-left:-24px; list-style-type:none'>{doubts}</ul>" if doubts else ""]
    parts.append(f"<h4>What was read</h4><ul>{read}</ul>" if read else "")
    return "".join([*parts, f"<table cellspacing='0'>{rows}</table>"])


def noise_words(found: Mapping[str, Any]) -> str:
    """Noise of one read, absolute and relative."""
    relative = found["read_sigma_relative"]
    return f"{si(found['read_sigma_s'], 'S')}" + (f" and {relative:.3g} of the value" if relative else "")
