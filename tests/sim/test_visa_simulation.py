"""A whole simulated bench from its bench file: the same chip as the emulator's, wired as the file says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from neurobench.drivers.emulator import open_emulator
from neurobench.sim_instruments.benches.visa import SimulatedBench, open_simulation

from neurobench import registry
from neurobench.bench.config import load_bench
from neurobench.errors import ConfigError, UnknownName
from neurobench.physics.chip import load_chip

CHIP = {"chip.offsets": "seed-lognormal", "chip.scale": 2.0, "chip.stuck_fraction": 0.1, "chip.shorted_fraction": 0.1}


def simulation(seed: int = 7, **said: Any) -> SimulatedBench:
    return open_simulation(load_bench("visa-sim", {k.replace("__", "."): v for k, v in said.items()}), seed)


@contextmanager
def opened(bench: SimulatedBench) -> Iterator[dict[str, Any]]:
    """pyvisa resources of all instruments by role, line by line."""
    pyvisa = pytest.importorskip("pyvisa")
    manager = pyvisa.ResourceManager(bench.library())
    try:
        yield {
            role: manager.open_resource(name, read_termination="\n", write_termination="\n", timeout=2000)
            for role, name in bench.resources.items()
        }
    finally:
        manager.close()


def test_the_registry_finds_it() -> None:
    assert registry.load("simulations", "visa") is open_simulation


@pytest.mark.parametrize("seed", [1, 8])
def test_the_chip_is_the_emulators(seed: int) -> None:
    bench = simulation(seed, **CHIP)
    emulator, _ = open_emulator(load_bench("emulator", {"chip.model": "lsmo-gaq3", **CHIP}), seed)
    theirs: Any = emulator
    assert bench.world.chip.devices.digest() == theirs.chip.devices.digest()
    np.testing.assert_array_equal(bench.world.chip.conductance_s(), emulator.truth_s())
    assert bench.world.chip.chip_id == theirs.chip.chip_id
    assert simulation(99, **{**CHIP, "chip.seed": seed}).world.chip.devices.digest() == theirs.chip.devices.digest()


def test_every_instrument_says_that_it_is_simulated() -> None:
    bench = simulation()
    assert set(bench.instruments) == set(bench.resources) == {"smu", "pulse", "matrix"}
    with opened(bench) as lines:
        serials = [resource.query("*IDN?").split(",")[2].strip() for resource in lines.values()]
    assert all(serial.startswith("NBSIM") for serial in serials)
    assert len(set(serials)) == 3


def closed(lines: dict[str, Any], rows: dict[str, tuple[int, ...]]) -> None:
    """Relays of the 707B: matrix row letter -> chip lines, as matrix columns."""
    names = ",".join(f"1{row}{column:02d}" for row, columns in rows.items() for column in columns)
    lines["matrix"].write(f'channel.open("allslots") channel.close("{names}")')
    assert lines["matrix"].query("print(errorqueue.count)").strip().startswith("0")


def read_a(smu: Any, volts: float) -> float:
    """Current into the second channel of the 2602B while the first one drives."""
    for channel in ("smua", "smub"):
        smu.write(f"{channel}.source.func = 1 {channel}.source.levelv = 0 {channel}.source.limiti = 1e-3")
        smu.write(f"{channel}.source.output = 1")
    smu.write("smub.measure.rangei = 1e-5")
    smu.write(f"smua.source.levelv = {volts}")
    found = float(smu.query("print(smub.measure.i())"))
    smu.write("smua.source.levelv = 0 smua.source.output = 0 smub.source.output = 0")
    return found


def test_a_cell_is_read_through_relays_and_two_channels() -> None:
    bench = simulation(readout__ideal=True, chip__offsets="seed-lognormal", chip__scale=10.0)
    truth_s = bench.world.chip.conductance_s().copy()
    with opened(bench) as lines:
        for row, col in ((0, 0), (2, 3)):
            rest = tuple(c for c in range(1, 9) if c not in (row + 1, 4 + col + 1))
            closed(lines, {"A": (row + 1,), "B": (4 + col + 1,), "E": rest})
            assert -read_a(lines["smu"], 0.05) / 0.05 == pytest.approx(truth_s[row, col], rel=1e-4)
    assert bench.world.mishaps == ()
    assert bench.world.damage == ()
    assert bench.world.pulses_fired() == 0


def test_lines_that_float_give_the_nodal_solution() -> None:
    bench = simulation(readout__ideal=True, chip__model="idealized")
    g = float(bench.world.chip.conductance_s()[0, 0])
    with opened(bench) as lines:
        closed(lines, {"A": (1,), "B": (5,)})
        assert -read_a(lines["smu"], 0.05) / 0.05 == pytest.approx(16 / 7 * g, rel=1e-4)


def test_ideal_readout_takes_the_noise_of_devices_and_instruments_away() -> None:
    spreads = []
    for ideal in (True, False):
        bench = simulation(readout__ideal=ideal)
        with opened(bench) as lines:
            closed(lines, {"A": (1,), "B": (5,), "E": (2, 3, 4, 6, 7, 8)})
            spreads.append(np.ptp([read_a(lines["smu"], 0.05) for _ in range(5)]))
    assert spreads[0] == 0
    assert spreads[1] > 1e-11


# ------------------------------------------------------------------ what does not fit


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            {"chip.rows": 70, "chip.cols": 6},
            "array of 70 x 6 .* up to matrix column 76; the matrix has 72",
        ),
        ({"instruments.wiring.ground": 12}, "wires matrix row 12"),
        ({"instruments.wiring.word_lines": [1, 2, 3]}, "lists 3 columns"),
        ({"instruments.smu.channels": [1]}, "meter needs channel number 2"),
        ({"instruments.matrix.model": "manual"}, "nobody is there to move its cable"),
        ({"bench.source_ohm": 50.0, "chip.model": "idealized"}, "bench.source_ohm = 0"),
        ({"bench.series_ohm": 50.0}, "cannot follow"),
        ({"instruments.matrix.model": "keithley-2600b"}, "is simulated as smu"),
    ],
)
def test_a_bench_that_cannot_be_is_refused(said: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        simulation(**said)


def test_an_instrument_that_nobody_simulates_is_named() -> None:
    with pytest.raises(UnknownName, match="keithley-2601z"):
        simulation(**{"instruments.smu.model": "keithley-2601z"})


def test_a_device_with_a_table_follows_what_is_lost_in_the_source() -> None:
    bench = simulation(bench__source_ohm=50.0, bench__series_ohm=100.0, chip__model="al2o3-tio2-nili")
    assert bench.world.source_ohm == 150.0


def test_more_cards_make_room_for_a_larger_chip() -> None:
    bench = simulation(chip__rows=10, chip__cols=6, instruments__matrix__slots=[1, 3])
    assert bench.world.matrix is not None
    assert bench.world.matrix.shape[1] == 24


def lone(tmp_path: Path, **said: Any) -> SimulatedBench:
    """One cell without a matrix, from a file, so that the built-in bench's generator is not there."""
    file = tmp_path / "lone.toml"
    file.write_text(
        "\n".join(
            [
                '[bench]\nbackend = "visa"\nbiases = ["isolated"]',
                '[chip]\nrows = 1\ncols = 1\nmodel = "idealized"\nisolation = "isolated"',
                "[limits]\nmax_cell_v = 1.0\nmax_read_v = 0.2\nmax_width_s = 1.0",
                '[instruments.smu]\nmodel = "keithley-2600b"\nchannels = [2]\nserial = "NBSIM777"',
                'resource = "GPIB0::26::INSTR"',
            ]
        )
    )
    return open_simulation(load_bench(file, {k.replace("__", "."): v for k, v in said.items()}), 3)


def test_without_a_matrix_the_smu_is_on_the_cell(tmp_path: Path) -> None:
    bench = lone(tmp_path)
    assert bench.resources == {"smu": "GPIB0::26::INSTR"}
    assert bench.instruments["smu"].serial == "NBSIM777"
    bench.world.terminal("smu.2").drive(0.1)
    g = float(bench.world.chip.conductance_s()[0, 0])
    assert bench.world.terminal("smu.2").current_a() == pytest.approx(0.1 * g, rel=1e-12)
    with pytest.raises(ConfigError, match="2 x 1"):
        lone(tmp_path, chip__rows=2)


# ------------------------------------------------------------------ what is kept


def test_the_chip_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "kept.chip"
    bench = simulation(chip__file=str(file))
    assert not file.exists()  # looking at a bench makes no chip
    with bench.world.lock:
        assert bench.world.matrix is not None
        for line in range(1, 9):
            bench.world.matrix.close({2: 3, 7: 4}.get(line, 5), line)
        for volts in (1.0, 0.0):
            bench.world.terminal("pulse.1").drive(volts)
            bench.world.terminal("pulse.2").drive(-volts)
            bench.world.run_for(1e-3)
    assert load_chip(file, bench.world.chip.model).pulses.reshape(4, 4)[1, 2] == 1
    bench.close()
    again = simulation(chip__file=str(file))
    assert again.world.chip.u.tobytes() == bench.world.chip.u.tobytes()
    assert again.world.pulses_fired() == 1
    with pytest.raises(ConfigError, match="made with scale"):
        simulation(chip__file=str(file), chip__scale=3.0)


def test_the_clock_is_virtual_unless_asked_for(tmp_path: Path) -> None:
    bench = simulation()
    bench.clock.sleep(3600.0)
    assert bench.clock.now_s() == 3600.0
    assert not bench.world.wall
    assert simulation(**{"instruments.simulation.clock": "wall"}).world.wall
    assert simulation(**{"instruments.simulation.round_trip_s": 0.002}).round_trip_s == 0.002
