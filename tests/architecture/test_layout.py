"""Rules of the house that no linter knows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(path for path in (ROOT / "src").rglob("*.py") if "_pb2" not in path.stem)  # those are made by protoc
STARTERS = sorted([*(ROOT / "training").glob("*.py"), *(ROOT / "serving").glob("*.py")])
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
MAX_PARAMETERS = 8
MAX_CONFIG_LINES = 40
MAX_STARTER_LINES = 30


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text())
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_a_source_file_holds_one_idea(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", SOURCES, ids=_id)
def test_functions_are_short(path: Path) -> None:
    too_long = {f.name: f.end_lineno - f.lineno + 1 for f in _functions(path) if f.end_lineno is not None}
    assert {name: lines for name, lines in too_long.items() if lines > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("path", CONFIGS, ids=_id)
def test_a_config_file_fits_on_a_screen(path: Path) -> None:
    assert len(path.read_text().splitlines()) < MAX_CONFIG_LINES


@pytest.mark.parametrize("path", STARTERS, ids=_id)
def test_a_starter_defines_nothing(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_STARTER_LINES
    assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(text)))


def test_package_markers_are_empty() -> None:
    filled = {path for path in SOURCES if path.name == "__init__.py" and path.read_text().strip()}
    package = ROOT / "src" / "retrank"
    assert filled == {package / "__init__.py", package / "client" / "__init__.py"}  # the second is what callers import


def test_nothing_imports_from_the_folders_that_are_run() -> None:
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.split(".")[0] not in {"training", "serving", "scripts", "tests"}, path


@pytest.mark.parametrize(
    "module",
    [
        "retrank.serving.app",
        "retrank.serving.recommender",
        "retrank.contract.bundle",
        "retrank.policy.explain",
        "retrank.client",
        "retrank.serving.events.jobs",
    ],
)
def test_the_online_half_never_loads_torch(module: str) -> None:
    program = (
        f"import sys, {module}\n"
        "loaded = {'torch', 'pytorch_lightning', 'hydra', 'omegaconf'} & set(sys.modules)\n"
        "sys.exit(f'loaded {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["retrank.training.evaluate", "retrank.export.assemble"])
def test_evaluating_and_exporting_do_not_wait_for_lightning(module: str) -> None:
    """Importing it takes seconds."""
    program = f"import sys, {module}; sys.exit('pytorch_lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
