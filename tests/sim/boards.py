"""Worlds wired like the built-in visa-sim bench, and the few things that a generator and an SMU do on them."""

from __future__ import annotations

from typing import Any

from neurobench.sim_instruments.world.wiring import through_matrix
from neurobench.sim_instruments.world.world import World

from neurobench.bench.instruments import Wiring
from neurobench.bench.stimulus import Shots
from neurobench.physics.chip import Chip, Spread, draw_devices
from neurobench.physics.library import load_model
from neurobench.physics.readout import Readout

WIRING = Wiring(smu=1, meter=2, pulse_row=3, pulse_col=4, ground=5)
SMU, METER, PULSE_ROW, PULSE_COL, GROUND = range(1, 6)


def chip_of(
    device: str, shape: tuple[int, int] = (4, 4), seed: int = 7, spread: Spread | None = None, **how: Any
) -> Chip:
    model = load_model(device, **how)
    return Chip(model, draw_devices(model, shape, seed, spread), seed)


def board(chip: Chip, noise: bool = False, **how: Any) -> World:
    """A world with this chip behind an 8-row matrix."""
    sign = chip.model.card.potentiating_sign
    world = World(chip, Readout(noise=noise), **{"potentiating_sign": sign, **how})
    world.relays(8, sum(chip.shape) + 1)
    through_matrix(world, WIRING, {"smu": (1, 2), "pulse": (1, 2)})
    return world


def route(world: World, rows: dict[int, int], cols: dict[int, int], rest: int | None = GROUND) -> None:
    """Close relays: word line index -> matrix row, bit line index -> matrix row; the other lines to `rest`."""
    assert world.matrix is not None
    world.matrix.open_all()
    for axis, chosen in ((0, rows), (1, cols)):
        for index in range(world.shape[axis]):
            row = chosen.get(index, rest)
            if row is not None:
                world.matrix.close(row, 1 + index + (world.shape[0] if axis else 0))


def train(world: World, row_v: float, col_v: float, width_s: float, n: int = 1, gap_s: float = 1e-5) -> None:
    """n pulses by scheduled edges, both channels at once, as a generator makes them."""
    row, col = world.terminal("pulse.1"), world.terminal("pulse.2")
    row.drive(0.0)
    col.drive(0.0)
    start_s = gap_s
    for _ in range(n):
        for at_s, share in ((start_s, 1), (start_s + width_s, 0)):
            world.at(at_s, lambda share=share: row.drive(share * row_v))  # type: ignore[misc]
            world.at(at_s, lambda share=share: col.drive(share * col_v))  # type: ignore[misc]
        start_s += width_s + gap_s
    world.run_for(start_s)


def play(world: World, shots: Shots) -> None:
    """Fire half-biased shots by relays and a generator of two channels."""
    for k in range(len(shots)):
        row, cols = shots.cells(k)
        level = shots.levels(int(shots.sign[k]))
        route(world, {int(row): PULSE_ROW}, {int(c): PULSE_COL for c in cols})
        train(world, level.selected_row_v, level.selected_col_v, shots.pulse.width_s, int(shots.repeat[k]))


def read_a(world: World, row: int, col: int, volts: float) -> float:
    """Current into the meter while one cell is read, all other lines grounded."""
    route(world, {row: SMU}, {col: METER})
    drive, meter = world.terminal("smu.1"), world.terminal("smu.2")
    meter.drive(0.0)
    drive.drive(volts)
    world.run_for(1e-3)
    found = -meter.measure_a(1e-3)
    drive.drive(0.0)
    return found
