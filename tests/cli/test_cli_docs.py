"""docs/cli.md says what the program does: commands, options, exit codes, keys of the JSON object."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer

from neurobench import cli


@pytest.fixture(scope="module")
def page(checkout: Path) -> str:
    return (checkout / "docs" / "cli.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def sections(page: str) -> dict[str, str]:
    """Command name -> its part of the page."""
    body = page.partition("\n## Commands\n")[2].partition("\n## ")[0]
    parts = re.split(r"^### `neurobench ([\w-]+)", body, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(cli.app)
    return dict(group.commands)


def options(command: Any) -> set[str]:
    below = getattr(command, "commands", {}).values()
    params = [param for one in (command, *below) for param in one.params]
    found = {opt for param in params for opt in (*param.opts, *param.secondary_opts)}
    return {opt for opt in found if opt.startswith("-")} - {"--help"}


def test_every_command_has_its_section(sections: dict[str, str]) -> None:
    assert set(sections) == set(commands())


@pytest.mark.parametrize("name", sorted(commands()))
def test_the_options_are_those_of_the_program(sections: dict[str, str], name: str) -> None:
    documented = set(re.findall(r"`(--?[a-z][\w-]*)`", sections[name]))
    assert documented == options(commands()[name])


def test_exit_codes(page: str) -> None:
    table = dict(re.findall(r"^\| (\d+) \| (.+?) \|$", page, flags=re.MULTILINE))
    assert {int(code): text for code, text in table.items()} == cli.EXIT_CODES


def keys(text: str, heading: str) -> set[str]:
    table = text.partition(heading)[2].partition("|---|---|\n")[2].partition("\n\n")[0]
    return {key.strip() for line in table.splitlines() for key in line.split("|")[1].split(",")}


def test_json_keys_of_a_run(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.invoke(["run", "manhattan", "--out", str(tmp_path), "--json"]) == cli.OK
    said = json.loads(capsys.readouterr().out)
    assert set(said) == keys(page, "`run`, `resume`, `watch`, `show` and `demo` print:")
    named = page.partition("`result` of `manhattan` holds at least")[2].partition("`sweep`, and")[0]
    assert set(re.findall(r"`(\w+)`", named)) <= set(said["result"])


def test_json_keys_of_a_sweep(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sweep", "manhattan", "--seeds", "0:2", "--workers", "1", "--out", str(tmp_path), "--json"]
    assert cli.invoke(arguments) == cli.OK
    said = json.loads(capsys.readouterr().out)
    run_keys = keys(page, "`run`, `resume`, `watch`, `show` and `demo` print:")
    assert set(said) == run_keys - {"seed", "stopped", "harm"} | {"example"}
    assert set(said["result"]) == keys(page, "`result` then holds:")
