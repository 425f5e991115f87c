"""What holds for the repository as a whole: pages that link to what is there, one name for one thing."""

from __future__ import annotations

import ast
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

import vreid_cli

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("tests/**/*.md")])
CODE = sorted((ROOT / "vreid_cli").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
#: Folders of the repository, as pages name them; other folders are those of users and data sets.
OWN = ("vreid_cli/", "tests/", *(f"{path.parent.name}/" for path in ROOT.glob("vreid_cli/*/__init__.py")))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


#: Pages of the site that are made when it is built; mkdocs checks links to them.
MADE = set(re.findall(r"(\w+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.MULTILINE))


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = page.parent / file if file else page
        if page.parent == ROOT / "docs" and file in MADE and not linked.exists():
            continue
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


def test_cited_definitions_exist() -> None:
    known = anchors(ROOT / "docs/definitions.md")
    for path in [*CODE, *TESTS, *PAGES]:
        for anchor in re.findall(r"definitions\.md#([\w-]+)", path.read_text(encoding="utf-8")):
            assert anchor in known, f"{short(path)}: {anchor}"


@pytest.mark.parametrize("page", PAGES, ids=short)
def test_modules_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:\w+/)*\w+\.py|(?:\w+/)+)`", page.read_text(encoding="utf-8"))
    homes = [ROOT, ROOT / "vreid_cli", ROOT / "tests/support", page.parent]
    absent = [name for name in named if name.startswith(OWN) and not any((home / name).exists() for home in homes)]
    assert absent == []


def test_the_map_shows_every_package() -> None:
    map_section = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("\n## The map")[2]
    house = map_section.partition("```")[2].partition("```")[0]
    shown = set(re.findall(r"(?<![\w/.])(\w+)/", house)) - {"vreid_cli"}
    assert shown == {path.parent.name for path in ROOT.glob("vreid_cli/*/__init__.py")}


def test_the_api_page_shows_every_public_name() -> None:
    homes = {home.replace(":", ".") for home in vreid_cli._HOMES.values()}
    shown = re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(shown) == sorted(homes)


def test_no_two_classes_share_a_name() -> None:
    names = Counter(
        node.name
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_no_test_file_is_longer_than_500_lines() -> None:
    lengths = {short(path): len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS}
    assert {path: length for path, length in lengths.items() if length > 500} == {}


#: What the project says in another way, and how.
AVOIDED = {
    r"pictures?": "image",
    r"anew": "again",
    r"is told(?! apart)|are told(?! apart)|tells? of": "reports",
    r"mend(s|ed)?": "fix",
    r"shall|wherein|thereof": "(leave it out)",
    r"DESIGN section|section \d of DESIGN": "docs/definitions.md#…",
}


@pytest.mark.parametrize("word", AVOIDED)
def test_one_word_for_one_thing(word: str) -> None:
    pattern = re.compile(rf"\b({word})\b")
    own = Path(__file__).resolve()
    found = [
        f"{short(path)}:{number}: {line.strip()}"
        for path in [*CODE, *TESTS, *PAGES]
        if path != own
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if pattern.search(line)
    ]
    assert found == [], f"say {AVOIDED[word]}"


@pytest.mark.parametrize("module", ["fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty"])
def test_no_module_that_only_posix_has_is_imported(module: str) -> None:
    importing = re.compile(rf"^\s*(import|from) {module}\b", flags=re.MULTILINE)
    assert [short(path) for path in CODE if importing.search(path.read_text(encoding="utf-8"))] == []


def unseeded(node: ast.AST) -> bool:
    """Whether this is a random choice that no seed decides."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return "random" in [*(name.name for name in node.names), getattr(node, "module", None)]
    if not isinstance(node, ast.Call):
        return False
    called, given = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
    if re.fullmatch(r"np\.random\.\w+", called):
        return called != "np.random.default_rng" or not node.args
    return re.fullmatch(r"torch\.(rand|randn|randint|randperm|normal|bernoulli|multinomial)", called) is not None and (
        "generator" not in given
    )


def test_every_random_choice_has_a_seed() -> None:
    assert unseeded(ast.parse("torch.rand(3)").body[0].value)  # type: ignore[attr-defined]
    assert not unseeded(ast.parse("np.random.default_rng([seed, 1])").body[0].value)  # type: ignore[attr-defined]
    for path in CODE:
        found = [ast.unparse(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if unseeded(node)]
        assert not found, f"{short(path)}: {found}"


#: What messages count; and numbers before it that are never 1.
THINGS = "images tracks queries vehicles cameras videos frames boxes files parts rows columns lines items pairs classes"
MANY = {"len(known)", "len(groups)", "len(results)", "self.images"}


def numbers_before_a_plural(tree: ast.AST) -> list[str]:
    """What an f-string counts without :func:`amount`, and would call "1 images"."""
    found = []
    for node in ast.walk(tree):
        for value, text in pairwise(node.values) if isinstance(node, ast.JoinedStr) else ():
            if isinstance(value, ast.FormattedValue) and isinstance(text, ast.Constant):
                number, spec = ast.unparse(value.value), ast.unparse(value.format_spec or value.value)
                is_count = "len(" in number or spec == "f','" or number.rpartition(".")[2] in THINGS.split()
                plural = re.match(rf" ([a-z]+ )?({THINGS.replace(' ', '|')})\b", str(text.value))
                found += [number] if is_count and plural and number not in MANY else []
    return found


def test_messages_count_one_thing_in_the_singular() -> None:
    assert numbers_before_a_plural(ast.parse("f'{len(found):,} query images in {one.tracks} tracks'")) == [
        "len(found)",
        "one.tracks",
    ]
    for path in CODE:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        logged = re.findall(r"%d (?:[a-z]+ )?(?:" + THINGS.replace(" ", "|") + r")\b", ast.unparse(tree))
        assert [*numbers_before_a_plural(tree), *logged] == [], short(path)
