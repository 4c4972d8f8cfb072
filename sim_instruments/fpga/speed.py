"""How fast the board's end of the line is: agreed on by SPEED, used when its answer has left, given up in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..world.clock import PS_PER_S, to_ps

if TYPE_CHECKING:
    from ..world.clock import Handle
    from .ticks import BoardTime
    from .wire import Hardware

BASE_BAUD = 115_200
LEAST_TICKS_PER_BIT = 4
NEAR = 0.02  # how far from the wanted speed a board's own may be
TRIAL_S, SILENT_S = 0.2, 2.0  # without a good frame at a new speed, and at any time: back to the base speed
ANSWER_BYTES = 18  # of the reply to SPEED on the line


class Speed:
    """`baud` is in use; `agreed` what the last answer to SPEED said."""

    def __init__(self, time: BoardTime, hardware: Hardware) -> None:
        self._time, self._hardware = time, hardware
        self.baud = self.agreed = BASE_BAUD
        self._boots = 0
        self._left_ps = self._good_ps = 0  # when the last reply will have left; when the last good frame came
        self._check: Handle | None = None

    def reset(self) -> None:
        """The board restarts: what was agreed on and not yet used is forgotten too."""
        self._call_off()
        self.baud = self.agreed = BASE_BAUD
        self._boots, self._left_ps = self._boots + 1, self._time.now_ps

    def heard(self) -> None:
        """A good frame has come."""
        self._good_ps = self._time.now_ps

    def sent(self, n: int) -> None:
        """A reply of n bytes goes out, after those before it."""
        self._left_ps = self._after(n)

    def _after(self, n: int) -> int:
        return max(self._left_ps, self._time.now_ps) + n * 10 * PS_PER_S // self.baud

    def agree(self, wanted: int) -> int:
        """The speed of this board next to the wanted one, or the one agreed on last; used when the answer has left."""
        agreed = self.agreed = self._nearest(wanted)
        boots = self._boots
        self._time.at(self._after(ANSWER_BYTES), lambda: self._use(agreed) if boots == self._boots else None)
        return agreed

    def _nearest(self, wanted: int) -> int:
        if wanted == BASE_BAUD:
            return wanted
        hz = self._hardware.clock_hz
        ticks = max(round(hz / wanted) if wanted else 0, LEAST_TICKS_PER_BIT)
        own = round(hz / ticks)
        fits = abs(own - wanted) <= NEAR * wanted and own <= self._hardware.max_baud
        return own if fits else self.agreed

    def _use(self, baud: int) -> None:
        """The new speed holds, for a trial at first."""
        changed, self.baud = baud != self.baud, baud
        self._call_off()
        if baud != BASE_BAUD:
            since_ps = self._time.now_ps
            wait_s = TRIAL_S if changed else SILENT_S
            self._check = self._time.at(wait_s, lambda: self._look(since_ps if changed else -1))

    def _look(self, trial_since_ps: int) -> None:
        """Back to the base speed if nobody is heard at this one; else look again when that may be so."""
        silent_ps = to_ps(SILENT_S)
        if self._good_ps <= trial_since_ps or self._time.now_ps - self._good_ps >= silent_ps:
            self.baud = self.agreed = BASE_BAUD
            self._check = None
        else:
            self._check = self._time.at(self._good_ps + silent_ps, lambda: self._look(-1))

    def _call_off(self) -> None:
        if self._check is not None:
            self._time.cancel(self._check)
        self._check = None
