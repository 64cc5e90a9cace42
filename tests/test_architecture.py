"""The directions between modules, read from their imports."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("fallbackproxy", "proxy", "providers")


def _name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {
    _name(path): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if "migrations" not in path.parts and "." not in path.stem
}


class _Imports(ast.NodeVisitor):
    """Every import of a module, wherever it stands, but for those of type checkers."""

    def __init__(self, package: str) -> None:
        self.found: set[str] = set()
        self._package = package

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self._package} imports relatively"
        assert node.module
        for alias in node.names:
            submodule = f"{node.module}.{alias.name}"
            self.found.add(submodule if submodule in FILES else node.module)


@cache
def imports(module: str) -> frozenset[str]:
    """What a module imports, submodules by their full names."""
    visitor = _Imports(module)
    visitor.visit(ast.parse(FILES[module].read_text()))
    return frozenset(visitor.found)


def in_package(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def ours(module: str) -> set[str]:
    return {name for name in imports(module) if in_package(name, *PACKAGES)}


def offenders(importers: str, *imported: str) -> dict[str, set[str]]:
    """Which modules of a package import what they must not."""
    found = {
        module: {name for name in imports(module) if in_package(name, *imported)}
        for module in FILES
        if in_package(module, importers)
    }
    return {module: names for module, names in found.items() if names}


def test_the_modules_are_found() -> None:
    assert {"proxy.relay", "providers.routing", "fallbackproxy.asgi"} <= FILES.keys()
    assert "proxy.relay" in imports("proxy.views")
    assert "httpx" in imports("proxy.upstream.owned")
    assert "proxy.lookups" in imports("proxy.views")  # from proxy import lookups
    assert not in_package("proxyx.relay", "proxy")


def test_the_project_uses_the_proxy_and_the_proxy_uses_the_providers() -> None:
    assert offenders("providers", "proxy", "fallbackproxy") == {}
    assert offenders("proxy", "fallbackproxy") == {}


def test_only_one_package_speaks_http() -> None:
    clients = ("httpx", "httpcore", "anyio", "requests", "aiohttp", "http.client", "urllib.request")
    found = {module for package in PACKAGES for module in offenders(package, *clients)}
    assert found
    assert all(in_package(module, "proxy.upstream") for module in found)


def test_nothing_imports_an_admin_or_a_command() -> None:
    targets = [m for m in FILES if ".admin" in m or ".management" in m]
    assert len(targets) > 20
    for package in PACKAGES:
        found = offenders(package, *targets)
        # An admin may build on the one of the package below, and its site opens the pages.
        others = {m for m in found if ".admin" not in m and m != "proxy.site"}
        assert others == set()


PURE = (
    "proxy.formats",
    "proxy.rectifiers",
    "proxy.call",
    "proxy.reading",
    "proxy.sse",
    "proxy.usage",
    "proxy.wire",
    "proxy.errors",
    "proxy.outcomes",
    "proxy.redaction",
    "providers.routing",
    "providers.endpoints",
    "providers.health",
)
OUTSIDE_WORLD = (
    "django",
    "asgiref",
    "httpx",
    "anyio",
    "asyncio",
    "threading",
    "concurrent",
    "socket",
    "ssl",
    "http.client",
    "urllib.request",
    "subprocess",
    "os",
    "sys",
    "io",
    "pathlib",
    "shutil",
    "tempfile",
    "sqlite3",
    "logging",
    "time",
)
NOT_PURE_BUILTINS = {"open", "print", "input", "exec", "eval", "__import__"}


def pure_modules() -> Iterator[str]:
    return (module for module in FILES if in_package(module, *PURE))


@pytest.mark.parametrize("package", PURE)
def test_conversion_and_arithmetic_know_no_django_and_do_no_io(package: str) -> None:
    modules = [module for module in FILES if in_package(module, package)]
    assert modules
    for module in modules:
        assert not [n for n in imports(module) if in_package(n, *OUTSIDE_WORLD)], module
        calls = (n for n in ast.walk(ast.parse(FILES[module].read_text())) if _is_call(n))
        assert not [call for call in calls if _called(call) in NOT_PURE_BUILTINS], module


def _is_call(node: ast.AST) -> bool:
    return isinstance(node, ast.Call)


def _called(node: ast.AST) -> str:
    assert isinstance(node, ast.Call)
    return node.func.id if isinstance(node.func, ast.Name) else ""


def test_what_is_pure_uses_only_what_is_pure() -> None:
    impure = {
        module: {n for n in ours(module) if not in_package(n, *PURE)} for module in pure_modules()
    }
    assert {module: names for module, names in impure.items() if names} == {}


LAYERS = (
    # From the bottom to the top: a module uses its own layer and those below it.
    {"wire", "errors", "usage", "deadlines", "redaction", "pacing"},
    {"sse", "reading", "call", "transport"},
    {"formats", "rectifiers", "inflating", "outcomes", "responses", "access", "models"},
    {"scaling"},
    {"upstream", "history", "metrics"},
    {"attempt", "answers", "limit_replies", "mending", "preparing", "status"},
    {"stream", "journal", "fitting", "health_outcomes"},
    {"endings", "relay", "lookups"},
    {"runtime"},
    {"requests", "views"},
    {"urls"},
)
BESIDE = {
    # The admin, commands and what they share: they use the layers, no layer uses them.
    "admin",
    "apps",
    "connection_test",
    "first_run",
    "listening",
    "management",
    "profile_check",
    "site",
    "viewers",
}


def room(module: str) -> str:
    """`formats` of `proxy.formats.anthropic`."""
    return module.split(".")[1]


PROXY_MODULES = [m for m in FILES if m.startswith("proxy.")]


def test_every_module_of_the_proxy_has_its_place() -> None:
    placed = set.union(*LAYERS) | BESIDE
    assert {room(module) for module in PROXY_MODULES} == placed
    assert sum(len(layer) for layer in LAYERS) + len(BESIDE) == len(placed)


def test_modules_use_their_own_layer_and_those_below_it() -> None:
    height = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    wrong = {
        (module, name)
        for module in PROXY_MODULES
        if room(module) in height
        for name in ours(module)
        if name.startswith("proxy.") and height.get(room(name), 99) > height[room(module)]
    }
    assert wrong == set()


def test_formats_and_repairs_do_not_know_each_other() -> None:
    assert offenders("proxy.rectifiers", "proxy.formats") == {}
    assert offenders("proxy.formats", "proxy.rectifiers") == {}


def test_no_module_imports_itself_by_a_detour() -> None:
    TopologicalSorter({m: ours(m) & FILES.keys() - {m} for m in FILES}).prepare()


def test_no_module_has_a_name_that_says_nothing() -> None:
    stems = {path.stem for path in FILES.values()}
    assert stems & {"utils", "util", "helpers", "common", "manager", "misc", "base_utils"} == set()
