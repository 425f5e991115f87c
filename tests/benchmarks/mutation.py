"""Mutation check: changes one operator, comparison, condition or number of the maths at a time; does a test notice?

    python tests/benchmarks/mutation.py ranking evaluation association --output /tmp/mutants.csv
    python tests/benchmarks/mutation.py ranking --only /tmp/mutants.csv --slow --output /tmp/again.csv

A first run says which tests execute which lines; a mutant then meets only the tests that execute its statement, the
quickest first, until one fails. All is imported and collected once: a mutant is a forked process in which the
functions' code is exchanged, or, where the change concerns the import, the module is imported again. The source on
disk is never touched. Mutants come in random order, so that what is done at any time is a fair sample of all.
"""

from __future__ import annotations

import argparse
import ast
import csv
import gc
import importlib.abc
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import tempfile
import threading
import time
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vreid_cli"
_OPERATORS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
}
_PAIRED = (("min", "max"), ("amin", "amax"), ("any", "all"), ("minimum", "maximum"), ("argmin", "argmax"))
_PAIRED += (("floor", "ceil"), ("left", "right"), ("cummin", "cummax"), ("clamp_min", "clamp_max"), ("sum", "mean"))
_NAMES = {one: other for pair in _PAIRED for one, other in (pair, pair[::-1])} | {"mean": "sum"}
#: Arguments that guard against wrong calls, or say how something is done and not what.
_HOW = {"strict", "copy", "frozen", "slots", "repr"}
#: CPU seconds of tests that a mutant may meet while none fails, and those after which one that hangs counts as noticed.
_ENOUGH, _LIMIT = 8.0, 10.0


@dataclass(frozen=True)
class Mutant:
    """One change of a module: the ``number``-th that can be made, in the statement of these lines.

    Attributes:
        imported: Whether the change takes place when the module is imported, not when a function is called.
    """

    path: Path
    number: int
    line: int
    lines: range
    what: str
    imported: bool

    def __str__(self) -> str:
        text = self.path.read_text(encoding="utf-8").splitlines()[self.line - 1].strip()
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.what}: {text}"


class _Mutator(ast.NodeTransformer):
    """Counts the places that can be changed, and changes one of them.

    Left out is what no number depends on: annotations, decorators, messages, assertions (they are for mypy).
    """

    def __init__(self, path: Path, wanted: int = -1) -> None:
        self.path, self.wanted, self.found = path, wanted, list[Mutant]()
        self._statement, self._depth = range(0), 0

    def tree(self) -> ast.Module:
        tree: ast.Module = self.visit(ast.parse(self.path.read_text(encoding="utf-8")))
        return ast.fix_missing_locations(tree)

    def _here(self, node: ast.expr | ast.stmt, what: str) -> bool:
        number = len(self.found)
        self.found.append(Mutant(self.path, number, node.lineno, self._statement, what, self._depth == 0))
        return number == self.wanted

    def visit(self, node: ast.AST) -> ast.AST:
        if not isinstance(node, ast.stmt):
            return super().visit(node)  # type: ignore[no-any-return]
        before, body = self._statement, getattr(node, "body", None)
        self._statement = range(node.lineno, body[0].lineno if body else (node.end_lineno or node.lineno) + 1)
        try:
            return super().visit(node)  # type: ignore[no-any-return]
        finally:
            self._statement = before

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.visit(node.args)
        self._depth += 1
        node.body = [self.visit(one) for one in node.body]
        self._depth -= 1
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.body = [self.visit(one) for one in node.body]
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(default) for default in node.defaults]
        node.kw_defaults = [default and self.visit(default) for default in node.kw_defaults]
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        node.value = node.value and self.visit(node.value)
        return node

    def _leave(self, node: ast.AST) -> ast.AST:
        return node

    visit_Raise = visit_Assert = visit_JoinedStr = _leave  # noqa: N815

    def visit_keyword(self, node: ast.keyword) -> ast.AST:
        return node if node.arg in _HOW else self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp | ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        swap = _OPERATORS.get(type(node.op))
        a_type = self._depth == 0 and isinstance(node.op, ast.BitOr)
        if swap and not a_type and self._here(node, f"{type(node.op).__name__} to {swap.__name__}"):
            node.op = swap()  # type: ignore[assignment]
        return node

    visit_AugAssign = visit_BinOp  # noqa: N815

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        for place, operator in enumerate(node.ops):
            swap = _OPERATORS[type(operator)]
            if self._here(node, f"{type(operator).__name__} to {swap.__name__}"):
                node.ops[place] = swap()  # type: ignore[call-overload]
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        swap = _OPERATORS[type(node.op)]
        if self._here(node, f"{type(node.op).__name__} to {swap.__name__}"):
            node.op = swap()  # type: ignore[assignment]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not | ast.Invert | ast.USub) and self._here(node, f"no {type(node.op).__name__}"):
            return node.operand
        return node

    def visit_If(self, node: ast.If | ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        plain = not isinstance(node.test, ast.Compare | ast.BoolOp | ast.UnaryOp)  # these change by themselves
        if plain and self._here(node.test, "the opposite"):
            node.test = ast.UnaryOp(ast.Not(), node.test)
        return node

    visit_IfExp = visit_If  # noqa: N815

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        value = node.value
        if type(value) in (int, float) and self._here(node, f"{value} to {value + 1}"):  # type: ignore[operator]
            return ast.copy_location(ast.Constant(value + 1), node)  # type: ignore[operator]
        if type(value) is bool and self._here(node, f"{value} to {not value}"):
            return ast.copy_location(ast.Constant(not value), node)
        if value in ("left", "right") and self._here(node, f"{value} to {_NAMES[str(value)]}"):
            return ast.copy_location(ast.Constant(_NAMES[str(value)]), node)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        field = {ast.Name: "id", ast.Attribute: "attr"}.get(type(node.func), "")
        swap = _NAMES.get(getattr(node.func, field, ""))
        if swap and self._here(node, f"{getattr(node.func, field)} to {swap}"):
            setattr(node.func, field, swap)
        return node


def mutants_of(path: Path) -> list[Mutant]:
    """Every change of a module."""
    mutator = _Mutator(path)
    mutator.tree()
    return mutator.found


def chosen(names: list[str]) -> list[Mutant]:
    """The mutants of packages and modules."""
    paths = [PACKAGE / name for name in names]
    modules = [one for path in paths for one in ([path] if path.suffix == ".py" else sorted(path.glob("*.py")))]
    return [mutant for module in modules for mutant in mutants_of(module)]


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the mutant in the place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant
        self.name = ".".join(mutant.path.relative_to(ROOT).with_suffix("").parts)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> object:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_file_location(fullname, self.mutant.path, loader=self)  # type: ignore[arg-type]

    def create_module(self, spec: object) -> None:
        return None

    def exec_module(self, module: object) -> None:
        exec(_compiled(self.mutant), vars(module))  # the change is the point of it


def _compiled(mutant: Mutant) -> types.CodeType:
    return compile(_Mutator(mutant.path, mutant.number).tree(), str(mutant.path), "exec")


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield constant
            yield from _codes(constant)


def _exchange(mutant: Mutant, functions: Iterable[types.FunctionType]) -> None:
    """Give the functions of the module the mutant's code."""
    changed = {(code.co_qualname, code.co_firstlineno): code for code in _codes(_compiled(mutant))}
    for function in functions:
        key = (function.__code__.co_qualname, function.__code__.co_firstlineno)
        if function.__code__.co_filename == str(mutant.path) and key in changed and "<lambda>" not in key[0]:
            function.__code__ = changed[key]


class Tracer:
    """Which lines of some files each test executes, and its CPU seconds."""

    def __init__(self, files: set[str]) -> None:
        self.files, self.lines = files, set[tuple[str, int]]()

    def __call__(self, frame: types.FrameType, event: str, argument: object) -> object:
        if frame.f_code.co_filename not in self.files:
            return None
        self.lines.add((frame.f_code.co_filename, frame.f_lineno))
        return self

    def of(self, item: pytest.Item, following: pytest.Item | None) -> dict[str, object]:
        self.lines, started = set(), time.process_time()
        for trace in (threading.settrace, sys.settrace):
            trace(self)  # type: ignore[operator]
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        for trace in (sys.settrace, threading.settrace):
            trace(None)
        return {"test": item.nodeid, "seconds": time.process_time() - started, "lines": sorted(self.lines)}


class Collected:
    """A pytest plugin: collects once, then runs what it is asked for, each time in a process of its own."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests, self._answers = os.fdopen(requests), os.fdopen(answers, "w")

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        functions = [one for one in gc.get_objects() if isinstance(one, types.FunctionType)]
        functions = [one for one in functions if one.__code__.co_filename.startswith(str(PACKAGE))]
        by_name = {item.nodeid: item for item in session.items}
        gc.freeze()  # or every fork would copy all that its collector looks at
        for line in self._requests:
            request = json.loads(line)
            child = os.fork()
            if child == 0:
                if "trace" in request:
                    _trace(session, set(request["files"]), Path(request["trace"]))
                _limit(request["seconds"])
                mutant = Mutant(Path(request["path"]), request["number"], 0, range(0), "", False)
                _exchange(mutant, functions)
                _run(session, [by_name[name] for name in request["tests"]])
            print(os.waitpid(child, 0)[1], file=self._answers, flush=True)
        return True


def _trace(session: pytest.Session, files: set[str], output: Path) -> NoReturn:
    tracer, items = Tracer(files), session.items
    rows = [tracer.of(item, following) for item, following in zip(items, [*items[1:], None], strict=True)]
    output.write_text(json.dumps(rows), encoding="utf-8")
    os._exit(min(session.testsfailed, 1))


def _run(session: pytest.Session, items: list[pytest.Item]) -> NoReturn:
    """Run tests until one fails; the exit code is 0 if none does."""
    try:
        for item, following in zip(items, [*items[1:], None], strict=True):
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if session.testsfailed:
                break
    finally:
        os._exit(min(session.testsfailed, 1))


def _limit(seconds: float) -> None:
    """Let the system end this process if it hangs, or takes far more memory than any test."""
    signal.setitimer(signal.ITIMER_PROF, _LIMIT + 4 * seconds)
    signal.alarm(int(60 * (_LIMIT + 4 * seconds)))
    now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + 4 * 2**30,) * 2)


def _options(*, slow: bool) -> list[str]:
    marks = "not browser" if slow else "not slow and not browser"
    plain = ["-q", "-s", "-x", "--no-header", "--timeout=0", "--hypothesis-profile=mutation", "-m", marks]
    return [*plain, "-p", "no:cacheprovider", "-p", "no:xdist"]


def _quiet() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


class Check:
    """Runs mutants against some tests.

    Args:
        mutants: What will be asked for.
        tests: Paths for pytest.
        slow: Whether tests that are marked slow take part, and there is no end of time for a mutant.
    """

    def __init__(self, mutants: list[Mutant], tests: list[str], *, slow: bool) -> None:
        self._slow = slow
        theirs, self._ask = os.pipe()
        self._answers, answer = os.pipe()
        if os.fork() == 0:
            os.close(self._ask)
            _quiet()
            os._exit(pytest.main([*_options(slow=slow), *tests], plugins=[Collected(theirs, answer)]))
        os.close(answer)
        self._reader = os.fdopen(self._answers)
        with tempfile.TemporaryDirectory() as folder:
            traced = Path(folder) / "trace.json"
            code = self._send({"trace": str(traced), "files": sorted({str(mutant.path) for mutant in mutants})})
            if code:
                raise SystemExit("the tests fail without any change: run them by themselves first")
            self._rows = json.loads(traced.read_text(encoding="utf-8"))
        self._rows.sort(key=lambda row: row["seconds"])

    def _send(self, request: dict[str, object]) -> int:
        os.write(self._ask, (json.dumps(request) + "\n").encode())
        return int(self._reader.readline())

    def tests_of(self, mutant: Mutant) -> tuple[list[str], float]:
        """The tests that execute it, the quickest first, and their CPU seconds together."""
        path, names, total = str(mutant.path), [], 0.0
        for row in self._rows:
            executed = {line for file, line in row["lines"] if file == path}
            if (mutant.imported and executed) or not executed.isdisjoint(mutant.lines):
                if total > _ENOUGH and not self._slow:
                    break
                names.append(row["test"])
                total += row["seconds"]
        return names, total

    def notices(self, mutant: Mutant) -> str:
        """``noticed``, ``survived``, or ``not run`` where no test executes it."""
        tests, seconds = self.tests_of(mutant)
        if not tests:
            return "not run"
        if mutant.imported:
            code = self._again(mutant, tests, seconds)
        else:
            code = self._send({"path": str(mutant.path), "number": mutant.number, "tests": tests, "seconds": seconds})
        return "noticed" if code else "survived"

    def _again(self, mutant: Mutant, tests: list[str], seconds: float) -> int:
        child = os.fork()
        if child == 0:
            _quiet()
            _limit(seconds + 10)
            finder, code = _Finder(mutant), 1
            sys.meta_path.insert(0, finder)
            try:
                importlib.import_module(finder.name)  # before pytest does, which would not ask the finder
                code = int(pytest.main([*_options(slow=self._slow), *tests]))
            finally:
                os._exit(min(code, 1))
        return os.waitpid(child, 0)[1]


def warm_up() -> None:
    """Import what is heavy and does not change, so that each mutant need not."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in ("torch", "scipy.sparse", "pyarrow.parquet", "sklearn.linear_model", "PIL.Image", "pydantic"):
        importlib.import_module(name)
    from hypothesis import Phase, settings

    # The first example that fails is enough: a smaller one would take a minute to find.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile(
        "mutation", phases=phases, max_examples=20, deadline=None, database=None, derandomize=True
    )


def selected(arguments: argparse.Namespace) -> list[Mutant]:
    """The mutants that are asked for, in random order."""
    every = chosen(arguments.names)
    print(f"{len(every)} mutants of {' '.join(arguments.names)}", file=sys.stderr)
    if arguments.only:
        with arguments.only.open(encoding="utf-8", newline="") as file:
            alive = {(row["path"], int(row["number"])) for row in csv.DictReader(file) if row["result"] != "noticed"}
        every = [one for one in every if (str(one.path.relative_to(ROOT)), one.number) in alive]
    random.Random(arguments.seed).shuffle(every)
    return every[: arguments.sample]


def main() -> None:
    """Check mutants, print what survived, and keep each result as soon as it is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="packages or modules below vreid_cli/")
    parser.add_argument("--output", type=Path, required=True, help="a .csv for the results")
    parser.add_argument("--only", type=Path, help="those that were not noticed in the results of an earlier run")
    parser.add_argument("--sample", type=int, help="so many of them")
    parser.add_argument("--tests", nargs="+", help="by these tests, not by the unit tests and examples of the packages")
    parser.add_argument("--slow", action="store_true", help="by all tests, however long they take")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    os.chdir(ROOT)
    warm_up()
    some = selected(arguments)
    packages = sorted({one.path.parent.name for one in some})
    usual = [f"{folder}/{package}" for package in packages for folder in ("vreid_cli", "tests/unit")]
    started, counts = time.monotonic(), {"noticed": 0, "survived": 0, "not run": 0}
    check = Check(some, arguments.tests or [*usual, "tests/golden"], slow=arguments.slow)
    print(f"traced in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    with arguments.output.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["result", "path", "number", "line", "what"])
        for done, mutant in enumerate(some, start=1):
            result = check.notices(mutant)
            counts[result] += 1
            rows.writerow([result, mutant.path.relative_to(ROOT), mutant.number, mutant.line, mutant.what])
            file.flush()
            if result != "noticed":
                print(f"{result}: {mutant}", flush=True)
            if done % 20 == 0 or done == len(some):
                print(f"{done}/{len(some)}: {counts}, {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    print(f"{counts['noticed']} of {len(some)} mutants noticed ({100 * counts['noticed'] / len(some):.1f}%)")


if __name__ == "__main__":
    main()
