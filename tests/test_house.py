"""The plan of the house, kept by reading the source with `ast`: arrows, purity, sizes, mirrors.

Every failure is a reviewer's sentence: where, what, which rule, and what to do about it.
"""

import ast
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("identity", "authz", "registry", "router")
"""An import points left only."""

ROUTER_LAYERS: tuple[tuple[str, ...], ...] = (
    ("router.faults",),
    ("router.wire",),
    ("router.net",),
    ("router.tls",),
    ("router.backend",),
    ("router.observe",),
    ("router.config",),
    ("router.limits",),
    ("router.l4",),
    ("router.config.compile_l4",),
    ("router.l4.live",),
    ("router.l7",),
    ("router.live",),
    ("router.config.compile",),
    ("router.health_checks",),
    ("router.inspect",),
    ("router.bosh",),
    ("router.nats",),
    ("router.emit",),
    ("router.downstream",),
    ("router.l7.state",),
    ("router.l7.denial",),
    ("router.l7.returning",),
    ("router.l7.tunnel",),
    ("router.l7.announcement",),
    ("router.l7.reach",),
    ("router.l7.attempt",),
    ("router.l7.doors",),
    ("router.l7.service_leg",),
    ("router.l7.exchange",),
    ("router.l7.serve_http1",),
    ("router.l7.serve_http2",),
    ("router.l7.serve",),
    ("router.connection",),
    ("router.parts",),
    ("router.listening",),
    ("router.l7_door",),
    ("router.process",),
    ("router.l7_seam",),
    ("router.l7_data",),
    ("router.l7_control",),
    ("router.data_side",),
    ("router.app",),
    ("router.workers",),
    ("router.cli.output",),
    ("router.demo",),
    ("router.cli",),
    ("router.__main__",),
)
"""The layers of the data plane, lowest first; an import points up this list only. The longest name that fits places a module:
the two stories and the compiler need the snapshot, what lies beside them in their folder is needed by it.
"""

PURE = (
    "identity", "authz", "registry", "router.wire", "router.net.budget", "router.net.firewall", "router.l4.routes",
    "router.l4.listeners", "router.l4.dispatch", "router.l7.target", "router.l7.hygiene", "router.l7.header_policy",
    "router.l7.refusal", "router.l7.policies", "router.l7.sticky", "router.l7.upgrade", "router.l7.route_service",
    "router.l7.route_service_seal", "router.faults", "router.limits",
    "router.observe.trace",
)  # fmt: skip
IMPURE = "_nats"
"""Modules of the registry with this ending speak to NATS."""

FORBIDDEN_IN_PURE = ("asyncio", "socket", "ssl", "OpenSSL", "time", "random", "threading")

OF_L7 = (
    "router.l7", "router.tls", "router.backend", "router.l7_door", "router.l7_seam", "router.l7_data", "router.l7_control",
    "router.live", "router.downstream",
)  # fmt: skip
"""What is not even loaded where `l7.enabled` is false."""

DATA_PATH = (
    "router.wire", "router.net", "router.l4", "router.tls", "router.backend", "router.l7", "router.downstream",
    "router.connection", "router.l7_door",
)  # fmt: skip
STREAMS = frozenset(
    {
        "StreamReader", "StreamWriter", "open_connection", "start_server", "Protocol", "BufferedProtocol", "Transport",
        "create_connection", "create_server", "connect_accepted_socket", "start_tls",
    }
)  # fmt: skip
"""asyncio's own ways of moving bytes; each costs more than the socket does."""

MAX_MODULE_LINES = 600
ALARM_MODULE_LINES = 400
MAX_FUNCTION_LINES = 60

UNMIRRORED = {
    "router.workers.__main__": "one line; every worker of the tests is started through it",
    "router.l7_seam": "plain values without a line that runs",
    "router.__main__": "one line; every router of the tests is started through it",
    "router.backend.round_trip": "a protocol without a line that runs",
    "router.l7.response_writer": "a protocol without a line that runs",
}
"""Modules without a test file of their own name, each with the reason."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import of a module of ours or of somebody else's; `typing_only` ones vanish at run time."""

    target: str
    line: int
    typing_only: bool


@dataclass(frozen=True, slots=True)
class Module:
    """One source file."""

    name: str
    path: Path
    tree: ast.Module
    lines: int

    @property
    def where(self) -> str:
        return str(self.path.relative_to(ROOT))


@cache
def modules() -> dict[str, Module]:
    """All modules of the product, by dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = Module(name, path, ast.parse(text, str(path)), text.count("\n"))
    return found


@cache
def imports(module: Module) -> tuple[Import, ...]:
    """Everything that a module imports, also inside functions."""
    hidden = {id(child) for block in ast.walk(module.tree) if _is_type_checking(block) for child in ast.walk(block)}
    return tuple(
        Import(target, _line(node), id(node) in hidden) for node in ast.walk(module.tree) for target in _targets(module, node)
    )


def _line(node: ast.AST) -> int:
    return int(getattr(node, "lineno", 0))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _targets(module: Module, node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, f"{module.where}:{node.lineno} imports by a relative name; write it out"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            yield whole if whole in modules() else node.module


def under(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def layer(name: str) -> int:
    """The number of a router module's layer, or of the top-level packages' (all below the router's)."""
    fitting = [(len(member), index) for index, members in enumerate(ROUTER_LAYERS) for member in members if under(name, member)]
    return max(fitting)[1] if fitting else -1


def is_pure(name: str) -> bool:
    return any(under(name, pure) for pure in PURE) and not name.endswith(IMPURE)


def complain(complaints: list[str]) -> None:
    assert not complaints, "\n" + "\n".join(complaints)


def test_an_import_between_packages_points_left_only() -> None:
    """Identity knows nobody, authz knows identity, the registry knows both, the router knows all; none knows tests or bench."""
    complaints = []
    for module in modules().values():
        home = PACKAGES.index(module.name.split(".")[0])
        for one in imports(module):
            top = one.target.split(".")[0]
            if top in PACKAGES[home + 1 :]:
                complaints.append(
                    f"{module.where}:{one.line} imports {one.target}, but {PACKAGES[home]} must not know {top} "
                    f"(identity <- authz <- registry <- router): pass what it needs as an argument, or move it down."
                )
            elif top in ("tests", "bench"):
                complaints.append(f"{module.where}:{one.line} imports {one.target}, but the product must run without {top}.")
    complain(complaints)


def test_every_module_of_the_router_has_a_layer() -> None:
    """A new folder or module of the router says where it stands before anything may import it."""
    complain(
        [
            f"{module.where} has no layer: add it to ROUTER_LAYERS in tests/test_house.py, above what it imports."
            for module in modules().values()
            if module.name.startswith("router.") and layer(module.name) < 0
        ]
    )


def test_an_import_inside_the_router_points_to_a_lower_layer_or_stays_in_its_own() -> None:
    """The declared order of the router's layers is the true one."""
    complaints = []
    for module in modules().values():
        if not module.name.startswith("router."):
            continue
        for one in imports(module):
            if under(one.target, "router") and layer(one.target) > layer(module.name):
                mine, theirs = ROUTER_LAYERS[layer(module.name)][0], ROUTER_LAYERS[layer(one.target)][0]
                complaints.append(
                    f"{module.where}:{one.line} imports {one.target}, but {mine} lies below {theirs}: "
                    f"let the higher layer call the lower one, or hand it over in app.py."
                )
    complain(complaints)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """The graph of all imports, those for types included, has no cycle."""
    graph = {module.name: {one.target for one in imports(module) if one.target in modules()} for module in modules().values()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("modules import each other in a circle: " + " -> ".join(error.args[1]))


def test_pure_modules_import_nothing_that_waits_looks_at_a_clock_or_rolls_dice() -> None:
    """Pure modules compute: time, chance and bytes are their arguments."""
    complain(
        [
            f"{module.where}:{one.line} imports {one.target}, but {module.name} is pure: take the time, the random "
            f"number or the bytes as an argument."
            for module in modules().values()
            if is_pure(module.name)
            for one in imports(module)
            if one.target.split(".")[0] in FORBIDDEN_IN_PURE
        ]
    )


def test_pure_modules_import_only_pure_modules_of_ours() -> None:
    """Purity is not lost through a neighbour."""
    complain(
        [
            f"{module.where}:{one.line} imports {one.target}, which is not pure, but {module.name} is."
            for module in modules().values()
            if is_pure(module.name)
            for one in imports(module)
            if one.target in modules() and not one.typing_only and not is_pure(one.target)
        ]
    )


def test_l4_knows_nothing_of_l7() -> None:
    """R3, R59: not even inside a function."""
    complain(
        [
            f"{module.where}:{one.line} imports {one.target}, but L4 goes on where L7 is off or dead: "
            f"share what both need by router/net."
            for module in modules().values()
            if under(module.name, "router.l4")
            for one in imports(module)
            if any(under(one.target, part) for part in OF_L7)
        ]
    )


def test_the_router_is_loaded_without_anything_of_l7() -> None:
    """R61: what `router/app.py` brings along by itself; L7 comes from inside of one function there, where it is switched on."""
    reached: dict[str, str] = {"router.app": "", "router.cli.run": ""}
    waiting = list(reached)
    while waiting:
        name = waiting.pop()
        for target in loaded_with(modules()[name]) & modules().keys() - reached.keys():
            reached[target] = name
            waiting.append(target)
    complain(
        [
            f"{by} imports {name} at its top, and router/app.py imports {by}: then L4 cannot run without L7."
            for name, by in reached.items()
            if any(under(name, part) for part in OF_L7)
        ]
    )


def loaded_with(module: Module) -> set[str]:
    """What the import of a module imports: not what stands inside functions, or for types only."""
    later = {
        id(child)
        for block in ast.walk(module.tree)
        if isinstance(block, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(block)
        for child in ast.walk(block)
    }
    return {target for node in ast.walk(module.tree) if id(node) not in later for target in _targets(module, node)}


def test_the_data_path_uses_sockets_directly() -> None:
    """Decision 12: no transports and no stream readers where requests pass."""
    complain(
        [
            f"{module.where}:{_line(node)} uses {node.attr}, but the data path moves bytes by net/stream.py and tls/session.py."
            for module in modules().values()
            if any(under(module.name, part) for part in DATA_PATH)
            for node in ast.walk(module.tree)
            if isinstance(node, ast.Attribute) and node.attr in STREAMS
        ]
    )


def test_no_module_passes_600_lines() -> None:
    """A module has one job; those over 400 lines are named in the output."""
    sizes = sorted(((module.lines, module.where) for module in modules().values()), reverse=True)
    for lines, where in sizes:
        if lines > ALARM_MODULE_LINES:
            print(f"alarm: {where} has {lines} lines (alarm at {ALARM_MODULE_LINES}, never over {MAX_MODULE_LINES})")
    complain(
        [
            f"{where} has {lines} lines, never over {MAX_MODULE_LINES}: it has more than one job; give one its own module."
            for lines, where in sizes
            if lines > MAX_MODULE_LINES
        ]
    )


def test_no_function_passes_60_lines() -> None:
    """A function does one thing at one level."""
    complain(
        [
            f"{module.where}:{node.lineno} {node.name} has {length} lines, never over {MAX_FUNCTION_LINES}: name its parts."
            for module in modules().values()
            for node in ast.walk(module.tree)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
        ]
    )


def test_every_module_says_in_its_first_lines_what_it_promises() -> None:
    """The first screen of a file is its docstring."""
    complain(
        [
            f"{module.where} has no docstring: say what it promises and what it refuses to know."
            for module in modules().values()
            if module.lines and not ast.get_docstring(module.tree)
        ]
    )


def test_every_task_has_an_owner() -> None:
    """No task is started through asyncio's module functions, and none is started and dropped: its exception would be lost."""
    complain(
        [
            f"{module.where}:{_line(node)} {what}: use a TaskGroup, or loop.create_task and keep the reference."
            for module in modules().values()
            for node in ast.walk(module.tree)
            if (what := _loose_task(node))
        ]
    )


def _loose_task(node: ast.AST) -> str:
    if isinstance(node, ast.ImportFrom) and node.module == "asyncio":
        loose = {alias.name for alias in node.names} & {"create_task", "ensure_future"}
        return f"imports {loose} from asyncio" if loose else ""
    if isinstance(node, ast.Attribute) and node.attr in ("create_task", "ensure_future"):
        if isinstance(node.value, ast.Name) and node.value.id == "asyncio":
            return f"uses asyncio.{node.attr}"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        called = node.value.func
        if isinstance(called, ast.Attribute) and called.attr == "create_task" and not _is_group(called.value):
            return "drops the task it creates"
    return ""


def _is_group(owner: ast.expr) -> bool:
    """A TaskGroup keeps its tasks itself; by convention it is called `group` or `tasks`."""
    return isinstance(owner, ast.Name) and owner.id in ("group", "tasks")


def test_no_exception_is_swallowed_unseen() -> None:
    """Whoever catches everything does something about it."""
    complain(
        [
            f"{module.where}:{_line(node)} swallows every exception unseen: name the ones that are expected, or log it."
            for module in modules().values()
            for node in ast.walk(module.tree)
            if _swallows(node)
        ]
    )


def _swallows(node: ast.AST) -> bool:
    if isinstance(node, ast.ExceptHandler):
        silent = all(isinstance(part, ast.Pass) or _is_constant(part) for part in node.body)
        return silent and (node.type is None or _is_everything(node.type))
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("contextlib.suppress", "suppress"):
        return any(_is_everything(argument) for argument in node.args)
    return False


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_everything(node: ast.expr) -> bool:
    names = node.elts if isinstance(node, ast.Tuple) else [node]
    return any(isinstance(name, ast.Name) and name.id in ("Exception", "BaseException") for name in names)


def mirror(module: Module) -> Path:
    """registry/table.py -> tests/registry/test_table.py"""
    path = module.path.relative_to(ROOT)
    return ROOT / "tests" / path.parent / f"test_{path.name}"


def test_every_module_has_its_test_file() -> None:
    """Who looks for a module's tests finds them at one place; a package's `__init__.py` has none."""
    complain(
        [
            f"{module.where} has no tests: {mirror(module).relative_to(ROOT)} is missing."
            for module in modules().values()
            if module.path.name != "__init__.py" and module.name not in UNMIRRORED and not mirror(module).exists()
        ]
    )


def test_the_exceptions_from_mirroring_are_modules_without_tests() -> None:
    """The list of exceptions does not outlive its reasons."""
    complain(
        [f"{name} needs no exception from mirroring any more: take it off UNMIRRORED." for name in UNMIRRORED
         if name not in modules() or mirror(modules()[name]).exists()]
    )  # fmt: skip


def test_every_test_file_of_a_package_mirrors_a_module() -> None:
    """A test file whose module has gone goes too."""
    mirrors = {mirror(module) for module in modules().values()}
    complain(
        [
            f"{path.relative_to(ROOT)} mirrors no module: rename it to its module's name, or move it to tests/behaviour."
            for package in PACKAGES
            for path in sorted((ROOT / "tests" / package).rglob("test_*.py"))
            if path not in mirrors
        ]
    )


def test_every_package_is_installed() -> None:
    """What `pip install` brings along is everything."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    packages = {module.name for module in modules().values() if module.path.name == "__init__.py"}
    complain([f"pyproject.toml does not list the package {name}: it would not be installed." for name in packages - listed])
