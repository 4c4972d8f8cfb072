"""Wires of a bench: which row of the matrix each terminal is on, and which column each line of the chip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurobench.errors import ConfigError
from neurobench.physics.chip import Chip, draw_devices
from neurobench.physics.library import load_model
from neurobench.physics.readout import Readout

from .world import World

if TYPE_CHECKING:
    from neurobench.bench.instruments import Wiring

# Which terminal of the simulated bench is meant by which key of [instruments.wiring]: role, and place in its channels.
TERMINALS = {
    "smu": ("smu", 0), "meter": ("smu", 1), "guard": ("smu", None), "pulse_row": ("pulse", 0), "pulse_col": ("pulse", 1)
}  # fmt: skip


def lone_cell(model: str = "idealized", *, seed: int = 0, wall: bool = False, noise: bool = False) -> World:
    """A bench with one cell and no matrix, to test instruments on: `smu.1` on its word line, its bit line grounded."""
    device = load_model(model)
    chip = Chip(device, draw_devices(device, (1, 1), seed), seed)
    world = World(chip, Readout(noise=noise), potentiating_sign=device.card.potentiating_sign, wall=wall)
    direct(world)
    return world


def direct(world: World, smu: str = "smu.1") -> None:
    """Wires without a matrix: the terminal on word line 1, the ground on bit line 1."""
    if world.shape != (1, 1):
        raise ConfigError(
            f"without a matrix the SMU is wired to one cell; the chip is {world.shape[0]} x {world.shape[1]} "
            "([chip] rows, cols; or name a matrix in [instruments.matrix])"
        )
    world.wire(world.terminal(smu).node, world.line(0, 0))
    world.wire(ground(world), world.line(1, 0))


def ground(world: World) -> int:
    """Node of the common ground, which is always at 0 V."""
    terminal = world.terminal("ground")
    terminal.drive(0.0)
    return terminal.node


def through_matrix(world: World, wiring: Wiring, channels: dict[str, tuple[int, ...]]) -> None:
    """Wires by [instruments.wiring] to the matrix of this world; channels: those in use of each role, in order.

    Raises ConfigError where a row or column is wired that the matrix does not have.
    """
    relays = world.matrix
    if relays is None:
        raise ConfigError("no instrument has brought relays to this bench; name a matrix in [instruments.matrix]")
    (rows, cols), (matrix_rows, matrix_columns) = world.shape, relays.shape
    if misfit := wiring.misfit(rows, cols, matrix_columns):
        raise ConfigError(f"[instruments.wiring]: {misfit}")
    columns = _lines("word_lines", 0, wiring.rows_of(rows), rows)
    columns |= _lines("bit_lines", 1, wiring.cols_of(rows, cols), cols)
    for (axis, index), column in columns.items():
        world.wire(relays.column_node(column), world.line(axis, index))
    for name, node in _terminals(world, wiring, channels).items():
        row = getattr(wiring, name)
        _check(row, matrix_rows)
        world.wire(node, relays.row_node(row))


def _lines(key: str, axis: int, columns: tuple[int, ...], wanted: int) -> dict[tuple[int, int], int]:
    if len(columns) != wanted:
        raise ConfigError(f"[instruments.wiring] {key} lists {len(columns)} columns, the chip has {wanted} such lines")
    return {(axis, index): column for index, column in enumerate(columns)}


def _check(row: int, rows: int) -> None:
    if row > rows:
        raise ConfigError(
            f"[instruments.wiring] wires matrix row {row}, the matrix has {rows} ([instruments.matrix] slots)"
        )


def _terminals(world: World, wiring: Wiring, channels: dict[str, tuple[int, ...]]) -> dict[str, int]:
    """Node of each terminal that [instruments.wiring] puts on a row."""
    nodes = {"ground": ground(world)} if wiring.ground else {}
    for key, (role, place) in TERMINALS.items():
        if not getattr(wiring, key):
            continue
        if place is None:
            nodes[key] = world.terminal(f"{role}.guard").node
            continue
        has = channels.get(role, ())
        if place >= len(has):
            raise ConfigError(
                f"[instruments.wiring] {key} needs channel number {place + 1} of the {role}, "
                f"which has {len(has)} in use ([instruments.{role}] channels)"
            )
        nodes[key] = world.terminal(f"{role}.{has[place]}").node
    return nodes
