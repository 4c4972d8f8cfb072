"""The device card: one TOML file that says what a device is, who measured it, and under which conditions.

A card is data. Which physics it is replayed with is its `model`; the numbers of that model stand in `[parameters]` and
are checked by the model's own file. `docs/devices.md` shows the format.
"""

from __future__ import annotations

import math
import re
import tomllib
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from neurobench.errors import ConfigError, CurveError
from neurobench.physics.fit import double_exponential
from neurobench.physics.response import End

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic_core import ErrorDetails

    from neurobench.physics.response import FloatArray

DirectionName = Literal["potentiate", "depress"]
FORMAT = 1
# "Cannot happen" conductances catch a file in microsiemens or ohms: one siemens is a metal wire.
MAX_CONDUCTANCE_S = 1.0


class CardPart(BaseModel):
    """Frozen, SI units in the names, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _conductances(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) < 2:
        raise ValueError(f"a curve needs at least two points, this one has {len(values)}")
    for index, value in enumerate(values):
        if not 0 < value <= MAX_CONDUCTANCE_S:
            raise ValueError(f"point {index} is {value!r} S; a conductance lies in (0, {MAX_CONDUCTANCE_S:g} S]")
    return values


# NaN reaches the check above, which names the point; pydantic's own message would not.
Conductances = Annotated[tuple[Annotated[float, Field(allow_inf_nan=True)], ...], AfterValidator(_conductances)]


class DoubleExponentialFormula(CardPart):
    """A curve given by its compact fit: start + sum of a_i (1 - exp(-n / n_i)) after n pulses."""

    kind: Literal["double_exponential"] = "double_exponential"
    start_s: float = Field(gt=0)
    a1_s: float
    n1: float = Field(gt=0)
    a2_s: float
    n2: float = Field(gt=0)
    pulses: int = Field(ge=1, le=1_000_000)

    def points(self) -> FloatArray:
        """Conductance [S] after 0 .. pulses pulses."""
        n = np.arange(self.pulses + 1.0)
        return double_exponential(n, self.start_s, self.a1_s, self.n1, self.a2_s, self.n2)


class Pulse(CardPart):
    """One write condition. amplitude_v is signed as in the source; a missing number was not stated there."""

    direction: DirectionName
    amplitude_v: float | None = None
    width_s: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _amplitude_is_not_zero(self) -> Self:
        if self.amplitude_v == 0:
            raise ValueError("amplitude_v is 0 V: that is no pulse; leave the key out if the source does not state it")
        return self

    @property
    def sign(self) -> int:
        """+1 potentiates, -1 depresses."""
        return 1 if self.direction == "potentiate" else -1

    def __str__(self) -> str:
        volts = "amplitude not stated" if self.amplitude_v is None else f"{abs(self.amplitude_v):g} V"
        return f"{volts}, {'width not stated' if self.width_s is None else f'{self.width_s:g} s'}"


class Curve(Pulse):
    """Conductance [S] before the first pulse and after each of a train of equal pulses: samples, or a formula."""

    conductance_s: Conductances | None = None
    formula: DoubleExponentialFormula | None = None
    # Measured magnitudes of the current during each pulse; what the emulator uses of them is [write_current].
    in_pulse_a: tuple[Annotated[float, Field(ge=0)], ...] | None = None

    @model_validator(mode="after")
    def _one_current_per_pulse(self) -> Self:
        if self.in_pulse_a is not None and len(self.in_pulse_a) != len(self.conductance_s or ()) - 1:
            raise ValueError(
                f"in_pulse_a has {len(self.in_pulse_a)} currents; it needs one for each pulse between the samples of "
                "conductance_s"
            )
        return self

    @model_validator(mode="after")
    def _one_source_of_points(self) -> Self:
        if (self.conductance_s is None) == (self.formula is None):
            raise ValueError("a curve has either conductance_s (samples) or formula, not both and not neither")
        if self.formula is not None:
            _conductances(tuple(self.formula.points().tolist()))
        return self

    def points(self) -> FloatArray:
        """Conductance [S] after 0, 1, 2 ... pulses."""
        if self.formula is not None:
            return self.formula.points()
        return np.array(self.conductance_s, dtype=np.float64)


class ReadProtocol(CardPart):
    """How the conductances were read: voltage, time from pulse to read, time from pulse to pulse."""

    voltage_v: float = Field(default=0.1, gt=0)
    delay_s: float | None = Field(default=None, ge=0)
    period_s: float | None = Field(default=None, gt=0)


class Window(CardPart):
    """Range of conductance of the model, and where a fresh device stands.

    Default start: the first point of a measured card's first curve, the low end of a formula model.
    """

    g_min_s: float = Field(gt=0, le=MAX_CONDUCTANCE_S)
    g_max_s: float = Field(gt=0, le=MAX_CONDUCTANCE_S)
    g_start_s: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.g_min_s >= self.g_max_s:
            raise ValueError(f"g_min_s = {self.g_min_s:g} S must lie below g_max_s = {self.g_max_s:g} S")
        if self.g_start_s is not None and not self.g_min_s <= self.g_start_s <= self.g_max_s:
            raise ValueError(f"g_start_s = {self.g_start_s:g} S lies outside {self.g_min_s:g} .. {self.g_max_s:g} S")
        return self


class Noise(CardPart):
    """Scatter. A number left out of a measured card is taken from the curve's own scatter (bench-rules 12)."""

    read_sigma_s: float | None = Field(default=None, ge=0)
    read_sigma_relative: float = Field(default=0.0, ge=0)
    step_sigma_s: float | None = Field(default=None, ge=0)
    step_sigma_relative: float = Field(default=0.0, ge=0, description="of the local mean step")


class Spread(CardPart):
    """Device to device: the step of one device is the card's times exp(step_lognormal x N(0, 1))."""

    step_lognormal: float = Field(default=0.2, ge=0, le=3)


class WriteCurrent(CardPart):
    """I(V) of the cell relative to its conductance at the read voltage (bench-rules 11)."""

    law: Literal["ohmic", "sinh", "cubic"]
    v0_v: float | None = Field(default=None, gt=0)
    cubic_per_v2: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _parameters_of_the_law(self) -> Self:
        wanted = {"ohmic": (False, False), "sinh": (True, False), "cubic": (False, True)}[self.law]
        if (self.v0_v is not None, self.cubic_per_v2 is not None) != wanted:
            raise ValueError(f"law {self.law!r}: sinh needs v0_v, cubic needs cubic_per_v2, ohmic neither")
        return self

    def factor(self, amplitude_v: float, read_v: float) -> float:
        """Chord conductance at amplitude_v over that at read_v."""
        return self._chord(amplitude_v) / self._chord(read_v)

    def _chord(self, volts: float) -> float:
        if self.v0_v is not None:
            x = volts / self.v0_v
            return math.sinh(x) / x if x else 1.0
        return 1.0 + (self.cubic_per_v2 or 0.0) * volts**2


class HalfSelect(CardPart):
    """Declared disturb: a cell at `ratio` of the write voltage moves by `fraction` of the full step."""

    ratio: float = Field(default=0.5, gt=0, lt=1)
    fraction: float = Field(ge=0, le=1)


class RelaxationCard(CardPart):
    """Exponential decay of the conductance towards g_rest_s."""

    tau_s: float = Field(gt=0)
    g_rest_s: float = Field(gt=0)


class Tolerance(CardPart):
    """How far a pulse may differ from a measured one, relative, and still be called the same."""

    amplitude: float = Field(default=0.02, ge=0, le=0.5)
    width: float = Field(default=0.02, ge=0, le=0.5)


class Origin(CardPart):
    """Which run of neurobench the numbers come from. `simulated`: the chip was emulated, so nothing was measured."""

    run: str = Field(min_length=1)
    chip_id: str = ""
    date: str = ""
    simulated: bool
    devices: int = Field(default=1, ge=1)
    cycles: int = Field(default=1, ge=1)


class DeviceCard(CardPart):
    """Everything known about one device. `source` is mandatory: a number without a source is a rumour."""

    format: Literal[1] = 1
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    title: str = ""
    source: str = Field(min_length=8)
    licence: str = ""
    notes: str = ""
    model: str
    potentiating_sign: Literal[-1, 1] = 1
    end: End = "hold"
    # The mirror of the measured direction stands in for one that nobody measured. Declared, never inferred.
    assumed_mirror: bool = False
    read: ReadProtocol = ReadProtocol()
    window: Window | None = None
    noise: Noise = Noise()
    spread: Spread = Spread()
    write_current: WriteCurrent | None = None
    half_select: HalfSelect | None = None
    relaxation: RelaxationCard | None = None
    tolerance: Tolerance = Tolerance()
    origin: Origin | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    pulse: tuple[Pulse, ...] = ()
    curve: tuple[Curve, ...] = ()

    @model_validator(mode="after")
    def _families_in_order(self) -> Self:
        for direction in ("potentiate", "depress"):
            _check_order([c for c in self.curve if c.direction == direction], "curve", direction)
            _check_order([p for p in self.pulse if p.direction == direction], "pulse", direction)
        return self

    @property
    def simulated(self) -> bool:
        """Whether its numbers come from an emulated chip: they may never be shown as measured."""
        return self.origin is not None and self.origin.simulated

    def families(self, sign: int) -> tuple[Curve, ...]:
        """The measured curves of one direction (+1, -1), in ascending order of amplitude, then width."""
        return tuple(c for c in self.curve if c.sign == sign)


def _check_order(pulses: Iterable[Pulse], kind: str, direction: str) -> None:
    """Several conditions must all be stated, differ, and ascend: (|amplitude|, width)."""
    found = list(pulses)
    if len(found) < 2:
        return
    keys = [(abs(p.amplitude_v or 0.0), p.width_s or 0.0) for p in found]
    if any(0.0 in key for key in keys):
        raise ValueError(f"several {direction} [[{kind}]] entries: each must state amplitude_v and width_s")
    for first, second in pairwise(keys):
        if second <= first:
            raise ValueError(
                f"{direction} [[{kind}]] entries must ascend in (|amplitude_v|, width_s): "
                f"({second[0]:g} V, {second[1]:g} s) follows ({first[0]:g} V, {first[1]:g} s)"
            )


def load_card(path: Path) -> DeviceCard:
    """Read a card; ConfigError (or CurveError for its points) names the file and the key."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the device card: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None
    return parse_card(data, str(path))


def parse_card(data: dict[str, Any], where: str) -> DeviceCard:
    """Validate the content of a card; `where` (a file name) begins every error message."""
    try:
        return DeviceCard.model_validate(data)
    except ValidationError as error:
        raise explain(error, where, DeviceCard) from None


def explain(error: ValidationError, where: str, model: type[BaseModel], prefix: str = "") -> ConfigError | CurveError:
    """Turn pydantic's report into one error that names file, key and nearest known key."""
    details = error.errors()
    lines = [f"{where}: {prefix}{_key(d)}: {_reason(d, model)}" for d in details]
    kind = CurveError if any(_is_curve(d) for d in details) else ConfigError
    return kind("\n".join(lines))


def _key(detail: ErrorDetails) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in detail["loc"])
    return text.lstrip(".") or "card"


def _is_curve(detail: ErrorDetails) -> bool:
    return (detail["loc"][:1] == ("curve",) and detail["type"] != "extra_forbidden") or "[[curve]]" in detail["msg"]


def _reason(detail: ErrorDetails, model: type[BaseModel]) -> str:
    if detail["type"] != "extra_forbidden":
        return f"{detail['msg'].removeprefix('Value error, ')} (got {str(detail['input'])[:60]})"
    known = sorted(_fields_at(model, detail["loc"][:-1]))
    near = get_close_matches(str(detail["loc"][-1]), known, n=2, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(known)}"
    return f"unknown key; {hint}"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    """The field names of the (nested) model that `loc` points to."""
    current: type[BaseModel] = model
    for part in loc:
        if isinstance(part, str) and part in current.model_fields:
            current = _model_in(current.model_fields[part].annotation) or current
    return set(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(a) for a in getattr(annotation, "__args__", ()))
    return next((m for m in inner if m is not None), None)


def card_toml(card: DeviceCard) -> str:
    """The card as TOML text; reading it back gives an equal card."""
    data = {"format": FORMAT} | card.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return re.sub(r"\[\n((?: +[-+.\de]+,\n)+) *\]", _wrapped, tomli_w.dumps(data))


def _wrapped(array: re.Match[str]) -> str:
    """An array of numbers on one line, or on lines of a page's width, instead of one number per line."""
    numbers = " ".join(array[1].split())
    if len(numbers) < 100:
        return f"[{numbers.rstrip(',')}]"
    return "[\n" + fill(numbers, 112, initial_indent="    ", subsequent_indent="    ") + "\n]"


def write_card(card: DeviceCard, path: Path) -> None:
    """Write a card as TOML (utf-8); an existing file is replaced."""
    path.write_text(card_toml(card), encoding="utf-8")
