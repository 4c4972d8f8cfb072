"""stdp-network: the seed's network is the equations it names, learns on cells, and proves its own artefacts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import exp
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ideal_bench import IdealBench
from neurobench.protocols.stdp_network import StdpNetwork

from neurobench import cli
from neurobench.bench.codec import pack, unpack
from neurobench.bench.config import load_bench, open_bench
from neurobench.bench.steps import Apply, Checkpoint, Note, Sense
from neurobench.bench.stimulus import VectorRead
from neurobench.errors import CapabilityMissing, UsageError
from neurobench.learning.plasticity import PairStdp, of_trains
from neurobench.learning.statistics import interval_cv, rasters, rates_hz
from neurobench.runs import runner
from neurobench.runs.runfile import MemoryRecord, RunFile

SMALL: dict[str, Any] = {"inputs": 6, "neurons": 3, "recurrent_prob": 0.5, "seconds": 1.0, "gain": 0.8}
LOW_S, STEP_S, PULSES = 1e-6, 1e-8, 1000


class Cells(IdealBench):
    """Cells that move by equal steps between hard bounds; keeps its state at each checkpoint."""

    def __init__(self, shape: tuple[int, int] = (9, 6), **more: Any) -> None:
        known = {"g_min_s": LOW_S, "g_max_s": LOW_S + PULSES * STEP_S, "g_step_s": STEP_S, "depresses": True}
        super().__init__(lambda n: LOW_S + STEP_S * n, shape, **{**known, **more})
        self.kept: list[tuple[bytes, Any]] = []

    def answer(self, step: Any) -> Any:
        answer = super().answer(step)
        self.index = np.clip(self.index, 0, PULSES)
        if isinstance(step, Checkpoint):
            self.kept.append((pack(dict(step.state)), self.index.copy()))
        return answer

    def told(self, name: str) -> list[Any]:
        return [note.value for note in self.notes if note.name == name]


def on_cells(bench: Cells, start: Mapping[str, Any] | None = None, **parameters: Any) -> Mapping[str, Any]:
    protocol = StdpNetwork(**{**SMALL, **parameters})
    return bench.run(protocol.steps(bench.view(), np.random.default_rng(4), start)).values


def ran(bench: str, settings: Mapping[str, Any], seed: int = 1, **parameters: Any) -> Any:
    protocol = StdpNetwork(**parameters)
    guard = open_bench(load_bench(bench, settings, protocol.bench_defaults()), seed)
    outcome = runner.run(protocol, guard, seed=seed, record=MemoryRecord())
    guard.close()
    if outcome.error is not None:
        raise outcome.error
    return outcome.result


# --------------------------------------------------------------------------------------------------- the equations


def test_the_spikes_are_those_of_leaky_neurons_on_the_weights_that_were_read() -> None:
    bench = Cells()
    on_cells(bench, update_s=0.25)
    weights = bench.told("start")[0]["weights"] / (PULSES * STEP_S)
    told = rasters(note for note in bench.told("spikes") if note["start"] == 0)
    arrived = np.zeros((250, 6), np.bool_)
    arrived[told["input"].tick, told["input"].neuron] = True
    v, rest, last, found = np.zeros(3), np.zeros(3, int), np.zeros(3, np.bool_), []
    for tick in range(250):
        v = v * exp(-1 / 20) + 0.8 * (np.concatenate([arrived[tick], last]) @ weights)
        v[rest > 0] = 0.0
        last = v >= 1
        found += [(tick, int(n)) for n in np.flatnonzero(last)]
        rest = np.where(last, 2, np.maximum(rest - 1, 0))
        v[last] = 0.0
    assert list(zip(told["neurons"].tick.tolist(), told["neurons"].neuron.tolist(), strict=True)) == found
    assert len(found) > 10


def test_the_first_pulses_are_what_the_pairs_of_spikes_ask_for() -> None:
    bench = Cells()
    on_cells(bench, update_s=0.25, recurrent_prob=0.0)
    told = rasters(note for note in bench.told("spikes") if note["start"] == 0)
    rule = PairStdp(a_plus=0.03, a_minus=0.036)
    before, after = (note["weights"] / (PULSES * STEP_S) for note in (bench.told("start")[0], bench.told("epoch")[0]))
    changed = 0
    for i in range(6):
        for j in range(3):
            times_s = (told[name].tick[told[name].neuron == n] * 1e-3 for name, n in (("input", i), ("neurons", j)))
            dw = of_trains(*times_s, rule)
            # whole pulses on two cells, a thousandth of the range each
            assert after[i, j] - before[i, j] == pytest.approx(dw, abs=2.1e-3)
            changed += abs(dw) > 0.01
    assert changed > 5


def test_recurrent_synapses_exist_as_often_as_asked() -> None:
    bench = Cells((90, 60))
    values = on_cells(bench, inputs=60, neurons=30, seconds=0.1, update_s=0.01, recurrent_prob=0.3)
    among = values["exists"][60:]
    assert not among.diagonal().any(), "no neuron feeds itself"
    assert among.mean() == pytest.approx(0.3, abs=0.06)
    assert values["connections"] == 60 * 30 + among.sum()
    wires = bench.told("network")[0]["connections"]
    assert [wire["cells"] for wire in wires] == [2 * 60 * 30, 2 * among.sum()]
    absent = values["weights"][60:][~among]
    np.testing.assert_allclose(absent, 0.0, atol=2e-3)


def test_without_recurrence_the_network_takes_no_rows_for_it() -> None:
    assert StdpNetwork(recurrent_prob=0).rows == 20
    assert StdpNetwork().rows == 30
    bench = Cells((6, 6))
    values = on_cells(bench, recurrent_prob=0.0, seconds=0.4)
    assert values["exists"].shape == (6, 3)
    assert len(bench.told("network")[0]["connections"]) == 1


# ------------------------------------------------------------------------------------------------------ that it learns


def test_weights_split_and_the_checks_are_computed_from_what_was_seen() -> None:
    bench = Cells((12, 10))
    values = on_cells(bench, inputs=12, neurons=5, recurrent_prob=0.0, seconds=8.0, gain=0.5, a_plus=0.05, a_minus=0.06)
    assert all(values["checks"].values()), values["checks"]
    told = rasters(bench.told("spikes"))
    assert values["spikes"] == len(told["neurons"].tick)
    np.testing.assert_allclose(values["rates_hz"], rates_hz(told["neurons"]))
    assert values["interval_cv"] == pytest.approx(np.nanmean(interval_cv(told["neurons"])))
    last = bench.told("epoch")[-1]["weights"] / (PULSES * STEP_S)
    np.testing.assert_allclose(last, values["weights"])
    decided = (values["weights"] < 0.2) | (values["weights"] > 0.8)
    assert values["outer_fraction"] == pytest.approx(decided.mean())
    assert values["outer_fraction"] > 0.6 > values["outer_fraction_first"]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_default_network_passes_its_checks(seed: int) -> None:
    values = ran("emulator", {}, seed)
    assert all(values["checks"].values()), values["checks"]


def test_a_network_that_hears_nothing_fails_its_checks() -> None:
    values = on_cells(Cells(), gain=1e-6)
    assert values["spikes"] == 0
    assert not values["checks"]["active"]
    assert not values["checks"]["weights_moved"]
    assert not values["checks"]["irregular"]


# ------------------------------------------------------------------------------------------------------- artefacts


def test_starting_from_any_checkpoint_equals_the_whole_run() -> None:
    bench = Cells()
    whole = on_cells(bench)
    assert len(bench.kept) == 10
    for packed, index in bench.kept[::3]:
        again = Cells()
        again.index = index
        rest = on_cells(again, unpack(packed))
        assert repr(rest) == repr(whole)
        for name in ("weights", "rates_hz", "weights_first"):
            np.testing.assert_array_equal(rest[name], whole[name])
        np.testing.assert_array_equal(again.index, bench.index)


def test_one_command_gives_manifest_checks_and_open_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said, files = ["--set", "inputs=6", "--set", "neurons=3", "--set", "seconds=1", "--seed", "5"], []
    for folder in (tmp_path / "a", tmp_path / "b"):
        assert cli.invoke(["run", "stdp-network", *said, "--out", str(folder), "--json"]) in (0, 1)
        told = json.loads(capfd.readouterr().out)
        assert set(told["result"]["checks"]) == {
            "active", "rate_plausible", "irregular", "weights_moved", "weights_bounded", "bimodal"
        }  # fmt: skip
        files.append(next(folder.glob("*.nbr")))
    with RunFile.open(files[0]) as first, RunFile.open(files[1]) as second:
        assert first.manifest["seed"] == second.manifest["seed"] == 5
        assert pack(first.result) == pack(second.result)
        for name in ("spikes", "epoch", "network"):
            assert pack([n.value for n in first.notes(name)]) == pack([n.value for n in second.notes(name)])
    assert cli.invoke(["export", str(files[0]), "--out", str(tmp_path)]) == 0
    assert list(tmp_path.rglob("*.csv"))
    pytest.importorskip("matplotlib")
    assert cli.invoke(["plot", str(files[0]), "--out", str(tmp_path)]) == 0
    drawn = {path.stem.rsplit("-", 1)[1] for path in tmp_path.glob("*.png")}
    assert {"raster", "activity", "weights", "network"} <= drawn


# ------------------------------------------------------------------------------------------------------- other benches


@pytest.mark.parametrize("bench", ["visa-sim", "fpga-sim"])
def test_a_small_network_learns_the_same_on_simulated_instruments(bench: str) -> None:
    # each tick of a bench without vector reads is a read of all cells: a few ticks, full of spikes
    parameters: dict[str, Any] = {
        "seconds": 0.04, "update_s": 0.01, "rate_hz": 300.0, "gain": 1.5, "a_plus": 0.2, "a_minus": 0.2,
        **({"inputs": 3, "neurons": 1, "recurrent_prob": 0.0} if bench == "visa-sim" else
           {"inputs": 2, "neurons": 2, "recurrent_prob": 0.5}),
    }  # fmt: skip
    chip = {"chip.rows": 4, "chip.cols": 4, "chip.model": "ideal", "readout.ideal": True, "bench.biases": ["half"]}
    same = {"bench.vector_reads": []} if bench == "visa-sim" else {}
    there, here = ran(bench, chip, **parameters), ran("emulator", chip | same, **parameters)
    assert there["multiply"] == here["multiply"] == ("host" if bench == "visa-sim" else "array")
    assert there["spikes"] == here["spikes"] > 3
    np.testing.assert_array_equal(there["rates_hz"], here["rates_hz"])
    np.testing.assert_allclose(there["weights"], here["weights"], atol=1e-3)
    assert there["learning_pulses"] == here["learning_pulses"] > 0


def test_the_default_lines_stay_in_the_range_of_the_boards_ammeter() -> None:
    """Ten microamperes for ten neurons and the inputs of a tick; all weights are driven up, and all lines spike."""
    loud = {"rate_hz": 500.0, "gain": 20.0, "seconds": 0.04, "update_s": 0.01, "weight_low": 0.9, "weight_high": 1.0}
    values = ran("fpga-sim", {}, **loud)
    assert values["spikes"] > 50
    assert 0.9e-5 / (30 * 2.5e-5) <= values["read_v"] < 0.9e-5 / (20 * 2.5e-5)
    with pytest.raises(UsageError, match="leave the ammeter's range of 1e-05 A; at most"):
        ran("fpga-sim", {}, **loud, read_v=0.1)
    with pytest.raises(CapabilityMissing, match="array of 30 x 20"):
        ran("fpga-sim", {"chip.rows": 20}, **loud)


def test_the_pulses_of_a_result_say_what_they_count() -> None:
    bench = Cells()
    values = on_cells(bench)
    fired = [(n, int(np.abs(s.stimulus.counts).sum())) for n, s in enumerate(bench.log) if isinstance(s, Apply)]
    start = next(n for n, step in enumerate(bench.log) if isinstance(step, Note) and step.name == "start")
    assert values["total_pulses"] == sum(pulses for _, pulses in fired)
    assert values["learning_pulses"] == sum(pulses for n, pulses in fired if n > start) > 0
    assert values["total_pulses"] - values["learning_pulses"] > 2 * 10 * 9 * 6, "dead cells are looked for, too"


def test_a_silent_tick_costs_no_read() -> None:
    bench = Cells()
    on_cells(bench, rate_hz=1.0, recurrent_prob=0.0)
    reads = [step for step in bench.log if isinstance(step, Sense) and isinstance(step.read, VectorRead)]
    spikes = rasters(bench.told("spikes"))["input"]
    assert len(reads) == len(set(spikes.tick.tolist())) < 30


def test_a_cell_that_does_not_answer_gets_no_more_pulses() -> None:
    bench = Cells()
    bench.dead[2, 1] = True
    values = on_cells(bench)
    assert [note["cells"].tolist() for note in bench.told("retired")] == [[[2, 1]]]
    assert values["unusable"] == 1
    batches = [step.stimulus.counts for step in bench.log if isinstance(step, Apply)]
    assert [int(counts[2, 1]) for counts in batches[:2]] == [10, -10]
    assert not any(counts[2, 1] for counts in batches[2:])
    assert any(counts[2, 0] for counts in batches[2:])


def test_with_reads_noisier_than_its_steps_no_cell_is_called_dead() -> None:
    bench = Cells(sigma_s=3e-7)
    values = on_cells(bench, seconds=0.4)
    assert values["unusable"] == 0
    assert not bench.told("retired")


def test_what_cannot_be_is_refused_before_the_first_volt() -> None:
    for known, error, says in [
        ({"depresses": False}, CapabilityMissing, "devices that depress"),
        ({"g_max_s": float("nan")}, UsageError, "window, step and pulse are declared"),
    ]:
        bench = Cells(**known)
        with pytest.raises(error, match=says):
            on_cells(bench)
        assert not any(isinstance(step, Apply) for step in bench.log)
    with pytest.raises(CapabilityMissing, match="12 x 6"):
        ran("emulator", {"chip.rows": 9}, inputs=9, neurons=3)
