"""The images of `digits`: folds of the 8 x 8 digits, thinned out as asked, and their coding as spikes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neurobench.bench.stimulus import FloatArray, IntArray
from neurobench.learning import datasets
from neurobench.learning.loops import Spikes, sparse

FOLDS, PIXELS = 10, 64


class Split(NamedTuple):
    """Images [n, pixels] from 0 to 1 and their classes, to learn from and held out."""

    images: FloatArray
    labels: IntArray
    test_images: FloatArray
    test_labels: IntArray


def split(classes: int, fold: int, samples: int | None, test_samples: int | None) -> Split:
    """Fold `fold` of ten is held out (stratified, as the float bar of the project was measured); of each part so many
    samples, evenly spread: neighbours are of one writer. Raises UsageError without scikit-learn."""
    images, labels = _all()
    from sklearn.model_selection import StratifiedKFold  # after `datasets.digits`, which says what to install

    parts = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(images, labels))[fold]
    train, test = (part[labels[part] < classes] for part in parts)
    train, test = _spread(train, samples), _spread(test, test_samples)
    return Split(images[train], labels[train], images[test], labels[test])


def _spread(samples: IntArray, most: int | None) -> IntArray:
    if most is None or most >= len(samples):
        return samples
    return samples[np.linspace(0, len(samples) - 1, most).round().astype(np.intp)]


def _all() -> tuple[FloatArray, IntArray]:
    """The 1797 images [n, pixels] from 0 to 1 in their own order, and their classes."""
    data = datasets.digits()
    n = len(data.inputs) + len(data.test_inputs)
    held_out = np.arange(n) % 5 == 4  # where `datasets` took its held-out samples from
    images, targets = np.empty((n, data.features)), np.empty((n, data.neurons))
    images[~held_out], images[held_out] = data.inputs, data.test_inputs
    targets[~held_out], targets[held_out] = data.targets, data.test_targets
    return (images + 1) / 2, targets.argmax(axis=1)


def encode(images: FloatArray, rows: int, ticks: int, spikes_per_tick: float, rng: np.random.Generator) -> Spikes:
    """One presentation of `ticks` ticks for each image, on the first rows: independent spikes at rates in proportion
    to the pixels, `spikes_per_tick` over the whole image, at most one per row and tick."""
    total = np.maximum(images.sum(axis=1, keepdims=True), 1e-9)
    rates = np.minimum(images / total * spikes_per_tick, 1.0)
    raster = np.zeros((len(images) * ticks, rows), np.bool_)
    raster[:, : images.shape[1]] = rng.random((len(raster), images.shape[1])) < np.repeat(rates, ticks, axis=0)
    return sparse(raster, np.arange(len(images), dtype=np.int32) * ticks)
