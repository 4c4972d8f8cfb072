"""Tasks: the published patterns, and CSV files of one's own with errors that say what is wrong."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurobench.errors import UsageError
from neurobench.learning import datasets


def test_seed_patterns_are_the_published_ones() -> None:
    data = datasets.seed_patterns()
    assert data.inputs.shape == (6, 4)
    assert data.test_inputs.shape == (10, 4)
    both = {tuple(x) for x in np.vstack([data.inputs, data.test_inputs])}
    assert len(both) == 16, "train and test together are all sixteen 4-bit patterns"
    assert data.inputs[4].tolist() == [1, 1, -1, 1]
    assert data.targets[4].tolist() == [-1, 1]
    assert (data.test_targets == -1).all(axis=1).sum() == 6
    assert data.decision == "bits"


def test_letters_are_thirty_distinct_patterns_six_pixels_apart() -> None:
    data = datasets.letters()
    assert data.inputs.shape == (30, 9)
    assert len({tuple(x) for x in data.inputs}) == 30
    ideal = data.inputs[::10]
    assert [int((a != b).sum()) for a, b in ((ideal[0], ideal[1]), (ideal[0], ideal[2]), (ideal[1], ideal[2]))] == [
        6,
        6,
        6,
    ]
    for k in range(3):
        flips = (data.inputs[10 * k + 1 : 10 * k + 10] != ideal[k]).sum(axis=1)
        assert (flips == 1).all()
        assert (data.targets[10 * k : 10 * k + 10, k] == 1).all()
    assert (data.targets.sum(axis=1) == -1).all()


def test_held_out_letters_are_two_flips_from_their_letter_and_farther_from_the_others() -> None:
    data = datasets.letters()
    ideal = data.inputs[::10]
    distance = (data.test_inputs[:, None, :] != ideal).sum(axis=2)
    assert distance.shape == (108, 3)
    assert (distance.argmin(axis=1) == data.test_targets.argmax(axis=1)).all()
    assert (distance.min(axis=1) == 2).all()


@pytest.mark.parametrize(("name", "features", "neurons", "samples"), [("digits", 64, 10, 1797), ("iris", 4, 3, 150)])
def test_tasks_of_scikit_learn(name: str, features: int, neurons: int, samples: int) -> None:
    pytest.importorskip("sklearn")
    data = datasets.load(name)
    assert (data.features, data.neurons) == (features, neurons)
    assert len(data.inputs) + len(data.test_inputs) == samples
    assert len(data.test_inputs) == samples // 5
    assert np.abs(data.inputs).max() == 1
    assert set(data.test_targets.argmax(axis=1)) == set(range(neurons))


def test_without_the_extra_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def lacking(name: str, *rest: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", lacking)
    with pytest.raises(UsageError, match=r"neurobench-hil\[data\]"):
        datasets.digits()


def test_unknown_task_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="letters"):
        datasets.load("leters")


def written(folder: Path, text: str) -> Path:
    path = folder / "task.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_csv_with_one_label_is_one_neuron_per_class(tmp_path: Path) -> None:
    data = datasets.load(str(written(tmp_path, "a,b,label\n0,10,cat\n5,10,dog\n10,10,cat\n")))
    assert data.inputs.tolist() == [[-1, 0], [0, 0], [1, 0]]
    assert data.targets.tolist() == [[1, -1], [-1, 1], [1, -1]]
    assert data.decision == "argmax"
    assert not len(data.test_inputs)


def test_csv_with_several_labels_is_bits(tmp_path: Path) -> None:
    data = datasets.load(str(written(tmp_path, "a,label_x,label_y\n0,0,1\n1,1,1\n")))
    assert data.targets.tolist() == [[-1, 1], [1, 1]]
    assert data.decision == "bits"


def test_csv_of_twenty_samples_holds_every_fifth_out(tmp_path: Path) -> None:
    rows = "\n".join(f"{n},{'ab'[n % 2]}" for n in range(20))
    data = datasets.load(str(written(tmp_path, f"x,label\n{rows}\n")))
    assert (len(data.inputs), len(data.test_inputs)) == (16, 4)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n3,4\n", "no column 'label'"),
        ("label\nx\ny\n", "no feature column"),
        ("a,label\n1,x\n", "at least two samples"),
        ("a,label\n1,x\n2\n", "line 3: 1 values"),
        ("a,label\n1,x\noops,y\n", "line 3, column 'a': 'oops'"),
        ("a,label\n1,x\nnan,y\n", "not a finite number"),
        ("a,label\n1,x\n2,x\n", "nothing to learn"),
        ("a,label_p,label_q\n1,0,1\n2,0,2\n", "hold 0 or 1"),
    ],
)
def test_csv_errors_say_where_and_what(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        datasets.load(str(written(tmp_path, text)))


def test_csv_that_is_not_there_or_not_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        datasets.load(str(tmp_path / "none.csv"))
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00\xd8")
    with pytest.raises(UsageError, match="cannot be read"):
        datasets.load(str(tmp_path / "bytes.csv"))


@given(st.text(max_size=200))
def test_csv_parser_raises_nothing_but_its_own_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "task.csv"
    path.write_text(text, encoding="utf-8", errors="ignore")
    try:
        data = datasets.from_csv(path)
    except UsageError:
        return
    assert np.isfinite(data.inputs).all()
