"""From a bench file to instruments that have said who they are, and back: links, locks, identities, silence.

Connecting changes nothing that a witness rests on: no reset, no clearing of status, no counter set to zero, until what
an earlier run left open is settled (house rule 6).
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import inf
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from neurobench import registry
from neurobench.bench.instruments import InstrumentSection, Role
from neurobench.bench.steps import DeviceSpan
from neurobench.errors import BenchFault, ConfigError, InstrumentError, LinkLost, NeurobenchError, UnknownName
from neurobench.system import Lock, data_folder

from ._visa_plan import Team, pulse_line_v, read_line_v
from .instruments._link import Link, send_at_once
from .instruments._roles import Clock, Identification, Instrument, Matrix, PulseSource, Smu
from .instruments._table import model_in

if TYPE_CHECKING:
    from neurobench.bench.config import BenchConfig
    from neurobench.bench.crossbar import Crossbar
    from neurobench.bench.limits import Limits
    from neurobench.bench.stimulus import Bias

    from .visa import VisaCrossbar

T = TypeVar("T")

ANY_MODEL = r".*"  # of a driver that is for whatever its description names
SLICE_MS = 50  # no call into a link blocks longer
HASTE_S = 0.25  # how long a silent instrument may keep the others from being switched off
OPEN_MS = 3000
MOST_SHOWN = 80  # characters of an answer that nobody understands
MADE_FOR: dict[Role, Any] = {"smu": Smu, "pulse": PulseSource, "matrix": Matrix}


class Bus(Protocol):
    """Where the instruments are: a VISA library, and the time that passes there."""

    clock: Clock
    chip_id: str  # what the chip says of itself; a real one says nothing

    def harm(self) -> list[str]:
        """What has hurt an emulated chip; a real one says nothing."""

    def name(self, role: Role, section: InstrumentSection) -> str:
        """The resource string of an instrument."""

    def open(self, name: str) -> Any:
        """A session with the instrument of that resource string; a pyvisa resource."""

    def close(self) -> None:
        """Let go of what is behind it."""


class RealClock:
    """The time of a real bench."""

    def now_s(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Wait."""
        time.sleep(max(seconds, 0.0))


class RealBus:
    """The instruments that a VISA library finds; `library` as pyvisa names it (@ivi, @py), empty: its own choice."""

    chip_id = ""

    def __init__(self, library: str) -> None:
        self.clock: Clock = RealClock()
        self._library = library
        self._manager: Any = None

    @property
    def manager(self) -> Any:
        """The resource manager; it is shared by the whole process, so nobody closes it."""
        if self._manager is None:
            import pyvisa

            try:
                self._manager = pyvisa.ResourceManager(self._library)
            except (ValueError, OSError) as error:
                raise ConfigError(f"[instruments] library = {self._library!r}: {error}") from error
        return self._manager

    def name(self, role: Role, section: InstrumentSection) -> str:
        """The resource string of the bench file."""
        if not section.resource:
            raise ConfigError(
                f"[instruments.{role}] resource is missing: the VISA address of the {section.model} "
                "(`neurobench check --list` shows what is connected)"
            )
        return section.resource

    def open(self, name: str) -> Any:
        """Open a session; small commands are sent at once, not gathered by the network."""
        opened = open_resource(self.manager, name)
        send_at_once(opened)
        return opened

    def harm(self) -> list[str]:
        """A real chip does not say what hurt it."""
        return []

    def close(self) -> None:
        """Nothing of its own to let go of."""


def open_resource(manager: Any, name: str) -> Any:
    """A pyvisa resource with line ends and the longest wait of one call; LinkLost says what VISA says."""
    try:
        opened = manager.open_resource(name, open_timeout=OPEN_MS)
    except Exception as error:  # pyvisa-py raises no error of its own where nobody answers
        raise LinkLost(f"{name}: cannot be opened: {error}") from error
    opened.read_termination = opened.write_termination = "\n"
    opened.timeout = SLICE_MS
    return opened


@dataclass
class Connected:
    """The instruments of one bench, open and identified. `losses` counts lost answers that were looked after."""

    team: Team
    clock: Clock
    links: dict[Role, Link]
    identified: dict[Role, Identification]
    resources: dict[Role, str]
    closing: contextlib.ExitStack
    chip_id: str = ""
    harm: Callable[[], list[str]] = list
    losses: int = field(default=0)

    @property
    def sources(self) -> list[Smu | PulseSource]:
        """What can put volts on a line."""
        return [self.team.smu, *([self.team.generator] if self.team.generator else [])]

    def enforce(self, limits: Limits, biases: frozenset[Bias]) -> None:
        """Program what the hardware can limit and read it back: the SMU's current, every source's voltage."""
        smu, generator = self.team.smu, self.team.generator
        compliance_a, pulse_v, read_v = limits.compliance_a, pulse_line_v(limits, biases), read_line_v(limits)
        smu_v = read_v if self.team.meter_source is None else max(read_v, pulse_v)
        smu.read_v = read_v
        smu.enforce(compliance_a if compliance_a is not None else max(smu.ranges_a), min(smu_v, smu.max_v))
        if generator is not None:
            generator.enforce(compliance_a, min(pulse_v, generator.max_v))

    def reassure(self, limits: Limits | None, biases: frozenset[Bias]) -> None:
        """After a lost answer an instrument may have restarted: its limits are programmed again before anything."""
        losses = sum(link.losses for link in self.links.values())
        if losses == self.losses or limits is None:
            return
        for instrument in self.instruments():
            instrument.identify()
        self.enforce(limits, biases)  # outputs are off from here on: who fires sets its pulses up again
        self.losses = losses

    def instruments(self) -> list[Instrument]:
        """All of them, sources first."""
        matrix: list[Instrument] = [self.team.matrix] if "matrix" in self.links else []
        return [*self.sources, *matrix]

    def silence(self, first: Smu | PulseSource | None = None) -> None:
        """All outputs to 0 V and off, `first` first, each tried whatever became of the others.

        One that does not answer does not keep the others waiting: it is asked once more, with patience, after them.
        A question that another thread waits on is cut short; until `unlatch` only the calling thread is heard.
        """
        for link in self.links.values():
            link.latch()
        sources = sorted(self.sources, key=lambda source: source is not first)
        failed = made_safe(made_safe(sources, HASTE_S), inf)
        if failed:
            raise next(iter(failed.values()))

    def seal(self) -> None:
        """Let nobody speak until `unlatch`."""
        for link in self.links.values():
            link.seal()

    def unlatch(self) -> None:
        """Let queries wait again."""
        for link in self.links.values():
            link.unlatch()

    def close(self) -> None:
        """Close the sessions, free the resources for others."""
        self.closing.close()


def made_safe(sources: Iterable[Instrument], haste_s: float) -> dict[Instrument, Exception]:
    """Switch off, each within `haste_s` if it answers in time; those of which that is not certain, and why."""
    failed: dict[Instrument, Exception] = {}
    for source in sources:
        source.link.haste_s = haste_s
        try:
            source.safe()
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must be switched off too
            failed[source] = error
        finally:
            source.link.haste_s = inf
    return failed


Make = Callable[[Connected, "BenchConfig", DeviceSpan, str], "VisaCrossbar"]
MakeBus = Callable[["BenchConfig", int], Bus]


class VisaDriver:
    """The driver of one kind of VISA bench: opens it, examines it, finds what is connected."""

    def __init__(self, name: str, make: Make, bus: MakeBus | None = None) -> None:
        self.name = name
        self._make = make
        self._bus: MakeBus = bus or (lambda config, seed: RealBus(config.instruments.library))  # noqa: ARG005
        self._real = bus is None

    def __call__(self, config: BenchConfig, seed: int) -> tuple[Crossbar, DeviceSpan]:
        """Connect, identify, silence. Raises ConfigError, LinkLost, InstrumentError or InUse; no volts were sent."""
        if self._real:
            refuse_simulated_settings(config)
        bus = self._bus(config, seed)
        connected = connect(config, bus, lock=self._real)
        try:
            connected.silence()
            connected.unlatch()
            span = span_of(config)
            return self._make(connected, config, span, self.name), span
        except BaseException:
            connected.close()
            raise

    def examine(self, config: BenchConfig, seed: int) -> list[dict[str, Any]]:
        """Who answers at every address, one row per instrument, whatever is wrong with the others. No volts."""
        bus = self._bus(config, seed)
        try:
            return [_examined(bus, role, section) for role, section in config.instruments.by_role().items()]
        finally:
            bus.close()

    def find(self, config: BenchConfig) -> list[dict[str, Any]]:
        """Everything that answers to *IDN? on this computer, with the model that neurobench knows it by."""
        bus = self._bus(config, 0)
        try:
            manager = cast("Any", bus).manager
            with warnings.catch_warnings():  # of what a VISA library could find besides
                warnings.simplefilter("ignore")
                names = [n for n in manager.list_resources("?*") if n.endswith(("::INSTR", "::SOCKET"))]
            return [_found(bus, name) for name in names]
        finally:
            bus.close()


def connect(config: BenchConfig, bus: Bus, lock: bool) -> Connected:
    """Open every instrument of the bench file and let each say who it is. Nothing is set.

    Where one of them is missing or another one than the file says, the sources among the others are switched off.
    """
    sections = config.instruments.by_role()
    if "smu" not in sections:
        raise ConfigError("[instruments.smu] is missing: a bench reads its cells by an SMU")
    sections["smu"] = _as_wired(sections["smu"], bool(config.instruments.wiring.meter))
    with contextlib.ExitStack() as stack:
        stack.callback(bus.close)
        names = _addresses(bus, sections)
        for name in sorted(map(canonical, names.values())) if lock else ():
            stack.enter_context(Lock(lock_path(name), f"bench {config.bench.name}"))
        met, failed = _met(bus, names, sections, stack)
        if failed:
            made_safe((one for one, _ in met.values() if isinstance(one, Smu | PulseSource)), HASTE_S)
            raise failed[0]
        found = {role: one for role, (one, _) in met.items()}
        found |= {role: _instrument(role, section, None) for role, section in sections.items() if role not in names}
        identified = {role: who for role, (_, who) in met.items()}
        links = {role: found[role].link for role in names}
        return Connected(_team(found), bus.clock, links, identified, names, stack.pop_all(), bus.chip_id, bus.harm)


def _met(
    bus: Bus, names: Mapping[Role, str], sections: Mapping[Role, InstrumentSection], stack: contextlib.ExitStack
) -> tuple[dict[Role, tuple[Instrument, Identification]], list[BenchFault]]:
    """The instruments that are who the bench file says, and what is wrong with the others."""
    met: dict[Role, tuple[Instrument, Identification]] = {}
    failed: list[BenchFault] = []
    for role, name in names.items():
        try:
            instrument = _instrument(role, sections[role], _linked(bus, name, role, sections[role], stack))
            met[role] = instrument, patiently(instrument.identify)
        except BenchFault as error:
            failed.append(error)
    return met, failed


def patiently(ask: Callable[[], T]) -> T:
    """Ask once more what changes nothing, if its answer is lost: one answer in many is, and a bench should open."""
    try:
        return ask()
    except LinkLost:
        return ask()


def _addresses(bus: Bus, sections: Mapping[Role, InstrumentSection]) -> dict[Role, str]:
    """Resource string of each instrument. Raises ConfigError where two roles name one instrument."""
    names = {role: bus.name(role, section) for role, section in sections.items() if _is_wired(section)}
    seen: dict[str, Role] = {}
    for role, name in names.items():
        other = seen.setdefault(canonical(name), role)
        if other != role:
            raise ConfigError(
                f"[instruments.{other}] and [instruments.{role}] have the same resource {name!r}: one instrument, one "
                "role (an SMU that also pulses needs no [instruments.pulse])"
            )
    return names


def canonical(name: str) -> str:
    """One spelling for all resource strings of one address: `gpib::5` is GPIB0::5::INSTR."""
    from pyvisa.rname import InvalidResourceName, to_canonical_name

    try:
        return to_canonical_name(name.upper())
    except InvalidResourceName:  # an alias of the VISA library, say
        return name.upper()


def _as_wired(smu: InstrumentSection, meter: bool) -> InstrumentSection:
    """The SMU with its first channel alone where the second is wired to nothing: what it measured would be 0 A."""
    return smu if meter else smu.model_copy(update={"channels": (smu.channels or (1,))[:1]})


def _is_wired(section: InstrumentSection) -> bool:
    return section.model != "manual"


def lock_path(resource: str) -> Any:
    """The file whose lock stands for an instrument: one process at a time speaks to it."""
    digest = hashlib.sha256(resource.upper().encode()).hexdigest()[:24]
    return data_folder() / "locks" / f"instrument-{digest}.lock"


def _linked(bus: Bus, name: str, role: Role, section: InstrumentSection, stack: contextlib.ExitStack) -> Link:
    resource = bus.open(name)
    stack.callback(_closed, resource)
    return Link(resource, bus.clock, f"{role} {section.model} at {name}", section.timeout_s)


def _closed(resource: Any) -> None:
    with contextlib.suppress(Exception):  # the link may be gone, and then it is closed
        resource.close()


def _instrument(role: Role, section: InstrumentSection, link: Link | None) -> Instrument:
    try:
        kind = registry.load("instruments", section.model)
    except UnknownName as error:
        raise UnknownName(f"[instruments.{role}] model: {error}") from error
    if not (isinstance(kind, type) and issubclass(kind, MADE_FOR[role])):
        raise ConfigError(f"[instruments.{role}] model = {section.model!r} cannot serve as {role}")
    made: Instrument = kind(cast("Link", link), section)
    return made


def _team(found: Mapping[Role, Instrument]) -> Team:
    matrix = found.get("matrix") or _instrument("matrix", InstrumentSection(model="manual"), None)
    return Team(cast("Smu", found["smu"]), cast("PulseSource | None", found.get("pulse")), cast("Matrix", matrix))


def refuse_simulated_settings(config: BenchConfig) -> None:
    """[readout] and [instruments.simulation] make a simulated bench; on a real one they would lie about its noise."""
    said = {f"readout.{name}" for name in config.readout.model_fields_set}
    said |= {f"instruments.simulation.{name}" for name in config.instruments.simulation.model_fields_set}
    defaults = type(config.readout)(), type(config.instruments.simulation)()
    if (config.readout, config.instruments.simulation) != defaults:
        raise ConfigError(
            f"bench {config.bench.name}: {', '.join(sorted(said))} is for simulated benches (backend 'emulator' or "
            "'visa-sim'); a real bench has the noise that it has: take it out of the bench file"
        )


def span_of(config: BenchConfig) -> DeviceSpan:
    """What is declared of the devices: the card that the bench file names; of a real chip without one, nothing."""
    chip = config.chip
    if not {"model", "curve"} & chip.model_fields_set:
        return DeviceSpan()
    from neurobench.bench.config import SIMULATED_BACKENDS
    from neurobench.physics.library import load_model

    from .emulator import device_span, origin_words

    model = load_model(chip.curve or chip.model, replay=chip.replay, assume_mirror=chip.assumed_mirror)
    noisy = config.readout.noise and not config.readout.ideal
    span = device_span(model, chip.scale, chip.baseline == "removed", noisy, chip.threshold_spread)
    # a real device answers any voltage, whatever pulses its card was measured with
    integrates = span.integrates or (False if config.bench.backend in SIMULATED_BACKENDS else None)
    return replace(span, origin=origin_words(chip, model), card=str(chip.curve or chip.model), integrates=integrates)


# ---------------------------------------------------------------------------------------------- looking around


def _examined(bus: Bus, role: Role, section: InstrumentSection) -> dict[str, Any]:
    row: dict[str, Any] = {"role": role, "model": section.model, "resource": section.resource}
    if not _is_wired(section):
        return row | {"answers": "", "self_test": "", "verdict": "the operator"}
    heard: list[str] = []  # what it said, also where that was no answer to anything
    with contextlib.ExitStack() as stack:
        try:
            row["resource"] = bus.name(role, section)
            link = _linked(bus, row["resource"], role, section, stack)
            link.log = lambda direction, line: heard.append(line) if direction == "<" else None
            instrument = _instrument(role, section, link)
            who = instrument.identify()
            row["answers"] = f"{who.maker} {who.model} {who.serial}"
            instrument.safe()
            row["self_test"] = instrument.self_test() or "passed"
            verdict = "ok" if row["self_test"] == "passed" else "fault"
            return row | {"verdict": f"{verdict}{' (simulated)' if who.simulated else ''}"}
        except NeurobenchError as error:
            said = {"answers": heard[-1][:MOST_SHOWN] if heard else "", "self_test": ""}
            return said | row | {"verdict": f"{_kind(error, bool(heard))}: {error}"}


def _kind(error: NeurobenchError, heard: bool) -> str:
    if isinstance(error, LinkLost):
        return "not understood" if heard else "no answer"
    return "wrong" if isinstance(error, InstrumentError) else "refused"


def _found(bus: Bus, name: str) -> dict[str, Any]:
    if name.startswith("ASRL"):
        why = "a serial line is not asked: what is on it may take any text for a command"
        return {"resource": name, "answers": "", "model": "", "role": "", "why": why}
    with contextlib.ExitStack() as stack:
        try:
            resource = bus.open(name)
            stack.callback(_closed, resource)
            words = Link(resource, bus.clock, name, 1.0).query("*IDN?").strip()
        except NeurobenchError as error:
            return {"resource": name, "answers": "", "model": "", "role": "", "why": str(error)}
    model, role = known_as(words)
    return {"resource": name, "answers": words, "model": model, "role": role, "why": ""}


def known_as(words: str) -> tuple[str, str]:
    """The plug-in and its first role for an answer to *IDN?; empty where none knows it."""
    fields = words.split(",")
    model = model_in(fields[1]) if len(fields) > 1 else ""
    for name, kind in _kinds():
        if ANY_MODEL not in kind.MODELS and any(re.fullmatch(known, model) for known in kind.MODELS):
            return name, kind.roles()[0]
    return "", ""


def _kinds() -> Iterator[tuple[str, type[Instrument]]]:
    for name, plugin in registry.check("instruments").items():
        if not plugin.error:
            yield name, cast("type[Instrument]", registry.load("instruments", name))
