"""`neurobench check` and `bench new`: a good bench, and what is said of a wrong one, a missing one and of nonsense."""

from __future__ import annotations

import gc
import socket
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_cli_sim_bench import Bench, bench_file

from neurobench import cli
from neurobench.runs import benches

Command = Callable[..., Any]
QUICK = "[instruments.pulse]\ntimeout_s = 0.3\n"
TRUE_S = 4.545e-7  # of a fresh device of the built-in bench


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One running sim-bench; `check` fires nothing, so the tests may share it."""
    bench = Bench(tmp_path_factory.mktemp("served"), "--tcp", "--bench-set", "readout.noise=false")
    yield bench
    bench.end()


@pytest.fixture
def lab(served: Bench) -> str:
    """The bench file of a lab that has these instruments."""
    return bench_file(served.said)


def address(served: Bench, role: str) -> str:
    return next(str(row["resource"]) for row in served.said["instruments"] if row["role"] == role)


def words(text: str) -> str:
    """A table without its layout: lines of one cell joined."""
    return " ".join(text.split())


def open_files() -> int:
    """Files and sockets that this process has open; 0 on systems that do not say."""
    told = Path("/proc/self/fd")
    return len(list(told.iterdir())) if told.is_dir() else 0


class Stranger:
    """A program on a port that is no instrument: `reply` says what it answers to what it hears."""

    def __init__(self, reply: Callable[[bytes], bytes]) -> None:
        self.reply, self.heard, self.hung_up = reply, b"", threading.Event()
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.resource = f"TCPIP::127.0.0.1::{self.listening.getsockname()[1]}::SOCKET"
        self.threads = [threading.Thread(target=self._serve, daemon=True)]
        self.threads[0].start()

    def _serve(self) -> None:
        try:
            while True:
                peer, _ = self.listening.accept()
                with peer:
                    while data := peer.recv(4096):
                        self.heard += data
                        peer.sendall(self.reply(data))
                self.hung_up.set()
        except OSError:
            self.hung_up.set()

    def close(self) -> None:
        self.listening.shutdown(socket.SHUT_RDWR)
        self.listening.close()
        self.threads[0].join(5)


# ---------------------------------------------------------------------------------------------- a good bench


def test_a_good_bench(neurobench: Command, lab: str, served: Bench) -> None:
    Path("lab.toml").write_text(lab, encoding="utf-8")
    said = neurobench("check", "lab.toml")
    assert said.code == cli.OK
    for row in served.said["instruments"]:
        assert row["model"] in said.out
        assert row["resource"] in said.out
    assert said.out.count("ok (simulated)") == 3
    found = neurobench("check", "lab.toml", "--json").data
    assert [(row["role"], row["verdict"], row["self_test"]) for row in found["instruments"]] == [
        (role, "ok (simulated)", "passed") for role in ("smu", "pulse", "matrix")
    ]
    assert (found["at_rest"], found["simulated"], "fault" in found) == (True, True, False)
    assert found["reference"]["conductance_s"] == pytest.approx(TRUE_S, rel=0.01)
    assert found["reference"]["declared_s"] is None
    outputs = served.ask("keysight-33500b", "OUTP1?;:OUTP2?"), served.ask("keithley-2600b", "print(smua.source.output)")
    assert (outputs[0], float(outputs[1])) == ("0;0", 0.0)


@pytest.mark.parametrize(("declared_s", "code"), [(TRUE_S * 1.04, cli.OK), (TRUE_S * 1.08, cli.FAULT)])
def test_the_reference_cell_is_compared_with_its_declared_conductance(
    neurobench: Command, lab: str, declared_s: float, code: int
) -> None:
    Path("lab.toml").write_text(lab.replace("[instruments]\n", f"[instruments]\nreference_s = {declared_s:.4g}\n"))
    ended = neurobench("check", "lab.toml", "--json")
    assert ended.code == code
    assert ended.data["reference"]["within"] is (code == cli.OK)
    assert len(ended.data["instruments"]) == 3, "who is there is said all the same"
    assert ended.data["at_rest"]
    assert ("fault" in ended.data) is (code == cli.FAULT)
    shown = neurobench("check", "lab.toml")
    assert shown.code == code
    if code:
        assert "reference cell (0, 0)" in words(shown.out)
        assert "declared are 4.909e-07 S within 5% ([instruments] reference_s)" in words(shown.out)


# ---------------------------------------------------------------------------------------------- a wrong one


def refused(neurobench: Command, text: str) -> tuple[dict[str, Any], str]:
    """What `check` says of a bench that is not as its file says: exit code 4, one JSON object, and the table."""
    Path("lab.toml").write_text(text, encoding="utf-8")
    began_s = time.monotonic()
    ended = neurobench("check", "lab.toml", "--json")
    assert time.monotonic() - began_s < 5
    assert ended.code == cli.FAULT
    assert ended.data["at_rest"] is False
    assert "reference" not in ended.data, "nothing was read"
    shown = neurobench("check", "lab.toml")
    assert shown.code == cli.FAULT
    bad = [row for row in ended.data["instruments"] if not row["verdict"].startswith("ok")]
    assert len(bad) == 1
    assert len(ended.data["instruments"]) == 3, "the others are looked at all the same"
    assert ended.data["fault"] == f"{bad[0]['role']}: {bad[0]['verdict']}"
    row: dict[str, Any] = bad[0]
    for said in (row["role"], row["model"], row["resource"]):
        assert said in shown.out
    assert row["verdict"].split(": ")[0] in shown.out
    return row, words(shown.out)


def test_another_model_answers(neurobench: Command, lab: str, served: Bench) -> None:
    there = address(served, "pulse")
    wrong = lab.replace('model = "keithley-707b"', 'model = "keysight-34980a"').replace(
        f'resource = "{address(served, "matrix")}"', f'resource = "{there}"'
    )
    row, shown = refused(neurobench, wrong)
    assert (row["role"], row["resource"]) == ("matrix", there)
    assert row["verdict"].startswith("wrong:")
    assert "33522B" in row["answers"]
    assert "model = 'keysight-34980a'" in row["verdict"]
    assert "33522B" in shown


def test_the_right_model_with_another_serial_number(neurobench: Command, lab: str) -> None:
    row, shown = refused(neurobench, lab.replace("[instruments.smu]\n", '[instruments.smu]\nserial = "4711"\n'))
    assert row["role"] == "smu"
    assert row["verdict"].startswith("wrong:")
    assert "NBSIM002" in row["answers"]
    assert "serial = '4711'" in row["verdict"]
    assert "NBSIM002" in shown


def test_nobody_is_there(neurobench: Command, lab: str, served: Bench) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        resource = f"TCPIP::127.0.0.1::{free.getsockname()[1]}::SOCKET"
    row, shown = refused(neurobench, lab.replace(address(served, "pulse"), resource))
    assert row["resource"] == resource
    assert row["verdict"].startswith("no answer:")
    assert "refused" in row["verdict"], "in the words of the system"
    assert row["answers"] == ""
    assert resource in shown


NONSENSE: dict[str, tuple[Callable[[bytes], bytes], str, str]] = {
    "random bytes": (lambda _: bytes(range(128, 256)) + b"\n", "not understood:", "\\x80\\x81"),
    "empty lines": (lambda _: b"\n\n\n\n", "not understood:", ""),
    "a web server": (
        lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n<html/>\n",
        "not understood:",
        "HTTP/1.1",
    ),
    "an echo": (lambda data: data, "not understood:", "*IDN?"),
    "markup": (lambda _: b"[/red] [bold]a[/x]\n", "not understood:", "[/red]"),
    "too many fields": (lambda _: b"a,b,c,d,e,f,g,h\n", "", "a,b"),
    "bytes without an end": (lambda _: b"\x00" * 5000, "", ""),
    "silence": (lambda _: b"", "no answer:", ""),
}


@pytest.mark.parametrize("what", NONSENSE)
def test_what_answers_is_no_instrument(what: str, neurobench: Command, lab: str, served: Bench) -> None:
    reply, verdict, answers = NONSENSE[what]
    stranger = Stranger(reply)
    try:
        wrong = lab.replace(address(served, "pulse"), stranger.resource).replace("[instruments.pulse]\n", QUICK)
        row, shown = refused(neurobench, wrong)
        assert row["verdict"].startswith(verdict)
        assert answers in row["answers"]
        assert answers in shown
        assert stranger.hung_up.wait(2), "the session was closed"
        # asked for its name and nothing else: whatever it is, it was told to do nothing
        assert set(stranger.heard.splitlines()) == {b"*IDN?"}
    finally:
        stranger.close()


def test_who_talks_without_an_end_is_not_listened_to_for_ever(neurobench: Command, lab: str, served: Bench) -> None:
    stranger = Stranger(lambda _: b"x" * (16 << 20))
    try:
        wrong = lab.replace(address(served, "pulse"), stranger.resource).replace("[instruments.pulse]\n", QUICK)
        Path("lab.toml").write_text(wrong, encoding="utf-8")
        ended = neurobench("check", "lab.toml", "--json")
    finally:
        stranger.close()
    assert ended.code == cli.FAULT
    (row,) = [row for row in ended.data["instruments"] if row["role"] == "pulse"]
    assert row["verdict"].startswith(("no answer:", "not understood:"))
    assert len(str(row)) < 1000, "not all of it is repeated"


def test_nothing_is_left_open(neurobench: Command, lab: str, served: Bench) -> None:
    """The instruments can be asked by others afterwards, and no file or socket stays with this process."""
    wrong = lab.replace("[instruments.smu]\n", '[instruments.smu]\nserial = "4711"\n')
    for text in (lab, wrong):
        Path("lab.toml").write_text(text, encoding="utf-8")
        neurobench("check", "lab.toml", "--json")
        gc.collect()
        before = open_files()
        for _ in range(3):
            neurobench("check", "lab.toml", "--json")
        gc.collect()
        assert open_files() <= before
    for row in served.said["instruments"]:
        assert served.ask(row["model"], "*IDN?") == row["idn"]


def test_a_reference_cell_that_is_not_on_the_chip(neurobench: Command, lab: str) -> None:
    Path("lab.toml").write_text(lab.replace("[instruments]\n", "[instruments]\nreference_cell = [9, 0]\n"))
    said = neurobench("check", "lab.toml")
    assert said.code == cli.USAGE
    assert "reference_cell = [9, 0] is outside the array of (4, 4)" in said.err


# ---------------------------------------------------------------------------------------------- looking around


def test_what_is_connected_is_listed(neurobench: Command) -> None:
    found = neurobench("check", "visa-sim", "--list", "--json").data["found"]
    assert {(row["model"], row["role"]) for row in found} == {
        ("keithley-2600b", "smu"), ("keysight-33500b", "pulse"), ("keithley-707b", "matrix")
    }  # fmt: skip
    assert all("NBSIM" in row["answers"] and row["why"] == "" for row in found)
    shown = neurobench("check", "visa-sim", "--list")
    assert shown.code == cli.OK
    assert all(row["resource"] in shown.out for row in found)


def test_what_is_connected_to_this_computer_is_listed(neurobench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    strange = {"resource": "GPIB0::7::INSTR", "answers": "", "model": "", "role": "", "why": "no answer in time"}
    monkeypatch.setattr(benches, "find_real", lambda: [strange])
    assert neurobench("check", "--list", "--json").data == {"found": [strange]}
    assert "no answer in time" in neurobench("check", "--list").out
    monkeypatch.setattr(benches, "find_real", list)
    assert "nothing answers" in neurobench("check", "--list").out


def rows_of(served: Bench) -> list[dict[str, Any]]:
    return [
        {"resource": row["resource"], "answers": row["idn"], "model": row["model"], "role": row["role"], "why": ""}
        for row in served.said["instruments"]
    ] + [{"resource": "ASRL/dev/x::INSTR", "answers": "", "model": "", "role": "", "why": "no answer"}]


def filled(text: str) -> str:
    """What the operator does with a new bench file: every line that is only suggested is taken."""
    suggested = [line.startswith("#") and line[1:2] not in (" ", "[", "") for line in text.splitlines()]
    lines = [line[taken:] for line, taken in zip(text.splitlines(), suggested, strict=True)]
    return "\n".join(lines).replace("TODO.chip", "A7.chip").replace('"TODO"', '"A7"')


def test_a_new_bench_file_is_filled_in_and_works(
    neurobench: Command, served: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benches, "find_real", lambda library: rows_of(served) if library == "@py" else [])
    made = neurobench("bench", "new", "--library", "@py", "-o", "mine.toml", "--json")
    assert made.code == cli.OK
    assert made.data["used"] == {row["role"]: row["resource"] for row in served.said["instruments"]}
    text = Path("mine.toml").read_text(encoding="utf-8")
    assert "TODO" in text
    told = tomllib.loads(text)
    assert told["bench"]["backend"] == "visa"
    assert told["instruments"]["library"] == "@py"
    refusal = neurobench("check", "mine.toml", "--json")
    assert refusal.code == cli.USAGE, "limits are nothing to be guessed"
    assert "limits" in refusal.data["error"]
    Path("mine.toml").write_text(filled(text).replace("compliance_a = 1e-4", "compliance_a = 1e-2"), encoding="utf-8")
    whole = tomllib.loads(Path("mine.toml").read_text(encoding="utf-8"))
    assert whole["chip"]["id"] == "A7"
    whole_check = neurobench("check", "mine.toml", "--bench-set", "chip.accept_no_compliance=true", "--json")
    assert whole_check.code == cli.OK, whole_check
    assert whole_check.data["chip"] == "A7"


def test_a_bench_file_is_not_overwritten(neurobench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "find_real", lambda library: pytest.fail(f"looked for nothing with {library!r}"))
    Path("mine.toml").write_text("# limits that somebody thought about\n")
    said = neurobench("bench", "new", "-o", "mine.toml")
    assert said.code == cli.USAGE
    assert "not overwritten" in said.err
    assert Path("mine.toml").read_text() == "# limits that somebody thought about\n"


def test_a_new_bench_file_where_nothing_was_found(neurobench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benches, "find_real", lambda library: [])
    said = neurobench("bench", "new")
    assert (said.code, "no instrument found" in said.out) == (cli.OK, True)
    text = Path("bench.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["instruments"]["wiring"]["ground"] == 5
    assert text.count("nothing found that can") == 3
