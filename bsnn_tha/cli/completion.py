"""``bsnn-tha completion SHELL``: a script that completes commands, options and names.

It holds all words that can follow, so that a press of the tabulator key does not wait for
PyTorch to be imported. After an upgrade it is written anew.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

import typer

from bsnn_tha.presets import preset_names

BASH = """\
# Completion for bsnn-tha: eval "$(bsnn-tha completion bash)"
_bsnn_tha() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}}
    local place="" words="" word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case "$place/$word" in
            {places}) place="$place/$word" ;;
        esac
    done
    case "$before" in
        --variant) words="{variants}" ;;
        *) case "$place" in
{cases}
        esac ;;
    esac
    COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _bsnn_tha bsnn-tha
"""
ZSH = "autoload -U +X compinit && compinit\nautoload -U +X bashcompinit && bashcompinit\n"
NAMES_OF_DATA = ("/train", "/study")
"""Commands that a data set's name may follow."""


class Shell(StrEnum):
    """Shells that completion is written for."""

    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Annotated[Shell, typer.Argument(help="bash, zsh or fish.", show_choices=False)],
) -> None:
    """Print a script that completes commands, options, data sets and variants.

    \b
    eval "$(bsnn-tha completion bash)"            in ~/.bashrc
    eval "$(bsnn-tha completion zsh)"             in ~/.zshrc
    bsnn-tha completion fish | source             in ~/.config/fish/config.fish
    """
    from bsnn_tha.cli import app

    print(script(typer.main.get_command(app), shell))


def script(command: Any, shell: Shell) -> str:
    """The script for a shell."""
    words = _words(command)
    for place in NAMES_OF_DATA:
        words[place] = [*words[place], *preset_names()]
    # `study digits` is `study run digits`.
    words["/study"] = [*dict.fromkeys(words["/study"] + words["/study/run"])]
    if shell == Shell.fish:
        return _fish(words)
    cases = "\n".join(
        f'            "{place}") words="{" ".join(known)}" ;;' for place, known in words.items()
    )
    places = "|".join(place for place in words if place)
    text = BASH.format(places=places, cases=cases, variants=" ".join(_variants()))
    return (ZSH if shell == Shell.zsh else "") + text


def _words(command: Any, place: str = "") -> dict[str, list[str]]:
    """What can follow a command and each below it: commands and options, by place."""
    below = getattr(command, "commands", {})
    options = [name for p in command.params for name in p.opts if name.startswith("--")]
    found = {place: [*below, *options, "--help"]}
    for name, inner in below.items():
        found |= _words(inner, f"{place}/{name}")
    return found


def _variants() -> list[str]:
    return sorted({variant for variants in preset_names().values() for variant in variants})


def _fish(words: dict[str, list[str]]) -> str:
    lines = ["# Completion for bsnn-tha: bsnn-tha completion fish | source"]
    for place, known in words.items():
        names = place.split("/")[1:]
        seen = [f"__fish_seen_subcommand_from {name}" for name in names]
        when = "; and ".join(seen) if seen else "__fish_use_subcommand"
        plain = " ".join(word for word in known if not word.startswith("--"))
        if plain:
            lines.append(f"complete -c bsnn-tha -n '{when}' -a '{plain}'")
        for word in known:
            if word == "--variant":
                values = " ".join(_variants())
                lines.append(f"complete -c bsnn-tha -n '{when}' -l variant -x -a '{values}'")
            elif word.startswith("--"):
                lines.append(f"complete -c bsnn-tha -n '{when}' -l {word[2:]}")
    return "\n".join(lines)
