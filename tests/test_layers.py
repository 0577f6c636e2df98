"""The direction of the imports, read from the source with ``ast``."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

import enformer_features

NAME = "enformer_features"
ROOT = Path(enformer_features.__file__).parent

# What the modules of a layer may import from, besides each other. "__init__" stands
# for the names of the package itself, such as __version__.
BASE = {"exceptions", "folders", "locks", "__init__"}
BELOW: dict[str, set[str]] = {
    "exceptions": set(),
    "folders": set(),
    "locks": set(),
    "genomics": BASE,
    "model": BASE,
    "inference": BASE | {"genomics", "model"},
    "storage": BASE | {"genomics", "model", "inference"},
    "datasets": BASE | {"genomics", "storage"},
    "estimators": BASE | {"genomics", "model", "inference", "storage"},
}
ESTIMATORS = BELOW["estimators"] | {"estimators"}
VERBS = {"training", "variant_effect", "interpret", "distributed"}
BELOW |= dict.fromkeys(VERBS, ESTIMATORS)
BELOW["plotting"] = ESTIMATORS | VERBS
BELOW["report"] = ESTIMATORS | VERBS | {"plotting", "datasets"}
BELOW["demo"] = BELOW["report"]
BELOW["cli"] = BELOW["report"] | {"report", "demo"}
BELOW["__init__"] = BELOW["cli"] | {"cli"}  # lazily; tests/test_import.py

FOREIGN = {
    "genomics": {"torch", "sklearn"},
    "model": {"pandas", "sklearn"},
    "inference": {"sklearn"},
}
LAZY = {"anndata", "xgboost", "matplotlib", "huggingface_hub", "dask"}
LAZY |= {"peft", "pyBigWig", "skorch", "pysam", "h5py"}

TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted(ROOT.rglob("*.py"))
}
every_file = pytest.mark.parametrize("file", TREES)


def layer(file: str) -> str:
    """Folder or module right under the package."""
    return file.split("/")[0].removesuffix(".py")


def imported(file: str, nodes: Iterable[ast.AST]) -> set[str]:
    """Absolute dotted names; ``from a import b`` gives ``a.b``."""
    package = [NAME, *file.split("/")[:-1]]
    names = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            source = [*base, node.module] if node.module else base
            names |= {".".join([*source, alias.name]) for alias in node.names}
    return names


def layers_used(file: str) -> set[str]:
    names = imported(file, ast.walk(TREES[file]))
    ours = {name.split(".")[1] for name in names if name.startswith(f"{NAME}.")}
    modules = {layer(other) for other in TREES}
    return {name if name in modules else "__init__" for name in ours}


def packages_used(file: str, nodes: Iterable[ast.AST]) -> set[str]:
    return {name.split(".")[0] for name in imported(file, nodes)}


def run_on_import(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield what importing a module runs: no function bodies, no typing imports."""
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        is_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for_typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        if not is_function and not for_typing:
            yield node
            pending += ast.iter_child_nodes(node)


@every_file
def test_imports_point_downwards_only(file: str) -> None:
    assert layer(file) in BELOW, "a new layer: say above what it may import from"
    assert layers_used(file) - {layer(file)} <= BELOW[layer(file)]


@every_file
def test_a_layer_leaves_the_packages_of_other_layers_alone(file: str) -> None:
    used = packages_used(file, ast.walk(TREES[file]))
    assert not used & FOREIGN.get(layer(file), set())


@every_file
def test_heavy_packages_are_imported_where_they_are_used(file: str) -> None:
    assert not packages_used(file, run_on_import(TREES[file])) & LAZY


@every_file
def test_only_the_genome_module_knows_pyfaidx(file: str) -> None:
    knows = "pyfaidx" in packages_used(file, ast.walk(TREES[file]))
    assert knows == (file == "genomics/genome.py")


def test_relative_imports_are_resolved() -> None:
    tree = ast.parse("from .. import exceptions\nfrom .windows import Geometry")
    assert imported("genomics/regions.py", ast.walk(tree)) == {
        "enformer_features.exceptions",
        "enformer_features.genomics.windows.Geometry",
    }


def test_imports_inside_functions_do_not_run_on_import() -> None:
    tree = ast.parse(
        "import a\ndef f():\n    import b\nif TYPE_CHECKING:\n    import c"
    )
    assert packages_used("plotting.py", run_on_import(tree)) == {"a"}
