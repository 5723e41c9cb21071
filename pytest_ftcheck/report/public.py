"""The public names of a package and what their sources say of them, read without importing what they need.

A package names them in ``__all__`` and says, in an import of its own, where each is at home. So the reference is the
same where hypothesis or LitGPT is missing.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Union

ROOT = Path(__file__).parents[1]
PROPERTIES = ("property", "cached_property")
# A call that is longer has a line for each argument.
WIDE = 100

Function = Union[ast.FunctionDef, ast.AsyncFunctionDef]


@dataclass(frozen=True)
class Member:
    """A method or property of a public class, or the entry of a public name itself: its call, and its docstring."""

    name: str
    call: str
    text: str


@dataclass(frozen=True)
class Public:
    """A public name: what it is ("class", "function", "constant"), how it is called, and what it says of itself."""

    name: str
    kind: str
    call: str
    text: str
    members: tuple[Member, ...] = ()


def public_names(package: str) -> list[Public]:
    """Every name in the ``__all__`` of ``package`` ("", "predict", "lora"), in its order."""
    folder = ROOT / package if package else ROOT
    tree = _parsed(folder / "__init__.py")
    (names,) = (ast.literal_eval(node.value) for node in tree.body if _assigns(node, "__all__"))  # type: ignore[attr-defined]
    return [described(_home(folder, tree, name), name) for name in names]


def described(file: Path, name: str) -> Public:
    """What ``file`` says of the class, function or constant ``name`` in it. KeyError where it has none."""
    body = _parsed(file).body
    for node, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.ClassDef) and node.name == name:
            return Public(name, "class", _construction(node), _text(node), tuple(_members(node)))
        if isinstance(node, ast.FunctionDef) and node.name == name:
            return Public(name, "function", _call(node, name), _text(node))
        if _assigns(node, name):
            return Public(name, "constant", name, _string(following))
    raise KeyError(f"{name} in {file}")


def _home(folder: Path, tree: ast.Module, name: str) -> Path:
    """The file in which ``name`` is made, which the package whose ``__init__`` is ``tree`` imports from elsewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            place = folder.joinpath(*node.module.split("."))
            if place.is_dir():
                return _home(place, _parsed(place / "__init__.py"), name)
            return place.with_suffix(".py")
    raise KeyError(f"{name} in {folder}")


def _parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def _assigns(node: ast.stmt | None, name: str) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return any(isinstance(target, ast.Name) and target.id == name for target in targets)


def _text(node: ast.ClassDef | Function) -> str:
    return ast.get_docstring(node) or ""


def _string(node: ast.stmt | None) -> str:
    """The text of a string that stands by itself, as under a constant."""
    value = node.value if isinstance(node, ast.Expr) else None
    return inspect.cleandoc(value.value) if isinstance(value, ast.Constant) and isinstance(value.value, str) else ""


def _members(node: ast.ClassDef) -> Iterator[Member]:
    for member, following in zip(node.body, [*node.body[1:], None], strict=True):
        if isinstance(member, ast.AnnAssign) and _string(following):
            yield Member(ast.unparse(member.target), ast.unparse(member.target), _string(following))
        # What overrides a method and says nothing of itself does what the base class says.
        if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef)) and not member.name.startswith("_"):
            if _derived(node) and not _text(member):
                continue
            decorators = {ast.unparse(one) for one in member.decorator_list}
            is_property = not decorators.isdisjoint(PROPERTIES)
            yield Member(
                member.name, member.name if is_property else _call(member, member.name, wide=10_000), _text(member)
            )


def _derived(node: ast.ClassDef) -> bool:
    """Whether it has a base class with a contract of its own; a record's gives it ``to_json`` and ``from_json``."""
    return any(ast.unparse(base) != "Record" for base in node.bases)


def _construction(node: ast.ClassDef) -> str:
    """How a class is called: by its fields where it is a dataclass, else by its ``__init__``; else ""."""
    if any(ast.unparse(one).startswith("dataclass") for one in node.decorator_list):
        fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
        return _joined(node.name, [_field(one) for one in fields if not ast.unparse(one.target).startswith("_")], "")
    made = next((one for one in node.body if isinstance(one, ast.FunctionDef) and one.name == "__init__"), None)
    if made is None:
        return "" if _derived(node) else f"{node.name}()"
    return _call(made, node.name).removesuffix(" -> None")


def _field(node: ast.AnnAssign) -> str:
    text = f"{ast.unparse(node.target)}: {ast.unparse(node.annotation)}"
    default = node.value
    if isinstance(default, ast.Call) and ast.unparse(default.func) == "field":
        keywords = {one.arg: ast.unparse(one.value) for one in default.keywords}
        made = keywords.get("default_factory")
        return f"{text} = {f'{made}()' if made else keywords['default']}"
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _call(node: Function, name: str, wide: int = WIDE) -> str:
    """The call of a function, without what the language gives it (``self``) or hypothesis does (``draw``)."""
    given = node.args
    plain = [*given.posonlyargs, *given.args]
    defaults: list[ast.expr | None] = [*[None] * (len(plain) - len(given.defaults)), *given.defaults]
    found = [
        _argument(*pair) for pair in zip(plain, defaults, strict=True) if pair[0].arg not in ("self", "cls", "draw")
    ]
    if given.vararg or given.kwonlyargs:
        found.append(f"*{ast.unparse(given.vararg)}" if given.vararg else "*")
    found += [_argument(*pair) for pair in zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    found += [f"**{ast.unparse(given.kwarg)}"] if given.kwarg else []
    return _joined(name, found, _returned(node), wide)


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    text = ast.unparse(argument)
    return text if default is None else f"{text} = {ast.unparse(default)}"


def _returned(node: Function) -> str:
    decorators = {ast.unparse(one) for one in node.decorator_list}
    kind = ast.unparse(node.returns) if node.returns else ""
    if "st.composite" in decorators:
        return f" -> SearchStrategy[{kind}]"
    if "contextlib.contextmanager" in decorators:
        return f" -> AbstractContextManager[{kind.removeprefix('Iterator[')}"
    return f" -> {kind}" if kind else ""


def _joined(name: str, arguments: list[str], returned: str, wide: int = WIDE) -> str:
    """On one line where that is not long, else a line for each argument."""
    line = f"{name}({', '.join(arguments)}){returned}"
    if len(line) <= wide:
        return line
    return "\n".join([f"{name}(", *(f"    {argument}," for argument in arguments), f"){returned}"])
