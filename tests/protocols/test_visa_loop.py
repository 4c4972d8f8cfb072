"""Measure a chip over simulated instruments, make its card with one command, emulate that: the same chip comes back.

Compared are the pulses that a train needs from one conductance to another: what a run begins its trains at is one draw
of its own, and no property of the device. The bound is computed: Student's t of the difference of two means, with as
many degrees of freedom as one of them has (so it is conservative), shared out over all comparisons (Bonferroni), so
that equal devices are called different in one of a thousand loops at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from known_card import known_card
from scipy import stats

from neurobench import cli
from neurobench.bench.stimulus import FloatArray
from neurobench.physics.card import DeviceCard, card_toml, load_card
from neurobench.runs import launch, library
from neurobench.runs.runfile import RunFile

READ_S, STEP_S, V0_V = 2e-8, 1e-8, 0.5
PULSES, CYCLES = 25, 10
CHANCE = 1e-3
KNOWN = known_card(READ_S, STEP_S, V0_V, 5e-4, 1e-3, rate_down=0.08)


def measured(folder: Path, bench: str, curve: Path, seed: int) -> Path:
    """`neurobench run measure-curve` on a chip of that card, in this process."""
    out = folder / f"{bench}-{curve.stem}"
    asked = ["run", "measure-curve", "--bench", bench, "--seed", str(seed), "--out", str(out)]
    asked += ["--bench-set", f"chip.curve={curve}", "--bench-set", "chip.step_spread=0"]
    asked += ["--bench-set", "limits.compliance_a=1e-4"]  # an SMU measures in the range of its limit
    asked += ["--set", f"pulses={PULSES}", "--set", f"cycles={CYCLES}", "--set", "start_tolerance=0.03"]
    assert cli.invoke(asked) == cli.OK
    return library.find("last", out)


def result_of(run: Path) -> dict[str, Any]:
    with RunFile.open(run) as file:
        assert file.result is not None
        return file.result


def pulses_between(trains: FloatArray, sign: int, low_s: float, high_s: float) -> FloatArray:
    """Pulses [trains] from the first time at one level to the first time at the other, between two reads in line."""
    found = []
    for train in trains:
        first = []
        for level_s in (low_s, high_s)[::sign]:
            k = int(np.argmax(sign * train >= sign * level_s))
            step_s = train[k] - train[k - 1] if k else np.inf
            first.append(k - (train[k] - level_s) / step_s)
        found.append(first[1] - first[0])
    return np.array(found)


def worst_t(runs: list[dict[str, Any]]) -> tuple[float, float]:
    """The largest |t| between the two runs over all stretches, and what chance allows."""
    found = []
    for sign in (1, -1):
        both = [run["train_conductance_s"][run["train_direction"] == sign] for run in runs]
        assert [t.shape for t in both] == [(CYCLES, PULSES + 1)] * 2
        every = np.concatenate(both)
        # what every train of both runs has passed
        starts_s, tops_s = sign * every[:, 0], (sign * every).max(axis=1)
        ends_s = sorted((sign * float(starts_s.max()), sign * float(tops_s.min())))
        middle_s = float(np.mean(ends_s))
        for low_s, high_s in (tuple(ends_s), (ends_s[0], middle_s), (middle_s, ends_s[1])):
            counts = [pulses_between(trains, sign, low_s, high_s) for trains in both]
            error = np.hypot(*(count.std(ddof=1) / CYCLES**0.5 for count in counts))
            found.append(float(abs(counts[0].mean() - counts[1].mean()) / error))
    return max(found), float(stats.t.ppf(1 - CHANCE / 2 / len(found), CYCLES - 1))


class Loop:
    """A chip of known parameters, measured on visa-sim, and the card that one command made of the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        known = folder / "known.toml"
        known.write_text(KNOWN)
        self.run = measured(folder, "visa-sim", known, 5)
        self.card_file = folder / "card.toml"
        assert cli.invoke(["import-curve", str(self.run), "-o", str(self.card_file)]) == cli.OK
        self.card: DeviceCard = load_card(self.card_file)

    def again(self, bench: str, card: Path, seed: int = 9) -> tuple[float, float]:
        return worst_t([result_of(self.run), result_of(measured(self.folder, bench, card, seed))])


@pytest.fixture(scope="module")
def loop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loop]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "IN_PROCESS", (*launch.IN_PROCESS, "visa-sim"))
        yield Loop(tmp_path_factory.mktemp("loop"))


def test_the_emulated_chip_of_the_card_answers_as_the_one_that_was_measured(loop: Loop) -> None:
    worst, allowed = loop.again("emulator", loop.card_file)
    assert worst < allowed


def test_steps_that_are_wrong_by_a_tenth_are_seen(loop: Loop) -> None:
    changed = [
        curve.model_copy(
            update={"conductance_s": tuple((curve.points()[0] + 0.9 * (curve.points() - curve.points()[0])).tolist())}
        )
        for curve in loop.card.curve
    ]
    wrong = loop.folder / "wrong.toml"
    wrong.write_text(card_toml(loop.card.model_copy(update={"curve": tuple(changed)})))
    worst, allowed = loop.again("emulator", wrong)
    assert worst > 2 * allowed


def test_the_card_goes_back_onto_simulated_instruments_and_comes_back(loop: Loop) -> None:
    worst, allowed = loop.again("visa-sim", loop.card_file)
    assert worst < allowed


def test_the_card_says_what_the_chip_is(loop: Loop) -> None:
    card = loop.card
    steps = 2 * CYCLES * PULSES
    # a variance from n samples is known to sqrt(2 / n); two reads in each difference; five of those errors
    error = 5 * (2 / steps) ** 0.5
    total = STEP_S**2 + 2 * READ_S**2 / 2  # points are means of both polarities
    found = card.noise.step_sigma_s**2 + 2 * card.noise.read_sigma_s**2 / 2
    assert found == pytest.approx(total, rel=2 * error)
    assert card.write_current is not None
    assert card.write_current.law == "sinh"
    assert card.write_current.v0_v == pytest.approx(V0_V, rel=0.05)
    assert card.origin is not None
    assert card.origin.simulated
    assert all("SIMULATED" in text for text in (card.title, card.source, card.notes))
    assert [(c.direction, c.amplitude_v, c.width_s) for c in card.curve] == [
        ("potentiate", 1.2, 5e-4), ("depress", -1.1, 1e-3)
    ]  # fmt: skip
