"""The Emulator lab: from a measured curve to a device card, and from a card to an emulated chip on the Bench page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QDragEnterEvent, QDragLeaveEvent, QDropEvent, QHideEvent
from PySide6.QtWidgets import QGroupBox, QScrollArea, QSplitter, QTabWidget, QVBoxLayout, QWidget

from .. import theme
from .lab_chip import ChipPanel
from .lab_device import DeviceList, DevicePanel, ImportPanel, cards_folder

if TYPE_CHECKING:
    from ..frame.actions import Actions
    from ..selection import Selection
    from ..session.session import Session
    from ..views.base import View


class LabPage(QWidget):
    """See the module."""

    views: tuple[View, ...] = ()
    left: QWidget | None = None

    def __init__(
        self, session: Session, actions: Actions, selection: Selection | None = None, parent: QWidget | None = None
    ) -> None:
        super().__init__(parent)
        del selection  # the lab has a chip of its own
        self._session, self._actions = session, actions
        self.devices, self.importer = DeviceList(cards_folder(session)), ImportPanel(session)
        self.device, self.chip = DevicePanel(session), ChipPanel(session)
        self.tabs = QTabWidget()
        self.tabs.setAccessibleName("Device or chip")
        self.tabs.tabBar().setAccessibleName("Device or chip")
        self.tabs.addTab(self.device, "Device and its curves")
        self.tabs.addTab(self.chip, "Chip made of it")
        self._asking = QTimer(self, singleShot=True, interval=0)  # once the questions have their place
        self.setAcceptDrops(True)  # a file may fall anywhere on the page
        self._lay_out()
        self.devices.chosen.connect(self._chosen)
        self.importer.imported.connect(self._imported)
        self.chip.use_asked.connect(self._use)
        self.importer.file.textChanged.connect(self._asking.start)
        self._asking.timeout.connect(self._show_questions)
        self.tabs.currentChanged.connect(self._tab)

    def _lay_out(self) -> None:
        self._side = side = QWidget()
        column = QVBoxLayout(side)
        column.setContentsMargins(8, 8, 4, 8)
        for title, widget, stretch in (("Devices", self.devices, 1), ("Import a curve", self.importer, 0)):
            group = QGroupBox(title)
            QVBoxLayout(group).addWidget(widget)
            column.addWidget(group, stretch)
        self.devices.setMinimumHeight(theme.em() * 9)
        self._area = area = QScrollArea()
        area.setWidgetResizable(True)
        area.setFocusPolicy(Qt.FocusPolicy.NoFocus)  # what is in it has the keyboard
        area.setWidget(side)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self._fit_side()
        split = QSplitter(Qt.Orientation.Horizontal)
        split.addWidget(area)
        split.addWidget(self.tabs)
        split.setChildrenCollapsible(False)
        split.setStretchFactor(1, 1)
        split.setSizes([260, 970])
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(split)

    def _fit_side(self) -> None:
        """As wide as the questions about a file need, also before there is one."""
        side, importer = self._side.minimumSizeHint(), self.importer.minimumSizeHint()
        wide = max(importer.width(), self.importer.form.minimumSizeHint().width())
        self._area.setMinimumWidth(side.width() - importer.width() + wide + 2 * theme.em())

    def restyle(self) -> None:
        """Colours or font sizes have changed."""
        self._fit_side()
        for part in (self.importer, self.device, self.chip):
            part.restyle()

    def hideEvent(self, event: QHideEvent) -> None:  # noqa: N802
        """Nothing is left at work behind a page that is not seen."""
        self.devices.close_down()
        super().hideEvent(event)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:  # noqa: N802
        """What is dropped beside the place for it is meant for it."""
        self.importer.dragEnterEvent(event)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:  # noqa: N802
        """It went on."""
        self.importer.dragLeaveEvent(event)

    def dropEvent(self, event: QDropEvent) -> None:  # noqa: N802
        """A curve or a card."""
        self.importer.dropEvent(event)

    def _chosen(self, device: str) -> None:
        self.device.show_device(device)
        self.chip.set_device(device)

    def _show_questions(self) -> None:
        """What a file that was taken does not say is asked below the list: bring it into sight."""
        if self.importer.start.isVisible():
            self._area.ensureWidgetVisible(self.importer.start)

    def _imported(self, card: str, report: list[str]) -> None:
        self.device.told(card, report)
        self.devices.choose(card)
        self.tabs.setCurrentWidget(self.device)

    def _tab(self) -> None:
        if self.tabs.currentWidget() is self.chip:
            self.chip.set_device(self.devices.device())

    def _use(self, bench: str) -> None:
        if self._session.connect_bench(bench, {}):
            self._actions.by_name("mode.bench").trigger()
