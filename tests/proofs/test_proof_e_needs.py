"""Proof (e): a toy bench of one SMU, a two-channel generator and a switch matrix answers what protocols need of it.

It multiplies on the host, does V/2 with its two channels, refuses V/3 by name, and refuses a transposed read. Decision
record: docs/decisions/0007-needs.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from ideal_bench import IdealBench
from neurobench.drivers.emulator import Emulator
from neurobench.protocols.manhattan import Manhattan

from neurobench.bench.crossbar import Capabilities, Needs
from neurobench.bench.limits import Guard, Limits
from neurobench.bench.passport import Passport
from neurobench.bench.steps import Apply, Sense
from neurobench.bench.stimulus import Bias, CellRead, Direction, Pulse, PulseBatch, VectorRead
from neurobench.errors import CapabilityMissing, Refused
from neurobench.physics.chip import Chip, draw_devices
from neurobench.physics.library import load_model


def toy(shape: tuple[int, int] = (4, 4)) -> Capabilities:
    """One SMU reads one cell at a time; channel 1 drives a row at +V/2, channel 2 a column at -V/2, the rest is at 0 V.

    V/3 would need four levels at once; a product needs as many ammeters or sources as there are lines.
    """
    return Capabilities(
        shape, parallelism="cell", biases=frozenset({Bias.HALF}), vector_reads=frozenset(),
        read_topology="guarded_row", max_pulse_v=10.0, min_width_s=1e-7, max_width_s=1.0, compliance_path="none",
        source_ohm=50.0, delivery="at_most_once",
    )  # fmt: skip


def crossbar(capabilities: Capabilities) -> IdealBench:
    start = np.random.default_rng(3).uniform(4.5e-7, 5e-7, capabilities.shape)
    return IdealBench(
        lambda n: start + 5e-9 * n, capabilities.shape, 1e-9, capabilities=capabilities, g_min_s=4.5e-7, g_max_s=8e-7,
        g_step_s=5e-9,
    )  # fmt: skip


def test_products_are_taken_on_the_host() -> None:
    assert Needs(rows=4, cols=4, multiply=True).plan(toy()).multiply == "host"
    full = Capabilities((4, 4))
    assert Needs(rows=4, cols=4, multiply=True).plan(full).multiply == "array"


def test_a_training_runs_on_it_reads_cell_by_cell_and_says_so() -> None:
    on, protocol = crossbar(toy()), Manhattan()
    result = on.run(protocol.steps(on.view(), np.random.default_rng(0)))
    assert result.values["multiply"] == "host"
    assert "weights for every product" in result.values["host_state"]
    assert result.values["select"] == "half"
    assert result.reached
    for step in on.log:
        if isinstance(step, Sense):
            assert toy().refusal(step.read) is None
            assert isinstance(step.read, CellRead)
        if isinstance(step, Apply):
            assert toy().refusal(step.stimulus) is None


def test_half_select_is_possible() -> None:
    assert toy().refusal(PulseBatch(np.ones((4, 4), np.int8), Pulse(2.0, 1e-3), Bias.HALF)) is None
    assert Needs(biases=frozenset({Bias.HALF})).plan(toy()) is not None


def test_a_third_select_is_refused_by_name() -> None:
    with pytest.raises(CapabilityMissing, match=r"bias 'third' \(it has half\)"):
        Needs(biases=frozenset({Bias.THIRD})).plan(toy())
    with pytest.raises(CapabilityMissing, match="'third'"):
        Manhattan(select="third").needs.plan(toy())
    words = toy().refusal(PulseBatch(np.ones((4, 4), np.int8), Pulse(2.0, 1e-3), Bias.THIRD))
    assert words == "bias 'third'; the bench has half"


def test_a_transposed_read_is_refused_before_the_first_volt_and_at_the_read() -> None:
    with pytest.raises(CapabilityMissing, match=r"transposed vector reads \(cols_to_rows\)"):
        Needs(transposed=True).plan(toy())
    words = toy().refusal(VectorRead(np.ones((1, 4)), Direction.COLS_TO_ROWS))
    assert words == "a cols_to_rows vector read; the bench has none"


def test_a_protocol_with_a_substitute_for_it_runs_without(tmp_path: Any) -> None:
    """Two layers take the hidden error from weights held on the host: a substitute, and the record names it."""
    path = tmp_path / "task.csv"
    path.write_text("a,b,label\n0,0,x\n0,1,y\n1,0,y\n1,1,x\n", encoding="utf-8")
    protocol = Manhattan(task=str(path), layers=2, hidden=3, max_updates=4, goal="classified")
    on = crossbar(toy(protocol.extent()))
    result = on.run(protocol.steps(on.view(), np.random.default_rng(0)))
    assert result.values["transposed"] == "host"
    assert "weights for the hidden error" in result.values["host_state"]


def test_everything_that_is_missing_is_said_at_once() -> None:
    needs = Needs(rows=8, cols=2, transposed=True, biases=frozenset({Bias.THIRD}), distinct_shapes=2)
    with pytest.raises(CapabilityMissing) as caught:
        needs.plan(toy())
    for words in ("8 x 2", "'third'", "transposed", "2 waveform shapes"):
        assert words in str(caught.value)


class Bare(Emulator):
    """An emulated chip on the toy bench: what is refused is refused by the Guard, before the bench is asked."""

    def __init__(self, shape: tuple[int, int]) -> None:
        model = load_model("lsmo-gaq3")
        super().__init__(Chip(model, draw_devices(model, shape, 0), 0), toy(shape))


def test_the_guard_says_the_same_where_a_protocol_did_not_ask() -> None:
    guard = Guard(
        Bare((4, 4)), Limits(max_cell_v=3.0, max_read_v=0.3, max_width_s=1.0), Passport("toy", (4, 4)), bench_name="toy"
    )
    with pytest.raises(Refused, match="'third'"):
        guard.check(PulseBatch(np.ones((4, 4), np.int8), Pulse(2.0, 1e-3), Bias.THIRD))
    with pytest.raises(Refused, match="rows_to_cols"):
        guard.check(VectorRead(np.full((1, 4), 0.1)))
    guard.check(PulseBatch(np.ones((4, 4), np.int8), Pulse(2.0, 1e-3), Bias.HALF))
