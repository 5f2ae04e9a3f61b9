"""Make the manual page and the completion from the help texts of the command line.

PYTHONPATH=. python3 packaging/manual.py man|completion [fr]
PYTHONPATH=. python3 packaging/manual.py receiver
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from agent.cli import app, command_line
from agent.core.i18n import _, language

if TYPE_CHECKING:
    from collections.abc import Iterator

WORDS = {
    "en": {
        "manual": "User Commands",
        "name": "NAME",
        "what": "the agent on a building's gateway",
        "synopsis": "SYNOPSIS",
        "command": "COMMAND",
        "options": "OPTIONS",
        "description": "DESCRIPTION",
        "commands": "COMMANDS",
        "status": "EXIT STATUS",
        "statuses": "0: success. 1: refused, or something needs attention. 2: wrong usage.",
        "files": "FILES",
        "see": "SEE ALSO",
        "/etc/gardien/config.yaml": "the configuration: how the building is read",
        "/etc/gardien/credentials/": "secrets, one in each file, for credential:gardien_NAME",
        "/var/lib/gardien/": "keys, registry and waiting readings",
        "/var/lib/gardien-upgrade/": (
            "marks of upgrades, and the lowest permitted version; owned by root"
        ),
        "/run/gardien.sock": "the local socket, for root and accounts with a role",
        "/usr/share/gardien/config.example.yaml": "a sample configuration with all sections",
    },
    "fr": {
        "manual": "Commandes de l'utilisateur",
        "name": "NOM",
        "what": "l'agent de la passerelle d'un immeuble",
        "synopsis": "SYNOPSIS",
        "command": "COMMANDE",
        "options": "OPTIONS",
        "description": "DESCRIPTION",
        "commands": "COMMANDES",
        "status": "CODE DE SORTIE",
        "statuses": "0 : succès. 1 : refus, ou quelque chose demande votre attention."
        " 2 : commande mal écrite.",
        "files": "FICHIERS",
        "see": "VOIR AUSSI",
        "/etc/gardien/config.yaml": "la configuration : comment l'immeuble est relevé",
        "/etc/gardien/credentials/": "les secrets, un par fichier, pour credential:gardien_NOM",
        "/var/lib/gardien/": "les clés, le registre et les relevés en attente",
        "/var/lib/gardien-upgrade/": (
            "les repères des mises à niveau, et la plus ancienne version permise ; appartient à"
            " root"
        ),
        "/run/gardien.sock": "la prise locale, pour root et les comptes qui ont un rôle",
        "/usr/share/gardien/config.example.yaml": "un exemple de configuration complet",
    },
}
Tree = list[tuple[str, click.Command]]


def commands(group: click.Group, before: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command below a group, by the words that call it."""
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        if isinstance(command, click.Group):
            if command.invoke_without_command:
                yield f"{before}{name}", command
            yield from commands(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


def roff(text: str) -> str:
    """Escape text for troff: no escapes, no requests, hyphens that can be copied."""
    safe = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + safe if safe[:1] in {".", "'"} else safe


def _options(command: click.Command) -> Iterator[str]:
    for one in command.params:
        if isinstance(one, click.Argument):
            shown, words = (one.human_readable_name, getattr(one, "help", None) or "")
        elif isinstance(one, click.Option) and not one.hidden:
            shown = ", ".join((*one.opts, *one.secondary_opts))
            kind = "" if one.is_flag else f" {one.make_metavar()}"
            shown, words = shown + kind, one.help or ""
        else:
            continue
        yield f".TP\n.B {roff(shown)}\n{roff(words) or '.'}"


def man(tree: Tree) -> str:
    """The page, as troff."""
    says = WORDS[language()]
    lines = [
        f'.TH GARDIEN 1 "" "gardien" "{says["manual"]}"',
        f".SH {says['name']}",
        f"gardien \\- {says['what']}",
        f".SH {says['synopsis']}",
        f".B gardien\n.I {says['command']}\n[\\fI{says['options']}\\fR]",
        f".SH {says['description']}",
        roff(_(app.info.help or "")),
        f".SH {says['commands']}",
    ]
    for words, command in tree:
        lines += [f".SS gardien {roff(words)}"]
        for paragraph in (command.help or "").split("\n\n"):
            lines += [roff(paragraph), ".PP"]
        lines += list(_options(command))
    lines += [f".SH {says['status']}", roff(says["statuses"]), f".SH {says['files']}"]
    lines += [f".TP\n.I {roff(path)}\n{roff(use)}" for path, use in says.items() if path[0] == "/"]
    lines += [f".SH {says['see']}", ".BR gardien\\-upgrade (8),", ".BR journalctl (1)"]
    return "\n".join(lines) + "\n"


COMPLETION = """\
# bash completion for gardien, generated from its help

_gardien() {{
    local cur=${{COMP_WORDS[COMP_CWORD]}} path= word
    for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
        case $word in -*) ;; *) case " $_gardien_groups " in
            *" ${{path:+$path/}}$word "*) path=${{path:+$path/}}$word ;; esac ;; esac
    done
    local offer= file=
    case $path in
{cases}
    esac
    if [[ " {files} " == *" ${{COMP_WORDS[COMP_CWORD-1]}} "* || $file && $cur != -* ]]; then
        mapfile -t COMPREPLY < <(compgen -f -- "$cur")
    else
        mapfile -t COMPREPLY < <(compgen -W "$offer" -- "$cur")
    fi
}}
_gardien_groups="{groups}"
complete -o filenames -F _gardien gardien
"""


def completion(tree: Tree) -> str:
    """The completion for bash, command by command."""
    offers: dict[str, list[str]] = {}
    takes: dict[str, str] = {}
    for words, command in tree:
        path = words.split()
        for depth, word in enumerate(path):
            offers.setdefault("/".join(path[:depth]), []).append(word)
        offers["/".join(path)] = [
            one for option in command.params if isinstance(option, click.Option)
            for one in option.opts if one.startswith("--")
        ]  # fmt: skip
        named = [one for one in command.params if isinstance(one, click.Argument)]
        if any(isinstance(one.type, click.Path) for one in named):
            takes["/".join(path)] = "file=1 "
    cases = [
        f'    "{path}") {takes.get(path, "")}offer="{" ".join(dict.fromkeys(words))}" ;;'
        for path, words in offers.items()
    ]
    groups = " ".join(path for path in offers if path)
    options = (one for _, command in tree for one in command.params)
    files = {opt for one in options if isinstance(one.type, click.Path) for opt in one.opts}
    return COMPLETION.format(
        cases="\n".join(cases),
        groups=groups,
        files=" ".join(sorted(opt for opt in files if opt.startswith("-"))),
    )


RECEIVER_FILES = (
    ("/etc/gardien-receiver/receiver.conf", "the configuration, with comments"),
    ("/etc/gardien-receiver/ca.pem, ca.key, server.pem", "what `init` makes"),
    ("/var/lib/gardien-receiver/", "the database of SQLite"),
    ("/usr/share/doc/gardien-receiver/receiver.md", "the manual: set-up, queries, operation"),
)


def receiver() -> str:
    """The page of gardien-receiver, whose help is argparse's."""
    from receiver.run import command_line  # noqa: PLC0415 -- the others do not need it

    parser = command_line()
    (commands,) = (one for one in parser._actions if isinstance(one.choices, dict))  # noqa: SLF001
    lines = [
        '.TH GARDIEN-RECEIVER 1 "" "gardien" "User Commands"',
        ".SH NAME",
        "gardien\\-receiver \\- the platform of gardien's gateways",
        ".SH SYNOPSIS",
        ".B gardien\\-receiver\n.I COMMAND\n[\\fIOPTIONS\\fR]",
        ".SH DESCRIPTION",
        roff(parser.description or ""),
        ".SH COMMANDS",
    ]
    for name, command in commands.choices.items():
        lines += [f".SS gardien\\-receiver {roff(name)}", roff(command.description), ".PP"]
        for option in command._actions[1:]:  # noqa: SLF001 -- the first is --help
            shown = " ".join(filter(None, (", ".join(option.option_strings), option.metavar)))
            lines.append(f".TP\n.B {roff(shown)}\n{roff(option.help or '') or '.'}")
    lines += [".SH EXIT STATUS", "0: success. 1: refused or failed. 2: wrong usage.", ".SH FILES"]
    lines += [f".TP\n.I {roff(path)}\n{roff(use)}" for path, use in RECEIVER_FILES]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print a manual page or the completion."""
    if sys.argv[1:] == ["receiver"]:
        sys.stdout.write(receiver())
        return
    forms = {"man": man, "completion": completion}
    form, *languages = sys.argv[1:] or [""]
    if form not in forms or languages not in ([], ["fr"]):
        raise SystemExit(__doc__)
    os.environ["LANGUAGE"] = languages[0] if languages else "en"
    tree = list(commands(command_line()))
    sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr] # not that of the builder
    sys.stdout.write(forms[form](tree))


if __name__ == "__main__":
    main()
