"""Event files: what is written comes back, published layouts are read bit for bit, malformed ones are refused."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurobench.errors import UsageError
from neurobench.interchange import event_files
from neurobench.learning.events import EVENT, EventStream, make_events

ANY_FILE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
BAR = EventStream(34, 34).moving_bar(0.1, 500.0) + EventStream(34, 34).noise(0.1, 5.0, np.random.default_rng(0))

LATE = EventStream(1, 1, make_events([0], [0], [2**23], [0]))


def same(one: EventStream, other: EventStream) -> bool:
    sizes = (one.width, one.height) == (other.width, other.height)
    return sizes and bool((one.events == other.events).all()) and len(one) == len(other)


@st.composite
def streams(draw: st.DrawFn) -> EventStream:
    n, rng = draw(st.integers(0, 25)), np.random.default_rng(draw(st.integers(0, 2**32)))
    t = np.sort(rng.integers(0, draw(st.sampled_from([5, 10**4, 2**23])), n))
    return EventStream(34, 34, make_events(rng.integers(0, 34, n), rng.integers(0, 34, n), t, rng.integers(0, 2, n)))


# ------------------------------------------------------------------ what is written comes back


@pytest.mark.parametrize("ending", [".bin", ".aedat", ".npz", ".h5"])
def test_a_stream_comes_back_as_it_was(tmp_path: Path, ending: str) -> None:
    if ending == ".h5":
        pytest.importorskip("h5py")
    event_files.write(tmp_path / f"bar{ending}", BAR)
    assert same(event_files.read(tmp_path / f"bar{ending}", width=34, height=34), BAR)


@pytest.mark.parametrize("ending", [".bin", ".aedat", ".npz"])
@ANY_FILE
@given(stream=streams())
def test_any_stream_comes_back(tmp_path: Path, ending: str, stream: EventStream) -> None:
    event_files.write(tmp_path / f"any{ending}", stream)
    assert same(event_files.read(tmp_path / f"any{ending}", width=34, height=34), stream)


def test_times_beyond_31_bits_come_back_by_the_packets_overflow(tmp_path: Path) -> None:
    stream = EventStream(346, 260, make_events([345, 0, 7], [259, 0, 9], [5, 2**31 - 1, 5 * 2**31 + 9], [1, 0, 1]))
    event_files.write(tmp_path / "long.aedat", stream)
    assert same(event_files.read(tmp_path / "long.aedat"), stream)  # the header names the sensor: no size asked


# ------------------------------------------------------------------ layouts by hand


def test_the_records_of_n_mnist(tmp_path: Path) -> None:
    path = tmp_path / "00002.bin"
    # x 10, y 30, ON, t 0x000357; then an overflow record, after which times are 2^13 us later; then OFF at 0x012345
    path.write_bytes(bytes([10, 30, 0x80, 0x03, 0x57, 0, 240, 0, 0x03, 0x60, 33, 0, 0x01, 0x23, 0x45]))
    stream = event_files.read(path)
    assert (stream.width, stream.height) == (34, 34)
    assert [tuple(map(int, e)) for e in stream.events] == [(10, 30, 0x357, 1), (33, 0, 0x12345 + 2**13, 0)]


def test_the_records_of_a_dvs128_in_aedat_2(tmp_path: Path) -> None:
    path = tmp_path / "walk.aedat"
    head = "#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n# AEChip: jaer.chip.retina.DVS128\r\n"
    records = [(5 << 8 | 100 << 1 | 1, 10), (0x8000, 11), (127 << 8 | 0 << 1 | 0, 12)]  # the second: external
    path.write_bytes(head.encode() + b"".join(struct.pack(">Ii", *record) for record in records))
    stream = event_files.read(path)
    assert (stream.width, stream.height) == (128, 128)
    assert [tuple(map(int, e)) for e in stream.events] == [(27, 122, 10, 0), (127, 0, 12, 1)]  # as jAER reads them


def test_the_records_of_a_davis_in_aedat_2(tmp_path: Path) -> None:
    path = tmp_path / "davis.aedat"
    records = [
        (140 << 22 | 239 << 12 | 1 << 11, 7),  # its first byte is '#': data, though it looks like a comment
        (1 << 31 | 3 << 22, 8),  # a sample of a frame
        (3 << 22 | 1 << 10, 8),  # an external event
        (0, 9),
    ]
    data = b"".join(struct.pack(">Ii", *record) for record in records)
    path.write_bytes(b"#!AER-DAT2.0\r\n# AEChip: eu.seebetter.ini.chips.davis.Davis240C\r\n" + data)
    stream = event_files.read(path)
    assert data[:1] == b"#"
    assert [tuple(map(int, e)) for e in stream.events] == [(0, 39, 7, 1), (239, 179, 9, 0)]  # as jAER reads them
    path.write_bytes(b"#!AER-DAT2.0\r\n" + data)
    with pytest.raises(UsageError, match="AEChip"):
        event_files.read(path)
    assert same(event_files.read(path, chip="davis240"), stream)


def aedat3(*packets: bytes, head: str = "#!AER-DAT3.1\r\n#Format: RAW\r\n#Source 0: DVS128\r\n") -> bytes:
    return head.encode() + b"#Start-Time: 2026-01-01 00:00:00 (TZ+0000)\r\n#!END-HEADER\r\n" + b"".join(packets)


def packet(kind: int, size: int, offset: int, overflow: int, *events: bytes, spare: int = 0) -> bytes:
    n = len(events)
    head = struct.pack("<hhiiiiii", kind, 0, size, offset, overflow, n + spare, n, n)
    return head + b"".join(events) + bytes(spare * size)


def test_the_packets_of_aedat_3(tmp_path: Path) -> None:
    path = tmp_path / "new.aedat"
    one = struct.pack("<Ii", 100 << 17 | 5 << 2 | 1 << 1 | 1, 10)
    invalid = struct.pack("<Ii", 100 << 17 | 5 << 2 | 1 << 1, 11)
    special = packet(0, 8, 4, 0, struct.pack("<Ii", 3, 12))
    late = struct.pack("<Ii", 127 << 2 | 1, 13)
    path.write_bytes(aedat3(packet(1, 8, 4, 0, one, invalid, spare=2), special, packet(1, 8, 4, 1, late)))
    stream = event_files.read(path)
    assert (stream.width, stream.height) == (128, 128)
    assert [tuple(map(int, e)) for e in stream.events] == [(100, 5, 10, 1), (0, 127, 2**31 + 13, 0)]


def test_npz_of_others_with_one_structured_array(tmp_path: Path) -> None:
    narrow = np.array([(1, 2, 3, True)], [("x", "<i2"), ("y", "<i2"), ("t", "<i8"), ("p", "?")])
    np.savez(tmp_path / "tonic.npz", events=narrow)
    stream = event_files.read(tmp_path / "tonic.npz", width=8, height=8)
    assert stream.events.dtype == EVENT
    assert [tuple(map(int, e)) for e in stream.events] == [(1, 2, 3, 1)]


@pytest.mark.parametrize("place", ["events", "CD/events", "/"])
def test_hdf5_of_others_in_the_usual_places(tmp_path: Path, place: str) -> None:
    h5py = pytest.importorskip("h5py")
    rows = np.array([(1, 2, 0, 3), (4, 5, 1, 6)], [("x", "<u2"), ("y", "<u2"), ("p", "<i2"), ("t", "<i8")])
    with h5py.File(tmp_path / "other.h5", "w") as opened:
        if place == "CD/events":
            opened.create_dataset(place, data=rows)
        else:
            for name in "xypt":
                opened.require_group(place).create_dataset(name, data=rows[name])
    stream = event_files.read(tmp_path / "other.h5", width=8, height=8)
    assert [tuple(map(int, e)) for e in stream.events] == [(1, 2, 3, 0), (4, 5, 6, 1)]


def test_times_that_go_back_are_refused_or_sorted_on_request(tmp_path: Path) -> None:
    path = tmp_path / "back.npz"
    np.savez(path, x=[1, 2], y=[1, 2], t=[9, 4], p=[0, 1], width=4, height=4)
    with pytest.raises(UsageError, match="event 1 is at 4 us, the one before at 9 us"):
        event_files.read(path)
    assert list(event_files.read(path, sort=True).events["t"]) == [4, 9]


# ------------------------------------------------------------------ what is wrong is said


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data)  # no time of day: test names are made of this
    return buffer.getvalue()


def npy(shape: object, dtype: str = "<i8", data: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": dtype, "fortran_order": False, "shape": shape})
    return buffer.getvalue() + data


TWO = struct.pack("<qq", 0, 1)
GOOD = {name: npy((2,), data=TWO) for name in "xytp"}
SIZED = {name: npy((), data=struct.pack("<q", 4)) for name in ("width", "height")}
POLARITY = packet(1, 8, 4, 0, struct.pack("<Ii", 1, 0))


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("a.bin", bytes(12), "byte 10: an event takes 5 bytes, 2 are left"),
        ("a.bin", bytes([34, 0, 0, 0, 0]), "x is 0 to 33"),
        ("a.bin", bytes([1, 1, 0, 0, 9, 1, 1, 0, 0, 8]), "event 1 is at 8 us"),
        ("a.txt", b"hello", "begins with b'hello'"),
        ("a.bin", b"#!AER-DAT4.0\r\n" + bytes(40), "AEDAT 4.0 is not read, 2.0 and 3.1 are; read it with"),
        ("a.aedat", b"#!AER-DAT3.0\r\n" + bytes(40), "AEDAT 3.0 is not read"),
        ("a.aedat", b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n" + bytes(9), "byte 40: an event takes 8 bytes, 1 are left"),
        ("a.aedat", b"#!AER-DAT3.1\r\n" + bytes(40), "no line '#!END-HEADER'"),
        ("a.aedat", aedat3(POLARITY)[:-1], "runs beyond the end"),
        ("a.aedat", aedat3(POLARITY, bytes(5)), "header of a packet takes 28 bytes"),
        ("a.aedat", aedat3(packet(1, 12, 4, 0, bytes(12))), "8 bytes and 4 are expected"),
        ("a.aedat", aedat3(packet(1, 0, 4, 0)), "of 0 bytes"),
        ("a.aedat", aedat3(struct.pack("<hhiiiiii", 1, 0, 8, 4, 0, 1 << 30, 1 << 30, 0)), "runs beyond the end"),
        ("a.aedat", aedat3(head="#!AER-DAT3.1\r\n#Format: PNGFRAMES\r\n"), "format PNGFRAMES"),
        ("a.aedat", aedat3(POLARITY, head="#!AER-DAT3.1\r\n#Source 0: Unheard\r\n"), "give width and height"),
        ("a.npz", npz(**GOOD), "give width and height"),
        ("a.npz", npz(**GOOD)[:60], "not a whole .npz archive"),
        ("a.npz", npz(**{**GOOD, "t": npy((10**15,))}), "GiB; at most"),
        ("a.npz", npz(**{**GOOD, "t": npy((2,), data=TWO[:9])}), "does not hold the 16 bytes"),
        ("a.npz", npz(**{**GOOD, "t": npy((2,), "|O", TWO)}), "numbers are expected"),
        ("a.npz", npz(**{**GOOD, **SIZED, "t": npy((2,), "<f8", TWO)}), "column t holds float64"),
        ("a.npz", npz(**{**GOOD, "t": npy((1, 2), data=TWO)}), "one dimension and one length"),
        ("a.npz", npz(x=GOOD["x"]), "no column y, t, p"),
        ("a.h5", b"\x89HDF\r\n\x1a\n" + bytes(30), "not an HDF5 file with events"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_said(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    if name.endswith(".h5"):
        pytest.importorskip("h5py")
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UsageError, match=said) as told:
        event_files.read(path)
    assert name in str(told.value)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda folder: event_files.read(folder / "nothing.bin"), "cannot be read"),
        (lambda folder: event_files.read(folder), "cannot be read"),
        (lambda folder: event_files.write(folder / "a.xyz", BAR), "known: .bin, .aedat, .npz"),
        (lambda folder: event_files.write(folder / "none" / "a.bin", BAR), "cannot be written"),
        (lambda folder: event_files.write(folder / "a.bin", LATE), "8.3 s"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_or_written_is_said(tmp_path: Path, make: Callable[[Path], Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        make(tmp_path)


def test_a_file_of_many_gigabytes_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.bin"
    with path.open("wb") as opened:
        opened.truncate(2**40)  # sparse: takes no room
    with pytest.raises(UsageError, match="GiB are read: cut it"):
        event_files.read(path)


def test_hdf5_without_its_library_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(UsageError, match=r"neurobench-hil\[events\]"):
        event_files.write(tmp_path / "a.h5", BAR)


def read_or_told(path: Path, **given: Any) -> EventStream | None:
    """A stream, or None where the file was refused with its name; any other error is a failure of the test."""
    try:
        return event_files.read(path, **given)
    except UsageError as told:
        if path.name not in str(told):
            raise AssertionError(f"the file is not named: {told}") from told
        return None


def whole_files() -> dict[str, bytes]:
    aedat2 = b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n" + b"".join(struct.pack(">Ii", 258 + n, n) for n in range(6))
    return {
        "f.bin": bytes(np.tile([3, 4, 1, 2, 3], 6).astype(np.uint8)),
        "f2.aedat": aedat2,
        "f3.aedat": aedat3(POLARITY, POLARITY),
        "f.npz": npz(**GOOD, **SIZED),
    }


@pytest.mark.parametrize("name", sorted(whole_files()))
@ANY_FILE
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused_and_never_anything_else(
    tmp_path: Path, name: str, data: st.DataObject
) -> None:
    broken = bytearray(whole_files()[name])
    for _ in range(data.draw(st.integers(0, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(broken)))
    (tmp_path / name).write_bytes(bytes(broken[:cut]))
    stream = read_or_told(tmp_path / name)
    if stream is not None:
        assert (np.diff(stream.events["t"]) >= 0).all()
        assert stream.counts().sum() == len(stream)


@pytest.mark.parametrize(
    "head", [b"", b"#!AER-DAT2.0\r\n# AEChip: DVS128\r\n", b"#!AER-DAT3.1\r\n#!END-HEADER\r\n", b"PK\x03\x04"]
)
@ANY_FILE
@given(tail=st.binary(max_size=200))
def test_noise_is_refused_or_a_stream(tmp_path: Path, head: bytes, tail: bytes) -> None:
    (tmp_path / "noise.bin").write_bytes(head + tail)
    stream = read_or_told(tmp_path / "noise.bin", width=400, height=400)
    if stream is not None:
        assert len(stream) <= len(tail) // 5
