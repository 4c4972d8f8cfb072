"""Random numbers of an emulated chip: a pure function of (seed, stream, operation, element), in any order.

There is no generator that moves on, so a read, a preview or another schedule cannot shift the noise of a pulse, and a
chip restored from a snapshot goes on with the same bits (docs/decisions/0020-noise-keys.md).

Each draw hashes its own 64-bit counter. The hash is the finaliser of splitmix64 (Steele, Lea, Flood 2014, "Fast
splittable pseudorandom number generators", OOPSLA) with a second key word mixed in half-way. Normals come from the
256-layer ziggurat (Marsaglia, Tsang 2000, J. Stat. Softw. 5(8)), with 53 bits of magnitude and Marsaglia's exact tail.
"""

from __future__ import annotations

from enum import IntEnum
from math import exp, log, sqrt
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from neurobench.compiling import compiled, inner, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from neurobench.bench.stimulus import FloatArray


class Stream(IntEnum):
    """What a draw is for; no two purposes share a draw."""

    PULSE = 1
    DISTURB = 2
    READ = 3
    STEP = 4
    OFFSET = 5
    RANGE = 6
    STUCK = 7
    SHORTED = 8
    STUCK_STATE = 9
    LOOP = 10
    THRESHOLD = 11


class Key(NamedTuple):
    """The two key words of one (seed, stream), as signed 64-bit integers (what numba takes without a copy)."""

    k0: int
    k1: int


_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15  # 2^64 / golden ratio, the increment of splitmix64
_M1 = 0xBF58476D1CE4E5B9  # the two multipliers of splitmix64 (Stafford's variant 13)
_M2 = 0x94D049BB133111EB

_U_GOLDEN, _U_M1, _U_M2 = np.uint64(_GOLDEN), np.uint64(_M1), np.uint64(_M2)
_U_ODD = np.uint64(0xD1342543DE82EF95)  # odd, unrelated to _GOLDEN: tells an operation from an element
_S27, _S30, _S31, _S11, _S8 = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(11), np.uint64(8)
_U1, _U255 = np.uint64(1), np.uint64(255)
_TO_UNIT = 2.0**-53

LAYERS = 256
_R = 3.6541528853610088  # where the tail begins, for 256 layers of equal area _V
_V = 0.00492867323399
_INV_R = 1.0 / _R


def _layers() -> tuple[FloatArray, FloatArray]:
    """Right edges x of the ziggurat's layers and the density exp(-x^2/2) there."""
    x = np.zeros(LAYERS + 1)
    x[0], x[1] = _V / exp(-0.5 * _R * _R), _R
    for i in range(2, LAYERS):
        x[i] = sqrt(-2.0 * log(_V / x[i - 1] + exp(-0.5 * x[i - 1] * x[i - 1])))
    return x, np.exp(-0.5 * x * x)


_X, _F = _layers()


def _mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * _M1) & _MASK
    z = ((z ^ (z >> 27)) * _M2) & _MASK
    return z ^ (z >> 31)


def _signed(z: int) -> int:
    return z - (1 << 64) if z >> 63 else z


def key(seed: int, stream: Stream) -> Key:
    """Key words of one purpose on one chip; `seed` is any integer (taken modulo 2^64)."""
    first = _mix((_mix((seed & _MASK) ^ _GOLDEN) + int(stream) * _GOLDEN) & _MASK)
    return Key(_signed(first), _signed(_mix((first + _GOLDEN) & _MASK)))


@compiled(inline="always")
def bits(k0: Any, k1: Any, counter: Any) -> Any:  # pragma: no cover - compiled
    """64 random bits for a counter; all three are uint64."""
    z = counter * _U_GOLDEN + k0
    z = (z ^ (z >> _S30)) * _U_M1
    z ^= k1
    z = (z ^ (z >> _S27)) * _U_M2
    return z ^ (z >> _S31)


@compiled(inline="always")
def unit(word: Any) -> Any:  # pragma: no cover - compiled
    """A uniform number in [0, 1) from 64 bits."""
    return np.float64(np.int64(word >> _S11)) * _TO_UNIT


@inner
def _slow_normal(word: Any) -> Any:  # pragma: no cover - compiled
    """The draws (1.2 %) that fall outside a layer's core: wedge, tail, or once more from fresh bits."""
    while True:
        layer = np.int64(word & _U255)
        x = unit(word) * _X[layer]
        sign = 1.0 - 2.0 * np.float64(np.int64((word >> _S8) & _U1))
        if x < _X[layer + 1]:
            return sign * x
        word = bits(word, _U_ODD, _U1)
        if layer == 0:
            while True:
                a = -log(1.0 - unit(word)) * _INV_R
                word = bits(word, _U_ODD, _U1)
                b = -log(1.0 - unit(word))
                word = bits(word, _U_ODD, _U1)
                if b + b > a * a:
                    return sign * (_R + a)
        if _F[layer] + unit(word) * (_F[layer + 1] - _F[layer]) < exp(-0.5 * x * x):
            return sign * x
        word = bits(word, _U_ODD, _U1)


@compiled(inline="always")
def normal(word: Any) -> Any:  # pragma: no cover - compiled
    """A standard normal number from 64 bits (more are made from them where the ziggurat needs more)."""
    layer = np.int64(word & _U255)
    x = unit(word) * _X[layer]
    if x < _X[layer + 1]:
        return x if (word >> _S8) & _U1 == 0 else -x
    return _slow_normal(word)


@compiled
def operation(k0: int, k1: int, index: int) -> Any:  # pragma: no cover - compiled
    """Key words (uint64) of one operation of a stream, such as one read."""
    a, b, i = np.uint64(k0), np.uint64(k1), np.uint64(index)
    first = bits(a, b, i * _U_ODD)
    return first, bits(b, first, i * _U_ODD + _U1)


def operations(of: Key, first: int, count: int) -> NDArray[np.uint64]:
    """Key words [count, 2] of the operations first .. first + count - 1: `operation` for many at once."""
    mixed = plain(bits)
    a, b = np.uint64(of.k0 & _MASK), np.uint64(of.k1 & _MASK)
    i = (np.uint64(first & _MASK) + np.arange(count, dtype=np.uint64)) * _U_ODD
    words = mixed(a, b, i)
    return np.stack([words, mixed(b, words, i + _U1)], axis=1)


@compiled
def fill_normals(k0: int, k1: int, index: int, out: Any) -> None:  # pragma: no cover - compiled
    """Standard normals of operation `index` for elements 0 .. len(out) - 1 of a flat array."""
    a, b = operation(k0, k1, index)
    for e in range(out.size):
        out[e] = normal(bits(a, b, np.uint64(e)))


@compiled
def fill_uniforms(k0: int, k1: int, index: int, out: Any) -> None:  # pragma: no cover - compiled
    """Uniform numbers in [0, 1) of operation `index` for elements 0 .. len(out) - 1 of a flat array."""
    a, b = operation(k0, k1, index)
    for e in range(out.size):
        out[e] = unit(bits(a, b, np.uint64(e)))


def normals(seed: int, stream: Stream, index: int, shape: tuple[int, ...]) -> FloatArray:
    """Independent standard normals, keyed by (seed, stream, index, element)."""
    out = np.empty(shape)
    fill_normals(*key(seed, stream), index, out.reshape(-1))
    return out


def uniforms(seed: int, stream: Stream, index: int, shape: tuple[int, ...]) -> FloatArray:
    """Independent uniform numbers in [0, 1), keyed by (seed, stream, index, element)."""
    out = np.empty(shape)
    fill_uniforms(*key(seed, stream), index, out.reshape(-1))
    return out
