"""What is to be learned: inputs coded to -1..+1, targets +1 or -1 per output neuron, and a held-out set.

The inputs become read voltages by multiplication with the read amplitude (+-V coding).
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neurobench.bench.stimulus import BoolArray, FloatArray, frozen_floats, require
from neurobench.errors import UsageError, unknown

Decision = Literal["bits", "argmax"]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A classification task: inputs [n, features] in -1..+1, targets [n, neurons] of +1 and -1.

    `decision`: "bits" (each neuron answers yes or no for itself) or "argmax" (the largest output names the class).
    `test_inputs` and `test_targets` are never trained on; they may have zero rows.
    """

    name: str
    inputs: FloatArray
    targets: FloatArray
    test_inputs: FloatArray
    test_targets: FloatArray
    decision: Decision

    def __post_init__(self) -> None:
        for name in ("inputs", "targets"):
            object.__setattr__(self, name, frozen_floats(getattr(self, name), name, 2))
        for name, like in (("test_inputs", self.inputs), ("test_targets", self.targets)):
            held_out = np.array(getattr(self, name), dtype=np.float64).reshape(-1, like.shape[1])
            held_out.setflags(write=False)
            object.__setattr__(self, name, held_out)
        require(len(self.inputs) == len(self.targets), "inputs and targets need one row per sample")
        require(len(self.test_inputs) == len(self.test_targets), "a held-out sample lacks its target")
        require(bool((np.abs(self.inputs) <= 1).all()), "inputs lie between -1 and +1")
        require(bool((np.abs(self.targets) == 1).all()), "targets are +1 or -1")

    @property
    def features(self) -> int:
        """Number of inputs, without the bias."""
        return int(self.inputs.shape[1])

    @property
    def neurons(self) -> int:
        """Number of output neurons."""
        return int(self.targets.shape[1])


def _signs(words: str) -> FloatArray:
    """'0001 0010' -> [[-1, -1, -1, 1], [-1, -1, 1, -1]]."""
    return np.array([[1.0 if bit == "1" else -1.0 for bit in word] for word in words.split()])


def seed_patterns() -> Dataset:
    """The six 4-bit patterns of cateru/Memristor_Crossbar_Training_Class (commit c3a4408) and its ten test patterns."""
    return Dataset(
        "seed",
        _signs("0001 0010 0110 1001 1101 1110"),
        _signs("01 10 10 01 01 10"),
        _signs("0000 0011 0100 0101 0111 1000 1010 1011 1100 1111"),
        _signs("00 00 10 00 10 01 00 01 00 00"),
        "bits",
    )


LETTERS = {"z": "110010011", "v": "101101010", "n": "010101101"}


def letters() -> Dataset:
    """The letters z, v, n of 3 x 3 pixels, each with its nine single-pixel flips: 30 patterns, 3 classes.

    The task of Prezioso et al., Nature 521, 61 (2015), doi 10.1038/nature14441. Held out: the 108 two-pixel flips,
    which the ideal letters (6 pixels apart) still name without doubt.
    """
    ideal = _signs(" ".join(LETTERS.values()))
    train, test, classes, test_classes = [], [], [], []
    for k, letter in enumerate(ideal):
        for i in range(-1, 9):
            train.append(_flip(letter, {i} - {-1}))
            classes.append(k)
            test += [_flip(letter, {i, j}) for j in range(i + 1, 9) if i >= 0]
            test_classes += [k] * (8 - i if i >= 0 else 0)
    return Dataset(
        "letters", np.array(train), _one_hot(classes, 3), np.array(test), _one_hot(test_classes, 3), "argmax"
    )


def _flip(pixels: FloatArray, which: set[int]) -> FloatArray:
    flipped = pixels.copy()
    flipped[list(which)] *= -1
    return flipped


def _one_hot(classes: Any, n: int) -> FloatArray:
    return np.where(np.arange(n) == np.asarray(classes, dtype=np.intp).reshape(-1, 1), 1.0, -1.0)


def digits() -> Dataset:
    """The 1797 handwritten 8 x 8 digits of scikit-learn (UCI, Alpaydin and Kaynak 1998); every fifth is held out."""
    bunch = _sklearn().load_digits()
    return _split("digits", bunch.data / 8.0 - 1.0, bunch.target, 10)


def iris() -> Dataset:
    """The 150 irises of Fisher (1936) from scikit-learn, 4 features, 3 classes; every fifth is held out."""
    bunch = _sklearn().load_iris()
    return _split("iris", _to_unit(bunch.data), bunch.target, 3)


def _sklearn() -> Any:
    try:
        from sklearn import datasets
    except ImportError as lacking:
        raise UsageError(
            "the tasks digits and iris come from scikit-learn, which is not installed; "
            "install the extra: pip install 'neurobench-hil[data]', or give a CSV file as the task"
        ) from lacking
    return datasets


def _held_out(n: int) -> BoolArray:
    """Every fifth sample; sets that are sorted by class stay balanced."""
    every_fifth: BoolArray = np.arange(n) % 5 == 4
    return every_fifth


def _split(name: str, inputs: FloatArray, classes: Any, n: int) -> Dataset:
    test, targets = _held_out(len(inputs)), _one_hot(classes, n)
    return Dataset(name, inputs[~test], targets[~test], inputs[test], targets[test], "argmax")


def _to_unit(values: FloatArray) -> FloatArray:
    """Stretch each column to -1..+1; a constant column becomes 0."""
    low, high = values.min(axis=0), values.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    return np.clip(np.where(high > low, 2 * (values - low) / span - 1, 0.0), -1.0, 1.0)


def from_csv(path: Path) -> Dataset:
    """Read a task of one's own: a header line, feature columns, and either `label` or several `label_...` columns.

    One `label` column names the class of each sample (any text, decided by argmax); several `label_...` columns
    hold 0 or 1 (each neuron for itself). Features are stretched to -1..+1. With 20 samples or more every fifth is
    held out.
    """
    header, rows = _table(path)
    marked = [k for k, name in enumerate(header) if name == "label" or name.startswith("label_")]
    require(bool(marked), f"{path}: the header {header} has no column 'label' and none that starts with 'label_'")
    kept = [k for k in range(len(header)) if k not in marked]
    require(bool(kept), f"{path}: there is no feature column beside {[header[k] for k in marked]}")
    inputs = np.array([[_number(path, n, header[k], row[k]) for k in kept] for n, row in rows])
    targets, decision = _labels(path, header, rows, marked)
    test = _held_out(len(rows)) if len(rows) >= 20 else np.zeros(len(rows), np.bool_)
    unit = _to_unit(inputs)
    return Dataset(path.stem, unit[~test], targets[~test], unit[test], targets[test], decision)


def _table(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [(n, row) for n, row in enumerate(csv.reader(file), 1) if any(cell.strip() for cell in row)]
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise UsageError(f"the task {path} cannot be read as CSV: {fault}") from fault
    require(len(lines) >= 3, f"{path}: a task needs a header line and at least two samples, found {len(lines)} lines")
    header = [cell.strip() for cell in lines[0][1]]
    for n, row in lines[1:]:
        require(len(row) == len(header), f"{path}, line {n}: {len(row)} values, the header has {len(header)}")
    return header, lines[1:]


def _number(path: Path, line: int, column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    require(isfinite(value), f"{path}, line {line}, column {column!r}: {text!r} is not a finite number")
    return value


def _labels(
    path: Path, header: list[str], rows: list[tuple[int, list[str]]], marked: list[int]
) -> tuple[FloatArray, Decision]:
    if len(marked) == 1:
        texts = [row[marked[0]].strip() for _, row in rows]
        names = sorted(set(texts))
        require(len(names) >= 2, f"{path}: all samples carry the label {names[0]!r}; there is nothing to learn")
        return _one_hot([names.index(text) for text in texts], len(names)), "argmax"
    bits = np.array([[_number(path, n, header[k], row[k]) for k in marked] for n, row in rows])
    require(bool(np.isin(bits, (0.0, 1.0)).all()), f"{path}: label_... columns hold 0 or 1")
    return 2 * bits - 1, "bits"


TASKS: dict[str, Callable[[], Dataset]] = {"seed": seed_patterns, "letters": letters, "digits": digits, "iris": iris}


@cache
def _built_in(task: str) -> Dataset:
    """It never changes and cannot be changed, and a run asks for it several times: thousands of runs in a sweep."""
    return TASKS[task]()


def load(task: str) -> Dataset:
    """The dataset of that name, or of a CSV file of that path."""
    if task in TASKS:
        return _built_in(task)
    if task.endswith(".csv"):
        return from_csv(Path(task))
    raise UsageError(unknown("task", task, TASKS, "or give the path of a .csv file"))
