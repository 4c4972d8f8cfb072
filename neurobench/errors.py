"""Everything that neurobench raises on purpose, one tree.

    NeurobenchError
    |-- UsageError              the request itself is wrong                              exit 2
    |   |-- ConfigError         bench.toml, protocol parameters or an override
    |   |-- UnknownName         no such protocol, bench, device, run
    |   |-- CurveError          a curve file that cannot be used as it is
    |   |-- RunFileError        not a run file, a newer version, damaged
    |   |-- ResumeRefused       the record and the present do not fit together
    |   |   `-- BaselineMoved   cells are not where the record left them; may be accepted
    |   `-- InUse               the bench, the chip or the run belongs to another process
    |-- Refused                 understood, and not allowed                              exit 3
    |   |-- LimitExceeded       a limit of the chip or of the bench
    |   |-- CapabilityMissing   the bench cannot do what the protocol needs
    |   |-- OutsideHull         a device model was asked for what was never measured
    |   `-- NoRoom              not enough disk left to record what would be done
    |-- BenchFault              the world failed                                         exit 4
    |   |-- LinkLost            no answer
    |   |-- InstrumentError     an answer that says no
    |   `-- PulseUnknown        a pulse may or may not have been fired
    `-- Aborted                 the operator or a signal ended the run                   exit 130

A message says what was asked, what is allowed, whose rule it is and where to change it.
"""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class NeurobenchError(Exception):
    """Anything neurobench raises on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(NeurobenchError):
    """The request itself is wrong; nothing was done."""

    exit_code = 2


class ConfigError(UsageError):
    """A bench file, a protocol parameter or an override is not valid."""


class UnknownName(UsageError):
    """A protocol, bench, device or run of that name does not exist."""


class CurveError(UsageError):
    """A curve file cannot be used as it is."""


class RunFileError(UsageError):
    """Not a run file, one of a newer version, or a damaged one."""


class ResumeRefused(UsageError):
    """The record and the present bench, chip or program do not fit together."""


class BaselineMoved(ResumeRefused):
    """Cells are not where the record left them; the operator may accept that and go on."""


class InUse(UsageError):
    """A bench, a chip or a run belongs to another process."""


class Refused(NeurobenchError):
    """The request was understood and is not allowed; nothing was done."""

    exit_code = 3


class LimitExceeded(Refused):
    """A limit of the chip or of the bench would be passed."""


class CapabilityMissing(Refused):
    """The bench cannot do what the protocol or the stimulus needs."""


class OutsideHull(Refused):
    """A device model was asked for something that was neither measured nor declared."""


class NoRoom(Refused):
    """There is not enough disk left to record what would be done."""


class BenchFault(NeurobenchError):
    """The bench, a link or an instrument failed while in use."""

    exit_code = 4


class LinkLost(BenchFault):
    """A link gave no answer in time."""


class InstrumentError(BenchFault):
    """An instrument answered with an error of its own; the message holds its words."""


class PulseUnknown(BenchFault):
    """A pulse may or may not have been fired, and nothing can tell which."""


class Aborted(NeurobenchError):
    """The operator or a signal ended the run; outputs are off."""

    exit_code = 130


def unknown(what: str, name: str, known: Iterable[str], where: str = "") -> str:
    """Say that `name` is no `what`, with the nearest known names (or all of a short list)."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known: {', '.join(names) or 'none'}"
    return f"no {what} {name!r}; {hint}{f' ({where})' if where else ''}"
