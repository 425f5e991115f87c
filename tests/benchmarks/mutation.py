"""Mutation check: changes one operator, comparison or number of the maths at a time, and sees whether a test notices.

    python tests/benchmarks/mutation.py ranking evaluation association --sample 120 --seed 1
    python tests/benchmarks/mutation.py evaluation/scores.py --own      # every mutant of a module, by its own tests

Each mutant is tested by the unit tests of its package (those of its own module first), in a process forked from one
in which everything heavy is imported; the source on disk is never touched. A mutant that survives is printed.
"""

from __future__ import annotations

import argparse
import ast
import importlib.abc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "vreid_cli"
_SWAPS: dict[type[ast.AST], type[ast.AST]] = {
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
#: Seconds after which a mutant that hangs counts as noticed.
_LIMIT = 240


@dataclass(frozen=True)
class Mutant:
    """One change of a module."""

    path: Path
    line: int
    number: int
    what: str


class _Mutator(ast.NodeTransformer):
    """Counts the places that can be changed, and changes one of them."""

    def __init__(self, wanted: int = -1) -> None:
        self.wanted, self.seen = wanted, 0
        self.found: list[tuple[int, int, str]] = []

    def _here(self, node: ast.expr, what: str) -> bool:
        self.found.append((node.lineno, self.seen, what))
        self.seen += 1
        return self.seen - 1 == self.wanted

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        swap = _SWAPS.get(type(node.op))
        if swap and self._here(node, f"{type(node.op).__name__} to {swap.__name__}"):
            node.op = swap()  # type: ignore[assignment]
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        self.generic_visit(node)
        swap = _SWAPS.get(type(node.ops[0]))
        if swap and self._here(node, f"{type(node.ops[0]).__name__} to {swap.__name__}"):
            node.ops[0] = swap()  # type: ignore[call-overload]
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        self.generic_visit(node)
        swap = _SWAPS[type(node.op)]
        if self._here(node, f"{type(node.op).__name__} to {swap.__name__}"):
            node.op = swap()  # type: ignore[assignment]
        return node

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.op, ast.Not | ast.Invert | ast.USub) and self._here(node, f"no {type(node.op).__name__}"):
            return node.operand
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.AST:
        if type(node.value) in (int, float) and self._here(node, f"{node.value} to {node.value + 1}"):
            return ast.copy_location(ast.Constant(node.value + 1), node)
        if type(node.value) is bool and self._here(node, f"{node.value} to {not node.value}"):
            return ast.copy_location(ast.Constant(not node.value), node)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if node.value is not None:  # not what an annotation says
            node.value = self.visit(node.value)
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.AST:
        node.defaults = [self.visit(default) for default in node.defaults]
        node.kw_defaults = [default and self.visit(default) for default in node.kw_defaults]
        return node


def mutants_of(path: Path) -> list[Mutant]:
    """Every change of a module."""
    mutator = _Mutator()
    mutator.visit(ast.parse(path.read_text(encoding="utf-8")))
    return [Mutant(path, line, number, what) for line, number, what in mutator.found]


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
        tree = _Mutator(self.mutant.number).visit(ast.parse(self.mutant.path.read_text(encoding="utf-8")))
        code = compile(ast.fix_missing_locations(tree), str(self.mutant.path), "exec")
        exec(code, vars(module))  # the change is the point of it


def tests_for(path: Path, *, own_only: bool) -> list[str]:
    """The unit tests of a module's package, those of the module itself first; or those alone, where there are some."""
    folder = ROOT / "tests" / "unit" / path.parent.relative_to(PACKAGE)
    own = [str(one) for one in [folder / f"test_{path.stem}.py"] if one.is_file()]
    if own and own_only:
        return own
    return [*own, *(str(one) for one in sorted(folder.glob("test_*.py")) if str(one) not in own)]


def survives(mutant: Mutant, *, own_only: bool) -> bool:
    """Whether no test notices."""
    child = os.fork()
    if child == 0:
        signal.alarm(_LIMIT)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        sys.meta_path.insert(0, _Finder(mutant))
        import pytest

        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "-p",
            "no:randomly",
            "--no-header",
            "-m",
            "not slow and not shared",
        ]
        try:
            code = pytest.main([*options, *tests_for(mutant.path, own_only=own_only)])
        except BaseException:  # noqa: BLE001 - whatever a mutant raises while it is imported
            code = 1
        os._exit(0 if code == 0 else 1)
    return os.waitpid(child, 0)[1] == 0


def warm_up() -> None:
    """Import what is heavy and does not change, so that each mutant need not."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in ("torch", "scipy.sparse", "pyarrow.parquet", "sklearn.linear_model", "PIL.Image", "pytest"):
        importlib.import_module(name)
    from hypothesis import Phase, settings

    # The first example that fails is enough: a smaller one would take a minute to find.
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutation", phases=phases, max_examples=20, deadline=None, database=None)
    settings.load_profile("mutation")


def chosen(names: list[str]) -> Iterator[Mutant]:
    """The mutants of packages and modules."""
    for name in names:
        path = PACKAGE / name
        for module in [path] if path.suffix == ".py" else sorted(path.glob("*.py")):
            yield from mutants_of(module)


def main() -> None:
    """Check a sample, and print what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", help="packages or modules below vreid_cli/")
    parser.add_argument("--sample", type=int, help="so many mutants, chosen by chance")
    parser.add_argument("--own", action="store_true", help="by the tests of the module itself only, where it has some")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    every = list(chosen(arguments.names))
    some = every if arguments.sample is None else random.Random(arguments.seed).sample(every, arguments.sample)
    warm_up()
    started, alive = time.monotonic(), []
    for number, mutant in enumerate(some, start=1):
        if survives(mutant, own_only=arguments.own):
            alive.append(mutant)
            line = mutant.path.read_text(encoding="utf-8").splitlines()[mutant.line - 1].strip()
            print(f"survived: {mutant.path.relative_to(ROOT)}:{mutant.line}: {mutant.what}: {line}", flush=True)
        print(
            f"{number}/{len(some)}, {len(alive)} survived, {time.monotonic() - started:.0f} s",
            file=sys.stderr,
            flush=True,
        )
    noticed = len(some) - len(alive)
    print(
        f"{noticed} of {len(some)} mutants noticed ({100 * noticed / len(some):.1f}%), of {len(every)} that there are"
    )


if __name__ == "__main__":
    main()
