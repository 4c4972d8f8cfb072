"""From a bench file to its emulated chip: one way for every backend behind which a chip is simulated."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurobench.errors import ConfigError
from neurobench.physics.chip import Chip, Spread, draw_devices, draw_thresholds, load_chip
from neurobench.physics.readout import Readout

if TYPE_CHECKING:
    from pathlib import Path

    from neurobench.bench.config import BenchConfig, ChipSection
    from neurobench.bench.stimulus import FloatArray
    from neurobench.physics.response import DeviceModel


def make_chip(config: BenchConfig, model: DeviceModel, seed: int) -> Chip:
    """The chip of [chip]: out of its file if there is one, else new from [chip] seed, or `seed` where none is named.

    Raises ConfigError if the file holds another chip than [chip] describes.
    """
    seed = seed if config.chip.seed is None else config.chip.seed
    section, shape = config.chip, (config.chip.rows, config.chip.cols)
    if section.file is not None and section.file.exists():
        chip = load_chip(section.file, model)
        if chip.shape != shape:
            raise ConfigError(
                f"{section.file} holds a chip of {chip.shape}, the bench asks for {shape} ([chip] rows, cols)"
            )
        _check_kept(section, chip)
        return chip
    spread = Spread(
        scale=section.scale, remove_baseline=section.baseline == "removed", offset_s=_offset_s(section.offset_s),
        offsets=section.offsets, offset_sigma_s=section.offset_sigma_s, step=section.step_spread,
        range=section.range_spread, stuck=section.stuck_fraction, shorted=section.shorted_fraction,
        threshold=section.threshold_spread,
    )  # fmt: skip
    return Chip(model, draw_devices(model, shape, seed, spread), seed, section.id)


def _check_kept(section: ChipSection, chip: Chip) -> None:
    """A chip that was made is what it is: the record must not say that it was made otherwise."""
    made = {"scale": (chip.devices.noise_scale, section.scale), "seed": (chip.seed, section.seed)}
    for name, (kept, asked) in made.items():
        if asked is not None and asked != kept:
            raise ConfigError(
                f"the chip in {section.file} was made with {name} = {kept:g}, the bench asks for {asked:g} "
                f"([chip] {name}); correct the bench, or name another file to make a new chip"
            )
    asked_sigma = section.threshold_spread
    drawn = draw_thresholds(chip.model, chip.shape, chip.seed, asked_sigma)
    if drawn.shape != chip.devices.threshold.shape or not np.allclose(drawn, chip.devices.threshold, rtol=1e-9):
        # protocols keep lone spikes below the lowest threshold that the bench file declares (bench rule 20)
        raise ConfigError(
            f"the thresholds of the chip in {section.file} scatter by {chip.devices.threshold.std():.3g} of their "
            f"mean, and not as the bench says with {asked_sigma:g} ([chip] threshold_spread); correct the bench, or "
            "name another file to make a new chip"
        )


def _offset_s(given: Path | list[list[float]] | None) -> FloatArray | None:
    if given is None:
        return None
    try:
        if isinstance(given, list):
            return np.array(given, dtype=np.float64)
        return np.loadtxt(given, delimiter=",", ndmin=2, dtype=np.float64)
    except (OSError, ValueError) as error:
        raise ConfigError(f"[chip] offset_s: {given} is not a table of rows x cols numbers: {error}") from error


def make_readout(config: BenchConfig) -> Readout:
    """The converters and ammeters of [readout]; ideal: nothing between the true current and the number."""
    r = config.readout
    if r.ideal:
        return Readout(noise=False)
    return Readout(r.noise, r.offset_a, r.adc_bits, r.adc_range_a, r.dac_bits, r.dac_range_v)
