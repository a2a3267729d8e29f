"""The command line: what is there, and what is said where something is not installed."""

from __future__ import annotations

import argparse
import sys
from importlib.metadata import EntryPoints, entry_points
from pathlib import Path

import pytest

from talkingface import cli
from talkingface.cli import animate
from talkingface.client import Background


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


@pytest.mark.parametrize(
    ("argument", "background"),
    [
        ("photo", Background(photo={})),
        ("transparent", Background(transparent={})),
        ("#0A10ff", Background(colour={"red": 10, "green": 16, "blue": 255})),
        ("FILE", Background(image=b"bytes of an image")),
    ],
)
def test_a_background_is_a_name_a_colour_or_a_file(
    argument: str, background: Background, tmp_path: Path
) -> None:
    file = tmp_path / "behind.png"
    file.write_bytes(b"bytes of an image")
    assert parsed(str(file) if argument == "FILE" else argument).background == background


@pytest.mark.parametrize("argument", ["#12345", "#12345g", "missing.png"])
def test_a_bad_background_is_refused(argument: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(argument)
    assert argument in capsys.readouterr().err


def parsed(background: str) -> argparse.Namespace:
    """The arguments of `talkingface animate` with a background."""
    parser = argparse.ArgumentParser()
    animate.add_parser(parser.add_subparsers())
    files = ["animate", "face.jpg", "voice.wav", "-o", "out.mp4"]
    return parser.parse_args([*files, "--background", background])
