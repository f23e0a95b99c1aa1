"""The shell scripts that hosts run: POSIX sh, with absolute paths and an environment of their own.

A text goes in by standard input, also a file's: the shell opens it, with the rights of its host.
What goes wrong is shown, and costs neither a selected text nor a file. The parts are constant, and
what varies comes as quoted words.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import OptionError, listed
from . import launchd, text
from .plan import Request

MAX_BRANCHES = 100  # labels that a script tells apart
_SHOW = """
show() {  # show TEXT: a dialog, from which it can be copied
  /usr/bin/osascript -e 'on run argv
    set answer to item 2 of argv
    display dialog answer with title (item 1 of argv) buttons {"Copy", "OK"} default button "OK"
    if button returned of result is "Copy" then set the clipboard to answer
  end run' "$title" "$1"
}
"""
_NOTIFY = """
notify() {  # notify TEXT
  /usr/bin/osascript -e 'on run argv
    display notification (item 2 of argv) with title (item 1 of argv)
  end run' "$title" "$1"
}
"""
_ASK = """
ask() {  # ask FILE: print what is said of its text; in $log, why nothing is
  [ -f "$1" ] || { echo 'it is no file' >"$log"; return 1; }
  size=$({ wc -c <"$1"; } 2>"$log") || return 1
  [ "$size" -le 1000000 ] || { echo 'it is larger than 1 MB' >"$log"; return 1; }
  case $1 in
  *.rtf | *.doc | *.docx | *.odt | *.html | *.htm | *.webarchive)
    /usr/bin/textutil -convert txt -output "$plain" "$1" 2>"$log" || return 1
    set -- "$plain"
    ;;
  esac
  run --overflow head - <"$1" 2>"$log"
}
"""
_MOVE = """
free() {  # free FOLDER NAME: find what nothing is called there yet; it is $free then
  free=$1/$2 number=1
  while [ -e "$free" ] || [ -L "$free" ]; do
    number=$((number + 1))
    free="$1/$number $2"
  done
}
move() {  # move FILE FOLDER: put it there, beside what has its name; it is $moved then
  mkdir -p "$2" || return 1
  free "$2" "${1##*/}"
  moved=$free
  mv -n "$1" "$moved"
}
"""
_KEEP = """
keep() {  # keep TEXT: put it beside $moved, and never over a file, or through a link
  free "${moved%/*}" "${moved##*/}.$name.txt"
  (set -C; printf '%s\\n' "$1" >"$free")
}
"""
_STILL = """
still() {  # wait until nothing is being written in $folder any more, five minutes at most
  before= number=0
  while now=$(ls -lA "$folder"); [ "$now" != "$before" ] && [ "$number" -lt 150 ]; do
    before=$now number=$((number + 1))
    sleep 2
  done
}
"""


def replacing(request: Request) -> str:
    """Return a script that prints an answer in place of the text, or the text if there is none."""
    return _script(
        request,
        _NOTIFY,
        """
given=$(cat; echo .)
given=${given%.}
if answer=$(printf '%s' "$given" | run - 2>"$log") && [ -n "$answer" ]; then
  printf '%s' "$answer"
  case $given in *"$newline") echo ;; esac
else
  notify "$(cat "$log")" >&2
  printf '%s' "$given"
fi
""",
    )


def showing(request: Request) -> str:
    """Return a script that shows an answer to the text in a dialog."""
    return _script(
        request,
        _SHOW,
        """
if answer=$(run - 2>"$log") && [ -n "$answer" ]; then
  show "$answer"
else
  show "$(cat "$log")"
fi
""",
    )


def printing(request: Request, given: str, errors: int = 2) -> str:
    """Return a script that prints an answer to what the shell command `given` prints.

    Why there is none goes to the descriptor `errors`.
    """
    return _script(
        request,
        f"""
if answer=$({given} | run - 2>"$log") && [ -n "$answer" ]; then
  printf '%s' "$answer"
else
  cat "$log" >&{errors}
  exit 1
fi
""",
    )


def tagging(request: Request) -> str:
    """Return a script that tags files with their labels in Finder, or shows what is said of each.

    OptionError for too many labels.
    """
    keep = 'tell "$answer"'
    if request.labels:
        _check_branches(request)
        labels = text.sh(*request.labels)
        keep = f'paw mac tag -- "$file" "$answer" {labels} 2>"$log" || tell "$(cat "$log")"'
    return _script(
        request,
        _SHOW,
        _ASK,
        f"""
told=
tell() {{ told="$told${{file##*/}}: $1$newline"; }}
for file in "$@"; do
  if answer=$(ask "$file") && [ -n "$answer" ]; then
    {keep}
  else
    tell "$(cat "$log")"
  fi
done
[ -z "$told" ] || show "$told"
""",
    )


def sorting(request: Request, files: str) -> str:
    """Return a script that sorts `files`, words of the shell, into folders in `request.to`.

    With labels, each has a folder, and a branch of its own; without, the answers lie beside the
    files. What a launch agent cannot sort goes to the folder `failed`, for the one it watches has
    to become empty. OptionError for too many labels.
    """
    branches, keep = "into=$name", 'keep "$answer"'
    if request.labels:
        _check_branches(request)
        folders = _folders(request.labels)
        cases = [
            f"{text.quoted(label)}) into={text.sh(into)} ;;" for label, into in folders.items()
        ]
        lines = ["# What becomes of a file of each label", "case $answer in", *cases]
        branches, keep = "\n    ".join([*lines, "*) into=other ;;", "esac"]), ""
    watches = request.kind == "launch-agent"
    wait, failed = (
        ('still; rm -f "$folder/.DS_Store"', 'move "$file" "$to/failed"') if watches else ("", "")
    )
    return _script(
        request,
        _NOTIFY,
        _ASK,
        _MOVE,
        _KEEP if not request.labels else "",
        _STILL if watches else "",
        f"""
to={text.sh(str(request.to))}
folder={text.sh(str(request.folder))}
name={text.sh(request.slug)}
{wait}
for file in {files}; do
  case ${{file##*/}} in *.download | *.crdownload | *.part) continue ;; esac
  [ {"-e" if watches else "-f"} "$file" ] || continue
  if answer=$(ask "$file") && [ -n "$answer" ]; then
    {branches}
    move "$file" "$to/$into" || continue
    {keep}
  else
    {failed}
    echo "${{file##*/}}: $(cat "$log")" >&2
    notify "${{file##*/}}: $(cat "$log")"
  fi
done
""",
    )


def _script(request: Request, *parts: str) -> str:
    told = ",".join(request.labels)
    labels = ["--labels", f" {told}" if told.startswith("@") else told]
    words = ["run", request.reference, *(labels if request.told_labels else [])]
    variables = launchd.environment().items()
    exports = [f"{name}={text.sh(text.checked(value, name))}" for name, value in variables]
    head = f"""\
# {request.reference} as {request.kind}: made by `paw-mlx mac install`, and removed by
# `paw-mlx mac remove {request.reference} --as {request.kind}`.
PATH=/usr/bin:/bin:/usr/sbin:/sbin PYTHONUTF8=1
export PATH PYTHONUTF8 {" ".join(exports)}
title={text.sh(request.title)}
newline='
'
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
log=$work/log plain=$work/plain
paw() {{ {text.sh(*launchd.command())} "$@"; }}
run() {{ paw {text.sh(*words)} "$@"; }}
"""
    lines = "".join([head, *parts]).splitlines()
    return "".join(f"{line.rstrip()}\n" for line in lines if line.strip() or not line)


def _folders(labels: Sequence[str]) -> dict[str, str]:
    """Return a folder's name for each label; macOS takes `A` and `a` for one."""
    folders: dict[str, str] = {}
    for label in labels:
        name, number = text.file_name(label), 1
        while (into := name if number == 1 else f"{name} {number}").casefold() in {
            taken.casefold() for taken in folders.values()
        }:
            number += 1
        folders[label] = into
    return folders


def _check_branches(request: Request) -> None:
    if len(request.labels) > MAX_BRANCHES:
        raise OptionError(
            f"{request.reference} has {len(request.labels)} labels "
            f"({listed(request.labels, 3)}), and a {request.kind} tells {MAX_BRANCHES} apart"
        )
