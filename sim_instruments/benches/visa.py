"""A bench of simulated VISA instruments: what a bench file describes, wired to one emulated chip.

    bench = open_simulation(load_bench("visa-sim"), seed=7)
    manager = pyvisa.ResourceManager(bench.library())
    smu = manager.open_resource(bench.resources["smu"])

The chip is made, kept and read as the emulator does it ([chip], [readout]). Generators have bench.source_ohm and
bench.series_ohm in their outputs, SMUs nothing. [readout] ideal takes all noise away, also that of the instruments.
Converters of [readout] do not count here: the instruments have their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from neurobench import registry
from neurobench.errors import ConfigError, OutsideHull, UnknownName
from neurobench.physics.library import load_model
from neurobench.physics.maker import make_chip, make_readout

from ..world.clock import SimClock
from ..world.wiring import direct, through_matrix
from ..world.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from neurobench.bench.config import BenchConfig
    from neurobench.bench.instruments import Instruments
    from neurobench.physics.response import DeviceModel

    from ..engine.instrument import SimInstrument

BY_HAND = "manual"
CHANNELS = (1, 2)  # where the bench file names none
# Models that a lab has on GPIB: the 2400 has no network, the 34980A is driven over GPIB by most programs.
ON_GPIB = {"keithley-2400": 24, "keysight-34980a": 9}
# The order in which instruments are made: a matrix brings the relays that the others are wired to.
ORDER = ("matrix", "smu", "pulse")
SERVES = {"matrix": ("matrix",), "smu": ("smu",), "pulse": ("pulse", "smu")}  # an SMU may be a source of pulses
DROP = 0.9  # of the nominal amplitude: what a device behind a resistance may well see


@dataclass(frozen=True, slots=True)
class SimulatedBench:
    """One simulated bench: `instruments` and `resources` (VISA resource strings) by role, and what is behind them."""

    world: World
    instruments: dict[str, SimInstrument]
    resources: dict[str, str]
    clock: SimClock
    round_trip_s: float = 0.0

    def library(self) -> Any:
        """A new VISA library that holds these instruments, for `pyvisa.ResourceManager(library)`."""
        from ..serve.visalib import SimulatedVisa  # pyvisa is loaded only where somebody speaks VISA

        served = {self.resources[role]: instrument for role, instrument in self.instruments.items()}
        return SimulatedVisa(served, round_trip_s=self.round_trip_s)

    def close(self) -> None:
        """Put the chip back into its drawer."""
        self.world.close()


def open_simulation(config: BenchConfig, seed: int) -> SimulatedBench:
    """Make the bench that `config` describes; `seed` makes the chip where [chip] names none.

    Raises ConfigError where the wiring does not fit chip and matrix, or the device cannot follow the voltages that
    stand behind a source's resistance; UnknownName for an instrument that nobody simulates.
    """
    chip_section, described = config.chip, config.instruments
    model = load_model(
        chip_section.curve or chip_section.model, chip_section.replay, assume_mirror=chip_section.assumed_mirror
    )
    ohm = config.bench.source_ohm + config.bench.series_ohm
    _check_follows(model, ohm)
    readout = make_readout(config)
    world = World(
        make_chip(config, model, seed), readout, file=chip_section.file, source_ohm=ohm,
        potentiating_sign=chip_section.potentiating_sign or model.card.potentiating_sign,
        wall=described.simulation.clock == "wall", cable_f=described.wiring.cable_f,
    )  # fmt: skip
    noise = described.simulation.instrument_noise and not config.readout.ideal
    instruments = _instruments(world, described, noise)
    _wire(world, described)
    resources = {role: _resource(role, described) for role in instruments}
    return SimulatedBench(world, instruments, resources, SimClock(world), described.simulation.round_trip_s)


def _check_follows(model: DeviceModel, ohm: float) -> None:
    """Behind a resistance every cell sees another voltage: a device known at one amplitude has no answer to that."""
    stated = next((p for p in (*model.card.curve, *model.card.pulse) if p.amplitude_v and p.width_s), None)
    if not ohm or stated is None or not stated.amplitude_v or not stated.width_s:
        return
    try:
        model.response(stated.sign, DROP * abs(stated.amplitude_v), stated.width_s)
    except OutsideHull as error:
        raise ConfigError(
            f"bench.source_ohm + bench.series_ohm = {ohm:g} ohm, but device {model.name} is known at single amplitudes "
            f"only and cannot follow what is lost there ({error}). Set bench.source_ohm = 0 and bench.series_ohm = 0, "
            "or choose another device ([chip] model)"
        ) from error


def _instruments(world: World, described: Instruments, noise: bool) -> dict[str, SimInstrument]:
    sections = {role: section for role, section in described.by_role().items() if section.model != BY_HAND}
    made: dict[str, SimInstrument] = {}
    for number, role in enumerate(ORDER, start=1):
        section = sections.get(role)  # type: ignore[call-overload]
        if section is not None:
            kind = _kind(role, section.model)
            serial = section.serial if section.serial.startswith("NBSIM") else f"NBSIM{number:03d}"
            made[role] = kind(world, role, serial, section, noise=noise)
            if role != made[role].ROLE:
                raise ConfigError(
                    f"[instruments.{role}] model = {section.model!r} is simulated as {made[role].ROLE}, not as {role}"
                )
    return made


def _kind(role: str, model: str) -> Callable[..., SimInstrument]:
    try:
        return cast("Callable[..., SimInstrument]", registry.load("sim_instruments", model))
    except UnknownName as error:
        raise UnknownName(f"[instruments.{role}] model: {error}") from error


def _wire(world: World, described: Instruments) -> None:
    if described.matrix is None or described.matrix.model == BY_HAND:
        if described.pulse is not None:
            raise ConfigError(
                "[instruments.pulse] needs a matrix on a simulated bench: nobody is there to move its cable to the "
                "cell. Name one in [instruments.matrix], or leave the generator out and let the SMU pulse"
            )
        used = described.smu.channels if described.smu is not None else ()
        direct(world, f"smu.{(used or CHANNELS)[0]}")
        return
    sources = {"smu": described.smu, "pulse": described.pulse}
    channels = {role: section.channels or CHANNELS for role, section in sources.items() if section is not None}
    through_matrix(world, described.wiring, channels)


def _resource(role: str, described: Instruments) -> str:
    section = described.by_role()[role]  # type: ignore[index]
    if section.resource:
        return section.resource
    address = ON_GPIB.get(section.model)
    return f"TCPIP0::sim-{role}::5025::SOCKET" if address is None else f"GPIB0::{address}::INSTR"


plugin = open_simulation
