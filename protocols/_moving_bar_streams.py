"""The streams that `moving-bar` learns from: bars on a synthetic sensor, or recordings in folders named by class."""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from neurobench.bench.stimulus import BoolArray
from neurobench.errors import UsageError
from neurobench.interchange import event_files
from neurobench.learning.encoders import binned, dense
from neurobench.learning.events import EventStream, denoise, downsample, refractory

if TYPE_CHECKING:
    from .moving_bar import MovingBar

NAMES = {2: ("right", "left"), 4: ("right", "down", "left", "up")}  # 360 / n degrees from one to the next
WIDTHS_PX = (0.1, 0.2)  # of a bar, as a share of the sensor's side
TILT_DEG = 15.0  # a bar's way lies at most so far off its direction
MAX_TICKS = 1000


class Sample(NamedTuple):
    """One stream as spikes[ticks, pixels], and the class that it belongs to."""

    raster: BoolArray
    label: int


class Streams(NamedTuple):
    """What is learned from and what is held out; both have all classes in turn."""

    labels: tuple[str, ...]
    train: list[Sample]
    test: list[Sample]

    def digest(self) -> str:
        """A hash over all of it: a run that goes on needs the streams that it began with."""
        found = blake2b(digest_size=16)
        for sample in self.train + self.test:
            found.update(repr((sample.raster.shape, sample.label)).encode())
            found.update(sample.raster.tobytes())
        return found.hexdigest()


def labels_of(p: MovingBar) -> tuple[str, ...]:
    """Names of the classes; raises UsageError for a folder that has none."""
    if not p.events:
        return NAMES[p.directions]
    folder = Path(p.events)
    if not folder.is_dir():
        raise UsageError(f"events = {folder}: a folder with one folder of event files for each class is expected")
    found = tuple(sorted(entry.name for entry in folder.iterdir() if entry.is_dir()))
    if not 2 <= len(found) <= 100:
        raise UsageError(f"events = {folder}: {len(found)} folders; 2 to 100, one for each class, are expected")
    return found


def streams_of(p: MovingBar, key: int) -> Streams:
    """The streams of this run: the same for the same parameters, files and key."""
    labels = labels_of(p)
    if p.events:
        return _recorded(p, labels)
    rng = np.random.default_rng([key, 0])
    made = [_bar(p, n % p.directions, rng) for n in range(p.train + p.test)]
    return Streams(labels, made[: p.train], made[p.train :])


def _bar(p: MovingBar, label: int, rng: np.random.Generator) -> Sample:
    """A bar of any width, speed and slight tilt that crosses the whole frame, among background activity."""
    sensor = EventStream(p.sensor, p.sensor)
    velocity = p.velocity_px_s * rng.uniform(1 - p.velocity_spread, 1 + p.velocity_spread)
    width_px = p.sensor * rng.uniform(*WIDTHS_PX)
    tilt = rng.uniform(-TILT_DEG, TILT_DEG)
    across_px = p.sensor * (abs(np.cos(np.radians(tilt))) + abs(np.sin(np.radians(tilt))))
    duration_s = (across_px + 2 * width_px + 2) / velocity
    bar = sensor.moving_bar(duration_s, velocity, label * 360 / p.directions + tilt, width_px)
    return _sample(p, bar + sensor.noise(duration_s, p.noise_hz, rng), label)


def _recorded(p: MovingBar, labels: tuple[str, ...]) -> Streams:
    """The first files of each folder, by name, class by class in turn; what comes first is learned from."""
    files = [sorted(file for file in (Path(p.events) / label).iterdir() if file.is_file()) for label in labels]
    train, test = (-(-n // len(labels)) for n in (p.train, p.test))
    for label, found in zip(labels, files, strict=True):
        if len(found) < train + test:
            raise UsageError(
                f"events = {p.events}: {len(found)} files of class {label!r}; {train} for train = {p.train} and {test} "
                f"for test = {p.test} are needed"
            )
    in_turn = [
        _sample(p, event_files.read(files[label][n]), label)
        for n in range(train + test)
        for label in range(len(labels))
    ]
    split = train * len(labels)
    return Streams(labels, in_turn[:split], in_turn[split:])


def _sample(p: MovingBar, stream: EventStream, label: int) -> Sample:
    """What the lines get: noise taken out, down-sampled, each pixel silent for a while after a spike."""
    if min(stream.width, stream.height) < p.pixels:
        raise UsageError(f"a sensor of {stream.width} x {stream.height} has no {p.pixels} x {p.pixels} pixels")
    coarse = downsample(denoise(stream, p.denoise_s) if p.denoise_s else stream, p.pixels, p.pixels)
    spikes = binned(refractory(coarse, p.refractory_s), p.tick_s)
    if len(spikes.indptr) - 1 > MAX_TICKS:
        raise UsageError(f"a stream of {stream.end_s:.3g} s has more than {MAX_TICKS} ticks: raise tick_s = {p.tick_s}")
    return Sample(dense(spikes, p.pixels**2), label)
