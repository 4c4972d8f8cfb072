"""Pulse schemes: their shapes, what cells see of them, and the learning window that comes out of a threshold law.

The window is integrated here by a law and a quadrature of its own, apart from neurobench.physics.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ideal_bench import IdealBench

from neurobench.bench.crossbar import Capabilities
from neurobench.bench.limits import exposure
from neurobench.bench.steps import BenchView
from neurobench.bench.stimulus import FloatArray, Pulse, PulseBatch, Waveforms
from neurobench.errors import CapabilityMissing, ConfigError, CurveError, Refused, UsageError
from neurobench.learning.schemes import (
    SCHEMES,
    Exponential,
    Overlapping,
    PulseScheme,
    Rectangular,
    SpikePairs,
    cell_v,
    read_points,
    scheme_of,
)

VTH_V, V0_V = 1.0, 1 / 7  # published-results 2.3
SHAPE = (3, 4)
LOOSE = {"exponential": {}, "triangular": {}, "rectangular": {}, "biphasic": {}, "staircase": {}}
TIMED: dict[str, dict[str, Any]] = {"counted": {}, "time-division": {"code": "slots"}}


def view(shapes: int = 7, sign: int = 1, **span: Any) -> BenchView:
    capabilities = Capabilities(SHAPE, distinct_shapes=shapes, potentiating_sign=sign)
    known = {"depresses": True, "threshold_v": 1.0, "threshold_depress_v": 1.0, "pulse": Pulse(1.25, 1e-3)}
    return IdealBench(lambda n: n, SHAPE, capabilities=capabilities, **{**known, **span}).view()


def line(waveforms: Waveforms, shape: int, start_s: float, at_s: FloatArray, side: str) -> FloatArray:
    """Volts of one line just after (`right`) or before (`left`) the times."""
    if shape < 0:
        return np.zeros(len(at_s))
    one = waveforms.shapes[shape]
    nudge = 1e-12 if side == "right" else -1e-12
    return np.interp(at_s + nudge - start_s, one.t_s, one.v, left=0.0, right=0.0)


def pieces(waveforms: Waveforms, row: int, col: int) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Lengths of the straight pieces of V_row - V_col, and the volts at both ends of each."""
    lines = [
        (waveforms.row_shape[row], waveforms.row_start_s[row]),
        (waveforms.col_shape[col], waveforms.col_start_s[col]),
    ]
    times = [waveforms.shapes[s].t_s + t0 for s, t0 in lines if s >= 0]
    t = np.unique(np.concatenate([np.zeros(1), *times]))
    t = t[np.append(True, np.diff(t) > 1e-11)]
    (rs, r0), (cs, c0) = lines
    first = line(waveforms, rs, r0, t, "right") - line(waveforms, cs, c0, t, "right")
    last = line(waveforms, rs, r0, t, "left") - line(waveforms, cs, c0, t, "left")
    return np.diff(t), first[:-1], last[1:]


def moved(waveforms: Waveforms, row: int, col: int, sign: int = 1, vth_v: float = VTH_V) -> float:
    """Integral of sign(v) (e^{|v|/v0} - e^{vth/v0}) beyond vth, by Gauss-Legendre on that part of each piece."""
    total = 0.0
    x, w = np.polynomial.legendre.leggauss(8)
    for length, a, b in zip(*pieces(waveforms, row, col), strict=True):
        for s in (1, -1):
            low, high = sorted((s * sign * a, s * sign * b))
            if high <= vth_v:
                continue
            share = 1.0 if low >= vth_v else (high - vth_v) / (high - low)
            v = max(low, vth_v) + (high - max(low, vth_v)) * (x + 1) / 2
            total += s * length * share * float(np.dot(w / 2, np.exp(v / V0_V) - np.exp(vth_v / V0_V)))
    return total


def window(scheme: PulseScheme, dt_s: float, on: BenchView | None = None, cell: tuple[int, int] = (1, 2)) -> float:
    on = on or view()
    played = scheme.stimuli(SpikePairs.one(SHAPE, cell, dt_s), on)
    assert all(isinstance(one, Waveforms) for one in played)
    return sum(moved(one, *cell, on.capabilities.potentiating_sign) for one in played if isinstance(one, Waveforms))


# ---------------------------------------------------------------------------------------------- the window


def test_the_exponential_scheme_gives_the_published_ratios() -> None:
    ratios = {5: 0.78108, 10: 0.52070, 20: 0.23342, 40: 0.04254, 60: 0.00400, 80: 0.0}
    at_2 = window(Exponential(), 2e-3)
    for ms, ratio in ratios.items():
        assert window(Exponential(), ms * 1e-3) / at_2 == pytest.approx(ratio, abs=1e-4), ms
        assert window(Exponential(), -ms * 1e-3) / at_2 == pytest.approx(-ratio, abs=1e-4), -ms
    assert window(Exponential(), 0.0) == 0.0


def test_tails_of_many_time_constants_end_where_they_are_asked_to() -> None:
    ((pre, _),) = Exponential(trail_s=3600.0).phases()
    assert pre.t_s[-1] == 3600.0
    assert np.isfinite(pre.t_s).all()
    assert (np.diff(pre.t_s) >= 0).all()


def test_the_straight_pieces_stay_at_the_exponentials_and_meet_them_at_their_ends() -> None:
    scheme = Exponential()
    spike = scheme.lobes(0.25)
    t = np.linspace(-5e-3, 75e-3, 20_001)
    t = t[t != 0]
    before = (np.exp(t / 3e-3) - np.exp(-5 / 3)) / (1 - np.exp(-5 / 3))
    after = -0.25 * (np.exp(-t / 40e-3) - np.exp(-75 / 40)) / (1 - np.exp(-75 / 40))
    exact = np.where(t < 0, before, after)
    assert np.abs(np.interp(t, spike.t_s, spike.v) - exact).max() < 1.01e-5
    assert (spike.v.max(), spike.v.min()) == (1.0, -0.25)
    assert (spike.t_s[0], spike.t_s[-1]) == (-5e-3, 75e-3)
    assert len(spike.t_s) < 400, "it has to fit into a generator"


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("kind", sorted(LOOSE))
def test_a_later_post_spike_potentiates_on_chips_of_both_polarities(kind: str, sign: int) -> None:
    scheme = scheme_of(kind)
    near_s = 10e-3
    assert window(scheme, near_s, view(sign=sign)) > 0
    assert window(scheme, -near_s, view(sign=sign)) == pytest.approx(-window(scheme, near_s, view(sign=sign)), rel=1e-9)
    assert window(scheme, 1.01 * scheme.reach_s, view(sign=sign)) == 0
    assert window(scheme, -1.01 * scheme.reach_s, view(sign=sign)) == 0


def test_a_larger_tail_of_the_post_spike_makes_depression_outweigh_potentiation() -> None:
    alike, larger = Exponential(), Exponential(post_tail_v=0.33)
    assert window(larger, 5e-3) == pytest.approx(window(alike, 5e-3), rel=1e-12)
    assert window(larger, -5e-3) < 1.5 * window(alike, -5e-3) < 0
    (one,) = larger.stimuli(SpikePairs.one(SHAPE, (0, 0), 5e-3), view(2))
    assert isinstance(one, Waveforms)
    assert len(one.shapes) == 2
    assert larger.pair_peaks() == (1.25, 1.33)


def test_rectangles_give_a_plateau_with_the_slope_of_their_overlap() -> None:
    scheme = Rectangular(amplitude_v=0.9, tail_v=0.5, lead_s=4e-3, trail_s=10e-3)
    rate = np.exp(1.4 / V0_V) - np.exp(VTH_V / V0_V)
    for dt_s, overlap_s in ((1e-3, 1e-3), (4e-3, 4e-3), (8e-3, 4e-3), (12e-3, 2e-3), (14e-3, 0.0)):
        assert window(scheme, dt_s) == pytest.approx(overlap_s * rate, rel=1e-6, abs=1e-9)
        assert window(scheme, -dt_s) == pytest.approx(-overlap_s * rate, rel=1e-6, abs=1e-9)


def test_the_staircase_is_gated_by_the_post_spike_and_falls_with_its_pulses() -> None:
    scheme = scheme_of("staircase", {"gate_v": 0.8, "step_v": 0.45, "last_share": 0.5, "steps": 3})
    for k, step_v in ((1, 0.45), (2, 0.3375), (3, 0.225)):
        pulse = 1e-3 * (np.exp((0.8 + step_v) / V0_V) - np.exp(VTH_V / V0_V))
        assert window(scheme, k * 10e-3) == pytest.approx(pulse, rel=1e-9)
        assert window(scheme, -k * 10e-3) == pytest.approx(-pulse, rel=1e-9)
    assert window(scheme, 5e-3) == 0, "the gate falls between two pulses"
    assert len(scheme.stimuli(SpikePairs.one(SHAPE, (0, 0), 0.01), view())) == 2, "potentiation, then depression"


# ---------------------------------------------------------------------------------------------- what other cells see


@pytest.mark.parametrize("kind", sorted(LOOSE))
def test_a_lone_spike_moves_nothing_and_the_rest_of_the_array_sees_lone_spikes_only(kind: str) -> None:
    scheme = scheme_of(kind)
    assert scheme.peak_v <= VTH_V
    for side, lines in (("pre", [0, 2]), ("post", [1])):
        for one in scheme.lone(side, lines, view()):  # type: ignore[arg-type]
            assert isinstance(one, Waveforms)
            assert all(moved(one, i, j) == 0.0 for i in range(3) for j in range(4))
            seen_v = exposure(one, 0.1).worst_v
            on_line = seen_v[lines] if side == "pre" else seen_v[:, lines]
            assert (on_line > 0).all()
            assert seen_v.max() <= scheme.peak_v
            assert (seen_v > 0).sum() == on_line.size, "idle lines are grounded"
    highest_v = 0.0
    for one in scheme.stimuli(SpikePairs.one(SHAPE, (1, 2), 10e-3), view()):
        assert isinstance(one, Waveforms)
        seen_v = exposure(one, 0.1).worst_v
        highest_v = max(highest_v, seen_v[1, 2])
        half = np.ones(SHAPE, bool)
        half[1, 2] = False
        assert seen_v[half].max() <= scheme.peak_v, "half-selected cells see the lone spike of their line"
        assert (seen_v[[0, 2]][:, [0, 1, 3]] == 0).all(), "neither line spikes"
    assert highest_v > VTH_V


def test_a_threshold_ten_percent_low_lets_a_lone_spike_move_what_bench_rule_20_says() -> None:
    (lone,) = Exponential().lone("post", [2], view())
    assert isinstance(lone, Waveforms)
    assert moved(lone, 1, 2, vth_v=0.9) / window(Exponential(), 2e-3) == pytest.approx(0.058, abs=5e-4)


@pytest.mark.parametrize("most", [2, 3, 4, 7])
def test_what_a_bench_cannot_play_at_once_is_split_and_each_pair_meets_once(most: int) -> None:
    pairs = SpikePairs(np.array([0.0, 3e-3, np.nan]), np.array([1e-3, np.nan, 1e-3, 9e-3]))
    scheme, on = Exponential(), view(most)
    whole = scheme.stimuli(pairs, view(7))
    parts = scheme.stimuli(pairs, on)
    assert len(whole) == 1
    assert len(parts) == {2: 4, 3: 2, 4: 1, 7: 1}[most]
    for i in range(3):
        for j in range(4):
            one = sum(moved(part, i, j) for part in parts if isinstance(part, Waveforms))
            assert isinstance(whole[0], Waveforms)
            assert one == pytest.approx(moved(whole[0], i, j), rel=1e-9, abs=1e-12)
    for part in parts:
        assert isinstance(part, Waveforms)
        kinds = {(0, *k) for k in zip(part.row_shape.tolist(), part.row_start_s.tolist(), strict=True) if k[0] >= 0}
        kinds |= {(1, *k) for k in zip(part.col_shape.tolist(), part.col_start_s.tolist(), strict=True) if k[0] >= 0}
        assert len(kinds) <= most


def test_a_bench_without_waveforms_is_told_what_is_missing() -> None:
    pairs = SpikePairs.one(SHAPE, (0, 0), 1e-3)
    with pytest.raises(CapabilityMissing, match="2 waveforms at once; this bench plays 0"):
        Exponential().stimuli(pairs, view(0))
    with pytest.raises(CapabilityMissing, match="this bench plays 1"):
        Exponential().admit(view(1))
    with pytest.raises(UsageError, match="nothing to play"):
        Exponential().stimuli(SpikePairs(np.full(3, np.nan), np.full(4, np.nan)), view())
    with pytest.raises(UsageError, match="bench has"):
        Exponential().stimuli(SpikePairs.one((2, 2), (0, 0), 0.0), view())


def test_what_a_cell_sees_is_the_difference_of_its_lines_on_both_sides_of_every_jump() -> None:
    (one,) = Rectangular(amplitude_v=0.9, tail_v=0.5, lead_s=4e-3, trail_s=10e-3).stimuli(
        SpikePairs.one(SHAPE, (1, 2), 2e-3), view()
    )
    assert isinstance(one, Waveforms)
    seen = cell_v(one, 1, 2)
    # the row begins; 2 ms later the column, which ends its lobe 2 ms after the row's; then the tails
    expected = [
        (0, 0),
        (0, -0.9),
        (2, -0.9),
        (2, 0),
        (4, 0),
        (4, 1.4),
        (6, 1.4),
        (6, 0),
        (14, 0),
        (14, -0.5),
        (16, -0.5),
    ]
    np.testing.assert_allclose(np.stack(seen, axis=1)[:-1], [(t * 1e-3, v) for t, v in expected], atol=1e-12)
    assert seen.v[-1] == 0
    (wave,) = Exponential().stimuli(SpikePairs.one(SHAPE, (1, 2), 7e-3), view())
    assert isinstance(wave, Waveforms)
    for cell in ((1, 2), (1, 0), (0, 2), (0, 0)):
        t_s, v = cell_v(wave, *cell)
        lengths, first, last = pieces(wave, *cell)
        assert float(np.trapezoid(v, t_s)) == pytest.approx(
            float(np.dot(lengths, first + last)) / 2, rel=1e-9, abs=1e-15
        )
        assert np.abs(v).max() == pytest.approx(exposure(wave, 0.1).worst_v[cell], abs=1e-12)


# ---------------------------------------------------------------------------------------------- preflight


def test_a_lone_spike_above_the_lowest_threshold_is_refused_and_the_refusal_says_to_what_to_lower_it() -> None:
    Exponential().admit(view())
    with pytest.raises(Refused, match="lower the amplitudes of the scheme to 0.7 V at most"):
        Exponential().admit(view(threshold_sigma=0.1))
    Exponential(amplitude_v=0.7, tail_v=0.4).admit(view(threshold_sigma=0.1))
    with pytest.raises(Refused, match="begins to depress at 0.2 V"):
        Exponential().admit(view(threshold_depress_v=0.2))
    Exponential(amplitude_v=3.0).admit(view(threshold_v=float("nan"), threshold_depress_v=float("nan")))


def test_spikes_that_never_reach_the_threshold_together_are_refused() -> None:
    with pytest.raises(Refused, match=r"overlapping spikes reach 0.9 V.*above 1 V"):
        Exponential(amplitude_v=0.7, tail_v=0.2).admit(view())


def test_pulses_whose_half_would_move_a_neighbour_are_refused() -> None:
    scheme_of("counted").admit(view())
    with pytest.raises(Refused, match="half-selected cells see 1.05 V of 2.1 V"):
        scheme_of("counted", {"amplitude_v": 2.1}).admit(view())
    with pytest.raises(CapabilityMissing, match="no depression"):
        scheme_of("counted").admit(view(depresses=False))
    with pytest.raises(UsageError, match="set amplitude_v and width_s"):
        scheme_of("counted").admit(view(pulse=None))
    with pytest.raises(CapabilityMissing, match="a width of 1 s"):
        bench = IdealBench(lambda n: n, SHAPE, capabilities=Capabilities(SHAPE, max_width_s=0.5), depresses=True)
        scheme_of("time-division", {"width_s": 1.0}).admit(bench.view())


# ---------------------------------------------------------------------------------------------- timed by the host


def counts_of(scheme: PulseScheme, dt_s: float, **span: Any) -> list[tuple[int, Pulse]]:
    batches = scheme.stimuli(SpikePairs.one(SHAPE, (1, 2), dt_s), view(0, **span))
    for one in batches:
        assert isinstance(one, PulseBatch)
        assert np.argwhere(one.counts).tolist() == [[1, 2]]
    return [(int(one.counts[1, 2]), one.pulse) for one in batches if isinstance(one, PulseBatch)]


def test_counted_pulses_follow_the_traces() -> None:
    scheme = scheme_of("counted", {"pulses_plus": 10, "pulses_minus": 6, "tau_plus_s": 0.02, "tau_minus_s": 0.01})
    pulse = Pulse(1.25, 1e-3)
    assert counts_of(scheme, 1e-9) == [(10, pulse)]
    assert counts_of(scheme, 0.02) == [(round(10 / np.e), pulse)]
    assert counts_of(scheme, -0.01) == [(-round(6 / np.e), pulse)]
    assert counts_of(scheme, 0.0) == []
    assert counts_of(scheme, 1.01 * scheme.reach_s) == counts_of(scheme, -1.01 * scheme.reach_s) == []
    assert counts_of(scheme, 0.99 * scheme.reach_s)[0][0] == 1
    down = Pulse(0.9, 2e-3)
    assert counts_of(scheme, -1e-9, depress_pulse=down) == [(-6, down)]
    assert scheme.lone("pre", [0], view()) == ()
    assert scheme.peak_v == 0


def test_one_batch_serves_pairs_of_both_signs() -> None:
    pairs = SpikePairs(np.array([0.0, 0.03, np.nan]), np.array([0.01, np.nan, 0.04, np.nan]))
    (batch,) = scheme_of("counted").stimuli(pairs, view())
    assert isinstance(batch, PulseBatch)
    expected = np.zeros(SHAPE, int)
    expected[0, 0], expected[0, 2], expected[1, 0], expected[1, 2] = 6, 1, -4, 6
    assert batch.counts.tolist() == expected.tolist()


def test_time_division_tells_the_timing_by_widths_or_by_slots_in_whole_frames() -> None:
    by_width = scheme_of("time-division", {"frame_s": 5e-3, "tau_plus_s": 10e-3, "tau_minus_s": 20e-3})
    for dt_s, share in ((1e-3, 1.0), (5e-3, np.exp(-0.5)), (9.9e-3, np.exp(-0.5)), (-11e-3, -np.exp(-0.5))):
        ((count, pulse),) = counts_of(by_width, dt_s)
        assert count == np.sign(share)
        assert pulse.width_s == pytest.approx(abs(share) * 1e-3)
        assert pulse.amplitude_v == 1.25
    assert counts_of(by_width, 0.0) == counts_of(by_width, 1.01 * by_width.reach_s) == []
    by_slots = scheme_of("time-division", {"code": "slots", "slots": 8, "frame_s": 5e-3, "tau_plus_s": 10e-3})
    assert counts_of(by_slots, 12e-3) == [(round(8 / np.e), Pulse(1.25, 1e-3))]
    pairs = SpikePairs(np.array([0.0, 0.0, 4e-3]), np.array([1e-3, 6e-3, 9e-3, np.nan]))
    widths = [one.pulse.width_s for one in by_width.stimuli(pairs, view()) if isinstance(one, PulseBatch)]
    assert widths == pytest.approx([1e-3, np.exp(-0.5) * 1e-3, 1e-3]), "potentiation by falling width, then depression"


@pytest.mark.parametrize("kind", LOOSE)
def test_devices_that_replay_pulses_take_constant_levels_only(kind: str) -> None:
    scheme = scheme_of(kind)
    for unknown_or_any in (None, True):
        scheme.admit(view(integrates=unknown_or_any))
    if kind in ("rectangular", "staircase"):
        scheme.admit(view(integrates=False))
    else:
        with pytest.raises(CapabilityMissing, match=f"scheme {kind}: its voltages rise and fall gradually"):
            scheme.admit(view(integrates=False))


# ---------------------------------------------------------------------------------------------- files of one's own


def written(folder: Path, text: str, name: str = "spike.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_shapes_of_ones_own_come_out_of_their_files(tmp_path: Path) -> None:
    pre = written(tmp_path, "t_s, v\n-0.002,0\n0,0.9\n0,-0.3\n0.02,0\n")
    post = written(tmp_path, "v,t_s\n0,-0.001\n0.8,-0.001\n\n0.8,0.001\n0,0.001\n", "post.csv")
    scheme = scheme_of("file", {"pre": pre, "post": post})
    assert isinstance(scheme, Overlapping)
    assert scheme.peak_v == 0.9
    assert scheme.lone_peaks() == (0.8, 0.9)
    assert scheme.pair_peaks() == pytest.approx((1.1, 0.9))
    assert window(scheme, 2e-3) > 0
    (phase,) = scheme.phases()
    assert phase.post.t_s.tolist() == [-0.001, -0.001, 0.001, 0.001]
    Path(pre).unlink()
    again = type(scheme).model_validate(scheme.model_dump())
    assert again == scheme, "the numbers are kept with the run"
    alike = scheme_of("file", {"pre": post})
    assert isinstance(alike, Overlapping)
    (phase,) = alike.phases()
    assert phase.pre is phase.post


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: the columns are t_s"),
        ("time,volt\n0,0\n", "line 1"),
        ("t_s,v\n0,0\n", "2 to 65536 points, this one 1"),
        ("t_s,v\n0,0\n1,x\n", "line 3: two finite numbers"),
        ("t_s,v\n0,0\n1,nan\n", "line 3"),
        ("t_s,v\n0,0\n1,2,3\n", "line 3"),
        ("t_s,v\n0,0\n0.2,1\n0.1,0\n", "point 3: t_s falls"),
        ("t_s,v\n1,0\n2,1\n3,0\n", "the spike itself is at t_s = 0"),
        ("t_s,v\n-1,0.5\n0,1\n1,0\n", "begins at 0.5 V"),
        ("t_s,v\n-1,0\n0,0\n1,0\n", "largest |v| is 0 V"),
        ("t_s,v\n-1,0\n0,2000\n1,0\n", "largest |v| is 2000 V"),
    ],
)
def test_a_malformed_file_is_told_by_line(tmp_path: Path, text: str, said: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(CurveError) as caught:
        read_points(Path(path))
    assert said in str(caught.value)
    assert path in str(caught.value)
    with pytest.raises(ConfigError) as also:
        scheme_of("file", {"pre": path})
    assert said in str(also.value)


@given(content=st.binary(max_size=200) | st.text(alphabet='t_sv,0123456789.-e\n "', max_size=200).map(str.encode))
def test_any_file_is_a_shape_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    for head in (b"", b"t_s,v\n"):
        path.write_bytes(head + content)
        points: Any = ((0.0, 0.0),)
        with contextlib.suppress(CurveError):
            points = read_points(path)
        assert points[0][1] == points[-1][1] == 0


@given(st.lists(st.tuples(st.floats(1e-6, 10), st.floats(-5, 5)), min_size=1, max_size=20), st.integers(0, 20))
def test_a_written_shape_is_read_back(tmp_path_factory: pytest.TempPathFactory, inner: Any, at: int) -> None:
    path = tmp_path_factory.getbasetemp() / "back.csv"
    times = np.concatenate([[0.0], np.cumsum([step for step, _ in inner]), [1e3]])
    times -= times[min(at, len(times) - 1)]
    volts = [0.0, *(v for _, v in inner), 0.0]
    volts[1] = volts[1] or 1.0
    lines = [f"{t!r},{v!r}" for t, v in zip(times.tolist(), volts, strict=True)]
    path.write_text("\n".join(["t_s,v", *lines]))
    assert read_points(path) == tuple(zip(times.tolist(), volts, strict=True))


# ---------------------------------------------------------------------------------------------- by name


def test_a_scheme_is_known_by_its_name_and_a_wrong_one_by_the_nearest() -> None:
    for kind, settings in {**LOOSE, **TIMED}.items():
        scheme = scheme_of(kind, settings)
        assert isinstance(scheme, SCHEMES[kind])
        assert scheme.kind == kind
        assert scheme.reach_s > 0
        assert scheme.distinct_shapes == (2 if kind in LOOSE else 0)
    with pytest.raises(ConfigError, match="did you mean triangular"):
        scheme_of("triangle")
    with pytest.raises(ConfigError, match="did you mean amplitude_v"):
        scheme_of("exponential", {"amplitude": 1.0})
    with pytest.raises(ConfigError, match="greater than 0"):
        scheme_of("exponential", {"amplitude_v": -1.0})
    with pytest.raises(ConfigError, match="never meets two pulses"):
        scheme_of("staircase", {"gate_s": 20e-3})
    with pytest.raises(ConfigError, match="file needs pre"):
        scheme_of("file")


def test_the_page_names_every_scheme_and_every_setting(checkout: Path) -> None:
    page = (checkout / "docs" / "stdp.md").read_text(encoding="utf-8")
    table = page.partition("| kind |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([\w-]+)`", table, flags=re.MULTILINE) == [
        "exponential", "triangular", "rectangular", "biphasic", "file", "staircase", "time-division", "counted",
    ]  # fmt: skip
    assert set(re.findall(r"^\| `([\w-]+)`", table, flags=re.MULTILINE)) == set(SCHEMES)
    named = set(re.findall(r"`(\w+)[`=]", page))
    known = {name for kind in SCHEMES.values() for name in kind.model_fields} - {"kind"}
    assert known <= named, f"not on the page: {known - named}"


def test_spikes_are_checked() -> None:
    with pytest.raises(UsageError, match="infinite"):
        SpikePairs(np.array([np.inf]), np.array([0.0]))
    with pytest.raises(UsageError, match="one time"):
        SpikePairs(np.zeros((2, 2)), np.array([0.0]))
    pairs = SpikePairs(np.array([0.0, np.nan]), np.array([1e-3]))
    np.testing.assert_array_equal(pairs.dt_s(), [[1e-3], [np.nan]])
