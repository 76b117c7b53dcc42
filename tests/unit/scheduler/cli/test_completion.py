"""Shell completion scripts: the completions offered for a partial command line."""

import shutil
import subprocess

import pytest

from scheduler.cli.parser import main


@pytest.fixture
def script(capsys):
    def print_it(shell: str) -> str:
        assert main(["completion", shell]) == 0
        return capsys.readouterr().out

    return print_it


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["re"], ["recalibrate", "report", "resume", "retry"]),
        (["completion", ""], ["bash", "fish", "zsh"]),
        (["prune", "--"], ["--help", "--json", "--keep", "--log", "--older-than", "--store", "--yes"]),
        (["run", "x.yaml", "--progress", ""], ["auto", "json", "none"]),
        (["run", "spe"], []),  # the shell itself completes files
    ],
    ids=" ".join,
)
def test_bash_offers_commands_options_and_values(words, offered, script):
    """Commands, options and values are completed in a real bash."""
    line = " ".join(f"'{word}'" for word in ["mlho", *words])
    code = f"{script('bash')}\nCOMP_WORDS=({line}); COMP_CWORD={len(words)}; _mlho; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)

    assert sorted(done.stdout.split()) == offered


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_a_script_is_valid(shell, script):
    """The shell's own syntax check accepts the script, if the shell is installed."""
    text = script(shell)

    assert "prune" in text
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=text, text=True, check=True)
