"""One mode of the window: a page, and the views that it shows as docks which can be moved, detached and closed.

Pages are imported when they are first needed. One that cannot be imported shows why, and the others go on.
"""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import QByteArray, QChildEvent, QEvent, QObject, QSize, Qt, QTimer
from PySide6.QtGui import QResizeEvent, QShowEvent
from PySide6.QtWidgets import (
    QDockWidget,
    QFrame,
    QLabel,
    QMainWindow,
    QScrollArea,
    QTabBar,
    QTabWidget,
    QVBoxLayout,
    QWidget,
)

from .. import theme

if TYPE_CHECKING:
    from neurobench.runs.history import Snapshot

    from ..selection import Selection
    from ..session.session import Session
    from ..views.base import View
    from .actions import Actions

LEFT, RIGHT = Qt.DockWidgetArea.LeftDockWidgetArea, Qt.DockWidgetArea.RightDockWidgetArea
LAYOUT_VERSION = 1
# Rooms below which views are stacked instead of put beside or below each other, in heights of a line: in width for
# two columns, in height for two rows. A fit that holds is given up a little later than it is taken.
TWO_COLUMNS, TWO_ROWS, SLACK = 26, 29, 2
OF_ONE_KIND = ("progress", "stdp", "iv", "raster")  # views of one kind of run each
Fit = tuple[int, int]  # columns and rows of views at most


@dataclass(frozen=True)
class PageOf:
    """Where a mode's page is found."""

    mode: str
    module: str
    name: str


PAGES = (
    PageOf("bench", "bench.bench_page", "BenchPage"),
    PageOf("connect", "connect.connect_page", "ConnectPage"),
    PageOf("characterise", "characterise.characterise_page", "CharacterisePage"),
    PageOf("runs", "runs.runs_page", "RunsPage"),
    PageOf("lab", "lab.lab_page", "LabPage"),
    PageOf("settings", "frame.settings_page", "SettingsPage"),
)

# Where the views of a mode begin: columns of cells, a cell is a stack of tabs. What is not named here goes last.
Columns = tuple[tuple[tuple[str, ...], ...], ...]
PLACES: dict[str, Columns] = {
    "bench": (
        (("crossbar",), ("schedule", "console", "energy", "truth")),
        (("traces",), ("progress", "activations", "weights", "raster", "stdp", "iv")),
    ),
    "characterise": ((("crossbar",),), (("traces",), ("results", "console"))),
}


def made_page(of: PageOf, session: Session, actions: Actions, selection: Selection) -> QWidget:
    """The page of a mode, or one that says why it cannot be shown."""
    try:
        kind = getattr(importlib.import_module(f"..{of.module}", __package__), of.name)
        page: QWidget = kind(session, actions, selection)
    except Exception:  # noqa: BLE001 - whatever is wrong with one page, the others and Abort must go on
        return broken_page(of.mode, traceback.format_exc())
    return page


def broken_page(mode: str, words: str) -> QWidget:
    """A page in place of one that failed: the error as text that can be copied."""
    page = QWidget()
    label = QLabel(f"The page “{mode}” cannot be shown. Everything else goes on.\n\n{words}", page)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse
                                  | Qt.TextInteractionFlag.TextSelectableByKeyboard)  # fmt: skip
    label.setWordWrap(True)
    label.setAccessibleName(f"Why the page {mode} cannot be shown")
    label.setFont(theme.mono())
    QVBoxLayout(page).addWidget(label, 1, Qt.AlignmentFlag.AlignTop)
    return page


class Mode(QMainWindow):
    """A page with its views around it; used as a widget, not as a window of its own."""

    def __init__(self, of: PageOf, page: QWidget, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowFlags(Qt.WindowType.Widget)  # Qt makes every main window one of its own
        self.mode, self.page = of.mode, page
        self.views: tuple[View, ...] = tuple(getattr(page, "views", ()))
        self.docks: dict[str, QDockWidget] = {}
        self._shared_out = False  # the room among panel and views, when first shown
        self._kept: QByteArray | None = None
        self._fit: Fit = (2, 2)
        self._layouts: dict[Fit, QByteArray] = {}  # how the user left it, where there was so much room
        self._side_on = True
        self._brought_for: object = None
        self._again = QTimer(self)
        self._again.setSingleShot(True)
        self._again.setInterval(0)
        self._again.timeout.connect(self._refit)
        self.setDockNestingEnabled(True)
        self.setTabPosition(Qt.DockWidgetArea.AllDockWidgetAreas, QTabWidget.TabPosition.North)
        if not self.views:
            self.setCentralWidget(page)
            return
        self._place_page()
        for view in self.views:
            self.docks[view.name] = self._dock(view)
        self._begin = QByteArray()
        self.arrange()

    def _place_page(self) -> None:
        """The page's side panel at the left, in a frame that scrolls; it is no dock, and cannot be lost."""
        panel: Any = getattr(self.page, "left", None)
        self.page.setParent(self)
        self.page.setVisible(panel is None or panel is self.page)
        side = QDockWidget("", self)
        side.setObjectName(f"{self.mode}.side")
        side.setFeatures(QDockWidget.DockWidgetFeature.NoDockWidgetFeatures)
        side.setAllowedAreas(LEFT)
        side.setTitleBarWidget(QWidget(side))
        self._panel: QWidget = panel or self.page
        area = SidePanel(self._panel)
        side.setWidget(area)
        self.addDockWidget(LEFT, side)
        self.side = side

    def _dock(self, view: View) -> QDockWidget:
        dock = QDockWidget(view.title.replace("&", "&&"), self)
        dock.setObjectName(f"{self.mode}.{view.name}")
        dock.setAccessibleName(view.title)
        dock.setWidget(view)
        dock.toggleViewAction().setText(view.title.replace("&", "&&"))
        return dock

    def childEvent(self, event: QChildEvent) -> None:  # noqa: N802 - Qt's name
        """Tabs of docks come and go: their words are never cut to a letter, they scroll instead."""
        super().childEvent(event)
        tabs = event.child()
        if event.type() == QEvent.Type.ChildPolished and isinstance(tabs, QTabBar):
            tabs.setElideMode(Qt.TextElideMode.ElideNone)
            tabs.setUsesScrollButtons(True)
            tabs.setDocumentMode(True)
            tabs.setAccessibleName("Views in this place")

    def arrange(self) -> None:
        """Bring every view back to where it began."""
        if not self.docks:
            return
        for dock in self.docks.values():
            dock.setFloating(False)
            self.removeDockWidget(dock)
        self.addDockWidget(LEFT, self.side)
        columns = self._columns()
        tops = [self.docks[column[0][0]] for column in columns]
        before = self.side
        for top in tops:
            self.splitDockWidget(before, top, Qt.Orientation.Horizontal)
            before = top
        for column in columns:
            self._fill(column)
        self.share_width()

    def share_width(self) -> None:
        """Give the side panel what it needs, and the views the rest: when they are placed, and when the text grows."""
        if not self.docks:
            return
        tops = [self.docks[column[0][0]] for column in self._columns()]
        panel = self._panel_width()
        rest = max((self.width() - panel) // max(len(tops), 1), 1)
        if self._side_on:
            self.resizeDocks([self.side, *tops], [panel, *(rest for _ in tops)], Qt.Orientation.Horizontal)
        else:
            self.resizeDocks(tops, [rest for _ in tops], Qt.Orientation.Horizontal)

    def _columns(self) -> Columns:
        return fitted(placed(self.mode, tuple(self.docks)), self._fit)

    def _panel_width(self) -> int:
        """The panel's own width, and that of its scroll bar; not more than half of all."""
        if not self._side_on:
            return 0
        return min(max(17 * theme.em(), self._panel.sizeHint().width() + 2 * theme.em()), self.width() // 2)

    def show_side(self, on: bool) -> None:
        """Show the side panel, or put it away to have more room for the views."""
        self._side_on = on
        if self.docks:
            self.side.setVisible(on)
            self.look_for_room()

    def resizeEvent(self, event: QResizeEvent) -> None:  # noqa: N802 - Qt's name
        """Qt's: views are stacked where there is no more room, and spread out again where there is."""
        super().resizeEvent(event)
        self.look_for_room()

    def look_for_room(self) -> None:
        """See soon whether the views fit as they stand: the window or the text has another size."""
        if self.docks and self._shared_out:
            self._again.start()

    def _refit(self) -> None:
        """Other columns and rows if there is room for others; as they were left, where they stood so before."""
        fit = self._fit_now()
        if fit == self._fit:
            return
        self._layouts[self._fit] = self.saveState(self._version())
        self._fit = fit
        kept = self._layouts.get(fit)
        if kept is None or not self._restored(kept):
            self.arrange()
        else:  # what was kept has sizes of the time when there was too little room already
            self.share_width()
            self._share_heights()
        self.side.setVisible(self._side_on)

    def _share_heights(self) -> None:
        for column in self._columns():
            heads = [self.docks[stack[0]] for stack in column]
            self.resizeDocks(heads, [3, *(2 for _ in heads[1:])], Qt.Orientation.Vertical)

    def _fit_now(self) -> Fit:
        em, (columns, rows) = theme.em(), self._fit
        wide, high = (self.width() - self._panel_width()) / em, self.height() / em
        beside = 2 if wide >= TWO_COLUMNS - SLACK * (columns - 1) else 1
        return beside, 2 if high >= TWO_ROWS - SLACK * (rows - 1) else 1

    def _version(self) -> int:
        """A layout is taken again only where there is as much room as when it was kept."""
        return LAYOUT_VERSION + 10 * (2 - self._fit[0]) + 20 * (2 - self._fit[1])

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802 - Qt's name
        """Qt's: only now is it known how much room there is to share out."""
        super().showEvent(event)
        if not self._shared_out:
            self._shared_out = True
            self._share_out()

    def _share_out(self) -> None:
        kept, self._kept = self._kept, None
        if self.docks:
            self._fit = self._fit_now()
        if kept is None or not self._restored(kept):
            self.arrange()

    def _fill(self, column: tuple[tuple[str, ...], ...]) -> None:
        above = self.docks[column[0][0]]
        heads = [above]
        for stack in column[1:]:
            head = self.docks[stack[0]]
            self.splitDockWidget(above, head, Qt.Orientation.Vertical)
            above = head
            heads.append(head)
        for stack, head in zip(column, heads, strict=True):
            for name in stack[1:]:
                self.tabifyDockWidget(head, self.docks[name])
            for name in stack:
                self.docks[name].show()
            head.raise_()
        self.side.setVisible(self._side_on)
        self.resizeDocks(heads, [3, *(2 for _ in heads[1:])], Qt.Orientation.Vertical)

    def bring_forward(self, snapshot: Snapshot) -> None:
        """Where epochs, or a window, are not what a run shows, the view of what it does show comes, once for each."""
        if snapshot.about is self._brought_for:
            return
        front = next((view for view in self.shown() if view.name in OF_ONE_KIND), None)
        if front is None or not front.lacks(snapshot):
            return
        for view in self.views:
            if view.name in OF_ONE_KIND and not view.lacks(snapshot):
                self._brought_for = snapshot.about
                self.docks[view.name].show()
                self.docks[view.name].raise_()
                return

    def shown(self) -> list[View]:
        """The views of which anything can be seen now, detached ones included."""
        return [view for view in self.views if view.in_sight()]

    def layout_kept(self) -> QByteArray:
        """The layout, to be kept."""
        return self.saveState(self._version())

    def take_layout(self, kept: QByteArray | None) -> None:
        """Take a kept layout, as soon as it is known how much room there is; one that does not fit changes nothing."""
        if kept is None or not self.docks:
            return
        if self.isVisible():
            self._restored(kept)
        else:
            self._kept = kept

    def _restored(self, kept: QByteArray) -> bool:
        done = self.restoreState(kept, self._version())
        self.side.setVisible(self._side_on)
        return done


class SidePanel(QScrollArea):
    """Scrolls a side panel up and down, and is as wide as it needs, so that nothing is cut off at the right.

    Only where that would take more than half of the window does it scroll sideways too.
    """

    def __init__(self, panel: QWidget) -> None:
        super().__init__()
        self._panel = panel
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # what is in it has the keyboard
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAsNeeded)
        self.setWidgetResizable(True)
        self.setWidget(panel)
        panel.installEventFilter(self)
        panel.show()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802 - Qt's name
        """The panel wants another width: this has it too."""
        if event.type() == QEvent.Type.LayoutRequest:
            self.updateGeometry()
        return super().eventFilter(watched, event)

    def minimumSizeHint(self) -> QSize:  # noqa: N802 - Qt's name
        """Qt's: the width of the panel, with room for a scroll bar beside it."""
        bar = self.verticalScrollBar().sizeHint().width()
        wide = self._panel.minimumSizeHint().width() + bar
        return QSize(min(wide, self.window().width() // 2), super().minimumSizeHint().height())


def placed(mode: str, names: tuple[str, ...]) -> Columns:
    """The columns in which these views begin: as PLACES says, what it does not know in the last stack of tabs."""
    known = [[[n for n in stack if n in names] for stack in column] for column in PLACES.get(mode, ())]
    columns = [[stack for stack in column if stack] for column in known]
    columns = [column for column in columns if column]
    there = {n for column in columns for stack in column for n in stack}
    rest = [n for n in names if n not in there]
    if rest and columns:
        columns[-1][-1].extend(rest)
    elif rest:
        columns = [[[n]] for n in rest]
    return tuple(tuple(tuple(stack) for stack in column) for column in columns)


def fitted(columns: Columns, fit: Fit) -> Columns:
    """The same views in at most so many columns and rows: what does not fit beside or below is one stack of tabs."""
    if fit[0] == 1 and len(columns) > 1:
        deep = max(len(column) for column in columns)
        rows = [[column[n] for column in columns if n < len(column)] for n in range(deep)]
        columns = ((heads_first([stack for row in rows for stack in row]),),) if fit[1] == 1 else (
            tuple(heads_first(row) for row in rows),
        )  # fmt: skip
    if fit[1] == 1:
        columns = tuple((heads_first(column),) for column in columns)
    return columns


def heads_first(stacks: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Some stacks as one: first what stood in front of each."""
    return (*(stack[0] for stack in stacks), *(name for stack in stacks for name in stack[1:]))
