"""The shell's completion, from the command line's own parser: for bash, and for zsh by its bashcompinit."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

_SCRIPT = """\
# bash completion for wgsyncd, made by wgsyncd {version}
# zsh: autoload -U +X bashcompinit && bashcompinit, then source this file
_wgsyncd() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} prev=${{COMP_WORDS[COMP_CWORD-1]}} command= word words=
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in
            -*) ;;
            *) command=$word; break ;;
        esac
    done
    case "$command $prev" in
{values}
    esac
    case $command in
        '') words='{commands} --help --version' ;;
{options}
    esac
    COMPREPLY=()
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(compgen -W "$words" -- "$cur")
}}
_wgsyncd_files() {{
    local word
    COMPREPLY=()
    compopt -o filenames 2>/dev/null
    while IFS= read -r word; do
        COMPREPLY+=("$word")
    done < <(compgen -f -- "${{COMP_WORDS[COMP_CWORD]}}")
}}
complete -F _wgsyncd wgsyncd
"""


def bash(commands: Mapping[str, argparse.ArgumentParser]) -> str:
    """The script."""
    from wgsyncd import __version__

    values: list[str] = []
    options: list[str] = []
    for name, parser in commands.items():
        words: list[str] = []
        for action in parser._actions:
            words += action.option_strings or [str(one) for one in action.choices or ()]
            if action.option_strings and action.nargs != 0:
                values += [f"        '{name} {option}') {_value(action)}" for option in action.option_strings]
        options.append(f"        {name}) words='{' '.join(words)}' ;;")
    return _SCRIPT.format(
        version=__version__, commands=" ".join(commands), values="\n".join(values), options="\n".join(options)
    )


def _value(action: argparse.Action) -> str:
    """What may stand after an option."""
    if action.choices:
        chosen = f"words='{' '.join(map(str, action.choices))}'; command=-"
        return f"{chosen} ;;"
    if action.type is Path:
        return "_wgsyncd_files; return ;;"
    return "COMPREPLY=(); return ;;"
