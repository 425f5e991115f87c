"""What the site holds besides the pages of this folder. MkDocs calls these functions when it builds it (mkdocs.yml).

Pages of the repository that stand elsewhere become pages of the site, commands and settings are written out from the
app itself, and links lead to where their page is on the site.
"""

from __future__ import annotations

import html
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from mkdocs.structure.files import File, Files

from vreid_cli.cli.app import COMMANDS, EXPORTS, make_app
from vreid_cli.config import Settings, section_class
from vreid_cli.types.options import Options

ROOT = Path(__file__).resolve().parent.parent
#: Pages of the site that stand elsewhere in the repository.
ELSEWHERE = {
    "index.md": "README.md",
    "contributing.md": "CONTRIBUTING.md",
    "changelog.md": "CHANGELOG.md",
    "security.md": "SECURITY.md",
    "figures.md": "tests/benchmarks/README.md",
    "small.md": "vreid_cli/models/small/README.md",
}


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are not in ``docs/``."""
    made = {name: (ROOT / source).read_text(encoding="utf-8") for name, source in ELSEWHERE.items()}
    made |= {"commands.md": "\n".join(_commands()), "settings.md": "\n".join(_settings())}
    for name, text in made.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Let links between pages of the repository lead to the pages of the site."""
    name = page.file.src_uri
    folder = (ROOT / ELSEWHERE.get(name, f"docs/{name}")).parent
    homes = {(ROOT / source).resolve(): site for site, source in ELSEWHERE.items()}

    def lead(link: re.Match[str]) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        if re.match(r"[a-z]+:", target) or not target:
            return link[0]
        path = (folder / target).resolve()
        if path.parent == ROOT / "docs":
            return f"[{link['text']}]({path.name}{anchor})"
        if path in homes:
            return f"[{link['text']}]({homes[path]}{anchor})"
        return link["text"]  # a file of the repository that is no page

    return re.sub(r"\[(?P<text>[^\]]*)\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)", lead, markdown)


def on_post_page(output: str, page: Any, config: Any) -> str:
    """Take the script that lets a file be searched from the site itself: the theme would fetch it from elsewhere."""
    return output.replace("https://unpkg.com/iframe-worker/shim", "frame_worker.js")


def on_post_template(output_content: str, template_name: str, config: Any) -> str:
    """The same for what is no page, such as 404.html."""
    return on_post_page(output_content, None, config)


def _commands() -> Iterator[str]:
    yield "# Commands\n\nWritten out from the program, as `vreid COMMAND --help` shows it."
    group = typer.main.get_command(make_app([*COMMANDS, *EXPORTS]))
    common: list[Any] = []
    for name, command in _walk(group, "vreid"):
        own = [one for one in command.params if getattr(one, "rich_help_panel", None) != "Every command"]
        shared = [one for one in command.params if one not in own and one.name not in ("run_dir", "seed")]
        common = common or shared
        own += [one for one in command.params if one not in own and one not in shared]
        yield f"\n## {name}\n"
        yield _prose(command.help)
        yield from _table(own)
    yield "\n## Every command\n"
    yield from _table(common)
    yield "\n`vreid --install-completion` lets the shell complete commands, options and their values."


def _walk(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _walk(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _prose(help_text: str) -> str:
    text, _, examples = help_text.partition("Examples:")
    lines = textwrap.dedent(examples.strip("\n")).strip()
    return f"{text.strip()}\n\n```console\n{lines}\n```\n" if lines else text.strip() + "\n"


def _table(parameters: list[Any]) -> Iterator[str]:
    yield "\n| option | value | |\n|---|---|---|"
    for one in parameters:
        names = ", ".join(f"`{name}`" for name in one.opts if name.startswith("-")) or f"`{one.metavar}`"
        value = _code(one.metavar) if one.metavar and names != f"`{one.metavar}`" else ""
        yield f"| {names} | {value} | {_cell(one.help.replace(chr(92), ''))} |"


def _settings() -> Iterator[str]:
    yield (
        "# Settings\n\nAll of them, as `vreid.toml`, `--config FILE.toml` and `--set section.key=value` take them, and"
        " as `--show-config` prints them. Many are options of commands, too ([commands](commands.md)).\n"
        " What a value may be is checked; an unknown key or a wrong type is an error that names it."
    )
    for section in Settings.model_fields:
        yield from _section(section, section_class(section))


def _section(name: str, options: Any) -> Iterator[str]:
    yield f"\n## [{name}]\n\n| key | default | |\n|---|---|---|"
    nested = {}
    for key, field in options.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, Options):
            nested[f"{name}.{key}"] = type(default)
            continue
        cell = "" if default in (None, (), "") else _code(_toml(default))
        yield f"| `{key}` | {cell} | {_cell(options.presentation(key).help)} |"
    for inner, its_options in nested.items():
        yield from _section(inner, its_options)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(one) for one in value)}]"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _code(text: str) -> str:
    # Not in backticks: there a table would show the backslash before each bar.
    return f"<code>{html.escape(text).replace('|', '&#124;<wbr>')}</code>"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;") if text else ""
