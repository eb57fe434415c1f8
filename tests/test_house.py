"""The rules of the house, read off the source itself."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
PACKAGE = ROOT / "src" / "hyperlect"
MODULES = sorted(PACKAGE.rglob("*.py"))
TEXTS = (".py", ".md", ".yaml", ".yml", ".toml", ".cff", ".css", ".html", ".js", ".txt", ".cfg")

# Top to bottom; a module imports from its own unit and those below.
ORDER = [
    "cli", "serving", "export", "report", "experiment", "transfer", "training", "evaluation",
    "preparation", "released", "recipe", "model", "prediction", "rows",
    "accounting", "heads", "backbone", "methods", "hypernet", "data", "tasks", "grid", "languages",
    "precision", "run_folder", "hardware", "errors",
]  # fmt: skip
LIMIT = 250
LONGER = {
    "model/hyperx.py": 280,  # one class, and the one that everybody reads
}
"""Files that may be longer, and how long."""

TESTED_ELSEWHERE = {
    "backbone/folder.py": "backbone/test_builtin.py",
    "backbone/packed.py": "backbone/test_builtin.py",
    "cli/__main__.py": "training/test_resume.py",
    "cli/run_files.py": "cli/test_check.py",
    "cli/shared.py": "cli/test_app.py",
    "data/examples.py": "data/readers/test_read.py",
    "data/readers/__init__.py": "data/readers/test_read.py",
    "data/readers/faults.py": "data/readers/test_read.py",
    "data/readers/records.py": "data/readers/test_table.py",
    "data/readers/text.py": "data/readers/test_read.py",
    "data/rows.py": "data/test_encoding.py",
    "experiment/__main__.py": "experiment/test_worker.py",
    "experiment/checks.py": "experiment/test_design.py",
    "experiment/job.py": "experiment/test_runner.py",
    "model/config.py": "model/test_saving.py",
    "model/hyperx.py": "model/test_twin.py",
    "model/inventory.py": "model/test_names.py",
    "model/output.py": "model/test_mixed.py",
    "recipe/faults.py": "recipe/test_load.py",
    "recipe/few_shot.py": "recipe/test_choice.py",
    "recipe/formats.py": "recipe/test_checks.py",
    "recipe/keys.py": "recipe/test_recipe.py",
    "recipe/outside.py": "recipe/test_load.py",
    "recipe/placed.py": "recipe/test_load.py",
    "recipe/sections.py": "recipe/test_recipe.py",
    "recipe/sources.py": "recipe/test_recipe.py",
    "recipe/table.py": "recipe/test_recipe.py",
    "report/learning_curves.py": "report/test_page.py",
    "report/few_shot_page.py": "report/test_few_shot.py",
    "report/few_shot_written.py": "report/test_few_shot.py",
    "report/frame.py": "report/test_svg.py",
    "report/settings.py": "report/test_compare.py",
    "report/summary.py": "report/test_compare.py",
    "report/systems.py": "report/test_compare.py",
    "report/written.py": "report/test_compare.py",
    "report/labels.py": "report/test_page.py",
    "report/marks.py": "report/test_page.py",
    "report/markup.py": "report/test_svg.py",
    "report/sections.py": "report/test_page.py",
    "report/side_by_side.py": "report/test_page.py",
    "report/tables.py": "report/test_page.py",
}
"""Modules without tests of their own, and the tests of what they serve, which go through them."""


def name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def each_module() -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", MODULES, ids=name)


def unit(path: Path) -> str:
    """The part of the house that a module belongs to: a folder or a file of the package."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def executed(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those under ``if TYPE_CHECKING``, which imports names for readers alone."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        yield child
        yield from executed(child)


def imported_units(path: Path) -> Iterator[tuple[str, int]]:
    """The units of the house that a module imports, relatively or by name, with the line."""
    inside = path.relative_to(PACKAGE).parts[:-1]
    for node in executed(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = inside[: len(inside) - node.level + 1]
            target = [*base, *(node.module or "").split(".")] if node.module else list(base)
            names = [target[0]] if target else [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            target = (node.module or "").split(".")
            if target[0] != "hyperlect":
                continue
            names = [target[1]] if target[1:] else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            parts = [alias.name.split(".") for alias in node.names]
            names = [part[1] for part in parts if part[0] == "hyperlect" and part[1:]]
        else:
            continue
        for found in names:
            if found in ORDER:
                yield found, node.lineno


def test_every_unit_has_its_place_in_the_order() -> None:
    units = {unit(path) for path in MODULES} - {"__init__"}
    assert units <= set(ORDER)
    assert len(set(ORDER)) == len(ORDER)


@each_module()
def test_imports_go_downward_only(path: Path) -> None:
    if unit(path) == "__init__":
        return  # the package's door opens on its top floor
    place = ORDER.index(unit(path))
    upward = [
        f"line {line} imports {found}"
        for found, line in imported_units(path)
        if ORDER.index(found) < place
    ]
    assert not upward


def test_the_import_test_sees_imports(tmp_path: Path) -> None:
    """Guards the two tests beside it: that they read what they should."""
    found = {used for used, _ in imported_units(PACKAGE / "training" / "trainer.py")}
    assert {"data", "evaluation", "grid", "model", "recipe", "weights"} <= found
    assert "model" not in {used for used, _ in imported_units(PACKAGE / "prediction.py")}
    assert {used for used, _ in imported_units(PACKAGE / "data" / "readers" / "conllu.py")} >= {
        "data"
    }


@pytest.mark.parametrize("path", sorted((PACKAGE / "hypernet").glob("*.py")), ids=name)
def test_the_heart_imports_nothing_of_the_rest_and_pytorch_alone(path: Path) -> None:
    assert {found for found, _ in imported_units(path)} <= {"hypernet"}
    allowed = {"__future__", "torch", "dataclasses", "typing", "collections", "math"}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            assert (node.module or "").split(".")[0] in allowed
        elif isinstance(node, ast.Import):
            assert {alias.name.split(".")[0] for alias in node.names} <= allowed


@each_module()
def test_files_are_of_a_size_to_be_read_at_once(path: Path) -> None:
    length = len(path.read_text(encoding="utf-8").splitlines())
    assert length <= LONGER.get(name(path), LIMIT)


@each_module()
def test_what_is_public_has_a_docstring(path: Path) -> None:
    parsed = tree(path)
    lacking = [] if ast.get_docstring(parsed) else ["the module"]

    def visit(node: ast.AST, prefix: str = "") -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                if child.name.startswith("_"):
                    continue
                if not ast.get_docstring(child):
                    lacking.append(prefix + child.name)
                if isinstance(child, ast.ClassDef):
                    visit(child, f"{child.name}.")

    visit(parsed)
    assert not lacking


@each_module()
def test_only_tensors_are_unpickled_and_nothing_is_loaded_by_halves(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
            for module in modules:
                assert module.split(".")[0] not in {"pickle", "dill", "cloudpickle", "joblib"}
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "yaml.load", "yaml.unsafe_load"}
            options = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called == "torch.load":  # of others' files of tensors; ours are safetensors
                assert name(path) == "released/checkpoint.py"
                assert options.get("weights_only") == "True"
            if called.endswith("load_state_dict"):
                assert options.get("strict", "True") == "True"
            assert options.get("trust_remote_code", "False") == "False"
            assert options.get("allow_pickle", "False") == "False"


def shipped() -> Iterator[Path]:
    """Everything written by hand that the repository holds."""
    for part in ("src", "tests", "recipes", "docs", "benchmarks", ".ci"):
        for path in (ROOT / part).rglob("*"):
            if path.is_file() and (path.suffix in TEXTS or not path.suffix):
                yield path
    yield from (path for path in ROOT.iterdir() if path.suffix in TEXTS or path.name == "Makefile")


def test_no_path_of_a_machine_stands_anywhere() -> None:
    # Put together here, so that this file does not hold them.
    roots = "|".join((r"work/\w", r"home/\w", r"Users/\w", r"root/\.", r"mnt/\w", r"private/\w"))
    absolute = re.compile(rf"(?<![\w.:/}}\])$-])/(?:{roots})|[A-Z]:\\\\Users")
    faults = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in shipped()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if absolute.search(line)
    ]
    assert not faults


def own_test(path: Path) -> Path:
    """Where the tests of a module belong."""
    own = path.stem.strip("_") if path.name != "__init__.py" else path.parent.name
    return TESTS / path.relative_to(PACKAGE).parent / f"test_{own}.py"


def test_tests_mirror_the_package() -> None:
    lacking = [
        name(path)
        for path in MODULES
        if not own_test(path).is_file()
        and name(path) not in TESTED_ELSEWHERE
        and not (path.name == "__init__.py" and is_table_of_contents(path))
    ]
    assert not lacking


def is_table_of_contents(path: Path) -> bool:
    """Whether a module does nothing but import and list names."""
    return all(
        isinstance(node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign)
        for node in tree(path).body
    )


def test_no_exception_outlives_its_reason() -> None:
    names = set(map(name, MODULES))
    assert names >= LONGER.keys() | TESTED_ELSEWHERE.keys()
    for module, place in TESTED_ELSEWHERE.items():
        assert (TESTS / place).is_file(), place
        assert not own_test(PACKAGE / module).is_file(), f"{module} has tests of its own now"


def test_every_test_asserts_something() -> None:
    """A test that cannot fail proves nothing. Helpers named assert_… count, pytest's own too."""
    idle = []
    for path in TESTS.rglob("test_*.py"):
        helpers = asserting_helpers(tree(path))
        for node in tree(path).body:
            is_test = isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
            if is_test and not asserts(node, helpers):
                idle.append(f"{path.relative_to(TESTS)}::{node.name}")  # type: ignore[attr-defined]
    assert not idle


def asserting_helpers(module: ast.Module) -> set[str]:
    functions = [node for node in module.body if isinstance(node, ast.FunctionDef)]
    return {node.name for node in functions if asserts(node, set())}


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
