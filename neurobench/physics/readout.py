"""What stands between the true current and the number: read noise of the devices, converters, offsets.

Read noise is drawn at the outputs. For independent Gaussian noise of every device that is exact, not an approximation:
a current sum_i v_i (G_ij + n_ij) is Gaussian with variance sum_i v_i^2 sigma_ij^2, so one draw per output has the same
distribution as one draw per device, at a thousandth of the cost.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, sqrt
from typing import TYPE_CHECKING

import numpy as np

from neurobench.errors import ConfigError
from neurobench.physics import kernels

if TYPE_CHECKING:
    from neurobench.bench.stimulus import FloatArray
    from neurobench.physics.noise import Key


@dataclass(frozen=True, slots=True)
class Readout:
    """The converters and ammeters of a bench. 0 bits: continuous; `noise`: whether the devices' read noise is seen.

    adc_range_a and dac_range_v are full scales (one side); codes are evenly spaced from one end to the other with one
    at 0, so n bits have 2^n - 1 of them. offset_a is added to every current.
    """

    noise: bool = True
    offset_a: float = 0.0
    adc_bits: int = 0
    adc_range_a: float = 0.0
    dac_bits: int = 0
    dac_range_v: float = 0.0

    def __post_init__(self) -> None:
        for bits, full, names in (
            (self.adc_bits, self.adc_range_a, "adc_bits needs adc_range_a, in amperes"),
            (self.dac_bits, self.dac_range_v, "dac_bits needs dac_range_v, in volts"),
        ):
            if bits and not full > 0:
                raise ConfigError(f"{names} > 0: a converter has a range ([readout])")
            if bits == 1:
                raise ConfigError(f"{names.split()[0]} = 1: a converter for both signs has at least 2 bits ([readout])")

    @property
    def range_a(self) -> float:
        """Full scale of a current; inf where nothing limits it."""
        return self.adc_range_a or inf

    @property
    def lsb_a(self) -> float:
        """Step of the current converter; 0 where it is continuous."""
        return self.adc_range_a / (2 ** (self.adc_bits - 1) - 1) if self.adc_bits else 0.0

    @property
    def lsb_v(self) -> float:
        """Step of the voltage converter; 0 where it is continuous."""
        return self.dac_range_v / (2 ** (self.dac_bits - 1) - 1) if self.dac_bits else 0.0

    def drive(self, volts: FloatArray) -> tuple[FloatArray, bool]:
        """The volts that really stand on the lines, and whether the converter's range was too small for one."""
        if not self.dac_bits:
            return volts, False
        out = volts.copy()
        over = kernels.convert(out.reshape(-1), 0.0, self.lsb_v, self.dac_range_v)
        return out, bool(over)

    def convert(self, currents_a: FloatArray) -> tuple[str, ...]:
        """Offset and converter, in place; gives the flags."""
        if not (self.offset_a or self.adc_range_a):
            return ()
        over = kernels.convert(currents_a.reshape(-1), self.offset_a, self.lsb_a, self.range_a)
        return ("over_range",) if over else ()

    def sigma_a(self, mean_variance: float) -> float:
        """Standard deviation of one current from the devices' noise and the converter's rounding."""
        return sqrt(mean_variance + self.lsb_a**2 / 12)


@dataclass(frozen=True, slots=True)
class ReadNoise:
    """Read noise of one device: sigma^2 = sigma_s^2 + (relative G)^2, averaged over `averages` reads."""

    sigma_s: float
    relative: float
    averages: int = 1

    def add(self, currents_a: FloatArray, volts: FloatArray, g: FloatArray, key: Key, index: int) -> float:
        """Draw read `index` onto currents[p, n, outputs] of volts[n, inputs] @ g; gives the mean variance in A^2."""
        absolute = self.sigma_s**2 / self.averages
        if not self.relative:
            return float(kernels.add_noise(currents_a, volts, absolute, _NONE, *key, index))
        # float32 is enough for a variance: its error (1e-5 relative at 1024 inputs) is far below the 1e-3 that would
        # show in a standard deviation, and the product takes half the time of the currents' own.
        squares = np.square(volts, dtype=np.float32) if volts.dtype == np.float32 else (volts**2).astype(np.float32)
        variance = squares @ self._squared(g)
        return float(kernels.add_noise(currents_a, volts, absolute, variance, *key, index))

    def _squared(self, g: FloatArray) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        scaled = (g * (self.relative / sqrt(self.averages))).astype(np.float32)
        return scaled * scaled


_NONE = np.empty((0, 0), np.float32)
