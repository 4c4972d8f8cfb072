"""The counter-based noise: is it normal, is it independent, and is it keyed as promised?"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from neurobench.physics import noise
from neurobench.physics.noise import Stream, fill_normals, key, normals, uniforms

N = 400_000
PINNED_KEY = noise.Key(-6411193824288604561, 2558736989570252433)
PINNED_NORMALS = [-0.6453763964432245, -0.5655676381723929, 0.8072423121118177, 0.08142639288286715]


@pytest.fixture(scope="module")
def sample() -> np.ndarray:
    return normals(20_260_101, Stream.PULSE, 3, (N,))


def test_moments(sample: np.ndarray) -> None:
    """Within 4 standard errors of a standard normal's moments."""
    assert abs(sample.mean()) < 4 / np.sqrt(N)
    assert abs(sample.var() - 1) < 4 * np.sqrt(2 / N)
    assert abs(stats.skew(sample)) < 4 * np.sqrt(6 / N)
    assert abs(stats.kurtosis(sample)) < 4 * np.sqrt(24 / N)


def test_distribution(sample: np.ndarray) -> None:
    assert stats.kstest(sample, "norm").pvalue > 1e-3
    edges = stats.norm.ppf(np.linspace(0, 1, 201))
    counts = np.histogram(sample, edges)[0]
    assert stats.chisquare(counts).pvalue > 1e-3


def test_the_tail_is_that_of_a_normal() -> None:
    """Of 40 million draws, those beyond the ziggurat's last layer: their number, their shape, their reach."""
    cut, beyond = 3.6541528853610088, []
    for n in range(10):
        x = np.abs(normals(5, Stream.READ, n, (4_000_000,)))
        beyond.append(x[x > cut])
    tail = np.concatenate(beyond)
    expected = 2 * stats.norm.sf(cut) * 40_000_000
    assert abs(len(tail) - expected) < 4.5 * np.sqrt(expected)
    assert stats.kstest(stats.norm.sf(tail) / stats.norm.sf(cut), "uniform").pvalue > 1e-3
    assert tail.max() > 5.2


def test_uniforms() -> None:
    x = uniforms(3, Stream.STUCK, 0, (N,))
    assert x.min() >= 0
    assert x.max() < 1
    assert stats.kstest(x, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("lag", [1, 2, 4, 1024])
def test_neighbouring_elements_are_independent(sample: np.ndarray, lag: int) -> None:
    a, b = sample[:-lag], sample[lag:]
    assert abs(np.corrcoef(a, b)[0, 1]) < 4.5 / np.sqrt(N)
    assert abs(np.corrcoef(a**2, b**2)[0, 1]) < 4.5 / np.sqrt(N)


@pytest.mark.parametrize(
    ("seed", "stream", "index"),
    [(20_260_102, Stream.PULSE, 3), (20_260_101, Stream.PULSE, 4), (20_260_101, Stream.READ, 3), (-1, Stream.PULSE, 3)],
)
def test_another_seed_stream_or_operation_is_independent(
    sample: np.ndarray, seed: int, stream: Stream, index: int
) -> None:
    other = normals(seed, stream, index, (N,))
    assert abs(np.corrcoef(sample, other)[0, 1]) < 4.5 / np.sqrt(N)
    assert abs(np.corrcoef(sample**2, other**2)[0, 1]) < 4.5 / np.sqrt(N)
    assert not np.intersect1d(sample[:2000], other[:2000]).size


def test_first_draws_over_operations_and_seeds_are_normal() -> None:
    """One element across operations (as a cell over time) and across seeds (as a cell over chips)."""
    over_time = np.array([normals(1, Stream.PULSE, n, (1,))[0] for n in range(4000)])
    over_chips = np.array([normals(s, Stream.STEP, 0, (1,))[0] for s in range(4000)])
    for x in (over_time, over_chips):
        assert stats.kstest(x, "norm").pvalue > 1e-3
        assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 4.5 / np.sqrt(len(x))


def test_a_draw_depends_on_its_key_alone() -> None:
    whole = normals(9, Stream.READ, 17, (100,))
    part = np.empty(10)
    fill_normals(*key(9, Stream.READ), 17, part)
    assert part.tolist() == whole[:10].tolist()
    assert normals(9, Stream.READ, 17, (100,)).tolist() == whole.tolist()


def test_published_words_never_change() -> None:
    """Chips in drawers rest on these bits: a change of the hash is a change of the schema."""
    assert key(0, Stream.PULSE) == PINNED_KEY
    np.testing.assert_array_equal(normals(0, Stream.PULSE, 0, (4,)), PINNED_NORMALS)


def test_layers_have_equal_area() -> None:
    """The ziggurat's tables: each layer's rectangle has the area of the base with its tail."""
    x, f = noise._X, noise._F
    areas = x[1:256] * (f[2:257] - f[1:256])
    np.testing.assert_allclose(areas[:-1], noise._V, rtol=1e-9)
    assert areas[-1] == pytest.approx(noise._V, rel=1e-6)  # the published constants have 15 digits
