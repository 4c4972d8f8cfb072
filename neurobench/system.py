"""The operating system: the only module that knows how it starts processes, locks files, signals and keeps data.

Everything that differs between Linux, macOS and Windows stands here, so that a port is one file and one test.
Importing this module costs a few milliseconds; what is slow to import is imported where it is used.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurobench.errors import InUse, UsageError

if TYPE_CHECKING:
    from multiprocessing.context import SpawnContext, SpawnProcess
    from types import FrameType, TracebackType

    from filelock import BaseFileLock

WINDOWS = sys.platform == "win32"


# ---------------------------------------------------------------------------------------------- processes


def spawn_context() -> SpawnContext:
    """The one way to make pipes, flags and processes: `spawn`, on every system.

    A forked child would inherit locks, threads and open instrument sessions in whatever state they are.
    """
    import multiprocessing

    return multiprocessing.get_context("spawn")


def spawn(target: Callable[..., None], *args: Any, name: str | None = None) -> SpawnProcess:
    """Start `target(*args)` in a process of its own session, and return the started process.

    `target` is a function of an importable module and `args` can be pickled (connections of
    `spawn_context().Pipe()` can). A signal to the terminal's group does not reach the child, and it
    outlives a parent that is killed. A parent that ends normally waits for it: use `start_detached`
    where it must not.
    """
    process = spawn_context().Process(target=_leave_group, args=(target, args), name=name)
    process.start()
    return process


def _leave_group(target: Callable[..., None], args: tuple[Any, ...]) -> None:
    """Run in the child: leave the parent's session, then work."""
    if sys.platform == "win32":
        # A process group can only be chosen at creation there; not hearing Ctrl-C is what matters.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    else:
        os.setsid()
    target(*args)


def start_detached(
    module: str, *arguments: str, log: Path | None = None, environment: Mapping[str, str] | None = None
) -> int:
    """Start `python -m module arguments` in its own session and return its pid.

    The parent may end in any way without waiting. Output is appended to `log`, or thrown away; `environment` comes on
    top of this process's own. The working directory is not on the import path (-P): a program that puts volts on
    devices must not load code by accident.
    """
    with Path(log or os.devnull).open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            **_own_session(),
        )
    # Reap it whenever it ends: otherwise a dead child of a living parent would look alive for ever.
    threading.Thread(target=process.wait, name=f"reaper-{process.pid}", daemon=True).start()
    return process.pid


def _own_session() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.DETACHED_PROCESS}
    return {"start_new_session": True}


def pid_alive(pid: int) -> bool:
    """Whether a process of that number runs on this machine; one that ended but was not reaped does not."""
    import psutil

    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def kill_process(pid: int, argument: str) -> bool:
    """End a process at once and as it is, if it is the one that was started with that argument.

    False if there is none: another one may have got its number since.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        if argument not in process.cmdline():
            return False
        process.kill()
    except psutil.Error:
        return False
    return True


# ---------------------------------------------------------------------------------------------- locks


@dataclass(frozen=True)
class Holder:
    """Who holds a lock: process number, host, time (UTC, ISO 8601) and what for."""

    pid: int
    host: str
    since: str
    purpose: str

    def __str__(self) -> str:
        """For an error message, so that the reader can go and find the process."""
        return f"process {self.pid} on {self.host} since {self.since}{f' ({self.purpose})' if self.purpose else ''}"


class Lock:
    """A lock on one thing that only one process may touch: a bench, a chip, a run.

    The lock is the operating system's lock on the file `path`, so it ends with its process, however
    that dies, and a file left behind locks nothing. Who holds it stands in `path` + `.holder`, which
    is only read while the lock is taken. A second `Lock` on the same path is refused, also in the same process.

    Use it as a context manager, or call `acquire` and `release`. Errors: `InUse` names the holder;
    `UsageError` if the folder cannot be written.
    """

    # Long enough to outlast `holder_of`, which takes the lock for a moment to see whether it is free.
    _PATIENCE_S = 0.25

    def __init__(self, path: Path | str, purpose: str = "") -> None:
        self.path = Path(path)
        self.purpose = purpose
        self._held: BaseFileLock | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock."""
        return self._held is not None

    def acquire(self) -> None:
        """Take the lock now or raise `InUse`; never waits for another's work to end."""
        if self._held is not None:
            raise InUse(f"{self.path} is already held by this object")
        lock = _native_lock(self.path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            taken = _try_for(lock, self._PATIENCE_S)
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(f"cannot lock {self.path}: {reason}; its folder must be writable") from error
        if not taken and not self.path.exists():  # the library takes a file that cannot be made for one in use
            raise UsageError(f"cannot lock {self.path}: it cannot be made there; its folder must be writable")
        if not taken:
            raise InUse(f"{self.path} is in use by {_read_holder(self.path) or 'a process that left no name'}")
        self._held = lock
        self._sign()

    def _sign(self) -> None:
        me = Holder(os.getpid(), socket.gethostname(), utc_now(), self.purpose)
        try:
            replace_file(_holder_file(self.path), json.dumps(asdict(me)).encode())
        except OSError as error:
            self.release()
            raise UsageError(f"cannot write beside {self.path}: {error.strerror or error}") from error

    def release(self) -> None:
        """Give the lock back; does nothing if it is not held."""
        if self._held is None:
            return
        lock, self._held = self._held, None
        with contextlib.suppress(OSError):
            _holder_file(self.path).unlink()
        lock.release()

    def __enter__(self) -> Lock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder_of(path: Path | str) -> Holder | None:
    """Who holds the lock on `path` now, or None; what a dead process left behind counts as free."""
    path = Path(path)
    if not path.exists():
        return None
    lock = _native_lock(path)
    if not _try_for(lock, 0.0):
        return _read_holder(path) or Holder(0, "unknown", "unknown", "")
    lock.release()
    return None


def _native_lock(path: Path) -> BaseFileLock:
    from filelock import FileLock

    # Runs are stopped from other threads than the one that started them.
    return FileLock(str(path), thread_local=False)


def _try_for(lock: BaseFileLock, patience_s: float) -> bool:
    """Try to take the lock until `patience_s` is over, at least once."""
    from filelock import Timeout

    end = time.monotonic() + patience_s
    while True:
        try:
            lock.acquire(blocking=False)
            return True
        except Timeout:
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)


def _holder_file(path: Path) -> Path:
    return path.with_name(path.name + ".holder")


def _read_holder(path: Path) -> Holder | None:
    try:
        found = json.loads(_holder_file(path).read_text())
        return Holder(int(found["pid"]), str(found["host"]), str(found["since"]), str(found["purpose"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


# ---------------------------------------------------------------------------------------------- signals


def _stop_signals() -> list[signal.Signals]:
    names = ("SIGINT", "SIGTERM", "SIGBREAK", "SIGHUP")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextlib.contextmanager
def on_stop_signal(callback: Callable[[str], None]) -> Iterator[None]:
    """Inside the block, a request to stop calls `callback(signal name)` instead of ending the process.

    Requests are SIGINT, SIGTERM and SIGHUP (CTRL_BREAK on Windows); a SIGHUP that was ignored, as
    under nohup, stays ignored. The former handlers are back after the block, also after an error.
    Only the main thread can do this; elsewhere Python raises ValueError.
    """

    def handle(number: int, _frame: FrameType | None) -> None:
        callback(signal.Signals(number).name)

    with contextlib.ExitStack() as former:
        for one in _stop_signals():
            if one.name == "SIGHUP" and signal.getsignal(one) is signal.SIG_IGN:
                continue
            before = signal.signal(one, handle)
            # None means that the handler was not installed from Python and cannot be given back.
            former.callback(signal.signal, one, signal.SIG_DFL if before is None else before)
        yield


@contextlib.contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise KeyboardInterrupt, as Ctrl-C does: work is left in order. Only the main thread hears."""

    def interrupt(name: str) -> None:
        raise KeyboardInterrupt(name)

    if threading.current_thread() is threading.main_thread():
        with on_stop_signal(interrupt):
            yield
    else:
        yield


# ---------------------------------------------------------------------------------------------- files


def replace_file(path: Path | str, data: bytes) -> None:
    """Replace the contents of `path` by `data`, durably and as a whole.

    After a crash or a power cut at any moment the file holds either all of the old or all of the
    new contents. A symbolic link stays one; an existing file keeps its mode. Errors are OSError,
    with the old file untouched and nothing left beside it.
    """
    target = Path(os.path.realpath(path))
    new = target.with_name(f".{target.name}.{os.getpid()}-{threading.get_ident()}.new")
    try:
        _write_synced(new, data)
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(target, new)
        new.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise
    sync_folder(target.parent)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        sync_file(file.fileno())


def sync_file(descriptor: int) -> None:
    """Ask the disk, not only the kernel, to keep what was written to an open file."""
    if sys.platform == "darwin":
        import fcntl

        # fsync alone leaves data in the drive's own cache there.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_folder(folder: Path | str) -> None:
    """Make names created, replaced or removed in `folder` durable; Windows does so by itself."""
    if WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def free_bytes(path: Path | str) -> int:
    """Bytes that this user can still write at `path`, which need not exist yet."""
    return shutil.disk_usage(_nearest_existing(Path(path))).free


def network_filesystem(path: Path | str) -> str | None:
    """The type of the network file system that `path` lies on (`nfs4`, `cifs`, ...), or None.

    Best effort from the mount table: a file system that does not say what it is counts as local.
    """
    import psutil

    mounts = [(part.mountpoint, part.fstype, part.opts) for part in psutil.disk_partitions(all=True)]
    return _network_mount(_nearest_existing(Path(path)).resolve(), mounts)


# Names as in the mount tables. 9p is absent: containers have it as their local root.
_NETWORK_TYPES = frozenset(
    {"nfs", "nfs3", "nfs4", "cifs", "smb", "smb2", "smb3", "smbfs", "afpfs", "afs", "ceph", "glusterfs", "lustre"}
    | {"beegfs", "gpfs", "orangefs", "davfs", "webdav", "ncpfs", "vboxsf", "macfuse", "osxfuse"}
    | {f"fuse.{name}" for name in ("sshfs", "rclone", "glusterfs", "ceph", "s3fs", "davfs2", "vmhgfs-fuse")}
)


def _network_mount(path: Path, mounts: list[tuple[str, str, str]]) -> str | None:
    """`mounts` holds (mount point, type, options); the deepest one above `path` decides, the last of equals."""
    above = [mount for mount in mounts if path.is_relative_to(mount[0])]
    if not above:
        return None
    deepest = max(len(Path(point).parts) for point, _, _ in above)
    _, kind, options = [mount for mount in above if len(Path(mount[0]).parts) == deepest][-1]
    remote = kind.lower() in _NETWORK_TYPES or "remote" in options.split(",")
    return (kind.lower() or "remote") if remote else None


def _nearest_existing(path: Path) -> Path:
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def data_folder() -> Path:
    """Where chips, benches and settings of this user are kept: NEUROBENCH_HOME, or the system's place for it."""
    if home := os.environ.get("NEUROBENCH_HOME"):
        return Path(home).expanduser()
    import platformdirs

    return platformdirs.user_data_path("neurobench", appauthor=False)


def runs_folder() -> Path:
    """Where run files go unless told otherwise: `runs` in the current folder."""
    return Path("runs")


def utc_now() -> str:
    """The time in UTC to the millisecond, as 2026-01-31T12:00:00.000Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
