"""The images of `digits`: folds of the 8 x 8 digits, pooled and thinned out as asked, and their coding as spikes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neurobench.bench.stimulus import FloatArray, IntArray
from neurobench.learning import datasets
from neurobench.learning.loops import Spikes, sparse

FOLDS = 10


class Split(NamedTuple):
    """Images [n, pixels] from 0 to 1 and their classes, to learn from and held out."""

    images: FloatArray
    labels: IntArray
    test_images: FloatArray
    test_labels: IntArray


def split(classes: int, side: int, fold: int, samples: int | None, test_samples: int | None) -> Split:
    """Fold `fold` of ten is held out (stratified, as the float bar of the project was measured); the first so many of
    each part. Raises UsageError without scikit-learn."""
    images, labels = _all(side)
    from sklearn.model_selection import StratifiedKFold  # after `datasets.digits`, which says what to install

    parts = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(images, labels))[fold]
    train, test = (part[labels[part] < classes] for part in parts)
    train, test = train[:samples], test[:test_samples]
    return Split(images[train], labels[train], images[test], labels[test])


def _all(side: int) -> tuple[FloatArray, IntArray]:
    """The 1797 images in their own order, 8 x 8 or averaged to side x side."""
    data = datasets.digits()
    n = len(data.inputs) + len(data.test_inputs)
    held_out = np.arange(n) % 5 == 4  # where `datasets` took its held-out samples from
    images, targets = np.empty((n, data.features)), np.empty((n, data.neurons))
    images[~held_out], images[held_out] = data.inputs, data.test_inputs
    targets[~held_out], targets[held_out] = data.targets, data.test_targets
    pool = 8 // side
    pooled = ((images + 1) / 2).reshape(n, side, pool, side, pool).mean(axis=(2, 4))
    return pooled.reshape(n, side * side), targets.argmax(axis=1)


def encode(images: FloatArray, rows: int, ticks: int, spikes_per_tick: float, rng: np.random.Generator) -> Spikes:
    """One presentation of `ticks` ticks for each image, on the first rows: independent spikes at rates in proportion
    to the pixels, `spikes_per_tick` over the whole image, at most one per row and tick."""
    total = np.maximum(images.sum(axis=1, keepdims=True), 1e-9)
    rates = np.minimum(images / total * spikes_per_tick, 1.0)
    raster = np.zeros((len(images) * ticks, rows), np.bool_)
    raster[:, : images.shape[1]] = rng.random((len(raster), images.shape[1])) < np.repeat(rates, ticks, axis=0)
    return sparse(raster, np.arange(len(images), dtype=np.int32) * ticks)
