"""Event files: N-MNIST binary, AEDAT 2.0 and 3.1, npz, HDF5, read into an `EventStream` and written from one.

What is read is checked as it comes: a file that is cut off, of another kind, or out of order is refused with its name,
the place in it, and what was expected there. Nothing in a file is executed or trusted for its size.

N-MNIST: Orchard et al. 2015, Front. Neurosci. 9, 437, and the data set's own readers. AEDAT: iniVation's pages on AEDAT
1.0 (whose DVS128 addresses 2.0 widens), 2.0 and 3.1; the address bits of 3.1 events as libcaer has them, those of 2.0
as jAER reads its own files (DVS128.Extractor, DavisEventExtractor).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from typing import Any, Literal, NamedTuple

import numpy as np

from neurobench.errors import UsageError
from neurobench.learning.events import MAX_EVENTS, EventStream, make_events

NMNIST_SIDE = 34  # pixels
_NMNIST_OVERFLOW_Y, _NMNIST_OVERFLOW_US = 240, 2**13  # such a record is no event: later times are that much later
_HEADER_BYTES = 2**22  # of text ahead of AEDAT data; jAER writes a chip's preferences there
_PACKET = Struct("<hhiiiiii")  # AEDAT 3.1: type, source, size, time offset, overflow, capacity, number, valid
_POLARITY = 1  # event type

Chip = Literal["dvs128", "davis128", "davis208", "davis240", "davis346", "davis640"]
SENSORS: Mapping[str, tuple[int, int]] = {
    "dvs128": (128, 128), "davis128": (128, 128), "davis208": (208, 192), "davis240": (240, 180),
    "davis346": (346, 260), "davis640": (640, 480),
}  # fmt: skip


class Columns(NamedTuple):
    """What a reader found: columns of the events as they stand in the file, and the sensor's size if the file says."""

    x: Any
    y: Any
    t: Any
    p: Any
    size: tuple[int, int] | None


@dataclass(frozen=True)
class _File:
    """A file under its name, with the words for what is wrong with it."""

    path: Path
    data: bytes = b""

    def wrong(self, why: str, at: int | None = None) -> UsageError:
        """An error that names the file and, where it is known, the byte."""
        return UsageError(f"{self.path}{'' if at is None else f', byte {at}'}: {why}")

    def records(self, start: int, layout: np.dtype[Any], what: str) -> Any:
        """All records from `start` to the end of the file."""
        rest = len(self.data) - start
        whole = rest // layout.itemsize
        if rest % layout.itemsize:
            cut = start + whole * layout.itemsize
            raise self.wrong(f"{what} takes {layout.itemsize} bytes, {rest % layout.itemsize} are left: cut off?", cut)
        self.check_count(whole)
        return np.frombuffer(self.data, layout, whole, start)

    def check_count(self, n: int) -> None:
        """Refuse what would not fit into memory."""
        if n > MAX_EVENTS:
            raise self.wrong(f"{n} events would take {n * 32 / 2**30:.1f} GiB; at most {MAX_EVENTS} are read: cut it")


def read(
    path: Path | str, *, width: int | None = None, height: int | None = None, chip: Chip | None = None,
    sort: bool = False,
) -> EventStream:  # fmt: skip
    """Read an event file; its kind is told by its first bytes, N-MNIST by the ending .bin.

    `width`, `height`: the sensor's size, for files that do not say it (N-MNIST: 34 x 34). `chip`: the sensor, for AEDAT
    2.0 files whose header does not name it. `sort`: put events whose times go back in order instead of refusing them.
    Raises UsageError for what is missing, malformed or too large.
    """
    path = Path(path)
    file = _File(path)
    try:
        with path.open("rb") as opened:
            start = opened.read(12)
        size = path.stat().st_size
    except OSError as fault:
        raise UsageError(f"{path} cannot be read: {fault.strerror or fault}") from fault
    if size > 64 * MAX_EVENTS:
        raise file.wrong(f"{size / 2**30:.1f} GiB; at most {64 * MAX_EVENTS / 2**30:.0f} GiB are read: cut it")
    found = _reader(path, start, chip)(file)
    return _stream(file, found, (width, height), sort)


def _reader(path: Path, start: bytes, chip: Chip | None) -> Callable[[_File], Columns]:
    if start.startswith(b"#!AER-DAT"):
        return lambda file: _aedat(_loaded(file), chip)
    if start.startswith(b"PK\x03\x04"):
        return _npz
    if start.startswith(b"\x89HDF\r\n\x1a\n"):
        return _hdf5
    if path.suffix == ".bin":
        return lambda file: _nmnist(_loaded(file))
    raise UsageError(
        f"{path}: begins with {start!r}, which is no event file that is known: N-MNIST (its name ends with .bin), "
        "AEDAT 2.0 and 3.1, npz, HDF5"
    )


def _loaded(file: _File) -> _File:
    return _File(file.path, file.path.read_bytes())


def _stream(file: _File, found: Columns, given: tuple[int | None, int | None], sort: bool) -> EventStream:
    said = found.size or (None, None)
    width, height = (mine or theirs for mine, theirs in zip(given, said, strict=True))
    if width is None or height is None:
        raise file.wrong("the file does not say how large the sensor is: give width and height")
    for name, column in zip("xytp", found[:4], strict=True):
        if np.asarray(column).dtype.kind not in "iub":
            raise file.wrong(f"column {name} holds {np.asarray(column).dtype}; whole numbers are expected (t in us)")
    events = make_events(*found[:4])
    if sort:
        events = events[np.argsort(events["t"], kind="stable")]
    elif len(back := np.flatnonzero(np.diff(events["t"]) < 0)):
        n, (was, now) = int(back[0]) + 1, events["t"][back[0] : back[0] + 2]
        raise file.wrong(f"event {n} is at {now} us, the one before at {was} us: times do not go back (or: sort=True)")
    try:
        return EventStream(width, height, events)
    except UsageError as fault:
        raise file.wrong(f"{fault} (a sensor of {width} x {height} pixels)") from fault


# -- N-MNIST -------------------------------------------------------------------------------------------------------


def _nmnist(file: _File) -> Columns:
    """5 bytes an event: x, y, and a big-endian number: polarity in its highest bit, the time in the other 23."""
    raw = file.records(0, np.dtype((np.uint8, 5)), "an event").astype(np.int64)
    x, y, third = raw[:, 0], raw[:, 1], raw[:, 2]
    t = (third & 0x7F) << 16 | raw[:, 3] << 8 | raw[:, 4]
    overflow = y == _NMNIST_OVERFLOW_Y
    t += np.cumsum(overflow) * _NMNIST_OVERFLOW_US
    real = ~overflow
    return Columns(x[real], y[real], t[real], (third >> 7)[real], (NMNIST_SIDE, NMNIST_SIDE))


def _write_nmnist(path: Path, stream: EventStream) -> None:
    e = stream.events
    if len(e) and (e["t"][-1] >= 2**23 or stream.width > 256 or stream.height > _NMNIST_OVERFLOW_Y):
        raise UsageError(f"{path}: N-MNIST records hold 8.3 s and 256 x 240 pixels; write .npz or .aedat instead")
    columns = (e["x"], e["y"], e["p"] << 7 | e["t"] >> 16, e["t"] >> 8 & 0xFF, e["t"] & 0xFF)
    path.write_bytes(np.stack(columns, axis=1).astype(np.uint8).tobytes())


# -- AEDAT ---------------------------------------------------------------------------------------------------------


def _aedat(file: _File, chip: Chip | None) -> Columns:
    version = file.data[9:14].split(b"\r")[0].split(b"\n")[0].decode("ascii", "replace")
    if version.startswith("2."):
        return _aedat2(file, chip)
    if version == "3.1":
        return _aedat3(file)
    hint = "read it with dv-processing or the package aedat, and keep x, y, t (us), p with numpy.savez"
    raise file.wrong(f"AEDAT {version} is not read, 2.0 and 3.1 are; {hint}", 9)


def _header(file: _File) -> tuple[list[str], int]:
    """The lines of the text ahead of AEDAT 2.0 data, and where the data begins.

    Data may begin with the sign of a comment, too: a line counts as one only if it is text and ends.
    """
    lines, at = [], 0
    while file.data[at : at + 1] == b"#":
        end = file.data.find(b"\n", at, at + _HEADER_BYTES)
        line = file.data[at : end + 1]
        if end < 0 or not re.fullmatch(rb"[\t\r\n -~\x80-\xff]*", line):
            break
        lines.append(line.decode("latin-1").strip())
        at = end + 1
    return lines, at


def _aedat2(file: _File, chip: Chip | None) -> Columns:
    """8 bytes an event, big-endian: address and microseconds.

    Raw addresses count x from the right and y upwards, and both are turned; the DVS128 says 0 for brighter.
    """
    lines, start = _header(file)
    name = chip or _chip("\n".join(line for line in lines if "AEChip" in line))
    if name is None:
        known = ", ".join(SENSORS)
        raise file.wrong(f"no header line '# AEChip: ...' names a sensor that is known: say chip = one of {known}")
    records = file.records(start, np.dtype([("address", ">u4"), ("t", ">i4")]), "an event")
    address, t = records["address"].astype(np.int64), records["t"].astype(np.int64)
    if name == "dvs128":
        real, y, x, p = address & 0x8000 == 0, address >> 8 & 0x7F, address >> 1 & 0x7F, 1 - (address & 1)
    else:  # bit 31: a frame or inertial sample, bit 10: an external event
        real, y, x, p = address & 0x80000400 == 0, address >> 22 & 0x1FF, address >> 12 & 0x3FF, address >> 11 & 1
    width, height = SENSORS[name]
    return Columns(width - 1 - x[real], height - 1 - y[real], t[real], p[real], (width, height))


def _chip(text: str) -> str | None:
    """The sensor that a header names."""
    found = [name for name in SENSORS if name in text.lower()]
    return found[0] if found else None


def _aedat3(file: _File) -> Columns:
    """Packets of events, little-endian; those of other types than polarity are passed over."""
    mark = b"#!END-HEADER\r\n"
    end = file.data.find(mark, 0, _HEADER_BYTES)
    if end < 0:
        raise file.wrong("no line '#!END-HEADER' ends the header", min(len(file.data), _HEADER_BYTES))
    header = file.data[:end].decode("latin-1")
    kept = re.search(r"^#Format: *(\S+)", header, re.MULTILINE)
    if kept and kept[1] != "RAW":
        raise file.wrong(f"events in the format {kept[1]}; RAW is read", header.index("#Format"))
    parts, found = [np.empty(0, np.dtype([("data", "<u4"), ("t", "<i8")]))], 0
    for part in _packets(file, end + len(mark)):
        parts.append(part)
        found += len(part)
        file.check_count(found)
    events = np.concatenate(parts)
    data = events["data"].astype(np.int64)
    real = data & 1 == 1
    named = _chip("\n".join(re.findall(r"^#Source.*", header, re.MULTILINE)))
    x, y, p = data >> 17, data >> 2 & 0x7FFF, data >> 1 & 1
    return Columns(x[real], y[real], events["t"][real], p[real], SENSORS.get(named or ""))


def _packets(file: _File, at: int) -> Iterator[Any]:
    """Polarity events [n] with their whole times, packet by packet."""
    while at < len(file.data):
        if len(file.data) - at < _PACKET.size:
            raise file.wrong(f"the header of a packet takes {_PACKET.size} bytes: cut off?", at)
        kind, _, size, offset, overflow, capacity, number, _ = _PACKET.unpack_from(file.data, at)
        if size <= 0 or not 0 <= number <= capacity or overflow < 0:
            raise file.wrong(f"a packet of {number} of {capacity} events of {size} bytes, overflow {overflow}", at)
        start, at = at + _PACKET.size, at + _PACKET.size + capacity * size
        if at > len(file.data):
            raise file.wrong(f"a packet of {capacity} events of {size} bytes runs beyond the end: cut off?", start)
        if kind == _POLARITY:
            if (size, offset) != (8, 4):
                raise file.wrong(
                    f"polarity events of {size} bytes, time at {offset}; 8 bytes and 4 are expected", start
                )
            raw = np.frombuffer(file.data, np.dtype([("data", "<u4"), ("t", "<i4")]), number, start)
            events = np.empty(number, np.dtype([("data", "<u4"), ("t", "<i8")]))
            events["data"], events["t"] = raw["data"], raw["t"].astype(np.int64) + (overflow << 31)
            yield events


def _write_aedat3(path: Path, stream: EventStream) -> None:
    e = stream.events
    named = [name for name, size in SENSORS.items() if size == (stream.width, stream.height)]
    source = named[0].upper() if named else f"EventStream {stream.width}x{stream.height}"
    head = f"#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 0: {source}\r\n#!END-HEADER\r\n"
    parts = [head.encode("ascii")]
    for epoch in np.unique(e["t"] >> 31):
        part = e[e["t"] >> 31 == epoch]
        records = np.empty(len(part), np.dtype([("data", "<u4"), ("t", "<i4")]))
        records["data"] = part["x"] << 17 | part["y"] << 2 | part["p"] << 1 | 1
        records["t"] = part["t"] & 0x7FFFFFFF
        n = len(part)
        parts += [_PACKET.pack(_POLARITY, 0, 8, 4, int(epoch), n, n, n), records.tobytes()]
    path.write_bytes(b"".join(parts))


# -- npz and HDF5 --------------------------------------------------------------------------------------------------


def _npz(file: _File) -> Columns:
    """Arrays x, y, t, p, or one structured array `events`, with width and height if the file is one of ours."""
    try:
        with zipfile.ZipFile(file.path) as archive:
            names = {name.removesuffix(".npy"): name for name in archive.namelist() if name.endswith(".npy")}
            arrays = _arrays(file, archive, names)
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError, RuntimeError, zlib.error) as fault:
        raise file.wrong(f"not a whole .npz archive: {fault}") from fault
    size = tuple(int(arrays[name]) for name in ("width", "height") if name in arrays and arrays[name].size == 1)
    return _columns(file, arrays, arrays.get("events"), size if len(size) == 2 else None)


def _arrays(file: _File, archive: zipfile.ZipFile, names: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for name in {"events", "x", "y", "t", "p", "width", "height"} & set(names):
        with archive.open(names[name]) as member:
            shape, dtype = _npy_header(file, member, names[name])
            n = int(np.prod(shape, dtype=object)) if shape else 1
            file.check_count(n)
            if dtype.hasobject or dtype.itemsize > 64:
                raise file.wrong(f"{names[name]} holds {dtype}, which is not loaded: numbers are expected")
            data = member.read(n * dtype.itemsize + 1)  # one more, so that the archive compares its checksum
        if len(data) != n * dtype.itemsize:
            raise file.wrong(f"{names[name]} does not hold the {n * dtype.itemsize} bytes that it announces")
        found[name] = np.frombuffer(data, dtype).reshape(shape)
    return found


def _npy_header(file: _File, member: Any, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of a stored array: numpy's own reader would believe any size before it sees the data."""
    version = np.lib.format.read_magic(member)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise file.wrong(f"{name} has the .npy version {version}; 1.0 and 2.0 are read")
    shape, _, dtype = readers[version](member)
    return shape, dtype


def _write_npz(path: Path, stream: EventStream) -> None:
    with path.open("wb") as opened:
        columns: dict[str, Any] = {name: stream.events[name] for name in "xytp"}
        np.savez_compressed(opened, width=np.int64(stream.width), height=np.int64(stream.height), **columns)


def _hdf5(file: _File) -> Columns:
    """Data sets x, y, t, p, at the top or in a group `events`, or one structured set `events` or `CD/events`."""
    try:
        with _h5py().File(file.path, "r") as opened:
            attributes = {**opened.attrs}
            place = next((opened[name] for name in ("events", "CD/events") if name in opened), opened)
            attributes |= dict(place.attrs)
            names = [name for name in "xytp" if name in _names(place)]
            for one in [place] if hasattr(place, "shape") else [place[name] for name in names]:
                file.check_count(int(np.prod(one.shape, dtype=object)))
            arrays = {name: np.asarray(place[name]) for name in names}
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as fault:
        raise file.wrong(f"not an HDF5 file with events: {fault}") from fault
    size = tuple(int(attributes[name]) for name in ("width", "height") if name in attributes)
    return _columns(file, arrays, None, size if len(size) == 2 else None)


def _names(place: Any) -> set[str]:
    """Names of the columns of a structured data set, or of the members of a group."""
    fields = getattr(getattr(place, "dtype", None), "names", None)
    return set(fields if fields is not None else getattr(place, "keys", list)())


def _write_hdf5(path: Path, stream: EventStream) -> None:
    with _h5py().File(path, "w") as opened:
        opened.attrs.update(width=stream.width, height=stream.height)
        group = opened.create_group("events")
        for name in "xytp":
            group.create_dataset(name, data=stream.events[name], compression="gzip", shuffle=True)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as lacking:
        raise UsageError(
            "HDF5 files need h5py, which is not installed: pip install 'neurobench-hil[events]', or use .npz"
        ) from lacking
    return h5py


def _columns(file: _File, arrays: Mapping[str, Any], events: Any, size: tuple[int, int] | None) -> Columns:
    if events is not None and events.dtype.names:
        arrays = {name: events[name] for name in events.dtype.names}
    lacking = [name for name in "xytp" if name not in arrays]
    if lacking:
        raise file.wrong(
            f"no column {', '.join(lacking)}; it holds {', '.join(sorted(arrays)) or 'none of x, y, t, p'}"
        )
    shapes = {arrays[name].shape for name in "xytp"}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise file.wrong(f"the columns have the shapes {sorted(shapes)}; one dimension and one length are expected")
    return Columns(arrays["x"], arrays["y"], arrays["t"], arrays["p"], size)


# -- writing -------------------------------------------------------------------------------------------------------

WRITERS: Mapping[str, Callable[[Path, EventStream], None]] = {
    ".bin": _write_nmnist, ".aedat": _write_aedat3, ".npz": _write_npz, ".h5": _write_hdf5, ".hdf5": _write_hdf5,
}  # fmt: skip


def write(path: Path | str, stream: EventStream) -> None:
    """Write a stream in the format that the ending names: .bin (N-MNIST), .aedat (3.1), .npz, .h5 or .hdf5."""
    path = Path(path)
    if path.suffix not in WRITERS:
        raise UsageError(f"{path}: no format for the ending {path.suffix!r}; known: {', '.join(WRITERS)}")
    try:
        WRITERS[path.suffix](path, stream)
    except OSError as fault:
        raise UsageError(f"{path} cannot be written: {fault.strerror or fault}") from fault
