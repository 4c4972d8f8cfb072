"""What neurobench asks of the operating system, tried on the one at hand."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from neurobench import system
from neurobench.errors import InUse, UsageError

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="kill -9, sessions and mount tables of POSIX")


# ------------------------------------------------------------------ processes


def report_group(pipe: Connection) -> None:
    pipe.send((os.getpid(), os.getpgrp(), os.getsid(0)))


@posix_only
def test_spawned_process_leads_its_own_session() -> None:
    ours, theirs = system.spawn_context().Pipe()
    process = system.spawn(report_group, theirs, name="probe")
    assert ours.poll(20), "the child never answered"
    pid, group, session = ours.recv()
    process.join(20)
    assert (pid, group, session) == (process.pid,) * 3
    assert os.getsid(0) != session
    assert process.exitcode == 0


def wait_until(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def run_python(code: str, *arguments: str, cwd: Path | None = None, own_group: bool = False) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, cwd=cwd, start_new_session=own_group)


@posix_only
def test_detached_process_outlives_a_parent_whose_group_is_killed(tmp_path: Path) -> None:
    """And it runs the module that is installed, not one that happens to lie in the working directory."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "napping.py").write_text("import sys, time; print('up', *sys.argv[1:], flush=True); time.sleep(30)")
    (tmp_path / "napping.py").write_text("print('a stale copy in the working directory')")
    code = "import os, sys, time; from neurobench import system; from pathlib import Path\n"
    code += "os.environ['PYTHONPATH'] = 'modules'\n"
    code += "print(system.start_detached('napping', 'a', log=Path(sys.argv[1])), flush=True); time.sleep(30)"
    log = tmp_path / "log"
    parent = run_python(code, str(log), cwd=tmp_path, own_group=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        assert wait_until(lambda: log.exists() and log.read_text() == "up a\n")
        os.killpg(parent.pid, signal.SIGKILL)
        parent.communicate()
        assert system.pid_alive(child)
    finally:
        os.kill(child, signal.SIGKILL)
    assert wait_until(lambda: not system.pid_alive(child))


@posix_only
def test_detached_child_that_ended_is_not_alive_for_its_living_parent(tmp_path: Path) -> None:
    pid = system.start_detached("this", log=tmp_path / "log")
    assert wait_until(lambda: not system.pid_alive(pid))
    assert "Zen" in (tmp_path / "log").read_text()


@posix_only
def test_zombie_is_not_alive() -> None:
    assert system.pid_alive(os.getpid())
    process = run_python("")
    assert process.stdout is not None
    process.stdout.read()
    assert wait_until(lambda: not system.pid_alive(process.pid)), "an unreaped child counted as alive"
    process.communicate()
    assert not system.pid_alive(process.pid)


# ------------------------------------------------------------------ locks

HOLD = """
import sys, time
from neurobench.system import Lock
lock = Lock(sys.argv[1], purpose="training")
lock.acquire()
print("held", flush=True)
time.sleep(60)
"""


def test_lock_names_its_holder_and_is_free_after_release(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "chip.lock"
    with system.Lock(path, "run 7") as lock:
        assert lock.held
        holder = system.holder_of(path)
        assert holder is not None
        assert (holder.pid, holder.purpose) == (os.getpid(), "run 7")
        with pytest.raises(InUse, match=rf"process {os.getpid()} on .* since 20.*\(run 7\)"):
            system.Lock(path).acquire()
        with pytest.raises(InUse, match="already held by this object"):
            lock.acquire()
    assert not lock.held
    assert system.holder_of(path) is None
    with system.Lock(path):
        pass


@posix_only
def test_lock_dies_with_a_killed_process(tmp_path: Path) -> None:
    path = tmp_path / "bench.lock"
    child = run_python(HOLD, str(path))
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(InUse, match=rf"process {child.pid} .*\(training\)"):
        system.Lock(path).acquire()
    child.kill()
    child.communicate()
    assert path.with_name("bench.lock.holder").exists(), "a killed process cannot tidy up"
    assert system.holder_of(path) is None
    with system.Lock(path, "mine"):
        found = system.holder_of(path)
    assert found is not None
    assert found.purpose == "mine"


@pytest.mark.parametrize("left", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1, "host": "h"}'])
def test_lock_survives_a_broken_holder_note(tmp_path: Path, left: str) -> None:
    path = tmp_path / "x.lock"
    note = path.with_name("x.lock.holder")
    with system.Lock(path):
        note.write_text(left)
        assert system.holder_of(path) == system.Holder(0, "unknown", "unknown", "")
        with pytest.raises(InUse, match="a process that left no name"):
            system.Lock(path).acquire()


def test_looking_at_a_lock_leaves_nothing_behind(tmp_path: Path) -> None:
    assert system.holder_of(tmp_path / "never.lock") is None
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"cannot lock .*chip\.lock.*must be writable"):
        system.Lock(tmp_path / "file" / "chip.lock").acquire()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is Linux's")
def test_a_lock_that_cannot_be_made_is_not_called_in_use() -> None:
    with pytest.raises(UsageError, match="must be writable") as refused:
        system.Lock("/proc/neurobench-test.lock").acquire()
    assert not isinstance(refused.value, InUse)


def test_lock_is_given_back_when_its_note_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "x.lock"
    with monkeypatch.context() as patch, pytest.raises(UsageError, match="No space left"):
        patch.setattr(system, "replace_file", full)
        system.Lock(path).acquire()
    with system.Lock(path) as lock:
        assert lock.held


# ------------------------------------------------------------------ signals

SIGNALS = [signal.SIGINT, signal.SIGTERM] + ([] if sys.platform == "win32" else [signal.SIGHUP])


@pytest.mark.parametrize("number", SIGNALS)
def test_stop_signal_calls_back_and_the_old_handler_returns(number: signal.Signals) -> None:
    heard: list[str] = []
    inherited = signal.signal(number, _unheard)  # under nohup the tests inherit an ignored SIGHUP
    try:
        before = {one: signal.getsignal(one) for one in SIGNALS}
        with system.on_stop_signal(heard.append):
            signal.raise_signal(number)
            signal.raise_signal(number)
        assert heard == [number.name] * 2
        assert {one: signal.getsignal(one) for one in SIGNALS} == before
    finally:
        signal.signal(number, inherited)


def _unheard(number: int, frame: object) -> None:
    pytest.fail(f"signal {number} reached the former handler ({frame})")


def test_handlers_return_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="in the block"), system.on_stop_signal(lambda _: None):
        assert signal.getsignal(signal.SIGTERM) is not before
        raise RuntimeError("in the block")
    assert signal.getsignal(signal.SIGTERM) is before


@posix_only
def test_nohup_stays_in_force(monkeypatch: pytest.MonkeyPatch) -> None:
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with system.on_stop_signal(lambda name: pytest.fail(f"{name} was heard")):
            signal.raise_signal(signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, former)


# ------------------------------------------------------------------ files


def test_replace_writes_new_and_old_files(tmp_path: Path) -> None:
    path = tmp_path / "chip.toml"
    system.replace_file(path, b"one")
    system.replace_file(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert [one.name for one in tmp_path.iterdir()] == ["chip.toml"]


@posix_only
def test_replace_keeps_mode_and_symbolic_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    system.replace_file(link, b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("failing", ["sync_file", "replace"])
def test_interrupted_replace_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    path = tmp_path / "chip.toml"
    path.write_bytes(b"old")
    monkeypatch.setattr(*((system, failing, fail) if failing == "sync_file" else (Path, failing, fail)))
    with pytest.raises(OSError, match="Input/output"):
        system.replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["chip.toml"]


@posix_only
def test_replace_syncs_the_file_before_and_the_folder_after_the_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def sync(descriptor: int) -> None:
        about = os.fstat(descriptor)
        events.append("sync folder" if stat.S_ISDIR(about.st_mode) else f"sync {about.st_size} bytes")
        real_sync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        events.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", rename)
    system.replace_file(tmp_path / "x", b"12345")
    assert events == ["sync 5 bytes", "rename", "sync folder"]


def test_free_bytes_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    there, later = system.free_bytes(tmp_path), system.free_bytes(tmp_path / "a" / "b")
    assert there > 0
    assert later == pytest.approx(there, rel=0.1)


MOUNTS = [
    ("/", "ext4", "rw"),
    ("/home", "nfs4", "rw,vers=4.2"),
    ("/home/local", "xfs", "rw"),
    ("/over", "ext4", "rw"),
    ("/over", "cifs", "rw"),
    ("/key", "fuse.sshfs", "rw"),
    ("/homework", "tmpfs", "rw"),
    ("/z", "", "rw,remote"),
]


@posix_only
@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", None),
        ("/home/me/runs", "nfs4"),
        ("/home/local/runs", None),
        ("/homework/runs", None),
        ("/over/x", "cifs"),
        ("/key/x", "fuse.sshfs"),
        ("/z/x", "remote"),
    ],
)
def test_deepest_mount_decides_whether_a_path_is_remote(path: str, kind: str | None) -> None:
    assert system._network_mount(Path(path), MOUNTS) == kind


def test_network_filesystem_reads_the_real_mount_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil

    tmp_path = tmp_path.resolve()
    disk = psutil.disk_partitions(all=True)[0]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: [disk._replace(mountpoint=str(tmp_path), fstype="NFS")])
    assert system.network_filesystem(tmp_path / "not yet" / "there") == "nfs"
    assert system.network_filesystem(tmp_path.parent) is None


def test_data_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEUROBENCH_HOME", str(tmp_path))
    assert system.data_folder() == tmp_path
    monkeypatch.delenv("NEUROBENCH_HOME")
    assert system.data_folder().is_absolute()
    assert system.data_folder().name == "neurobench"
    assert system.runs_folder() == Path("runs")


def test_time_is_utc_and_sorts() -> None:
    first = system.utc_now()
    time.sleep(0.002)
    assert first < system.utc_now()
    assert first.endswith("Z")
    assert len(first) == len("2026-01-31T12:00:00.000Z")
