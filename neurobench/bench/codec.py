"""Steps and answers as bytes, for the run file and for links: msgpack with an extension for arrays, no pickle.

The bytes are canonical: steps that are equal bit for bit have equal bytes, on every machine, so that resuming can
compare what a protocol asks now with what it asked before. The order of a dict's keys counts as part of it.
Anything that is not such bytes raises `RunFileError` and nothing else. The layout is written down in docs/runfile.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from math import prod
from typing import Any, ParamSpec, TypeVar

import msgpack
import numpy as np
from numpy.typing import NDArray

from neurobench.errors import RunFileError, UsageError

from .counts import CellCounts
from .crossbar import Applied, Reading, Witness
from .steps import Answer, Apply, Checkpoint, Loop, LoopAnswer, LoopBounds, LoopProgram, Note, Sense, Step, Wait
from .stimulus import (
    Bias,
    CellRead,
    Direction,
    LineState,
    Pulse,
    PulseBatch,
    Read,
    Region,
    Shape,
    Stimulus,
    VectorRead,
    Waveforms,
)

P = ParamSpec("P")
T = TypeVar("T")
V = TypeVar("V")
AnyArray = NDArray[Any]

_ARRAY, _TUPLE, _SCALAR, _BIG = 1, 2, 3, 4  # extension codes
_APPLY, _SENSE, _WAIT, _LOOP, _NOTE, _CHECKPOINT = 1, 2, 3, 4, 5, 6
_RAW, _SIGNS, _SPARSE, _BITMAP = 0, 1, 2, 3  # how a grid of whole numbers is stored
_BATCH, _WAVES = 1, 2
_CELLS, _VECTORS = 1, 2
_SMALL_CELLS = 256  # below this a choice of layout costs more than it saves
_SMALL_BYTES = 4096  # up to this a head kept ready saves more than the bytes themselves cost
_KEPT = 1000  # heads kept ready, and steps
_MAX_CELLS = 1 << 28  # a damaged sparse grid must not make us ask for all memory

# It has no `default`, so it runs no Python code and threads cannot interleave in it.
_pack_plain: Callable[[Any], bytes] = msgpack.Packer().pack


def pack(value: Any) -> bytes:
    """Bytes of a value made of None, bool, int, float, str, bytes, list, tuple, dict and numeric arrays.

    Types survive: tuples, numpy scalars and whole numbers of any size come back as they were. Others raise UsageError.
    """
    try:
        packed: bytes = msgpack.packb(value, default=_extend, strict_types=True)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"this value cannot be recorded: {error}") from error
    return packed


def _extend(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return msgpack.ExtType(_ARRAY, _packed_array(value))
    if isinstance(value, np.generic):
        return msgpack.ExtType(_SCALAR, _pack_plain(list(_raw_array(np.asarray(value)))))
    if isinstance(value, tuple):
        return msgpack.ExtType(_TUPLE, pack(list(value)))
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        plain = int(value)
        return plain if -(2**63) <= plain < 2**64 else msgpack.ExtType(_BIG, str(plain).encode())
    raise UsageError(f"a {type(value).__name__} cannot be recorded; use numbers, strings, lists, dicts or arrays")


# All that stands before the bytes of a small array depends on its dtype and shape alone.
_array_heads: dict[tuple[np.dtype[Any], tuple[int, ...]], bytes] = {}


def _packed_array(array: AnyArray) -> bytes:
    key = (array.dtype, array.shape)
    head = _array_heads.get(key)
    if head is not None:
        return head + array.tobytes()
    dtype, raw = _raw_array(array)
    packed = _pack_plain([dtype, list(array.shape), raw])
    if len(raw) <= _SMALL_BYTES and dtype == array.dtype.str:
        _keep(_array_heads, key, packed[: len(packed) - len(raw)])
    return packed


def _keep(known: dict[T, V], key: T, value: V) -> None:
    if len(known) >= _KEPT:
        known.clear()
    known[key] = value


def _raw_array(array: AnyArray) -> tuple[str, bytes]:
    if array.dtype.kind not in "biufc":
        raise UsageError(f"an array of dtype {array.dtype} cannot be recorded; it holds numbers or booleans")
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return little.dtype.str, little.tobytes()


def _guarded(decode: Callable[P, T]) -> Callable[P, T]:
    """Whatever malformed bytes provoke becomes a RunFileError."""

    @wraps(decode)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return decode(*args, **kwargs)
        except RunFileError:
            raise
        except Exception as error:
            raise RunFileError(f"damaged record: {type(error).__name__}: {error}") from error

    return guarded


@_guarded
def unpack(data: bytes) -> Any:
    """The value whose `pack` gave `data`; arrays are read-only. Malformed bytes raise RunFileError."""
    return msgpack.unpackb(data, ext_hook=_unextend, strict_map_key=False)


def _unextend(code: int, data: bytes) -> Any:
    if code == _ARRAY:
        dtype, shape, raw = msgpack.unpackb(data)
        return _array(dtype, shape, raw)
    if code == _TUPLE:
        return tuple(unpack(data))
    if code == _SCALAR:
        dtype, raw = msgpack.unpackb(data)
        return _array(dtype, [], raw)[()]
    if code == _BIG:
        return int(data)
    raise RunFileError(f"damaged record: extension {code} is not known")


def _array(dtype: str, shape: list[int], raw: bytes) -> AnyArray:
    kind = _dtype(dtype)
    if prod(shape) * kind.itemsize != len(raw) or min(shape, default=0) < 0:
        raise RunFileError(f"damaged record: {len(raw)} bytes are no array of {dtype} with shape {shape}")
    array: AnyArray = np.frombuffer(raw, kind).reshape(shape)
    return array


def _dtype(name: str) -> np.dtype[Any]:
    kind = np.dtype(name)
    if kind.kind not in "biufc" or kind.shape:
        raise RunFileError(f"damaged record: arrays of {name} are never recorded")
    return kind


# ------------------------------------------------------------------------------------------------- grids of counts


def _grid(counts: AnyArray) -> list[Any]:
    """Whole numbers [rows, cols] as [dtype, rows, cols, layout, bytes], in the smallest of three layouts."""
    rows, cols = counts.shape
    layout, payload = _RAW, None
    if counts.size > _SMALL_CELLS:
        layout, payload = _smallest(counts)
    dtype, raw = _raw_array(counts) if payload is None else (counts.dtype.newbyteorder("<").str, payload)
    return [dtype, rows, cols, layout, raw]


def _smallest(counts: AnyArray) -> tuple[int, bytes | None]:
    used, item = int(np.count_nonzero(counts)), counts.dtype.itemsize
    is_sign = bool(counts.max() <= 1 and (counts.dtype.kind == "u" or counts.min() >= -1))
    sparse = used * (4 + item)
    if sparse < min(counts.size // 4 if is_sign else counts.nbytes, counts.nbytes):
        flat = counts.ravel()
        where = np.flatnonzero(flat).astype("<u4")
        return _SPARSE, where.tobytes() + _raw_array(flat[where])[1]
    if is_sign:
        return _SIGNS, np.packbits(counts > 0).tobytes() + np.packbits(counts < 0).tobytes()
    return _RAW, None


def _counted(counts: AnyArray | CellCounts) -> list[Any]:
    """A loop's counts, as `_grid`, or as a bit mask of the cells that have any and their numbers, where that is less.

    Steps keep to the layouts that they always had: resuming compares their bytes.
    """
    if isinstance(counts, CellCounts):
        return _counted_cells(counts)
    some = counts != 0
    used, most = int(np.count_nonzero(some)), int(counts.max(initial=0))
    bits = next((bits for bits in _VALUE_BITS if most < 1 << bits), 0)
    size = counts.size // 8 + used * bits // 8
    positive = counts.dtype.kind == "u" or counts.min(initial=0) >= 0
    if counts.size <= _SMALL_CELLS or not bits or not positive or size > used * (4 + counts.dtype.itemsize):
        return _grid(counts)
    rows, cols = counts.shape
    values = counts.ravel()[np.flatnonzero(some)]
    payload = bytes([bits]) + np.packbits(some).tobytes() + _narrow(values, bits)
    return [counts.dtype.newbyteorder("<").str, rows, cols, _BITMAP, payload]


def _counted_cells(counts: CellCounts) -> list[Any]:
    """The same with the cells' own mask, which is at hand; its zeros are stored, too."""
    rows, cols = counts.shape
    least, most = int(counts.values.min(initial=1)), counts.max()
    bits = next(bits for bits in _VALUE_BITS[not least :] if most < 1 << bits)
    payload = bytes([bits]) + counts.bits.tobytes() + _narrow(counts.values, bits)
    return [counts.dtype.newbyteorder("<").str, rows, cols, _BITMAP, payload]


_SAME_MASK = 128  # in the byte with the bits: the mask is that of the potentiations
_VALUE_BITS = (1, 2, 4, 8, 16)  # bits in which a count that is not 0 may be stored; 1: all are 1, and nothing is stored


def _narrow(values: AnyArray, bits: int) -> bytes:
    if bits == 1:
        return b""
    if bits > 4:
        return values.astype(f"<u{bits // 8}").tobytes()
    places = 8 // bits
    full = np.zeros(-(-len(values) // places) * places, np.uint8)
    full[: len(values)] = values
    packed = full[::places].copy()  # the first in the lowest bits
    for k in range(1, places):
        packed |= full[k::places] << np.uint8(k * bits)
    return packed.tobytes()


def _unbitmap(payload: bytes, cells: int, kind: np.dtype[Any]) -> AnyArray:
    size = 1 + (cells + 7) // 8
    bits = payload[0] if payload else 0
    if bits not in _VALUE_BITS or len(payload) < size:
        raise RunFileError(f"damaged record: {len(payload)} bytes are no counts of {cells} cells")
    where = np.flatnonzero(np.unpackbits(np.frombuffer(payload, np.uint8, size - 1, 1), count=cells))
    out = np.zeros(cells, kind)
    out[where] = _wide(payload[size:], len(where), bits)
    return out


def _wide(raw: bytes, n: int, bits: int) -> Any:
    if len(raw) != (0 if bits == 1 else (n * bits + 7) // 8):
        raise RunFileError(f"damaged record: {len(raw)} bytes are no {n} counts of {bits} bits")
    if bits == 1:
        return 1
    if bits > 4:
        return np.frombuffer(raw, f"<u{bits // 8}")
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return (np.frombuffer(raw, np.uint8)[:, None] >> shifts & (1 << bits) - 1).ravel()[:n]


def _ungrid(fields: list[Any]) -> AnyArray:
    dtype, rows, cols, layout, payload = fields
    kind, cells = _dtype(dtype), rows * cols
    if kind.kind not in "iu" or rows < 1 or cols < 1:
        raise RunFileError(f"damaged record: no counts of {dtype} with shape ({rows}, {cols})")
    if layout == _RAW:
        return _array(dtype, [rows, cols], payload)
    if layout == _SIGNS:
        return _signs(payload, cells, kind).reshape(rows, cols)
    if layout == _BITMAP and cells <= _MAX_CELLS:
        return _unbitmap(payload, cells, kind).reshape(rows, cols)
    if layout != _SPARSE or cells > _MAX_CELLS:
        raise RunFileError(f"damaged record: counts in layout {layout} for {cells} cells")
    used, rest = divmod(len(payload), 4 + kind.itemsize)
    out = np.zeros(cells, kind)
    if rest == 0 and used:
        out[np.frombuffer(payload, "<u4", used)] = np.frombuffer(payload, kind, used, 4 * used)
    elif rest:
        raise RunFileError("damaged record: sparse counts are cut short")
    return out.reshape(rows, cols)


def _signs(payload: bytes, cells: int, kind: np.dtype[Any]) -> AnyArray:
    size = (cells + 7) // 8
    if len(payload) != 2 * size:
        raise RunFileError(f"damaged record: {len(payload)} bytes are no signs of {cells} cells")
    up = np.unpackbits(np.frombuffer(payload, np.uint8, size), count=cells).view(np.int8)
    down = np.unpackbits(np.frombuffer(payload, np.uint8, size, size), count=cells).view(np.int8)
    return (up - down).astype(kind, copy=False)


# ------------------------------------------------------------------------------------------------- steps


def encode_step(step: Step) -> bytes:
    """Canonical bytes of a step."""
    if isinstance(step, Apply):
        if isinstance(step.stimulus, PulseBatch):
            return _encode_batch(step.stimulus)
        return pack([_APPLY, False, _WAVES, _waves(step.stimulus)])
    if isinstance(step, Sense):
        return _encode_read(step.read)
    if isinstance(step, Wait):
        return pack([_WAIT, float(step.seconds)])
    if isinstance(step, Loop):
        program, ticks = step.program, int(step.ticks)
        bounds = _bounds(program.bounds(ticks))
        return pack([_LOOP, program.kind, ticks, dict(program.arrays()), dict(program.scalars()), bounds])
    if isinstance(step, Note):
        return pack([_NOTE, step.name, step.value])
    if isinstance(step, Checkpoint):
        return pack([_CHECKPOINT, dict(step.state)])
    raise UsageError(f"a protocol yielded a {type(step).__name__}, which is no step")


# Everything of a batch before its counts is the same in thousands of steps.
_heads: dict[tuple[Any, ...], bytes] = {}


def _encode_batch(batch: PulseBatch) -> bytes:
    counts, measure = batch.counts, batch.measure
    if counts.size > _SMALL_CELLS:
        return _pack_plain([_APPLY, bool(measure), _BATCH, [*_pulse(batch.pulse), batch.bias.value], *_grid(counts)])
    key = (batch.pulse, batch.bias, counts.dtype, counts.shape, measure)
    head = _heads.get(key)
    if head is None:
        whole = _pack_plain([_APPLY, bool(measure), _BATCH, [*_pulse(batch.pulse), batch.bias.value], *_grid(counts)])
        head = whole[: -len(_bin(counts.tobytes()))]
        _keep(_heads, key, head)
    raw = counts.tobytes() if counts.dtype.isnative and counts.itemsize == 1 else _raw_array(counts)[1]
    return head + _bin(raw)


def _bin(raw: bytes) -> bytes:
    return _pack_plain(raw)


def _pulse(pulse: Pulse) -> list[Any]:
    # Adding 0.0 turns -0.0 into 0.0: they are equal as numbers, so they are equal as bytes.
    fields = (pulse.amplitude_v, pulse.width_s, pulse.rise_s, pulse.fall_s)
    return [float(value) + 0.0 for value in fields]


def _bounds(bounds: LoopBounds) -> list[Any]:
    pulses = [_pulse(bounds.potentiate), _pulse(bounds.depress)]
    most: Any = bounds.pulses_per_cell  # a number for all cells, or one each, of which the largest is recorded
    return [*pulses, int(most.max()) if hasattr(most, "max") else int(most), float(bounds.read_v)]


# A protocol asks in every epoch with the same read. It is frozen, and kept here, so its id stays its own.
_reads: dict[int, tuple[Read, bytes]] = {}


def _encode_read(read: Read) -> bytes:
    known = _reads.get(id(read))
    if known is not None and known[0] is read:
        return known[1]
    data = pack([_SENSE, *_read(read)])
    if len(data) <= _SMALL_BYTES:
        _keep(_reads, id(read), (read, data))
    return data


def _waves(waves: Waveforms) -> list[Any]:
    shapes = [[shape.t_s, shape.v] for shape in waves.shapes]
    return [shapes, waves.row_shape, waves.col_shape, waves.row_start_s, waves.col_start_s]


def _read(read: Read) -> list[Any]:
    timing = [bool(read.both_polarities), float(read.delay_s), float(read.integration_s), int(read.averages)]
    if isinstance(read, CellRead):
        rows, cols = read.mask.shape
        return [_CELLS, rows, cols, np.packbits(read.mask).tobytes(), float(read.voltage_v), *timing]
    region = read.region
    block = None if region is None else [region.row0, region.row1, region.col0, region.col1]
    return [_VECTORS, read.volts, str(read.direction), block, int(read.idle), *timing]


@_guarded
def decode_step(data: bytes) -> Step:
    """The step whose bytes these are. A Loop comes back with a `RecordedProgram`, which cannot be run."""
    code, *fields = unpack(data)
    return _STEPS[code](fields)


def _decode_apply(fields: list[Any]) -> Step:
    measure, kind, *rest = fields
    return Apply(_decode_batch(rest, _boolean(measure)) if kind == _BATCH else _decode_waves(*rest))


def _decode_batch(fields: list[Any], measure: bool) -> Stimulus:
    (amplitude_v, width_s, rise_s, fall_s, bias), *grid = fields
    return PulseBatch(_ungrid(grid), Pulse(amplitude_v, width_s, rise_s, fall_s), Bias(bias), measure)


def _decode_waves(fields: list[Any]) -> Stimulus:
    shapes, *lines = fields
    return Waveforms(tuple(Shape(t_s, v) for t_s, v in shapes), *lines)


def _decode_sense(fields: list[Any]) -> Step:
    kind, *rest = fields
    if kind == _CELLS:
        rows, cols, bits, voltage_v, *timing = rest
        if len(bits) != (rows * cols + 7) // 8:
            raise RunFileError(f"damaged record: {len(bits)} bytes are no mask of {rows} x {cols} cells")
        mask = np.unpackbits(np.frombuffer(bits, np.uint8), count=rows * cols).reshape(rows, cols)
        return Sense(CellRead(mask.astype(bool), voltage_v, *timing))
    volts, direction, block, idle, both, delay_s, integration_s, averages = rest
    region = None if block is None else Region(*block)
    line = LineState(idle)
    return Sense(VectorRead(volts, Direction(direction), region, both, delay_s, integration_s, averages, line))


def _decode_loop(fields: list[Any]) -> Step:
    kind, ticks, arrays, scalars, (potentiate, depress, pulses_per_cell, read_v) = fields
    bounds = LoopBounds(Pulse(*potentiate), Pulse(*depress), pulses_per_cell, read_v)
    return Loop(RecordedProgram(str(kind), dict(arrays), dict(scalars), bounds), ticks)


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RunFileError(f"damaged record: {value!r} where true or false belongs")
    return value


_STEPS: dict[int, Callable[[list[Any]], Step]] = {
    _APPLY: _decode_apply,
    _SENSE: _decode_sense,
    _WAIT: lambda fields: Wait(*fields),
    _LOOP: _decode_loop,
    _NOTE: lambda fields: Note(*fields),
    _CHECKPOINT: lambda fields: Checkpoint(dict(*fields)),
}


class RecordedProgram(LoopProgram):
    """A loop's program as a run file holds it: to look at, and to compare; `learning` builds the real one from it."""

    def __init__(self, kind: str, arrays: dict[str, AnyArray], scalars: dict[str, float], recorded: LoopBounds) -> None:
        self.kind = kind
        self._arrays, self._scalars, self._bounds = arrays, scalars, recorded

    def bounds(self, ticks: int) -> LoopBounds:  # noqa: ARG002 - a record has one number of ticks
        """The bounds that were recorded, for the ticks that were recorded."""
        return self._bounds

    def arrays(self) -> Mapping[str, AnyArray]:
        """Arrays of the program."""
        return self._arrays

    def scalars(self) -> Mapping[str, float]:
        """Constants of the program."""
        return self._scalars


# ------------------------------------------------------------------------------------------------- answers


def encode_answer(answer: Answer) -> bytes:
    """Canonical bytes of an answer."""
    if answer is None:
        return b"\x90"
    if isinstance(answer, Applied):
        if answer.currents_a is None:
            return _pack_plain((_APPLY, *answer))
        return pack([_APPLY, *answer])
    if isinstance(answer, Reading):
        return _encode_reading(answer)
    ticks, spikes, potentiations, depressions, *rest = answer
    ups, downs = _counted(potentiations), _counted(depressions)
    if _mask_of(ups) == _mask_of(downs) != b"":
        downs[-1] = bytes([downs[-1][0] | _SAME_MASK]) + downs[-1][1 + len(_mask_of(ups)) :]
    return pack([_LOOP, ticks, spikes, ups, downs, *rest])


def _mask_of(grid: list[Any]) -> bytes:
    """The bit mask of a grid that has one."""
    _, rows, cols, layout, payload = grid
    mask: bytes = payload[1 : 1 + (rows * cols + 7) // 8] if layout == _BITMAP else b""
    return mask


_NO_FLAGS = msgpack.ExtType(_TUPLE, _pack_plain([]))


def _encode_reading(reading: Reading) -> bytes:
    currents_a, *numbers, flags = reading
    plain = flags == () and all(type(number) is float for number in numbers)
    if not plain:
        return pack([_SENSE, *reading])
    return _pack_plain([_SENSE, msgpack.ExtType(_ARRAY, _packed_array(currents_a)), *numbers, _NO_FLAGS])


@_guarded
def decode_answer(data: bytes) -> Answer:
    """The answer whose bytes these are."""
    fields = unpack(data)
    if fields == []:
        return None
    code, *rest = fields
    if code == _APPLY:
        return Applied(*rest)
    if code == _SENSE:
        return Reading(*rest)
    if code != _LOOP:
        raise RunFileError(f"damaged record: no answer has the code {code!r}")
    ticks, spikes, ups, downs, *tail = rest
    if downs[3] == _BITMAP and downs[4][:1] and downs[4][0] & _SAME_MASK:
        downs[4] = bytes([downs[4][0] ^ _SAME_MASK]) + _mask_of(ups) + downs[4][1:]
    return LoopAnswer(ticks, spikes, _ungrid(ups), _ungrid(downs), *tail)


def encode_witness(witness: Witness) -> bytes:
    """Canonical bytes of a witness."""
    return _pack_plain([witness.counter, witness.nonce])


@_guarded
def decode_witness(data: bytes) -> Witness:
    """The witness whose bytes these are."""
    counter, nonce = unpack(data)
    return Witness(int(counter), str(nonce))
