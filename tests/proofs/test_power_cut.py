"""What a power cut leaves: the run file rebuilt from a trace of system calls, with everything dropped that was not
synced when the power went. `kill -9` cannot show this, since the page cache survives it.

The model is the strict one: a file holds what it held at its last fsync, a folder the names that it held at its own.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fakes import Toy, remote_chip

from neurobench.runs.runfile import RunFile, Settled

STRACE = shutil.which("strace")
HELPER = Path(__file__).with_name("crash_points.py")
CALLS = "openat,close,write,pwrite64,ftruncate,fsync,fdatasync,rename,unlink,sendto"
LINE = re.compile(r"^(?:\d+ +)?(\w+)\((.*)\) += (-?\d+)")
TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')

# .ci/run installs it and does not accept this skip.
MISSING = STRACE is None and os.environ.get("NEUROBENCH_REQUIRE_STRACE") != "1"
pytestmark = pytest.mark.skipif(MISSING, reason="needs strace: apt-get install strace")


@dataclass
class Disk:
    """Files of one folder as the kernel sees them, and as the disk would after a power cut now."""

    folder: str
    open: dict[int, tuple[str, int]] = field(default_factory=dict)  # descriptor -> name, inode ("" is the folder)
    place: dict[int, int] = field(default_factory=dict)
    seen: dict[int, bytearray] = field(default_factory=dict)  # inode -> contents
    kept: dict[int, bytes] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    kept_names: dict[str, int] = field(default_factory=dict)

    def do(self, call: str, args: str, result: int) -> None:
        """One system call that succeeded."""
        texts = [bytes.fromhex(text.replace("\\x", "")) for text in TEXT.findall(args)]
        if call == "openat":
            self._open(texts[0].decode(errors="replace"), args, result)
        elif call in ("rename", "unlink"):
            self._rename(*[text.decode() for text in texts])
        elif (descriptor := int(args.split(",")[0])) in self.open:
            self._use(call, descriptor, args, texts, result)

    def _inside(self, path: str) -> str | None:
        if path == self.folder:
            return ""
        return path[len(self.folder) + 1 :] if path.startswith(self.folder + "/") else None

    def _open(self, path: str, args: str, descriptor: int) -> None:
        name = self._inside(path)
        if name is None:
            return
        if name and name not in self.names:
            self.names[name] = inode = len(self.seen)
            self.seen[inode], self.kept[inode] = bytearray(), b""
        if name and "O_TRUNC" in args:
            self.seen[self.names[name]].clear()
        self.open[descriptor] = (name, self.names.get(name, -1))
        self.place[descriptor] = 0

    def _rename(self, old: str, new: str = "") -> None:
        name, to = self._inside(old), self._inside(new)
        if name is not None and name in self.names:
            inode = self.names.pop(name)
            if to:
                self.names[to] = inode

    def _use(self, call: str, descriptor: int, args: str, texts: list[bytes], result: int) -> None:
        name, inode = self.open[descriptor]
        if call == "close":
            del self.open[descriptor]
        elif call in ("fsync", "fdatasync"):
            if name:
                self.kept[inode] = bytes(self.seen[inode])
            else:
                self.kept_names = dict(self.names)
        elif call == "ftruncate":
            size = int(args.split(",")[1])
            self.seen[inode] = (self.seen[inode] + bytes(size))[:size]
        elif call in ("write", "pwrite64"):
            at = int(args.rsplit(",", 1)[1]) if call == "pwrite64" else self.place[descriptor]
            self.place[descriptor] = at + result
            data = self.seen[inode]
            data.extend(bytes(max(0, at + result - len(data))))
            data[at : at + result] = texts[0][:result]

    def after_power_cut(self, to: Path) -> None:
        """Write what the disk holds."""
        shutil.rmtree(to, ignore_errors=True)
        to.mkdir()
        for name, inode in self.kept_names.items():
            (to / name).write_bytes(self.kept[inode])


def trace(tmp_path: Path, toy: Toy) -> list[tuple[str, str, int]]:
    """The system calls of one run over a chip in another process."""
    folder, log = tmp_path / "runs", tmp_path / "trace"
    folder.mkdir()
    with remote_chip(tmp_path / "chip") as chip:
        done = subprocess.run(
            [str(STRACE), "-f", "-qq", "-xx", "-s", "2000000", "-e", f"trace={CALLS}", "-o", str(log),
             sys.executable, str(HELPER), "plain", str(folder), json.dumps(chip.config()), toy.model_dump_json()],
            env={"PYTHONPATH": str(HELPER.parent.parent), "PATH": "/usr/bin:/bin"},
            capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
    if "ptrace" in done.stderr:
        pytest.skip(f"strace may not trace here: {done.stderr.strip()[:200]}")
    assert done.returncode == 0, done.stderr[-2000:]
    text = log.read_text()
    assert "unfinished" not in text, "the run has one thread, so its calls do not interleave"
    return list(_parsed(text))


def _parsed(text: str) -> Iterator[tuple[str, str, int]]:
    for line in text.splitlines():
        found = LINE.match(line)
        if found and int(found[3]) >= 0:
            yield found[1], found[2], int(found[3])


def is_trigger(call: str, args: str) -> bool:
    return call == "sendto" and b"fire" in bytes.fromhex(TEXT.findall(args)[0].replace("\\x", ""))


def test_power_cut_at_any_sync_or_message_leaves_a_readable_prefix_and_intents_precede_their_triggers(
    tmp_path: Path,
) -> None:
    disk, cut, triggers, ends, whole = Disk(str(tmp_path / "runs")), tmp_path / "cut", 0, [], 0
    for call, args, result in trace(tmp_path, Toy(epochs=3, pulses=2)):
        disk.do(call, args, result)
        if call not in ("fsync", "fdatasync", "sendto") or "a.nbr" not in disk.kept_names:
            continue
        disk.after_power_cut(cut)
        with RunFile.open(cut / "a.nbr") as run_file:
            rows = [row for row in run_file.entries() if row.kind == "apply"]
            ends.append(len(rows))
            whole += run_file.status == "finished"
        if is_trigger(call, args):
            triggers += 1
            assert len(rows) == triggers, "the intent was not on the disk when its trigger was sent"
            assert [row.settled for row in rows] == [Settled.DONE] * (triggers - 1) + [Settled.OPEN]
    assert triggers == 6
    assert ends == sorted(ends), "nothing that was durable is lost later"
    assert ends[-1] == 6
    assert whole, "the finished run is durable"


def test_the_model_of_the_disk_forgets_what_was_not_synced(tmp_path: Path) -> None:
    disk = Disk("/d")
    name = "".join(f"\\x{byte:02x}" for byte in b"/d/a")
    disk.do("openat", f'AT_FDCWD, "{name}", O_RDWR|O_CREAT', 3)
    disk.do("pwrite64", '3, "\\x41\\x42", 2, 1', 2)
    disk.after_power_cut(tmp_path / "cut")
    assert not list((tmp_path / "cut").iterdir()), "the name was never synced"
    disk.do("openat", f'AT_FDCWD, "{name[:8]}", O_RDONLY', 4)
    disk.do("fsync", "4", 0)
    disk.after_power_cut(tmp_path / "cut")
    assert (tmp_path / "cut" / "a").read_bytes() == b""
    disk.do("fdatasync", "3", 0)
    disk.do("pwrite64", '3, "\\x43", 1, 0', 1)
    disk.after_power_cut(tmp_path / "cut")
    assert (tmp_path / "cut" / "a").read_bytes() == b"\0AB"
