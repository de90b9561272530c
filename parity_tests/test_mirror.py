"""The twins mirror each other: files, public names and their order, parameters, defaults, returns, docstrings (law 3).

Read from the source, so that a decorator or a base class cannot hide a difference. Annotations of parameters are free;
those of returns must be the same, part by part and in the same order, but for the names in ``ALIASES``.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TORCH, JAX = ROOT / "gan_torch", ROOT / "gan_jax"

# Files without a twin, and why.
ALONE = {
    "compilation.py": "JAX compiles its step in any case, derivatives of every order included",
    "cuda_graph.py": "XLA makes CUDA graphs of its compiled step by itself",
    "compilation_cache.py": "torch.compile keeps what it compiled by itself",
    "convolution.py": "torch's own convolutions and their derivatives are fast on every platform",
    "network.py": "torch's modules hold their values; linen's are joined with theirs here",
    "interop.py": "torch's names and layouts are the canonical ones: only JAX translates",
}
# Parameters without a twin, and why.
UNPAIRED_PARAMETERS = {"train": "linen modules hold no mode; torch's keep it in .training"}
# Parameters by name only in torch; linen's fields come by position as well, as their own Conv's do.
# Names of types in returns that mean the same, and why they differ.
ALIASES = {
    "Tensor": ("Array", "each framework has its own class of arrays"),
    "nn.Module": ("Network", "torch's modules hold their values; linen's are joined with theirs in a Network"),
    "torch.device": ("Device", "each framework has its own class of devices"),
    "torch.dtype": ("DTypeLike", "each framework has its own types of numbers"),
    "_Fakes": ("Examples", "fakes in JAX carry the function that torch's images carry in their graph"),
}
# Module docstrings without a twin, and why.
UNPAIRED_DOCSTRINGS = {"__init__.py": "says what sets the backend apart"}
# The same word in both backends' docstrings.
FRAMEWORK_NAMES = {"PyTorch": "FRAMEWORK", "JAX": "FRAMEWORK", "gan_torch": "gan_X", "gan_jax": "gan_X"}
FILES = sorted({str(path.relative_to(TORCH)) for path in TORCH.rglob("*.py")} - set(ALONE))


def docstring(node) -> str:
    text = ast.get_docstring(node) or ""
    for name, common in FRAMEWORK_NAMES.items():
        text = text.replace(name, common)
    return text


def public(body):
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node for node in body if isinstance(node, kinds) and not node.name.startswith("_")]


def tables(tree):
    """Names and values of the module's public constants: tables of constructors and numbers."""
    named = [
        (ast.unparse(node.targets[0]), ast.unparse(node.value)) for node in tree.body if isinstance(node, ast.Assign)
    ]
    return [(name, value) for name, value in named if not name.startswith("_")]


def parameters(function: ast.FunctionDef) -> dict[str, str | None]:
    """Names and defaults of a function's parameters, whether by position or by name."""
    arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    both = [*zip(positional, defaults, strict=True), *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    named = {argument.arg: default and ast.unparse(default) for argument, default in both}
    return {name: default for name, default in named.items() if name not in ("self", *UNPAIRED_PARAMETERS)}


def constructor(node: ast.ClassDef) -> dict[str, str | None]:
    """Parameters of a class: those of __init__, or the fields of a dataclass or a linen module."""
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return parameters(item)
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
    return {
        field.target.id: field.value and ast.unparse(field.value)
        for field in fields
        if isinstance(field.target, ast.Name)
    }


def returns(function: ast.FunctionDef) -> str | None:
    """What a function returns, by names that both backends have; a name may be written as a string."""
    if function.returns is None:
        return None

    class Common(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            node = self.generic_visit(node)
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                node = ast.parse(node.value, mode="eval").body
            if isinstance(node, (ast.Name, ast.Attribute)) and ast.unparse(node) in ALIASES:
                return ast.Name(ALIASES[ast.unparse(node)][0])
            return node

    return ast.unparse(Common().visit(function.returns))


def methods(node: ast.ClassDef):
    renamed = {"forward": "__call__"}
    named = [item for item in node.body if isinstance(item, ast.FunctionDef)]
    return {
        renamed.get(item.name, item.name): (parameters(item), returns(item), docstring(item))
        for item in named
        if not item.name.startswith("_") or item.name == "__call__"
    }


def trees(file: str):
    return [ast.parse((package / file).read_text(encoding="utf-8")) for package in (TORCH, JAX)]


def test_files_are_the_same():
    jax_files = {str(path.relative_to(JAX)) for path in JAX.rglob("*.py")}
    torch_files = {str(path.relative_to(TORCH)) for path in TORCH.rglob("*.py")}
    assert jax_files ^ torch_files == set(ALONE)


@pytest.mark.parametrize("file", FILES)
def test_public_names_and_tables_in_the_same_order(file):
    ours, theirs = trees(file)
    assert [node.name for node in public(theirs.body)] == [node.name for node in public(ours.body)]
    assert tables(theirs) == tables(ours)


@pytest.mark.parametrize("file", FILES)
def test_docstrings_are_the_same(file):
    ours, theirs = trees(file)
    assert docstring(theirs) and docstring(ours)
    assert docstring(theirs) == docstring(ours) or file in UNPAIRED_DOCSTRINGS
    for mine, other in zip(public(ours.body), public(theirs.body), strict=True):
        assert docstring(mine) == docstring(other) != "", mine.name


@pytest.mark.parametrize("file", FILES)
def test_parameters_and_methods_are_the_same(file):
    ours, theirs = trees(file)
    for mine, other in zip(public(ours.body), public(theirs.body), strict=True):
        if isinstance(mine, ast.ClassDef) and isinstance(other, ast.ClassDef):
            assert constructor(mine) == constructor(other), mine.name
            assert list(methods(mine).items()) == list(methods(other).items()), mine.name
        else:
            assert isinstance(mine, ast.FunctionDef) and isinstance(other, ast.FunctionDef), mine.name
            assert parameters(mine) == parameters(other), mine.name
            assert returns(mine) == returns(other), mine.name


@pytest.mark.parametrize(
    ("torch_returns", "jax_returns", "same"),
    [
        ("tuple[Tensor, nn.Module]", "tuple[Array, Network]", True),
        ("Mapping[str, Tensor] | None", "Mapping[str, Array] | None", True),
        ("'Tensor'", "Array", True),
        ("Tensor", "tuple[Array, Network]", False),
        ("tuple[State, Tensor]", "tuple[Array, State]", False),
        ("tuple[Tensor, Tensor]", "tuple[Array, Array, Array]", False),
        ("Tensor", "Array | None", False),
    ],
)
def test_order_and_number_of_returns_count(torch_returns, jax_returns, same):
    ours, theirs = (
        returns(node)
        for text in (torch_returns, jax_returns)
        for node in ast.parse(f"def f() -> {text}: ...").body
        if isinstance(node, ast.FunctionDef)
    )
    assert (ours == theirs) is same


def test_every_alias_is_used():
    sources = "".join((package / file).read_text(encoding="utf-8") for package in (TORCH, JAX) for file in FILES)
    assert not [name for name in ALIASES if name not in sources]
