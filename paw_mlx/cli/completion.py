"""`paw-mlx completion`: what completes commands, options, names and files in a shell.

A script asks `paw-mlx completion answer` for what may stand where the cursor is, and the shell
shows, quotes and chooses; files it finds itself.
"""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, split_arg_string

from .command import Command

BASH = r"""# Completion of paw-mlx for bash. Add to ~/.bashrc:  eval "$(paw-mlx completion bash)"
_paw_mlx() {
    local kind value more before=
    COMPREPLY=()
    while IFS=$'\t' read -r kind value more; do
        case $kind in
            # What bash takes for the word begins behind the last @ or = that is not quoted.
            word) case $value in *"$2") before=${value%"$2"} ;; esac ;;
            plain) COMPREPLY+=("${value#"$before"}") ;;
            file)
                while IFS= read -r value; do
                    compopt -o filenames 2>/dev/null # it quotes them
                    COMPREPLY+=("$value")
                done < <(compgen -d -- "$more"; compgen -f -X "!$value" -- "$more") ;;
        esac
    done < <("${1/#\~/$HOME}" completion answer --line "${COMP_LINE:0:COMP_POINT}" 2>/dev/null)
}
complete -o nosort -F _paw_mlx paw-mlx 2>/dev/null ||
    complete -o filenames -F _paw_mlx paw-mlx # a Mac's bash 3.2 has no nosort, and no compopt
"""
ZSH = r"""#compdef paw-mlx
# Completion of paw-mlx for zsh. Add to ~/.zshrc, below compinit:  eval "$(paw-mlx completion zsh)"
_paw_mlx() {
    local kind value more pattern
    local -a plain
    while IFS=$'\t' read -r kind value more; do
        case $kind in
            plain) plain+=("${value//:/\\:}${more:+:$more}") ;;
            file) pattern=$value ;;
        esac
    done < <("${(Q)words[1]/#\~/$HOME}" completion answer -- \
        "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)
    (( $#plain )) && _describe -V 'paw-mlx' plain
    if [[ -n $pattern ]]; then
        [[ $PREFIX == --*=* ]] && compset -P '*='
        _files -g "$pattern"
    fi
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _paw_mlx "$@" # it lies in fpath
else
    compdef _paw_mlx paw-mlx
fi
"""
FISH = r"""# Completion of paw-mlx for fish. Keep it with:
#   paw-mlx completion fish > ~/.config/fish/completions/paw-mlx.fish
function __paw_mlx
    set -l words (commandline -opc)
    set -l word (commandline -ct | string unescape; or commandline -ct)
    $words[1] completion answer -- $words[2..-1] "$word" 2>/dev/null |
        while read -l -d \t kind value more
            switch $kind
                case plain
                    printf '%s\t%s\n' $value $more
                case file
                    __fish_complete_path $more
            end
        end
end
complete --command paw-mlx --no-files --keep-order --arguments '(__paw_mlx)'
"""


@click.group()
def command() -> None:
    """Print what completes commands, options, names of functions, and files in your shell."""


@command.command(cls=Command)
def bash() -> None:
    """Add `eval "$(paw-mlx completion bash)"` to ~/.bashrc."""
    click.echo(BASH, nl=False)


@command.command(cls=Command)
def zsh() -> None:
    """Add `eval "$(paw-mlx completion zsh)"` to ~/.zshrc, below compinit."""
    click.echo(ZSH, nl=False)


@command.command(cls=Command)
def fish() -> None:
    """Write it to ~/.config/fish/completions/paw-mlx.fish."""
    click.echo(FISH, nl=False)


@command.command(cls=Command, hidden=True)
@click.option("--line", help="The line up to the cursor, as bash has it, instead of WORDS.")
@click.argument("words", nargs=-1)
def answer(line: str | None, words: tuple[str, ...]) -> None:
    """Print what may stand for the last of WORDS: lines of a kind and two values, behind tabs.

    `word` comes first, what is completed. `plain` has a word and a help text; `file` a pattern
    and how the path begins.
    """
    from . import cli

    if line is not None:  # quotes may be open; a blank at its end begins a word
        *begun, last = split_arg_string(f"{line}.")
        words = (*begun[1:], last[:-1])
    *before, word = words or ("",)
    click.echo(f"word\t{word}")
    is_option = word.startswith("-") and "=" in word and "--" not in before
    name = word.partition("=")[0] + "=" if is_option else ""
    for item in ShellComplete(cli, {}, "paw-mlx", "").get_completions(before, word):
        if item.type == "plain":
            about = " ".join((item.help or "").split())
            click.echo(f"plain\t{name}{item.value}\t{about}")
        else:
            click.echo(f"file\t{item.pattern or '*'}\t{word.removeprefix(name)}")
