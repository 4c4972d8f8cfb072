"""Reservoirs and Hebbian learners on the crossbar, against closed forms and numpy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurobench.errors import UsageError
from neurobench.learning.hebbian import autoencoder, change, hebbian_learner
from neurobench.learning.reservoirs import reservoir, spectral_radius
from neurobench.runs.session import Session, session


@contextmanager
def bench(tmp_path: Path, rows: int, cols: int, model: str = "gokmen-vlasov") -> Iterator[Session]:
    settings = {"readout.ideal": True}
    with session(out=tmp_path, rows=rows, cols=cols, model=model, settings=settings) as opened:
        yield opened


def test_a_reservoir_steps_as_its_equation_with_the_weights_that_were_read_back(tmp_path: Path) -> None:
    with bench(tmp_path, 33, 60) as opened:
        made = reservoir(opened.view, 3, 30, rng=opened.rng, leak=0.4, connectivity=0.3)
        radius = opened.do(made.program())
        w = opened.do(made.weights.read())
        inputs = opened.rng.uniform(-1, 1, (20, 3))
        states = opened.do(made.run(inputs))
    assert radius == pytest.approx(spectral_radius(w[3:]), rel=1e-9)
    assert made.gain * radius == pytest.approx(0.9)
    x = np.zeros(30)
    for u, state in zip(inputs, states, strict=True):
        x = 0.6 * x + 0.4 * np.tanh(made.gain * (np.concatenate([u, x]) @ w))
        np.testing.assert_allclose(state, x, rtol=1e-7, atol=1e-9)


def test_the_readout_remembers_and_the_states_forget_where_they_began(tmp_path: Path) -> None:
    with bench(tmp_path, 61, 120) as opened:
        made = reservoir(opened.view, 1, 60, rng=opened.rng)
        opened.do(made.program())
        u = opened.rng.uniform(-1, 1, (300, 1))
        delayed = np.roll(u, 2, axis=0)
        error = opened.do(made.train_output([u], [delayed], washout=20))
        apart = opened.do(made.fading(u[:60], opened.rng))
        shuffled = opened.do(made.train_output([u], [opened.rng.permutation(delayed)], washout=20))
    assert error < 0.1 < 0.5 < shuffled  # control: a target that is not in the input
    assert apart[-1] < 1e-2 * apart[0]


def test_lms_learns_while_it_runs(tmp_path: Path) -> None:
    with bench(tmp_path, 31, 60) as opened:
        made = reservoir(opened.view, 1, 30, rng=opened.rng)
        opened.do(made.program())
        u = opened.rng.uniform(-1, 1, 400)
        errors = [abs(opened.do(made.learn_online([a], [a], 0.5))[0]) for a in u]
    assert np.mean(errors[-50:]) < 0.3 * np.mean(errors[:50])


def test_an_input_beyond_the_read_voltage_is_refused_not_clipped(tmp_path: Path) -> None:
    with bench(tmp_path, 6, 10) as opened:
        made = reservoir(opened.view, 1, 5, rng=opened.rng, connectivity=1.0)
        with pytest.raises(UsageError, match="not programmed"):
            opened.do(made.step([0.1]))
        opened.do(made.program())
        with pytest.raises(UsageError, match="input_range"):
            opened.do(made.step([1.5]))


def test_oja_finds_the_first_axis_and_keeps_its_length(tmp_path: Path) -> None:
    """Oja 1982: |w| -> 1 and w -> the top eigenvector, here with pulses on devices of finite step."""
    rng = np.random.default_rng(5)
    axis = np.array([0.6, -0.5, 0.4, 0.3, -0.37])
    axis /= np.linalg.norm(axis)
    samples = np.clip(rng.normal(0, 0.5, (600, 1)) * axis + rng.normal(0, 0.05, (600, 5)), -1, 1)
    with bench(tmp_path, 5, 4) as opened:
        learner = hebbian_learner(opened.view, 5, 1, rate=0.15, rule="oja")
        opened.do(learner.write(np.full((5, 1), 0.1)))
        for x in samples:
            opened.do(learner.update_weights_hebbian(x, opened.do(learner.answer(x)), opened.rng))
        w = opened.do(learner.read())[:, 0]
    _, vectors = np.linalg.eigh(samples.T @ samples)
    assert abs(w @ vectors[:, -1]) / np.linalg.norm(w) > 0.99
    assert np.linalg.norm(w) == pytest.approx(1.0, abs=0.15)


def test_sanger_takes_the_axes_in_order() -> None:
    """The rule alone, with exact weights: Sanger 1989."""
    rng = np.random.default_rng(6)
    basis, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    samples = rng.normal(size=(6000, 4)) * [1.0, 0.6, 0.3, 0.1] @ basis.T
    w = rng.normal(0, 0.1, (4, 2))
    for x in samples:
        w += 0.02 * change("sanger", x, x @ w, w)
    overlap = abs(basis.T @ w)
    np.testing.assert_allclose(overlap[[0, 1], [0, 1]], 1.0, atol=0.05)


def test_plain_hebb_stores_a_pair_and_recalls_it(tmp_path: Path) -> None:
    with bench(tmp_path, 30, 60) as opened:
        learner = hebbian_learner(opened.view, 30, 30, rate=0.05)
        a, b, other = (opened.rng.choice([-0.5, 0.5], 30) for _ in range(3))
        opened.do(learner.write(np.zeros((30, 30))))
        pulses = [opened.do(learner.update_weights_hebbian(a, b, opened.rng)) for _ in range(3)]
        stored, foreign = opened.do(learner.correlate(a, b)), opened.do(learner.correlate(a, other))
    assert min(pulses) > 0
    assert stored > 3 * abs(foreign)


def test_an_autoencoder_learns_to_reconstruct(tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    basis = rng.normal(size=(2, 8))
    samples = np.clip(rng.normal(0, 0.25, (200, 2)) @ basis, -1, 1)
    with bench(tmp_path, 8, 6) as opened:
        made = autoencoder(opened.view, 8, 3, rate=0.2)
        opened.do(made.learner.write(rng.uniform(-0.3, 0.3, (8, 3))))
        errors: list[Any] = [opened.do(made.train(x, opened.rng)) for x in samples]
        code = opened.do(made.encode(samples[0]))
        assert opened.do(made.decode(code)).shape == (8,)
    assert code.shape == (3,)
    assert np.mean(errors[-40:]) < 0.15 * np.mean(samples**2)
