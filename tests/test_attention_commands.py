"""The commands of `jaxelbo.attention` on scikit-learn's small data: a run, its resumption, and mistakes in one line."""

import pytest

from jaxelbo.attention import captions_command
from jaxelbo.attention.__main__ import main

COMMANDS = {
    "captions": ["--canvases", "100", "--samples", "2"],
    "dram": ["--task", "pairs", "--size", "24", "--glimpse-size", "6", "--glimpses", "2", "--batch-size", "250"],
    "ram": ["--glimpse-size", "3", "--glimpses", "2", "--batch-size", "250"],
    "one-glimpse": ["--task", "digits", "--glimpse-size", "4", "--grid", "3", "--hidden", "16", "--batch-size", "250"],
    "rationales": ["--dimensions", "20", "--length", "30", "--samples", "2"],
}


def options(name, folder, *more):
    return [name, "--data", "small", "--epochs", "1", "--seeds", "1", "--output", str(folder), *COMMANDS[name], *more]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "one-glimpse"])
def test_run(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(captions_command, "NUM_TEST", 100)
    main(options(name, tmp_path))
    first = capsys.readouterr().out
    assert "median" in first and "picture: " in first and "loss" in first and "bound" in first
    assert len(list(tmp_path.glob("*.npz"))) == 1 and len(list(tmp_path.glob("*.png"))) == 1


@pytest.mark.slow
def test_run_resume_and_refuse(tmp_path, capsys):
    """What is done is not done again, and only under the same options; all commands share this code."""
    name = "one-glimpse"
    main(options(name, tmp_path))
    first = capsys.readouterr().out
    main(options(name, tmp_path))  # nothing is left to do: the same table
    table = lambda text: [line for line in text.splitlines() if "│" in line]
    assert len(table(first)) >= 2 and table(capsys.readouterr().out) == table(first)
    with pytest.raises(SystemExit) as stop:
        main(options(name, tmp_path, "--learning-rate", "0.5"))
    assert stop.value.code == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and "configuration" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ram", "--data", "nowhere"], "train-images-idx3-ubyte (or train-images-idx3-ubyte.gz) is not in the folder"),
        (["rationales", "--data", "nowhere"], "train.txt (or train.txt.gz) is not in the folder nowhere"),
        (["ram", "--data", "small", "--glimpse-size", "9"], "shape.glimpse_size must be at most 8"),
        (["ram", "--data", "small", "--glimpses", "0"], "must be an integer of at least 1, got '0'"),
        (["one-glimpse"], "the following arguments are required: --data"),
        (["dance"], "invalid choice: 'dance'"),
        (["ram", "--data", "small", "--glimpse-size", "3", "--output", "taken"], "File exists: 'taken'"),
        (
            ["captions", "--data", "small", "--temperature", "0", "--attention", "relaxed"],
            "temperature must be positive",
        ),
    ],
)
def test_mistakes_are_one_line(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    error = capsys.readouterr().err
    assert stop.value.code != 0 and message in error and error.count("\n") == 1
