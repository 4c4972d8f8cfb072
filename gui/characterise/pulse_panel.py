"""Pulses by hand: what each polarity would do is always said first, and nothing is fired that was not armed.

Both pulses stand side by side with their own preview, so that + and - never fire what cannot be seen. Armed lasts 30 s
from the last pulse, and ends with every change. Above the soft limit the button has to be held, and for a real chip its
id is typed first.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtGui import QShowEvent
from PySide6.QtWidgets import (
    QGridLayout,
    QGroupBox,
    QHBoxLayout,
    QLabel,
    QLineEdit,
    QPushButton,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from neurobench.runs.request import Request
from neurobench.runs.screen import si

from .. import theme
from ..parts.fields import number
from ..parts.forms import NumberBox
from ..parts.hold_button import HoldButton
from ..selection import Selection
from .hand import Answer, Hand, cells_of
from .pulse_words import FORM_WHY, UNTRIED, forming_words, may_form, preview_words

if TYPE_CHECKING:
    from neurobench.bench.limits import ChipLimits

    from ..session.session import Session

ARMED_S = 30.0
HOLD_S = 1.0
SOFT = 0.8  # share of max_cell_v above which a button has to be held, unless Settings say less
ASK_MS = 150  # so long after the last change the preview is asked for
LOOK_MS = 250
MOST_PULSES = 1000  # in one request by hand
UP, DOWN = 1, -1
NAMES = {UP: "Potentiate", DOWN: "Depress"}
MARKS = {UP: "+", DOWN: "-"}


class PulsePanel(QGroupBox):
    """See the module. `fire_asked(request)`: everything was checked that this side can check.

    `form_asked(request)`: the protocol `form` is to be looked at, for these cells and this amplitude.
    """

    fire_asked = Signal(object)
    form_asked = Signal(object)
    refused = Signal(str)  # words that also stand beside the buttons

    def __init__(
        self, session: Session, hand: Hand, selection: Selection, averages: Callable[[], int],
        soft: Callable[[], float] = lambda: SOFT,
    ) -> None:  # fmt: skip
        super().__init__("Pulse")
        self.session, self.hand, self.selection, self._averages = session, hand, selection, averages
        self._soft, self.soft_share = soft, soft()
        self._confirmed_v = 0.0  # up to which amplitude the chip's id was typed
        self._previews: dict[int, tuple[Any, Answer]] = {}  # by sign: what was asked, and its answer
        self._asked: dict[int, Any] = {}
        self._renew: set[int] = set()  # previews that hold until a newer one comes
        self._armed_until = 0.0
        self._touched = False
        self._known_pulse: object = None
        self._build()
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._ask_previews)
        self._clock = QTimer(self)
        self._clock.setInterval(LOOK_MS)
        self._clock.timeout.connect(self._look)
        for box in (*self.amplitude.values(), *self.width_of.values(), self.count):
            box.textEdited.connect(self._edited)
            box.textChanged.connect(self._changed)
        selection.changed.connect(self._selection_changed)
        hand.changed.connect(self._hand_changed)
        session.bench_changed.connect(self._bench_changed)
        self._chosen = selection.mask
        self._bench_changed()

    # -- what it is made of -------------------------------------------------------------------------------------

    def _build(self) -> None:
        grid = QGridLayout()
        grid.setHorizontalSpacing(4)
        grid.setVerticalSpacing(4)
        self.amplitude = {sign: self._box(f"Amplitude to {NAMES[sign].lower()}", "V") for sign in (UP, DOWN)}
        self.width_of = {sign: self._box(f"Width to {NAMES[sign].lower()}", "s") for sign in (UP, DOWN)}
        self.count = self._box("Pulses on each cell", "", integer=True, low=1, high=MOST_PULSES)
        self.count.setText("1")
        for row, (words, boxes) in enumerate((("Amplitude", self.amplitude), ("Width", self.width_of)), 1):
            grid.addWidget(QLabel(words, self), row, 0)
            grid.addWidget(boxes[UP], row, 1)
            grid.addWidget(boxes[DOWN], row, 2)
        grid.addWidget(QLabel("Pulses each", self), 3, 0)
        grid.addWidget(self.count, 3, 1)
        self.arm = self._arm_button()
        grid.addWidget(self.arm, 3, 2)
        self.fire = {sign: self._fire_button(sign) for sign in (UP, DOWN)}
        self.heads = {sign: QLabel(NAMES[sign], self) for sign in (UP, DOWN)}
        for column, sign in ((1, UP), (2, DOWN)):
            self.heads[sign].setAlignment(Qt.AlignmentFlag.AlignHCenter)
            grid.addWidget(self.heads[sign], 0, column)
            grid.addWidget(self.fire[sign], 4, column)
        grid.setColumnStretch(1, 1)
        grid.setColumnStretch(2, 1)
        self.previews = {sign: _words(self, f"Preview: {NAMES[sign].lower()}") for sign in (UP, DOWN)}
        self.untried = _words(self, "What no preview says on this bench", "dim")
        self.untried.setText(UNTRIED)
        self.words = _words(self, "Why nothing was fired, or what became of it", "warn")
        self.words.hide()
        self.confirm = self._confirm_row(grid)
        self.form = self._form_button()
        self._lay_out(grid)

    def _lay_out(self, grid: QGridLayout) -> None:
        whole = QVBoxLayout(self)
        whole.setContentsMargins(6, 4, 6, 6)
        whole.setSpacing(6)
        whole.addLayout(grid)
        whole.addWidget(self.words)
        for sign in (UP, DOWN):
            row = QHBoxLayout()
            mark = QLabel(MARKS[sign], self)
            mark.setAlignment(Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignHCenter)
            mark.setFixedWidth(theme.em())
            row.addWidget(mark)
            row.addWidget(self.previews[sign], 1)
            whole.addLayout(row)
        whole.addWidget(self.untried)
        whole.addWidget(self.form, 0, Qt.AlignmentFlag.AlignLeft)

    def _box(self, name: str, unit: str, **more: Any) -> NumberBox:
        box = NumberBox(unit, **more)
        box.setParent(self)
        box.setPlaceholderText(unit)
        box.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        box.setAccessibleName(name)
        box.setToolTip(f"{name}{f', in {unit}' if unit else ''}; for example {'1.5' if unit == 'V' else '1 m'}")
        return box

    def _confirm_row(self, grid: QGridLayout) -> QLineEdit:
        self.confirm_name, typed = QLabel("Chip's id", self), QLineEdit(self)
        typed.setAccessibleName("The chip's id, typed to confirm a pulse near the limit")
        typed.setToolTip("A pulse near the limit of a real chip is fired once its id was typed here. Other cells, or a "
                         "larger amplitude, ask again")  # fmt: skip
        typed.textEdited.connect(self._confirm_typed)
        grid.addWidget(self.confirm_name, 5, 0)
        grid.addWidget(typed, 5, 1, 1, 2)
        return typed

    def _form_button(self) -> QPushButton:
        button = QPushButton("To the protocol form...", self)
        button.setAutoDefault(False)
        button.setAccessibleName("Open the protocol form for the chosen cells")
        button.setToolTip(f"Ends the session by hand, and shows form for these cells on the Bench page: {FORM_WHY}")
        button.clicked.connect(self._form_clicked)
        button.hide()
        return button

    def _arm_button(self) -> QPushButton:
        arm = QPushButton("Arm", self)
        arm.setCheckable(True)
        arm.setAutoDefault(False)
        arm.setAccessibleName("Arm the pulses")
        arm.setToolTip("Nothing is fired before this is on. It goes off after 30 s, and with every change")
        arm.clicked.connect(self._arm_clicked)
        return arm

    def _fire_button(self, sign: int) -> HoldButton:
        button = HoldButton(f"Fire {MARKS[sign]}", self)
        button.setAccessibleName(f"{NAMES[sign]}: fire the pulses")
        button.setToolTip(f"{NAMES[sign]} the chosen cells ({MARKS[sign]}); Arm comes first")
        button.fired.connect(partial(self._fire_pressed, sign))
        button.let_go.connect(partial(self._let_go, sign))
        return button

    # -- what is asked for --------------------------------------------------------------------------------------

    def request(self, sign: int) -> dict[str, Any] | None:
        """What the panel stands for; None while something is missing."""
        volts, width_s, count = self.amplitude[sign].number(), self.width_of[sign].number(), self.count.number()
        if volts is None or width_s is None or count is None or not self.selection.count:
            return None
        return {
            "do": "pulse", "cells": cells_of(self.selection), "sign": sign, "count": int(count),
            "amplitude_v": float(volts), "width_s": float(width_s), "averages": self._averages(),
        }  # fmt: skip

    def missing(self, sign: int) -> str:
        """What has to be said first."""
        if not self.selection.count:
            return "choose the cells first"
        for boxes, what in ((self.amplitude, "amplitude"), (self.width_of, "width")):
            if boxes[sign].number() is None:
                return f"say the {what} first" if not boxes[sign].text().strip() else f"the {what} is not a number"
        count = self.count.number()
        return "" if count is not None and 1 <= count <= MOST_PULSES else f"1 to {MOST_PULSES:,} pulses each"

    @property
    def limits(self) -> ChipLimits | None:
        """What the chip bears, by its bench file."""
        return None if self.session.bench is None else self.session.bench.limits

    def is_soft(self, sign: int) -> bool:
        """Whether this pulse is so near to the limit that the button has to be held."""
        volts = self.amplitude[sign].number()
        return self.limits is not None and volts is not None and volts > self.soft_share * self.limits.max_cell_v

    # -- the chip's id ------------------------------------------------------------------------------------------

    def unconfirmed(self, sign: int) -> bool:
        """Whether the chip's id has to be typed before this pulse; nobody harms a chip that is simulated."""
        volts = self.amplitude[sign].number() or 0.0
        return self.is_soft(sign) and not self.session.simulated and volts > self._confirmed_v

    def _confirm_typed(self) -> None:
        """The id holds for the amplitudes of now; with every letter that is wrong it holds for nothing."""
        right = bool(self.session.chip_id) and self.confirm.text().strip() == self.session.chip_id
        soft = [self.amplitude[sign].number() or 0.0 for sign in (UP, DOWN) if self.is_soft(sign)]
        self._confirmed_v = max(soft, default=0.0) if right else 0.0
        self._show_previews()

    def _ask_again(self) -> None:
        """What was typed was for other cells, or for less."""
        self._confirmed_v = 0.0
        self.confirm.clear()

    # -- forming ------------------------------------------------------------------------------------------------

    def _forming(self) -> int:
        """The sign of the pulse that only `form` may fire; 0: neither."""
        fit = (sign for sign in (UP, DOWN) if may_form(self.amplitude[sign].number(), self.limits))
        return next(fit, 0)

    def _form_clicked(self) -> None:
        sign = self._forming()
        volts, width_s, cells = self.amplitude[sign].number(), self.width_of[sign].number(), cells_of(self.selection)
        if not sign or not self.selection.count:
            self.say(f"not opened: {self.missing(sign or UP)}")
            return
        rows, cols = self.selection.shape
        every = [[row, col] for row in range(rows) for col in range(cols)]
        settings: dict[str, Any] = {
            "cells": every if cells == "all" else cells, "stop_v": float(volts or 0.0), "polarity": NAMES[sign].lower(),
        }  # fmt: skip
        if width_s is not None:
            settings["width_s"] = float(width_s)
        self.form_asked.emit(Request("form", self.session.bench_name, settings, dict(self.session.bench_settings)))

    # -- changes ------------------------------------------------------------------------------------------------

    def _edited(self) -> None:
        self._touched = True

    def _changed(self) -> None:
        self.disarm("the pulse was changed")
        self._previews.clear()
        if any(self.unconfirmed(sign) for sign in (UP, DOWN)):
            self._ask_again()
        for sign in (UP, DOWN):
            self.fire[sign].hold_s = HOLD_S if self.is_soft(sign) else 0.0
            self.fire[sign].setText(f"{'Hold' if self.is_soft(sign) else 'Fire'} {self._mark(sign)}")
        self._show_previews()
        self._soon.start(ASK_MS)

    def _selection_changed(self) -> None:
        if self.selection.mask is not self._chosen:  # the cursor alone may move
            self._chosen = self.selection.mask
            self.disarm("the selection was changed")
            self._ask_again()
            self._previews.clear()
            self._show_previews()
            self._soon.start(ASK_MS)

    def _hand_changed(self) -> None:
        if not self.hand.is_open:
            self.disarm("the bench is not open by hand")
            self._ask_again()
            self._previews.clear()
            self._asked.clear()
        self._show_previews()
        self._soon.start(ASK_MS)

    def _bench_changed(self) -> None:
        """Another chip: its own polarity, and nothing is kept of the pulses for the old one."""
        self.disarm("the bench was changed")
        self._ask_again()
        bench = self.session.bench
        sign = 1 if bench is None else bench.chip.potentiating_sign or 1
        for way in (UP, DOWN):
            volts = "above" if sign * way > 0 else "below"
            self.heads[way].setToolTip(f"{NAMES[way]}: on this chip by a word line {volts} its bit line")
        self._changed()

    def _mark(self, sign: int) -> str:
        """+ or -, and how long it takes."""
        return f"{MARKS[sign]} {HOLD_S:.0f} s" if self.is_soft(sign) else MARKS[sign]

    def suggest(self, up: Any, down: Any) -> None:
        """The pulses that the devices are declared to answer to, until somebody types others."""
        if self._touched or up is None or self._known_pulse == (up, down):
            return
        self._known_pulse = up, down
        for sign, pulse in ((UP, up), (DOWN, down or up)):
            self.amplitude[sign].setText(number(pulse.amplitude_v, "V"))
            self.width_of[sign].setText(number(pulse.width_s, "s"))

    # -- preview ------------------------------------------------------------------------------------------------

    def _ask_previews(self) -> None:
        """Ask for what is not known yet; whatever is under way comes first."""
        for sign in (UP, DOWN):
            asked = self.request(sign)
            known = self._fresh(sign) is not None and sign not in self._renew
            if asked is None or self.missing(sign) or known or self._asked.get(sign) == asked:
                continue
            self._asked[sign] = asked
            if not self.hand.preview(asked, partial(self._previewed, sign, asked)):
                self._asked.pop(sign)

    def _previewed(self, sign: int, asked: Any, answer: Answer) -> None:
        self._asked.pop(sign, None)
        self._renew.discard(sign)
        self._previews[sign] = asked, answer
        self._show_previews()
        if self._fresh(sign) is None:
            self._soon.start(ASK_MS)

    def _fresh(self, sign: int) -> Answer | None:
        """The preview of exactly what would be fired now."""
        asked, answer = self._previews.get(sign, (None, None))
        return answer if asked is not None and asked == self.request(sign) else None

    def _show_previews(self) -> None:
        near = not self.session.simulated and any(self.is_soft(sign) for sign in (UP, DOWN))
        self.confirm_name.setVisible(near)
        self.confirm.setVisible(near)
        self.form.setVisible(self._forming() != 0)
        answers = [answer for sign in (UP, DOWN) if (answer := self._fresh(sign)) is not None]
        self.untried.setVisible(any(answer.get("tried") is False for answer in answers))
        for sign in (UP, DOWN):
            words, role = self._preview_words(sign)
            self.previews[sign].setText(words)
            _set_role(self.previews[sign], role)

    def _preview_words(self, sign: int) -> tuple[str, str]:
        missing, answer = self.missing(sign), self._fresh(sign)
        if missing:
            return f"{NAMES[sign]}: {missing}.", "dim"
        if not self.hand.is_open:
            return f"{NAMES[sign]}: open the bench by hand, and it says what this would do.", "dim"
        if answer is None:
            return f"{NAMES[sign]}: asking the bench ...", "dim"
        if "refused" in answer:
            return (
                f"✕ would be refused: {answer['refused']}{forming_words(self.amplitude[sign].number(), self.limits)}",
                "bad",
            )
        return preview_words(answer, soft=self._near_words(sign)), "warn" if self.is_soft(sign) else ""

    def _near_words(self, sign: int) -> str:
        """What is asked of the operator near the limit, and where that begins; "" below."""
        if not self.is_soft(sign):
            return ""
        typed = "type the chip's id, and " if self.unconfirmed(sign) else ""
        return f"above {self._soft_limit()} (Settings): {typed}hold the button for {HOLD_S:.0f} s"

    def _soft_limit(self) -> str:
        """Where holding and typing begin."""
        most_v = self.limits.max_cell_v if self.limits is not None else 0.0
        return f"{self.soft_share:.0%} of max_cell_v = {si(most_v, 'V')}"

    # -- arm and fire -------------------------------------------------------------------------------------------

    @property
    def armed(self) -> bool:
        """Whether a pulse would be fired now."""
        return self.arm.isChecked()

    def _arm_clicked(self, on: bool) -> None:
        if not on:
            self.disarm("")
            return
        words = self.why_not_armed()
        if words:
            self.arm.setChecked(False)
            self.say(f"not armed: {words}")
            return
        self._armed_until = time.monotonic() + ARMED_S
        self._clock.start()
        self.say("")
        self._look()
        self._mark_armed()

    def why_not_armed(self) -> str:
        """What stands against arming, "" if nothing does."""
        if not self.hand.is_open:
            return "the bench is not open by hand: Open it above, or read something (R)"
        answers = [self._fresh(sign) for sign in (UP, DOWN) if not self.missing(sign)]
        if not answers:
            return self.missing(UP)
        known = [one for one in answers if one is not None]
        if any("refused" not in one for one in known):
            return ""
        return str(known[0]["refused"]) if len(known) == len(answers) else "the preview has not been answered yet"

    def disarm(self, why: str) -> None:
        """Off; the words say why, unless it was the operator's own wish."""
        was, self._armed_until = self.armed, 0.0
        self._clock.stop()
        self.arm.setChecked(False)
        self.arm.setText("Arm")
        if was:
            self._mark_armed()
        if was and why:
            self.say(f"disarmed: {why}", told=False)

    def _mark_armed(self) -> None:
        """Buttons that would fire now look it."""
        for button in self.fire.values():
            _set_role(button, "primary" if self.armed else "")

    def _look(self) -> None:
        left_s = self._armed_until - time.monotonic()
        if left_s <= 0:
            self.disarm(f"{ARMED_S:.0f} s have passed without a pulse")
        else:
            self.arm.setText(f"ARMED {left_s:.0f} s")

    def fire_by_key(self, sign: int) -> None:
        """As the button, for the keys + and -; what has to be held cannot be fired by a key."""
        if self.armed and self.is_soft(sign):
            self.say(f"nothing was fired: {self._soft_words(sign)}")
        else:
            self._fire_pressed(sign)

    def _soft_words(self, sign: int) -> str:
        volts = self.amplitude[sign].number() or 0.0
        return f"{si(volts, 'V')} is above {self._soft_limit()}: hold the button {self.fire[sign].text()}"

    def _let_go(self, sign: int, held_s: float) -> None:
        why = self.why_not_fired(sign) or f"held for {held_s:.1f} s; {self._soft_words(sign)}"
        self.say(f"nothing was fired: {why}")

    def _fire_pressed(self, sign: int) -> None:
        words = self.why_not_fired(sign)
        if words:
            self.say(f"nothing was fired: {words}")
            return
        self._armed_until = time.monotonic() + ARMED_S
        self.say("")
        self.fire_asked.emit(self.request(sign))

    def why_not_fired(self, sign: int) -> str:
        """What stands against firing, "" if nothing does."""
        if missing := self.missing(sign):
            return missing
        if not self.armed:
            return "it is not armed (Arm comes first)"
        if self.hand.busy:
            return "the last request has not been answered yet"
        answer = self._fresh(sign)
        if answer is None:
            return "the preview has not been answered yet"
        if "refused" not in answer and self.unconfirmed(sign):
            name = self.session.chip_id or "it has none: say it in [chip] id of the bench file"
            return f"above {self._soft_limit()} the chip's id is typed first, below the buttons: {name}"
        return str(answer.get("refused", ""))

    def say(self, words: str, *, told: bool = True) -> None:
        """Words beside the buttons; a refusal is told in the log, too."""
        self.words.setText(words)
        self.words.setVisible(bool(words))
        if words and told:
            self.refused.emit(words)

    def fired(self) -> None:
        """A pulse was answered: what is left of the budget has changed, so the preview is asked for again."""
        self._renew |= {UP, DOWN}
        self._soon.start(0)

    def showEvent(self, event: QShowEvent) -> None:  # noqa: N802
        """Settings may say something else by now."""
        super().showEvent(event)
        if self._soft() != self.soft_share:
            self.soft_share = self._soft()
            self._changed()

    def restyle(self) -> None:
        """Font sizes have changed."""
        for box in (*self.amplitude.values(), *self.width_of.values(), self.count):
            box.setMinimumWidth(round(4.2 * theme.em()))
        # what they will say later moves nothing
        words = (f"ARMED {ARMED_S:.0f} s", f"Hold {MARKS[UP]} {HOLD_S:.0f} s")
        wide = max(self.arm.fontMetrics().horizontalAdvance(one) for one in words) + 2 * theme.em()
        for button in (self.arm, *self.fire.values()):
            button.setMinimumWidth(wide)


def _words(parent: QWidget, name: str, role: str = "") -> QLabel:
    label = QLabel(parent)
    label.setWordWrap(True)
    label.setTextFormat(Qt.TextFormat.PlainText)
    flags = Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
    label.setTextInteractionFlags(flags)
    label.setAccessibleName(name)
    label.setProperty("role", role)
    return label


def _set_role(label: QWidget, role: str) -> None:
    if label.property("role") != role:
        label.setProperty("role", role)
        label.style().unpolish(label)
        label.style().polish(label)
