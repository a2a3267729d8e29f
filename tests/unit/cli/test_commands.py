"""The command line: what is there, and what is said where something is not installed."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoints, entry_points

import pytest

from talkingface import cli


def test_research_adds_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert entry_points(group="talkingface.commands").names == {"bench", "evaluate"}
    for command in ("animate", "up", "bench", "evaluate"):
        with pytest.raises(SystemExit) as ended:
            cli.main([command, "--help"])
        assert ended.value.code == 0
        assert f"talkingface {command}" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["bench", "--json", "x"], ["evaluate", "motion"]])
def test_a_command_of_research_says_what_to_install(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "entry_points", lambda group: EntryPoints(()))
    assert cli.main(arguments) == cli.UNAVAILABLE
    assert capsys.readouterr().err == (
        f"talkingface: {arguments[0]} is not installed: pip install '.[research]' ./research\n"
    )


def test_where_only_the_client_is_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    for name in ("animate", "up"):
        monkeypatch.delitem(sys.modules, f"talkingface.cli.{name}", raising=False)
        monkeypatch.delattr(cli, name, raising=False)
    assert cli.main(["up"]) == cli.UNAVAILABLE
    assert "pip install '.[mesh]'" in capsys.readouterr().err
