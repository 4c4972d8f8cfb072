"""bench.toml -> open_bench() -> Guard(Crossbar): the only constructor of backends.

A bench is named (`emulator`) or a file. Where its backend is simulated, what the file leaves out comes from the
built-in bench of that backend; a real bench has to say its limits and polarity itself.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from neurobench import registry
from neurobench.errors import ConfigError, Refused, UnknownName, unknown

from .board import Board
from .crossbar import CompliancePath, Crossbar, Identity, Isolation, Parallelism
from .instruments import ROLES, Instruments
from .limits import ChipLimits, Guard
from .passport import Passport
from .steps import DeviceSpan
from .stimulus import Bias, Direction

IN_PROCESS = ("emulator",)  # run where they are asked for: their chip can be put back, so nothing can be lost
# what their bench file leaves out comes from the built-in bench
SIMULATED_BACKENDS = (*IN_PROCESS, "visa-sim", "fpga-sim")
PATHS = ("curve", "offset_s", "file")  # keys of [chip] that name files


class _Section(BaseModel):
    # a chip may well be called 123
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, coerce_numbers_to_str=True)


class BenchSection(_Section):
    """[bench]: which backend, and how it drives and reads the lines."""

    name: str = Field(default="bench", description="name of this bench in messages and records; in a file: its name")
    backend: str = Field(default="emulator", description="driver: emulator, or one found by `neurobench list benches`")
    parallelism: Parallelism = Field(default="row", description="which cells one shot selects: cell, row or column")
    biases: frozenset[Bias] = Field(default=frozenset({Bias.HALF, Bias.THIRD}), description="bias schemes it can drive")
    vector_reads: frozenset[Direction] = Field(
        default=frozenset({Direction.ROWS_TO_COLS}), description="directions in which it multiplies in one shot"
    )
    source_ohm: float = Field(default=0.0, ge=0, description="output resistance of the pulse source, in ohm")
    series_ohm: float = Field(default=0.0, ge=0, description="resistor in series with every driven line, in ohm")
    compliance_path: CompliancePath = Field(default="none", description="what limits the current of a pulse")
    pulse_overhead_s: float = Field(default=0.0, ge=0, description="time between two pulses, in seconds")


class ChipSection(_Section):
    """[chip]: the array, its devices, and what each of them is."""

    id: str = Field(default="", description="identity of the chip")
    rows: int = Field(default=4, ge=1, le=16384, description="word lines")
    cols: int = Field(default=4, ge=1, le=16384, description="bit lines")
    model: str = Field(default="lsmo-gaq3", description="device by name (`neurobench list devices`)")
    curve: Path | None = Field(default=None, description="curve or device file that replaces `model`")
    replay: Literal["latent", "literal"] = Field(default="latent", description="how a measured curve is replayed")
    scale: float = Field(default=1.0, gt=0, description="factor K on every conductance")
    baseline: Literal["kept", "removed"] = Field(
        default="kept", description="whether the curve's first value is subtracted"
    )
    offset_s: Path | list[list[float]] | None = Field(
        default=None, description="conductance offset per device in siemens, before scale: a CSV file or rows"
    )
    offsets: Literal["none", "seed-lognormal", "normal", "lognormal"] = Field(
        default="none", description="how offsets are drawn where offset_s is absent"
    )
    offset_sigma_s: float = Field(default=0.0, ge=0, description="standard deviation of drawn offsets, in siemens")
    step_spread: float | None = Field(
        default=None, ge=0, le=2, description="lognormal sigma of the step between devices; default: the device's own"
    )
    threshold_spread: float = Field(
        default=0.0, ge=0, le=0.3, description="relative sigma of the write threshold between devices (rate models)"
    )
    range_spread: float = Field(default=0.0, ge=0, le=2, description="lognormal sigma of the conductance range")
    stuck_fraction: float = Field(default=0.0, ge=0, le=1, description="share of cells that do not move")
    shorted_fraction: float = Field(default=0.0, ge=0, le=1, description="share of cells that are shorts")
    seed: int | None = Field(default=None, ge=0, description="seed of the emulated chip; default: the run's seed")
    file: Path | None = Field(default=None, description="file in which the chip is kept between runs")
    assumed_mirror: bool = Field(
        default=False, description="let depression mirror the potentiation curve where none was measured (recorded)"
    )
    potentiating_sign: Literal[1, -1] | None = Field(
        default=None, description="sign of V_row - V_col that raises the conductance; mandatory for a real chip"
    )
    top_electrode: Literal["row", "column"] | None = Field(
        default=None, description="which line the top electrode is on; mandatory for a real chip"
    )
    isolation: Isolation = Field(default="passive", description="passive array, transistor per cell, or one lone cell")
    accept_no_compliance: bool = Field(
        default=False, description="the operator accepts pulses that nothing limits in current"
    )


class ReadoutSection(_Section):
    """[readout]: what stands between the true current and the number."""

    ideal: bool = Field(default=False, description="no read noise, no converters, no offset")
    noise: bool = Field(default=True, description="read noise of the devices")
    offset_a: float = Field(default=0.0, description="offset of every ammeter, in amperes")
    adc_bits: int = Field(default=0, ge=0, le=32, description="resolution of the current converter; 0: continuous")
    adc_range_a: float = Field(default=0.0, ge=0, description="full scale of the current converter, in amperes")
    dac_bits: int = Field(default=0, ge=0, le=32, description="resolution of the voltage converter; 0: continuous")
    dac_range_v: float = Field(default=0.0, ge=0, description="full scale of the voltage converter, in volts")


class BenchConfig(_Section):
    """A whole bench file, validated."""

    bench: BenchSection = BenchSection()
    chip: ChipSection = ChipSection()
    readout: ReadoutSection = ReadoutSection()
    limits: ChipLimits
    instruments: Instruments = Field(default=Instruments(), description="instruments of a bench, by their role")
    board: Board = Field(default=Board(), description="the FPGA board of a bench")


def bench_names() -> list[str]:
    """Names of the built-in benches."""
    folder = resources.files("neurobench.bench") / "benches"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_bench(
    bench: str | Path = "emulator",
    overrides: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> BenchConfig:
    """Read a bench by name or file. `defaults` yield to the file, `overrides` win over it ("section.key": value).

    Raises UnknownName, or ConfigError naming file, key, value and what is allowed.
    """
    path, said = _read_bench(bench)
    given = _typed(overrides or {})
    backend = _backend(said, given)
    if path is None and (bench == backend or _backend(said, {}) != backend):
        # Its own values stand below `defaults` anyway; another backend must not inherit an emulator's limits.
        said = {}
    tables: dict[str, Any] = {}
    if backend in SIMULATED_BACKENDS:
        tables = _builtin(backend)
        _merge(tables, _nested(defaults or {}))
    _merge(tables, {"bench": {"name": Path(bench).stem}})
    _merge(tables, said)
    _merge(tables, _nested(given))
    config = _validated(tables, str(bench))
    return _resolved(config, path.parent if path else Path())


def _typed(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Lists and tables out of text; paths relative to where they were typed, not to the bench file."""
    typed = {k: parse_value(v) if isinstance(v, str) and v[:1] in ("[", "{") else v for k, v in overrides.items()}
    paths = {f"chip.{name}" for name in PATHS}
    return {k: Path(v).absolute() if k in paths and isinstance(v, str | Path) else v for k, v in typed.items()}


def _backend(said: Mapping[str, Any], overrides: Mapping[str, Any]) -> str:
    section = said.get("bench")
    named = section.get("backend", "emulator") if isinstance(section, Mapping) else "emulator"
    return str(overrides.get("bench.backend", named))


def _read_bench(bench: str | Path) -> tuple[Path | None, dict[str, Any]]:
    if str(bench) in bench_names():
        return None, _builtin(str(bench))
    path = Path(bench)
    if path.suffix != ".toml" and not path.exists():
        raise UnknownName(unknown("bench", str(bench), bench_names(), "or give a bench.toml"))
    try:
        return path, tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the bench file {path}: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid TOML: {error}") from error


def _builtin(name: str) -> dict[str, Any]:
    text = (resources.files("neurobench.bench") / "benches" / f"{name}.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    tables: dict[str, Any] = {}
    for dotted, value in flat.items():
        *sections, key = dotted.split(".")
        if not sections:
            raise ConfigError(f"{dotted!r} is not of the form section.key, for example readout.ideal=true")
        table = tables
        for section in sections:
            table = table.setdefault(section, {})
        table[key] = value
    return tables


def _merge(tables: dict[str, Any], more: Mapping[str, Any]) -> None:
    for section, values in more.items():
        below = tables.get(section, {})
        if not (isinstance(values, Mapping) and isinstance(below, dict)):
            tables[section] = values
        elif values.get("model", below.get("model")) != below.get("model") and section in ROLES:
            tables[section] = dict(values)  # another instrument: nothing that was said of the old one holds
        else:
            tables[section] = dict(below)
            _merge(tables[section], values)


def parse_value(text: str) -> Any:
    """A value as given on the command line: TOML where it is TOML (`true`, `3`, `[1, 2]`), else the text itself."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _validated(tables: dict[str, Any], where: str) -> BenchConfig:
    try:
        return BenchConfig.model_validate(tables)
    except ValidationError as error:
        raise ConfigError("\n".join(explain(error, BenchConfig, f"bench {where}"))) from error


def explain(error: ValidationError, model: type[BaseModel], where: str) -> list[str]:
    """One line per mistake: where, what was given, what is allowed; unknown keys with the nearest known one."""
    return [_explain_one(dict(mistake), model, where) for mistake in error.errors()]


def _explain_one(mistake: dict[str, Any], model: type[BaseModel], where: str) -> str:
    path = [str(part) for part in mistake["loc"]]
    if mistake["type"] == "extra_forbidden":
        known = _fields_at(model, path[:-1])
        section = f"[{'.'.join(path[:-1])}]" if path[:-1] else "the file"
        return f"{where}: {unknown('key', path[-1], known, section)}"
    if mistake["type"] == "missing":
        whose = "and this bench has no default for it" if model is BenchConfig else "and only you can say it: set it"
        return f"{where}: {'.'.join(path)} is missing, {whose}"
    given = "" if isinstance(mistake["input"], dict) else f" (given {mistake['input']!r})"
    return ": ".join([where, *filter(None, [".".join(path)]), mistake["msg"].removeprefix("Value error, ") + given])


def _fields_at(model: type[BaseModel], path: list[str]) -> list[str]:
    """Names of the fields at this place; of tables of several kinds the path holds the kind, too."""
    at = [model]
    for part in path:
        if part in at[0].model_fields:
            at = list(_models_in(at[0].model_fields[part].annotation))
        else:
            at = [kind for kind in at if part in (field.default for field in kind.model_fields.values())]
        if not at:
            return []
    return list(at[0].model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models that an annotation names: X, X | None, a union of several."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for one in get_args(annotation):
        yield from _models_in(one)


def _resolved(config: BenchConfig, folder: Path) -> BenchConfig:
    """Paths in a bench file are relative to it."""
    chip = config.chip
    paths = {name: folder / value for name in PATHS if isinstance(value := getattr(chip, name), Path)}
    return config.model_copy(update={"chip": chip.model_copy(update=paths)})


def said_in(config: BenchConfig) -> dict[str, Any]:
    """What somebody said of the bench, as plain values: to make the same config again, in another process or later.

    A default is no statement: a driver may know better than it, and a real chip is not what nobody said that it is.
    """
    return config.model_dump(mode="json", exclude_unset=True)


Driver = Callable[[BenchConfig, int], tuple[Crossbar, DeviceSpan]]


def open_bench(config: BenchConfig, seed: int = 0, profile: str = "") -> Guard:
    """Open the bench that `config` describes, behind its Guard. `seed` makes the emulated chip where none is named.

    `profile`: the limits that hold, as `Protocol.limits_profile` says; "" the usual ones. Raises InUse if bench or
    chip are taken, Refused where bench rules 7, 8 and 16 are not met; nothing was driven then.
    """
    config = _under(config, profile)
    passport = _passport(config)
    try:
        driver = cast("Driver", registry.load("drivers", config.bench.backend))
        crossbar, span = driver(config, seed)
        try:
            return _guarded(config, crossbar, span, passport, profile)
        except BaseException:
            crossbar.close()
            raise
    except BaseException:
        # nothing was done to the chip, so nothing is written into its passport
        passport.release()
        raise


def _under(config: BenchConfig, profile: str) -> BenchConfig:
    """The same bench under the limits of a profile: driver, hardware and Guard see these and no others."""
    try:
        held = config.limits.profile(profile)
    except Refused as refused:
        raise Refused(f"bench {config.bench.name}: {refused}") from refused
    return config.model_copy(update={"limits": ChipLimits(**held.model_dump())})


def _guarded(config: BenchConfig, crossbar: Crossbar, span: DeviceSpan, passport: Passport, profile: str) -> Guard:
    _check_real_chip(config, crossbar)
    _check_compliance(config, crossbar)
    limits = config.limits.profile("")
    crossbar.enforce(limits)
    _check_same_chip(config, crossbar.identity(), passport)
    return Guard(crossbar, limits, passport, span, config.bench.name, profile)


def _check_same_chip(config: BenchConfig, identity: Identity, passport: Passport) -> None:
    """An emulated chip knows its own name; of a real one the operator's word is all there is."""
    named = passport.chip_id or config.chip.id
    if identity.simulated and named and identity.chip_id and named != identity.chip_id:
        where = config.chip.file or "this bench"
        raise ConfigError(
            f"bench {config.bench.name}: the chip in {where} is {identity.chip_id!r}, its passport or [chip] id says "
            f"{named!r}: the file was exchanged, or the passport belongs to another chip"
        )
    passport.chip_id = named or identity.chip_id


def _passport(config: BenchConfig) -> Passport:
    chip = config.chip
    shape = (chip.rows, chip.cols)
    if chip.file is None:
        return Passport(chip.id, shape)
    return Passport.open(chip.file.with_name(chip.file.name + ".passport"), chip.id, shape)


def _check_real_chip(config: BenchConfig, crossbar: Crossbar) -> None:
    if crossbar.identity().simulated:
        return
    missing = [name for name in ("potentiating_sign", "top_electrode") if getattr(config.chip, name) is None]
    if missing:
        raise ConfigError(
            f"bench {config.bench.name}: a real chip needs [chip] {' and '.join(missing)}: "
            "some devices are SET by negative pulses, and a wrong polarity can destroy one"
        )


def _check_compliance(config: BenchConfig, crossbar: Crossbar) -> None:
    """Bench rule 8: a current limit that nothing enforces is refused until the chip's file accepts it."""
    limit, has = config.limits.compliance_a, crossbar.capabilities
    if limit is None or config.chip.accept_no_compliance or has.compliance_path in ("smu", "transistor"):
        return
    path_ohm = has.source_ohm + has.series_ohm
    worst_a = config.limits.max_cell_v / path_ohm if path_ohm else float("inf")
    if has.compliance_path == "none" or worst_a > limit:
        raise Refused(
            f"bench {config.bench.name}: limits.compliance_a = {limit:g} A, but the pulse path "
            f"({has.compliance_path}, {path_ohm:g} ohm) would let {worst_a:g} A pass at max_cell_v. Add a series "
            "resistor or a limiting path, or set [chip] accept_no_compliance = true for this chip"
        )
