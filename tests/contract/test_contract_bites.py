"""The contract suite is worth what it finds: benches with one thing wrong each, and the test that has to notice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import test_contract as suite
from backends import PULSE, SHAPE, Backend, Opened
from fakes import FakeChip, FakeCrossbar

from neurobench.bench.crossbar import Applied, Done, NotDone, Outcome, Reading, Witness
from neurobench.bench.stimulus import CellRead, Read, ShotList
from neurobench.errors import LinkLost


class PulsesAgain(FakeCrossbar):
    """Fires whatever the number, and is armed for ever."""

    def stage(self, seq: int, shots: ShotList) -> Witness:
        self.shots = shots
        return super().stage(seq, shots)

    def fire(self, seq: int) -> Applied:
        super().stage(seq, self.shots)
        return super().fire(seq)


class PulsesWhileStaging(FakeCrossbar):
    def stage(self, seq: int, shots: ShotList) -> Witness:
        witness = super().stage(seq, shots)
        self.call("fire", None)
        super().stage(seq, shots)
        return witness


class Forgets(FakeCrossbar):
    def outcome(self, seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        return NotDone()


class Boasts(FakeCrossbar):
    """Every pulse was done, says it."""

    def outcome(self, seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        return Done(Applied(0, 0, 0.0, 0.0))


class LosesEverySecondReply(FakeCrossbar):
    """... and does not remember what it did."""

    turn = False

    def fire(self, seq: int) -> Applied:
        applied, self.turn = super().fire(seq), not self.turn
        if self.turn:
            raise LinkLost("lost")
        return applied

    def outcome(self, seq: int, witness: Witness, shots: ShotList | None = None) -> Outcome:
        return NotDone()


class WrongWayRound(FakeCrossbar):
    def stage(self, seq: int, shots: ShotList) -> Witness:
        object.__setattr__(shots, "sign", -shots.sign)  # type: ignore[union-attr]
        return super().stage(seq, shots)


class Rectifies(FakeCrossbar):
    def sense(self, read: Read) -> Reading:
        reading = super().sense(read)
        return reading._replace(currents_a=np.abs(reading.currents_a))


class ReadsByColumn(FakeCrossbar):
    def sense(self, read: Read) -> Reading:
        reading = super().sense(read)
        if not isinstance(read, CellRead) or not read.mask.all():
            return reading
        turned = [i.reshape(SHAPE).T.ravel() for i in reading.currents_a]
        return reading._replace(currents_a=np.array(turned))


class LeavesOutputsOn(FakeCrossbar):
    """Every read after a pulse finds the cells moved on."""

    def sense(self, read: Read) -> Reading:
        chip: FakeChip = self._link.__self__  # type: ignore[attr-defined]
        chip.g_s = chip.g_s + 1e-8 * (chip.counter > 0)
        return super().sense(read)


class StaysArmed(FakeCrossbar):
    def rest(self) -> None:
        """Does nothing."""


class RunsBackInTime(FakeCrossbar):
    now_s = 1e9

    @property
    def clock_s(self) -> float:
        self.now_s -= 1.0
        return self.now_s


WRONG: list[tuple[type[FakeCrossbar], Callable[[suite.Bench], Any]]] = [
    (PulsesAgain, suite.test_a_pulse_is_sent_once_per_number),
    (PulsesWhileStaging, suite.test_staging_sends_no_volts_and_may_be_repeated),
    (Forgets, suite.test_the_outcome_of_a_pulse_is_what_was_answered),
    (Boasts, suite.test_what_was_never_asked_for_was_not_done),
    (Boasts, suite.test_staging_sends_no_volts_and_may_be_repeated),
    (LosesEverySecondReply, suite.test_books_and_pulses_agree_over_a_link_that_loses),
    (WrongWayRound, suite.test_potentiating_raises_and_depressing_lowers_the_conductance),
    (Rectifies, suite.test_both_polarities_are_kept_raw),
    (ReadsByColumn, suite.test_selected_cells_are_read_row_by_row),
    (LeavesOutputsOn, suite.test_outputs_are_at_rest_after_a_pulse),
    (StaysArmed, suite.test_a_rest_disarms),
    (RunsBackInTime, suite.test_time_does_not_run_back),
]


@pytest.mark.parametrize(("wrong", "test"), WRONG, ids=lambda value: value.__name__)
def test_a_wrong_bench_is_found(wrong: type[FakeCrossbar], test: Callable[[suite.Bench], Any]) -> None:
    def on(kind: type[FakeCrossbar]) -> suite.Bench:
        chip = FakeChip(SHAPE)
        opened = Opened(kind(chip.serve, SHAPE), lambda: sum(pulses for _, pulses in chip.ledger))
        return suite.Bench(Backend(kind.__name__, lambda: opened, PULSE), opened.crossbar, opened.count)

    test(on(FakeCrossbar))
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        test(on(wrong))


def test_a_wrong_product_is_found() -> None:
    class Shifted(FakeCrossbar):
        def sense(self, read: Read) -> Reading:
            reading = super().sense(read)
            return reading if isinstance(read, CellRead) else reading._replace(currents_a=reading.currents_a[..., ::-1])

    chip = FakeChip(SHAPE)
    bench = suite.Bench(Backend("shifted", lambda: None, PULSE), Shifted(chip.serve, SHAPE), lambda: 0)  # type: ignore[arg-type,return-value]
    with pytest.raises(AssertionError):
        suite.products(bench, suite.Direction.ROWS_TO_COLS, None, True)
