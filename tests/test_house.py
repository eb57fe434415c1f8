"""The rules of the house, read off the source itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import networkx

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "src" / "hyperlect"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEXTS = (".py", ".md", ".yaml", ".yml", ".toml", ".cff", ".css", ".html", ".js", ".txt", ".cfg")
MOST_FILES = 111

# Top to bottom; a module imports from its own unit and those below.
ORDER = [
    "cli", "serving", "bulk", "spacy", "export", "report", "experiment", "transfer", "training",
    "evaluation", "released", "recipe", "model", "predict", "heads", "backbone", "methods",
    "hypernet", "data", "run_folder", "tasks", "grid", "languages", "hardware", "errors",
]  # fmt: skip
FORBIDDEN_NAMES = {"found", "own", "given", "made", "told", "said", "there"}
FORBIDDEN_PHRASES = re.compile(
    r"\b(so many|gone on with|is none of|what there is|parted by|told of|mend|in the stead of)\b",
    re.IGNORECASE,
)
PICKLES = {"pickle", "dill", "cloudpickle", "joblib"}

# Modules without tests of their own, and the tests that go through them.
TESTED_ELSEWHERE = {
    "cli/__init__.py": "cli/test_main.py",
    "heads/base.py": "heads/test_labels.py",
    "recipe/schema.py": "recipe/test_load.py",
    "serving/schemas.py": "serving/test_app.py",
}


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def unit(path: Path) -> str:
    """The part of the house that a module belongs to: a folder or a file of the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[Path, int]]:
    """The modules of the house that a module imports anywhere in it, with the line.

    Imports inside functions and under TYPE_CHECKING count.
    """
    folder = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            parts = (*base, *(node.module.split(".") if node.module else ()))
            if not node.level:
                if parts[0] != "hyperlect":
                    continue
                parts = parts[1:]
            names = [(*parts, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            dotted = [tuple(alias.name.split(".")) for alias in node.names]
            names = [parts[1:] for parts in dotted if parts[0] == "hyperlect"]
        else:
            continue
        for parts in names:
            yield module(parts), node.lineno


def module(parts: tuple[str, ...]) -> Path:
    """The file of a dotted name, which may be that of something inside a module."""
    for size in range(len(parts), 0, -1):
        place = PACKAGE.joinpath(*parts[:size])
        for file in (place.with_suffix(".py"), place / "__init__.py"):
            if file.is_file():
                return file
    return PACKAGE / "__init__.py"


def test_every_unit_has_its_place_in_the_order() -> None:
    units = {unit(path) for path in MODULES} - {"__init__"}
    assert units <= set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


def test_imports_go_downward_only() -> None:
    upward = [
        f"{name(path)}:{line} imports {name(target)}"
        for path in MODULES
        for target, line in imports(path)
        if "__init__" not in (unit(path), unit(target))
        and ORDER.index(unit(target)) < ORDER.index(unit(path))
    ]
    assert not upward


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph = networkx.DiGraph()
    for path in MODULES:
        # A folder's own table of contents imports the modules that import from it.
        contents = path.parent / "__init__.py"
        targets = {target for target, _ in imports(path)} - {
            path,
            contents,
            PACKAGE / "__init__.py",
        }
        graph.add_edges_from((name(path), name(target)) for target in targets)
    assert list(networkx.simple_cycles(graph)) == []


def test_the_import_tests_see_imports() -> None:
    """Guard the tests above: they read what they should."""
    trainer = {name(target) for target, _ in imports(PACKAGE / "training" / "trainer.py")}
    assert {"data/batching.py", "recipe/__init__.py", "hardware.py"} <= trainer
    hyperx = {name(target) for target, _ in imports(PACKAGE / "model" / "hyperx.py")}
    assert {"predict.py", "model/config.py", "backbone/__init__.py"} <= hyperx


def test_the_hypernetwork_needs_pytorch_alone() -> None:
    allowed = {"__future__", "torch", "dataclasses", "typing", "collections", "math", "contextlib"}
    for path in (PACKAGE / "hypernet").glob("*.py"):
        assert {unit(target) for target, _ in imports(path)} <= {"hypernet"}
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and not node.level:
                assert (node.module or "").split(".")[0] in allowed
            elif isinstance(node, ast.Import):
                assert {alias.name.split(".")[0] for alias in node.names} <= allowed


def test_the_house_stays_small() -> None:
    assert len(MODULES) <= MOST_FILES


def test_what_is_public_has_a_docstring() -> None:
    lacking = []

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                decorators = {ast.unparse(decorator) for decorator in child.decorator_list}
                if child.name.startswith("_") or "overload" in decorators:
                    continue
                if not ast.get_docstring(child):
                    lacking.append(prefix + child.name)
                if isinstance(child, ast.ClassDef):
                    visit(child, f"{prefix}{child.name}.")

    for path in MODULES:
        if not ast.get_docstring(tree(path)):
            lacking.append(name(path))
        visit(tree(path), f"{name(path)}: ")
    assert not lacking


def test_nothing_is_unpickled_and_weights_are_loaded_whole() -> None:
    for path in MODULES:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                modules = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not PICKLES & {module.split(".")[0] for module in modules}, path
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"eval", "exec", "yaml.load", "yaml.unsafe_load"}, path
                options = {word.arg: ast.unparse(word.value) for word in node.keywords}
                if called == "torch.load":  # of the authors' files; ours are safetensors
                    assert name(path) == "released/convert.py"
                    assert options.get("weights_only") == "True"
                if called.endswith("load_state_dict"):
                    assert options.get("strict", "True") == "True", path
                assert options.get("trust_remote_code", "False") == "False", path
                assert options.get("allow_pickle", "False") == "False", path


def stored_names(path: Path) -> Iterator[tuple[str, int]]:
    """The names of variables, parameters and attributes that a file sets."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id, node.lineno
        elif isinstance(node, ast.arg):
            yield node.arg, node.lineno
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr, node.lineno


def test_names_say_what_they_hold() -> None:
    empty = [
        f"{path.relative_to(ROOT)}:{line} {stored}"
        for path in [*MODULES, *(ROOT / "benchmarks").rglob("*.py")]
        for stored, line in stored_names(path)
        if stored in FORBIDDEN_NAMES
    ]
    assert not empty


def shipped() -> Iterator[tuple[Path, int, str]]:
    """Every line that is written by hand, of the files in the repository."""
    files = [path for path in ROOT.iterdir() if path.suffix in TEXTS or path.name == "Makefile"]
    for part in ("src", "tests", "recipes", "docs", "benchmarks", ".ci"):
        files += [path for path in (ROOT / part).rglob("*") if path.is_file()]
    for path in files:
        if path.suffix in TEXTS or not path.suffix:
            lines = path.read_text(encoding="utf-8").splitlines()
            yield from ((path, number, line) for number, line in enumerate(lines, 1))


def test_no_path_of_a_machine_stands_anywhere() -> None:
    # Put together here, so that this file does not hold them.
    roots = "|".join((r"work/\w", r"home/\w", r"Users/\w", r"root/\.", r"mnt/\w", r"private/\w"))
    absolute = re.compile(rf"(?<![\w.:/}}\])$-])/(?:{roots})|[A-Z]:\\\\Users")
    assert not [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path, number, line in shipped()
        if absolute.search(line)
    ]


def test_texts_are_in_plain_english() -> None:
    assert not [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path, number, line in shipped()
        if FORBIDDEN_PHRASES.search(line) and path != Path(__file__)
    ]


def mirror_of(path: Path) -> Path:
    """Where the tests of a module belong."""
    stem = path.stem.strip("_") if path.name != "__init__.py" else path.parent.name
    return TESTS / path.relative_to(PACKAGE).parent / f"test_{stem}.py"


def is_table_of_contents(path: Path) -> bool:
    """Whether a module does nothing but import and list names."""
    return all(
        isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign | ast.AnnAssign)
        for node in tree(path).body
    )


def test_tests_mirror_the_package() -> None:
    lacking = [
        name(path)
        for path in MODULES
        if not mirror_of(path).is_file()
        and name(path) not in TESTED_ELSEWHERE
        and not (path.name == "__init__.py" and is_table_of_contents(path))
    ]
    assert not lacking


def test_no_exception_outlives_its_reason() -> None:
    assert set(map(name, MODULES)) >= TESTED_ELSEWHERE.keys()
    for module_name, place in TESTED_ELSEWHERE.items():
        assert (TESTS / place).is_file(), place
        assert not mirror_of(PACKAGE / module_name).is_file(), module_name


def test_every_test_asserts_something() -> None:
    """A test that cannot fail proves nothing. Helpers named assert_… count, pytest's own too."""
    idle = []
    for path in TESTS.rglob("test_*.py"):
        functions = [node for node in tree(path).body if isinstance(node, ast.FunctionDef)]
        helpers = {node.name for node in functions if asserts(node, set())}
        idle += [
            f"{path.relative_to(TESTS)}::{node.name}"
            for node in functions
            if node.name.startswith("test_") and not asserts(node, helpers)
        ]
    assert not idle


def asserts(function: ast.AST, helpers: set[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            return True
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            last = called.split(".")[-1]
            if "assert" in called or called in ("pytest.raises", "pytest.warns", "pytest.fail"):
                return True
            if last in helpers or last.startswith("check_"):
                return True
    return False
