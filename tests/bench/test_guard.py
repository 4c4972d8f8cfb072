"""Every limit of the Guard, one by one: what it admits, what it refuses, and in which words."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from recording_bench import EVERYTHING, ROOMY, Busy, Recording, guard, on_lines, rectangle

from neurobench.bench.crossbar import Capabilities, Done, NotDone, Unknown, Witness
from neurobench.bench.limits import Guard, Limits, exposure
from neurobench.bench.passport import CellState, Lifetime, Passport
from neurobench.bench.steps import Loop, LoopAnswer
from neurobench.bench.stimulus import (
    Bias,
    CellRead,
    Direction,
    LineState,
    Play,
    Pulse,
    PulseBatch,
    Region,
    Shape,
    VectorRead,
    Waveforms,
)
from neurobench.errors import CapabilityMissing, ConfigError, LimitExceeded, LinkLost, OutsideHull, Refused, UsageError

SHAPE = (3, 4)
PASSIVE = Capabilities(SHAPE, vector_reads=frozenset(Direction), distinct_shapes=4, compiled_loops=True)


def limits(**more: Any) -> Limits:
    return Limits.model_validate({**ROOMY.model_dump(), **more})


def batch(
    cells: dict[tuple[int, int], int] | None = None,
    volts: float = 1.0,
    width_s: float = 1e-6,
    bias: Bias = Bias.HALF,
    edges_s: float = 0.0,
) -> PulseBatch:
    counts = np.zeros(SHAPE, np.int16)
    for cell, n in (cells or {(1, 2): 1}).items():
        counts[cell] = n
    return PulseBatch(counts, Pulse(volts, width_s, edges_s, edges_s), bias)


def everywhere(n: int = 1, **more: Any) -> PulseBatch:
    return batch(dict.fromkeys(np.ndindex(SHAPE), n), **more)


def passive(**more: Any) -> Guard:
    return guard(limits(**more), Recording(PASSIVE))


def refused(on: Guard, asked: Any, *words: str) -> None:
    """`asked` is refused by check and, where it can be, by stage or sense, with these words; and nothing happened."""
    before = on.passport.life.copy()
    kinds = [on.check]
    if isinstance(asked, PulseBatch | Waveforms):
        kinds.append(lambda stimulus: on.stage(1, stimulus))
    elif isinstance(asked, Loop):
        kinds.append(lambda loop: on.loop(1, loop))
    else:
        kinds.append(on.sense)
    for kind in kinds:
        with pytest.raises(Refused) as found:
            kind(asked)
        for word in words:
            assert word in str(found.value)
    raw = on.raw
    assert isinstance(raw, Recording)
    assert not raw.armed
    assert not raw.reads
    assert not raw.loops
    assert same(before, on.passport.life)


def same(a: Lifetime, b: Lifetime) -> bool:
    """To rounding: a reservation that is taken back leaves the last bits of a sum, some 1e-25 of 1e-9 J."""
    return all(np.allclose(x, b.arrays()[name], rtol=1e-12, atol=1e-22) for name, x in a.arrays().items())


# ------------------------------------------------------------------ volts and widths of a batch


def test_volts_on_a_cell() -> None:
    on = passive(max_cell_v=1.5, max_victim_v=5.0, max_line_v=5.0)
    on.check(batch(volts=1.5))
    on.check(batch(volts=1.5 * (1 + 1e-12)))  # what the sum of floats may add
    refused(on, batch(volts=1.8), "1.8 V on cell (1, 2)", "exceeds max_cell_v = 1.5", "bench lab", "limits.max_cell_v")
    refused(on, batch(volts=1.5 * (1 + 1e-6)), "max_cell_v")
    refused(on, batch(volts=1.8, bias=Bias.THIRD), "max_cell_v")


def test_volts_on_a_line() -> None:
    on = passive(max_line_v=0.6)
    on.check(batch(volts=1.2))
    refused(on, batch(volts=1.3), "0.65 V on a line exceeds max_line_v = 0.6", "bench lab, limits.max_line_v")
    refused(on, batch(volts=0.9, bias=Bias.THIRD), "0.9 V on a line")
    refused(on, CellRead(np.ones(SHAPE, bool), 0.61), "max_read_v")  # the lower limit speaks first
    refused(passive(max_line_v=0.3), CellRead(np.ones(SHAPE, bool), 0.4), "0.4 V on a line", "max_line_v")


def test_volts_on_a_half_selected_cell() -> None:
    on = passive(max_victim_v=0.5)
    on.check(batch(volts=1.0))
    on.check(batch(volts=1.5, bias=Bias.THIRD))
    refused(on, batch(volts=1.1), "0.55 V at an unselected cell exceeds max_victim_v = 0.5", "limits.max_victim_v")
    refused(on, batch(volts=1.6, bias=Bias.THIRD), "0.533333 V at an unselected cell")


def test_victims_bear_half_of_the_cell_limit_unless_the_chip_says_otherwise() -> None:
    on = passive(max_cell_v=1.0)
    on.check(batch(volts=1.0))
    assert on.limits.victim_v == 0.5


def test_a_transistor_guards_the_victims() -> None:
    gated = Recording(Capabilities(SHAPE, biases=frozenset(Bias), isolation="1t1r"))
    on = guard(limits(max_victim_v=0.1), gated)
    for bias in Bias:
        on.check(batch(bias=bias))


@pytest.mark.parametrize("bias", [Bias.GROUNDED, Bias.ISOLATED])
def test_a_passive_array_is_not_written_with_the_full_pulse_on_a_line(bias: Bias) -> None:
    refused(guard(), batch(bias=bias), repr(bias.value), "passive array", "[chip] isolation")


def test_the_width_includes_the_edges() -> None:
    on = passive(max_width_s=1e-6)
    on.check(batch(width_s=1e-6))
    on.check(batch(width_s=8e-7, edges_s=1e-7))
    refused(on, batch(width_s=1.1e-6), "1.1e-06 s, edges included, exceeds max_width_s = 1e-06", "limits.max_width_s")
    refused(on, batch(width_s=9e-7, edges_s=1e-7), "max_width_s")


def test_a_pulse_may_be_too_short() -> None:
    on = passive(min_width_s=1e-6)
    on.check(batch(width_s=1e-6))
    refused(on, batch(width_s=9e-7, edges_s=1e-6), "9e-07 s is shorter than min_width_s = 1e-06", "limits.min_width_s")


def test_a_batch_as_a_whole_has_an_end() -> None:
    on = passive(max_batch_s=1e-4)
    on.check(batch({(0, 0): 100}))
    refused(on, batch({(0, 0): 101}), "a batch of 0.000101 s exceeds max_batch_s = 0.0001", "limits.max_batch_s")
    refused(on, everywhere(34), "a batch of 0.000102 s")  # three rows after each other


def test_what_the_bench_cannot_do_is_refused_by_name() -> None:
    few = Recording(Capabilities(SHAPE, biases=frozenset({Bias.HALF}), max_pulse_v=0.9, vector_reads=frozenset()))
    on = guard(raw=few)
    refused(on, batch(volts=0.5, bias=Bias.THIRD), "bias 'third'; the bench has half (bench lab)")
    refused(on, batch(volts=0.95), "0.95 V; the bench reaches 0.9 V")
    refused(on, VectorRead(np.full((1, 3), 0.1)), "rows_to_cols vector read; the bench has none")
    refused(on, on_lines(rectangle(0.3, 1e-6), [0], []), "the bench plays 0")
    refused(on, Loop(Busy(Pulse(0.5, 1e-6), 1, 0), 5), "does not run loops")


def test_a_second_pulse_is_checked_too() -> None:
    """An equal pulse is checked once; another bias, amplitude or edge is another pulse."""
    on = passive(max_victim_v=0.5, max_width_s=2e-6)
    spend(on, batch(volts=1.2, bias=Bias.THIRD))
    refused(on, batch(volts=1.2), "max_victim_v")
    spend(on, batch(volts=1.0, width_s=1e-6))
    refused(on, batch(volts=1.0, width_s=1e-6, edges_s=1e-6), "max_width_s")
    spend(on, batch(volts=1.0, width_s=1e-6))


# ------------------------------------------------------------------ reads


def test_volts_of_a_read() -> None:
    on = passive(max_read_v=0.2)
    on.sense(CellRead(np.ones(SHAPE, bool), -0.2))
    on.sense(VectorRead(np.full((2, 3), -0.2)))
    for volts in (0.21, -0.21):
        words = ("a read at 0.21 V exceeds max_read_v = 0.2", "bench lab, limits.max_read_v")
        other = passive(max_read_v=0.2)
        refused(other, CellRead(np.ones(SHAPE, bool), volts), *words)
        refused(other, VectorRead(np.array([[0.0, 0.0, 0.0], [0.0, volts, 0.1]])), *words)


def test_how_long_a_read_keeps_a_cell_at_volts() -> None:
    on = passive(max_batch_s=1.0)
    on.sense(CellRead(np.ones(SHAPE, bool), 0.1, integration_s=0.1, averages=5))
    other = passive(max_batch_s=1.0)
    refused(
        other, CellRead(np.ones(SHAPE, bool), 0.1, integration_s=0.1, averages=6), "1.2 s on one cell", "max_batch_s"
    )
    refused(other, VectorRead(np.full((11, 3), 0.1), integration_s=0.1), "1.1 s on one cell", "limits.max_batch_s")


def test_a_passive_array_is_not_read_with_floating_lines() -> None:
    floating = VectorRead(np.full((1, 3), 0.1), idle=LineState.FLOATING)
    refused(passive(), floating, "passive array", "floating", "[chip] isolation")
    gated = guard(raw=Recording(Capabilities(SHAPE, isolation="1t1r")))
    gated.sense(floating)


def test_a_read_fits_the_array_and_its_region() -> None:
    on = passive()
    refused(on, CellRead(np.ones((4, 4), bool), 0.1), "(4, 4) cells, the bench has (3, 4)")
    refused(on, VectorRead(np.full((1, 4), 0.1)), "volts has 4 lines per vector, the region has 3 (rows_to_cols)")
    refused(on, VectorRead(np.full((1, 3), 0.1), Direction.COLS_TO_ROWS), "3 lines per vector, the region has 4")
    refused(on, VectorRead(np.full((1, 2), 0.1), region=Region(2, 4, 0, 1)), "outside the array of (3, 4)")
    refused(on, VectorRead(np.full((1, 2), 0.1), region=Region(0, 1, 3, 5)), "outside the array")
    refused(on, VectorRead(np.full((1, 2), 0.1), region=Region(0, 1, 0, 2)), "2 lines per vector, the region has 1")
    on.sense(VectorRead(np.full((1, 2), 0.1), region=Region(0, 2, 0, 1)))
    on.sense(VectorRead(np.full((1, 2), 0.1), Direction.COLS_TO_ROWS, Region(0, 1, 1, 3)))


# ------------------------------------------------------------------ budgets


NUMBERS = itertools.count(1000)  # every firing has its own


def spend(on: Guard, stimulus: PulseBatch | Waveforms, times: int = 1) -> None:
    for seq in itertools.islice(NUMBERS, times):
        on.stage(seq, stimulus)
        on.fire(seq)


def test_pulses_over_the_life_of_a_cell_end_exactly_at_the_budget() -> None:
    on = passive(max_pulses_per_cell=7)
    spend(on, batch({(1, 2): -5}))
    spend(on, batch({(1, 2): 2}))
    had = "cell (1, 2) would have had 8 pulses over its life"
    words = f"{had}; max_pulses_per_cell = 7 (bench lab, limits.max_pulses_per_cell)"
    with pytest.raises(LimitExceeded) as found:
        on.stage(9, batch())
    assert str(found.value) == words
    on.stage(9, batch({(1, 1): 7}))  # other cells are not affected
    assert on.view().pulses_left[1, 2] == 0


def test_a_budget_beyond_what_a_float_resolves_is_exact() -> None:
    on = passive(max_pulses_per_cell=2**40)
    on.passport.life.pulses[0, 0] = 2**40 - 1
    spend(on, batch({(0, 0): 1}))
    with pytest.raises(LimitExceeded, match="max_pulses_per_cell"):
        on.stage(1, batch({(0, 0): 1}))


def test_half_selects_end_exactly_at_the_budget() -> None:
    on = passive(max_half_selects_per_cell=10)
    spend(on, batch({(1, 2): 6}))
    spend(on, batch({(1, 3): 4}))  # cells (1, 0) and (1, 1): 10 half-selects by their row
    with pytest.raises(LimitExceeded, match=r"cell \(1, 0\) would have had 11 half-selects.*limits.max_half_selects"):
        on.stage(1, batch({(1, 2): 1}))
    spend(on, batch({(1, 0): 1, (1, 1): 1}))  # their own pulses are none
    assert on.passport.life.half_selects().max() == 10


def test_cells_that_are_pulsed_together_do_not_half_select_each_other() -> None:
    on = passive(max_half_selects_per_cell=1)
    on.check(batch({(1, j): 1 for j in range(4)}))
    with pytest.raises(LimitExceeded, match="half-selects"):
        on.stage(0, everywhere())  # row by row: each row sees the pulses of the other two


@pytest.mark.parametrize(("bias", "share"), [(Bias.HALF, (0.5, 0.0)), (Bias.THIRD, (1 / 3, 1 / 3))])
def test_energy_is_bounded_for_pulsed_and_for_victim_cells(bias: Bias, share: tuple[float, float]) -> None:
    on = passive(compliance_a=1e-3)
    spend(on, batch({(1, 2): 3}, volts=0.9, width_s=2e-6, edges_s=1e-6, bias=bias))
    pulse_j = 0.9 * 1e-3 * 4e-6
    expected = np.full(SHAPE, share[1])
    expected[1, :] = expected[:, 2] = share[0]
    expected[1, 2] = 1.0
    assert on.passport.life.total_j() == pytest.approx(3 * pulse_j * expected, rel=1e-9)


def test_energy_of_a_guarded_cell_goes_nowhere_else() -> None:
    gated = Recording(Capabilities(SHAPE, biases=frozenset(Bias), isolation="1t1r"))
    on = guard(limits(compliance_a=1e-3), gated)
    spend(on, batch({(1, 2): 3}, bias=Bias.ISOLATED))
    expected = np.zeros(SHAPE)
    expected[1, 2] = 3e-9
    assert on.passport.life.total_j() == pytest.approx(expected, rel=1e-9)


def test_energy_ends_at_the_budget() -> None:
    on = passive(compliance_a=1e-3, max_energy_per_cell_j=5e-9)
    spend(on, batch({(1, 2): 5}))
    with pytest.raises(LimitExceeded, match=r"cell \(1, 2\) would have had 6e-09 J.*limits.max_energy_per_cell_j"):
        on.stage(1, batch())
    on = passive(compliance_a=1e-3, max_energy_per_cell_j=5e-9)
    spend(on, batch({(1, 2): 4}))
    spend(on, batch({(1, 1): 2}))
    with pytest.raises(LimitExceeded, match=r"cell \(1, 2\) would have had 5.5e-09 J"):
        on.stage(1, batch({(1, 3): 1}))  # victims have an energy, too


def test_energy_needs_a_current_limit() -> None:
    with pytest.raises(ValidationError, match="compliance_a"):
        limits(max_energy_per_cell_j=1.0)


def test_reads_are_gentler_than_pulses() -> None:
    with pytest.raises(ValidationError, match="max_read_v = 3 exceeds max_cell_v = 2"):
        limits(max_read_v=3.0)


def test_a_preview_changes_nothing_not_even_in_the_last_bit() -> None:
    on = passive(compliance_a=0.1, max_pulses_per_cell=100)
    spend(on, batch({(0, 0): 3}, volts=0.7, width_s=0.3))
    before = on.passport.life.copy()
    on.check(everywhere(3, volts=0.9, width_s=0.1))
    with pytest.raises(LimitExceeded):
        on.check(everywhere(99, volts=0.9, width_s=0.1))
    assert all((x == on.passport.life.arrays()[name]).all() for name, x in before.arrays().items())


def test_a_preview_counts_as_stage_would() -> None:
    """Staging drops what was staged before, so a preview must not count it."""
    on = passive(max_pulses_per_cell=5)
    on.stage(1, batch({(1, 2): 5}))
    on.check(batch({(1, 2): 5}))
    on.fire(1)
    with pytest.raises(LimitExceeded):
        on.check(batch())


# ------------------------------------------------------------------ reserved, spent, given back


def pulses(on: Guard) -> int:
    return int(on.passport.life.pulses.sum())


def test_staging_again_drops_the_earlier_reservation() -> None:
    on = passive(max_pulses_per_cell=5)
    for seq in (1, 1, 2):
        on.stage(seq, batch({(1, 2): 5}))
        assert pulses(on) == 5
    on.stage(3, batch({(0, 0): 1}))
    assert pulses(on) == 1


def test_a_staging_that_fails_reserves_nothing() -> None:
    raw = Recording(PASSIVE)
    on = guard(limits(max_pulses_per_cell=5), raw)
    raw.stage_fails = True
    for _ in range(3):
        with pytest.raises(LinkLost):
            on.stage(1, batch({(1, 2): 5}))
        assert pulses(on) == 0
    raw.stage_fails = False
    spend(on, batch({(1, 2): 5}))


def test_what_was_refused_or_lost_while_staging_cannot_be_given_back() -> None:
    """Asking for the outcome of what was never fired must not fill the budget up again."""
    raw = Recording(PASSIVE)
    on = guard(limits(max_pulses_per_cell=5), raw)
    spend(on, batch({(1, 2): 3}))
    on.stage(1, batch({(1, 2): 2}))
    with pytest.raises(LimitExceeded):
        on.stage(2, batch({(1, 2): 3}))
    assert on.outcome(1, Witness()) == NotDone()
    raw.stage_fails = True
    with pytest.raises(LinkLost):
        on.stage(3, batch({(1, 2): 2}))
    assert on.outcome(3, Witness()) == NotDone()
    assert pulses(on) == 3


def test_asking_for_a_staged_pulse_leaves_its_reservation() -> None:
    on = passive()
    on.stage(1, batch({(1, 2): 2}))
    assert on.outcome(1, Witness()) == NotDone()
    assert pulses(on) == 2
    on.fire(1)
    assert pulses(on) == 2


@pytest.mark.parametrize(
    ("fate", "outcome", "left"), [("lost_before", NotDone, 0), ("lost_after", Done, 2), ("unknown", Unknown, 2)]
)
def test_a_lost_reply_is_spent_until_it_is_certain_that_nothing_was_fired(fate: str, outcome: type, left: int) -> None:
    raw = Recording(PASSIVE)
    on = guard(raw=raw)
    on.stage(1, batch({(1, 2): 2}))
    raw.fate = fate
    with pytest.raises(LinkLost):
        on.fire(1)
    assert pulses(on) == 2
    for _ in range(3):  # however often it is asked
        assert isinstance(on.outcome(1, Witness()), outcome)
        assert pulses(on) == left
    on.outcome(99, Witness())
    assert pulses(on) == left


def test_a_pulse_is_sent_once_as_it_was_staged() -> None:
    on = passive()
    with pytest.raises(Refused, match=r"fire\(1\) without stage\(1\)"):
        on.fire(1)
    with pytest.raises(Refused, match="nothing is staged"):
        _ = on.staged
    on.stage(1, batch())
    assert on.staged.pulses == 1  # type: ignore[union-attr]
    with pytest.raises(Refused, match=r"fire\(2\)"):
        on.fire(2)
    on.fire(1)
    with pytest.raises(Refused, match=r"fire\(1\)"):
        on.fire(1)
    raw = on.raw
    assert isinstance(raw, Recording)
    assert [seq for seq, _ in raw.fired] == [1]


def test_a_refused_stage_disarms_what_was_staged_before() -> None:
    on = passive(max_cell_v=1.0)
    on.stage(1, batch())
    with pytest.raises(LimitExceeded):
        on.stage(2, batch(volts=1.5))
    with pytest.raises(Refused):
        on.fire(1)
    assert pulses(on) == 0


def test_charge_and_refund_are_each_others_opposite() -> None:
    on = passive(compliance_a=1e-3)
    waves = on_lines(rectangle(1.0, 1e-6, 3), [0], [1])
    for stimulus in (everywhere(3), batch({(0, 0): -2}, bias=Bias.THIRD), waves):
        on.charge(stimulus)
        assert pulses(on) > 0
        on.refund(stimulus)
        assert pulses(on) == 0
        assert np.abs(on.passport.life.total_j()).max() < 1e-20


def test_closing_gives_back_what_was_only_staged() -> None:
    on = passive()
    on.stage(1, batch())
    on.close()
    assert pulses(on) == 0


def test_bench_and_passport_are_of_one_size() -> None:
    """The compiled books do not check their bounds."""
    with pytest.raises(ConfigError, match=r"\(3, 4\) cells, the passport of chip 'c1' \(2, 2\)"):
        Guard(Recording(), ROOMY, Passport("c1", (2, 2)))


# ------------------------------------------------------------------ excluded cells


@pytest.mark.parametrize("state", [CellState.STUCK, CellState.SHORTED, CellState.RETIRED])
def test_a_dead_cell_is_not_pulsed(state: CellState) -> None:
    on = passive(compliance_a=1e-3)
    on.passport.cell_state[1, 2] = state
    told = f"a pulse on cell (1, 2), which is {state.name.lower()} in the passport of chip 'c1'"
    refused(on, everywhere(), told, "mask or remap")
    refused(on, batch({(1, 2): -1}), told)
    refused(on, Loop(Busy(Pulse(1.0, 1e-6), 1, 0), 5), "a loop that may pulse cell (1, 2)", state.name.lower())
    spend(on, batch({(1, 1): 1, (0, 2): 1}))  # its mates on the lines may be


def test_a_virgin_cell_is_pulsed() -> None:
    on = passive()
    on.passport.cell_state[:] = CellState.VIRGIN
    spend(on, everywhere())


def test_waveforms_may_do_to_a_dead_cell_what_a_batch_does_to_its_victims() -> None:
    on = passive(max_cell_v=1.0, max_victim_v=0.5)
    on.passport.cell_state[1, 2] = CellState.STUCK
    spend(on, on_lines(rectangle(0.5, 1e-6), [1], []))
    refused(on, on_lines(rectangle(0.6, 1e-6), [1], []), "waveforms that pulse cell (1, 2), which is stuck")
    spend(on, on_lines(rectangle(0.6, 1e-6), [0], []))


def test_a_loop_may_leave_a_dead_cell_out() -> None:
    on = passive()
    on.passport.cell_state[1, 2] = CellState.RETIRED
    most = np.ones(SHAPE, np.int64)
    most[1, 2] = 0
    on.loop(1, Loop(Busy(Pulse(1.0, 1e-6), most, most), 5))
    assert (on.passport.life.pulses == most).all()


# ------------------------------------------------------------------ loops


def test_a_loop_is_checked_by_its_worst_case() -> None:
    on = passive(max_cell_v=1.0, max_read_v=0.2, max_width_s=1e-5, max_loop_pulses_per_cell=50)
    pulse = Pulse(1.0, 1e-6)
    on.check(Loop(Busy(pulse, 50, 0), 10))
    refused(on, Loop(Busy(Pulse(1.1, 1e-6), 1, 0), 10), "1.1 V on cell", "max_cell_v")
    refused(on, Loop(Busy(Pulse(1.0, 1e-4), 1, 0), 10), "max_width_s")
    refused(on, Loop(Busy(pulse, 1, 0, read_v=0.3), 10), "a loop that reads at 0.3 V", "max_read_v")
    refused(on, Loop(Busy(pulse, 51, 0), 10), "up to 51 pulses per cell", "max_loop_pulses_per_cell = 50")


def test_a_loop_fits_into_every_budget_at_its_worst() -> None:
    pulse = Pulse(1.0, 1e-6)
    on = passive(max_pulses_per_cell=10)
    spend(on, batch({(1, 2): 4}))
    on.check(Loop(Busy(pulse, 6, 0), 10))
    refused(
        on, Loop(Busy(pulse, 7, 0), 10), "in the worst case of this loop, cell (1, 2)", "11 pulses", "limits.max_pulses"
    )
    energetic = passive(compliance_a=1e-3, max_energy_per_cell_j=5e-9)
    refused(energetic, Loop(Busy(pulse, 6, 0), 10), "worst case", "limits.max_energy_per_cell_j")
    selected = passive(max_half_selects_per_cell=24)
    selected.check(Loop(Busy(pulse, 4, 0), 10))  # a cell has 5 mates on its lines, (3 - 1) + (4 - 1)
    refused(selected, Loop(Busy(pulse, 5, 0), 10), "worst case", "25 half-selects", "limits.max_half_selects_per_cell")


def test_a_loop_is_charged_by_what_it_did() -> None:
    on = passive(compliance_a=1e-3)
    on.loop(1, Loop(Busy(Pulse(1.0, 1e-6), 9, 2), 10))
    assert (on.passport.life.pulses == 2).all()
    # own pulses 2 V, and half a volt twice for each of the 5 mates
    assert on.passport.life.total_j() == pytest.approx(np.full(SHAPE, (2 + 2 * 5 / 2) * 1e-9), rel=1e-9)


def test_a_loop_whose_answer_is_lost_is_charged_by_its_worst() -> None:
    raw = Recording(PASSIVE)
    on = guard(raw=raw)
    raw.loop_fails = True
    with pytest.raises(LinkLost):
        on.loop(1, Loop(Busy(Pulse(1.0, 1e-6), 9, 2), 10))
    assert (on.passport.life.pulses == 9).all()


@pytest.mark.parametrize("error", [OutsideHull("never measured"), UsageError("used before")])
def test_a_loop_that_the_bench_refuses_costs_nothing(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = Recording(PASSIVE)
    on = guard(raw=raw)

    def loop(seq: int, loop: Loop) -> LoopAnswer:
        raise error

    monkeypatch.setattr(raw, "loop", loop)
    with pytest.raises(type(error)):
        on.loop(1, Loop(Busy(Pulse(1.0, 1e-6), 9, 2), 10))
    assert not on.passport.life.pulses.any()


@pytest.mark.parametrize("fate", ["ok", "lost_after", "unknown"])
def test_a_number_that_was_fired_is_not_staged_again(fate: str) -> None:
    raw = Recording(PASSIVE)
    on, batch = guard(raw=raw), PulseBatch(np.ones(SHAPE, np.int8), Pulse(1.0, 1e-6))
    on.stage(1, batch)
    raw.fate = fate
    with contextlib.suppress(LinkLost):
        on.fire(1)
    with pytest.raises(Refused, match=r"stage\(1\).*outcome\(1\)"):
        on.stage(1, batch)
    on.outcome(1, Witness())
    with pytest.raises(Refused, match=r"stage\(1\)"):
        on.stage(1, batch)
    assert len(raw.fired) == 1
    assert (on.passport.life.pulses == 1).all()


# ------------------------------------------------------------------ waveforms


def test_volts_of_waveforms() -> None:
    on = passive(max_cell_v=1.5, max_line_v=1.0)
    refused(on, on_lines(rectangle(1.1, 1e-6), [0], []), "1.1 V on a line", "max_line_v")
    spend(on, on_lines(rectangle(1.0, 1e-6), [0], [1]))  # the same on both ends: no volt on the cell
    against = Waveforms(
        (rectangle(1.0, 1e-6), rectangle(-1.0, 1e-6)), np.array([0, -1, -1]), np.array([-1, 1, -1, -1]),
        np.zeros(3), np.array([0, 5e-7, 0, 0]),
    )  # fmt: skip
    refused(on, against, "waveforms that put 2 V on a cell exceeds max_cell_v = 1.5", "limits.max_cell_v")


def test_waveforms_that_miss_each_other_do_not_add_up() -> None:
    shapes = (rectangle(1.0, 1e-6), rectangle(-1.0, 1e-6))
    apart = Waveforms(shapes, np.array([0, -1, -1]), np.array([1, -1, -1, -1]), np.zeros(3), np.array([3e-6, 0, 0, 0]))
    on = passive(max_cell_v=1.0)
    spend(on, apart)
    assert on.passport.life.pulses[0, 0] == 2


def test_waveforms_have_an_end() -> None:
    refused(passive(max_width_s=1e-6), on_lines(rectangle(1.0, 2e-6), [0], []), "waveforms of 2e-06 s", "max_width_s")
    refused(passive(max_batch_s=1e-6), on_lines(rectangle(1.0, 2e-6), [0], []), "waveforms of 2e-06 s", "max_batch_s")
    late = Waveforms((rectangle(1.0, 1e-6),), np.array([0, -1, -1]), np.full(4, -1), np.array([1.0, 0, 0]), np.zeros(4))
    refused(passive(max_width_s=0.9), late, "max_width_s")


def test_waveforms_are_for_this_array() -> None:
    refused(passive(), on_lines(rectangle(0.1, 1e-6), [0], [], (2, 2)), "(2, 2) cells, the bench has (3, 4)")


def test_every_spike_of_a_waveform_counts_as_a_pulse() -> None:
    on = passive(max_pulses_per_cell=25, max_read_v=0.2)
    spend(on, on_lines(rectangle(1.0, 1e-6, 20), [0], []))
    assert on.passport.life.pulses.tolist() == [[20] * 4, [0] * 4, [0] * 4]
    spend(on, on_lines(rectangle(0.2, 1e-6, 20), [0], []))  # no more than a read does
    with pytest.raises(LimitExceeded, match="cell .0, 0. would have had 26 pulses"):
        on.stage(1, on_lines(rectangle(1.0, 1e-6, 6), [0], []))


def test_a_spike_that_turns_over_is_two_pulses() -> None:
    shape = Shape(np.array([0.0, 1e-6, 3e-6, 4e-6]), np.array([0.0, 1.0, -1.0, 0.0]))
    on = passive()
    spend(on, on_lines(shape, [0], []))
    assert on.passport.life.pulses[0, 0] == 2


def test_a_ramp_that_pauses_above_the_threshold_is_one_pulse() -> None:
    shape = Shape(np.array([0.0, 1.0, 2.0, 3.0, 4.0, 5.0]) * 1e-6, np.array([0.0, 0.6, 0.6, 1.0, 0.7, 0.0]))
    on = passive()
    spend(on, on_lines(shape, [0], []))
    assert on.passport.life.pulses[0, 0] == 1


def test_energy_of_waveforms_is_bounded() -> None:
    on = passive(compliance_a=1e-3, max_energy_per_cell_j=2.5e-9)
    wave = on_lines(rectangle(1.0, 1e-6), [0], [])
    spend(on, wave, times=2)
    assert on.passport.life.total_j()[0] == pytest.approx(np.full(4, 2e-9), rel=1e-9)
    with pytest.raises(LimitExceeded, match="max_energy_per_cell_j"):
        on.stage(1, wave)


ticks = st.integers(0, 12)
THRESHOLD_V = 0.40789  # no plateau lies on it: there, sampling would count rounding errors as pulses
volts_ = st.sampled_from([0.0, 0.3, -0.3, 0.5, -0.7, 1.0, -1.0])


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Breakpoints on a coarse grid, so that lines jump at the same instants, and twice at one."""
    t_s = sorted(draw(st.lists(ticks, min_size=0, max_size=6)))
    return Shape(np.array([0, *t_s, 13.0]), np.array([0, *(draw(volts_) for _ in t_s), 0.0]))


@st.composite
def waveforms(draw: st.DrawFn) -> Waveforms:
    chosen = tuple(draw(st.lists(shapes(), min_size=1, max_size=3)))
    lines = st.integers(-1, len(chosen) - 1)
    starts = st.sampled_from([0.0, 1.0, 2.5, 7.0])
    index = [np.array([draw(lines) for _ in range(n)]) for n in (2, 3)]
    return Waveforms(chosen, *index, *(np.array([draw(starts) for _ in range(n)]) for n in (2, 3)))


def sampled(shape: Shape, start_s: float, t_s: np.ndarray) -> np.ndarray:
    return np.interp(t_s - start_s, shape.t_s, shape.v, left=0.0, right=0.0)


def cell_voltages(waves: Waveforms, t_s: np.ndarray) -> np.ndarray:
    """V_row - V_col [rows, cols, t] by looking at every instant."""
    zero = np.zeros(len(t_s))
    rows = [sampled(waves.shapes[k], s, t_s) if k >= 0 else zero
            for k, s in zip(waves.row_shape, waves.row_start_s, strict=True)]  # fmt: skip
    cols = [sampled(waves.shapes[k], s, t_s) if k >= 0 else zero
            for k, s in zip(waves.col_shape, waves.col_start_s, strict=True)]  # fmt: skip
    return np.array(rows)[:, None] - np.array(cols)[None, :]


def rises(volts: np.ndarray, threshold_v: float) -> np.ndarray:
    """How often |V| goes above the threshold, each sign for itself."""
    found = np.zeros(volts.shape[:-1], int)
    for signed in (volts, -volts):
        above = np.concatenate([np.zeros((*signed.shape[:-1], 1), bool), signed > threshold_v], axis=-1)
        found += (~above[..., :-1] & above[..., 1:]).sum(axis=-1)
    return found


@given(waveforms())
@settings(max_examples=150)
def test_the_worst_volts_of_waveforms_are_never_less_than_what_dense_sampling_sees(waves: Waveforms) -> None:
    # just off the grid on both sides of every breakpoint, and in between
    grid = np.arange(0, 21, 0.5)
    t_s = np.unique(np.concatenate([grid - 1e-9, grid + 1e-9, np.linspace(0, 20.5, 2000)]))
    found, volts = exposure(waves, THRESHOLD_V), cell_voltages(waves, t_s)
    seen_v = np.abs(volts).max(axis=-1)
    assert (found.worst_v >= seen_v - 1e-6).all()
    assert (found.pulses >= rises(volts, THRESHOLD_V)).all()


@pytest.mark.parametrize("row_first", [True, False])
def test_jumps_at_one_instant_are_so_however_their_times_are_rounded(row_first: bool) -> None:
    """0.1 + 0.2 is more than 0.3: the line that falls may be the one whose number is the smaller."""
    fall = Shape(np.array([0.0, 0.0, 0.3 if row_first else 0.1, 0.3 if row_first else 0.1]), np.array([0, 1.0, 1.0, 0]))
    rise = Shape(np.array([0.0, 0.0, 0.1, 0.1]), np.array([0, -1.0, -1.0, 0]))
    at_s = (0.0, 0.1 + 0.2) if row_first else (0.2, 0.3)
    waves = Waveforms((fall, rise), np.array([0]), np.array([1]), np.array([at_s[0]]), np.array([at_s[1]]))
    assert exposure(waves, 0.1).worst_v[0, 0] == 2.0


@st.composite
def smooth(draw: st.DrawFn) -> Waveforms:
    """Without jumps: what is found has to be exact."""
    waves = draw(waveforms())
    chosen = tuple(Shape(np.arange(len(s.t_s)) * 1.0, s.v) for s in waves.shapes)
    return Waveforms(chosen, waves.row_shape, waves.col_shape, waves.row_start_s, waves.col_start_s)


@given(smooth())
@settings(max_examples=150)
def test_without_jumps_worst_volts_and_pulses_are_exact(waves: Waveforms) -> None:
    t_s = np.arange(0, 20.0, 1 / 256)  # every breakpoint lies on this grid
    found, volts = exposure(waves, THRESHOLD_V), cell_voltages(waves, t_s)
    assert found.worst_v == pytest.approx(np.abs(volts).max(axis=-1), rel=1e-9, abs=1e-12)
    assert (found.pulses == rises(volts, THRESHOLD_V)).all()


def test_many_lines_with_starts_of_their_own_are_checked_in_a_blink() -> None:
    rows, cols = 128, 96
    rng = np.random.default_rng(1)
    waves = Waveforms(
        (rectangle(0.5, 1e-6, 5),), np.zeros(rows, int), np.zeros(cols, int), rng.random(rows) * 1e-5,
        rng.random(cols) * 1e-5,
    )  # fmt: skip
    raw = Recording(Capabilities((rows, cols), distinct_shapes=1))
    on = Guard(raw, ROOMY, Passport("big", (rows, cols)))
    on.stage(1, waves)
    assert isinstance(on.staged, Play)


# ------------------------------------------------------------------ the rest of the contract


def test_what_a_protocol_may_know() -> None:
    on = passive(max_pulses_per_cell=10)
    spend(on, batch({(1, 2): 4}))
    on.passport.cell_state[0, 0] = CellState.STUCK
    view = on.view()
    assert view.shape == SHAPE
    assert np.argwhere(view.excluded).tolist() == [[0, 0]]
    assert view.pulses_left[1, 2] == 6
    assert not hasattr(view, "simulated")


def test_the_guard_passes_on_what_it_does_not_judge() -> None:
    raw = Recording()
    on = guard(raw=raw)
    on.rest()
    on.close()
    assert (raw.rests, raw.closed) == (1, True)
    assert on.identity() == raw.identity()
    assert on.snapshot() is None
    assert on.truth_s() is None
    with pytest.raises(CapabilityMissing):
        on.restore(b"")


def test_everything_is_possible_on_the_bench_that_these_tests_use() -> None:
    assert EVERYTHING.shape == PASSIVE.shape == SHAPE
