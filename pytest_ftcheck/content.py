"""A digest of what a value is, so that a stored run is believed only where the same would be trained again.

Functions count by the source of their module and of every module of the same repository that it imports, in their
bodies too; data by its values. A value whose content cannot be known makes the run not storable, which is safe.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import inspect
import itertools
import json
import sys
import sysconfig
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

# What a literal in source code gives; the rest of its values are tuples, sets and code.
SCALARS = (bool, int, float, complex, str, bytes, slice, type(None), type(...))


class UnknownContentError(Exception):
    """The content of a value cannot be told from the outside; the message says which."""


def digest(value: Any) -> str:
    """A digest of the content of ``value``, the same in every process. Raises UnknownContentError."""
    try:
        text = json.dumps(_describe(value), sort_keys=True, separators=(",", ":"))
    except RecursionError:
        raise UnknownContentError("the content of a value that holds itself") from None
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _describe(value: Any) -> Any:
    """JSON data with the same content as ``value``."""
    if isinstance(value, SCALARS):
        return [type(value).__name__, repr(value)]
    if isinstance(value, Path):
        return ["file", hashlib.blake2b(value.read_bytes()).hexdigest() if value.is_file() else str(value)]
    if isinstance(value, (list, tuple)):
        return [type(value).__name__, [_describe(item) for item in value]]
    if isinstance(value, (set, frozenset)):
        return ["set", sorted(json.dumps(_describe(item)) for item in value)]
    if isinstance(value, Mapping):
        return ["mapping", [[_describe(key), _describe(item)] for key, item in value.items()]]
    return _describe_object(value)


def _describe_object(value: Any) -> Any:
    if isinstance(value, (types.FunctionType, type)):
        return _describe_code(value)
    if isinstance(value, types.MethodType):
        return ["method", _describe_code(value.__func__), _describe(value.__self__)]
    if isinstance(value, functools.partial):
        return ["partial", _describe(value.func), _describe(value.args), _describe(value.keywords)]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
        from .observers.parameters import digest as tensor_digest

        return ["tensor", str(value.dtype), list(value.shape), tensor_digest(value)]
    if torch is not None and isinstance(value, (torch.dtype, torch.device)):
        return ["torch", str(value)]
    if dataclasses.is_dataclass(value):
        fields = [[f.name, _describe(getattr(value, f.name))] for f in dataclasses.fields(value) if f.compare]
        return ["object", _describe_code(type(value)), fields]
    if _is_plain(type(value)):
        return ["object", _describe_code(type(value)), _describe(vars(value))]
    raise UnknownContentError(f"the content of a {type(value).__module__}.{type(value).__qualname__}")


def _is_plain(kind: type) -> bool:
    """Whether all that an object of this class holds is in its ``__dict__``: a base that is written in C (a list, a
    tokenizer, an arrow table) would make it larger than an object of an empty class.
    """
    as_small = kind.__basicsize__ == _Empty.__basicsize__ and kind.__itemsize__ == 0
    return as_small and not any(vars(base).get("__slots__") for base in kind.__mro__)


class _Empty:
    pass


def _describe_code(code: Any) -> Any:
    """A function or class: its name, the sources it rests on, its instructions and the values that it closes over."""
    own = []
    if isinstance(code, types.FunctionType):
        cells = [cell.cell_contents for cell in code.__closure__ or ()]
        own = [_compiled(code.__code__), *map(_describe, [*cells, code.__defaults__, code.__kwdefaults__])]
    elif "<locals>" in code.__qualname__:
        raise UnknownContentError(f"the class {code.__qualname__}, whose methods may close over anything")
    try:
        file = inspect.getsourcefile(code)
    except TypeError:
        file = None
    if file is None or not Path(file).is_file():
        raise UnknownContentError(f"the source of {getattr(code, '__qualname__', code)!r}")
    return ["code", code.__module__, code.__qualname__, sources_digest(file), own]


def _compiled(code: types.CodeType) -> Any:
    """The instructions of a function. The lambdas of a module have one name and one source; this tells them apart."""
    constants = [_compiled(c) if isinstance(c, types.CodeType) else _describe(c) for c in code.co_consts]
    return [code.co_code.hex(), list(code.co_names), list(code.co_varnames), constants]


def sources_digest(file: str) -> str:
    """A digest of a source file and of all that it imports, installed packages left out (their versions count)."""
    known: dict[Path, bytes] = {}
    waiting, roots = [Path(file).resolve()], _roots()
    while waiting:
        path = waiting.pop()
        if path in known or is_installed(path):
            continue
        known[path] = path.read_bytes()
        waiting.extend(_imported_files(path, known[path], roots))
        waiting.extend(_packages(path))
    # By name and not by path: another checkout of the same sources is the same content.
    parts = sorted(f"{path.name} {hashlib.blake2b(source).hexdigest()}" for path, source in known.items())
    return hashlib.blake2b("".join(parts).encode(), digest_size=16).hexdigest()


@functools.lru_cache(maxsize=1)
def package_digest() -> str:
    """A digest of this package's own sources: what observes and trains must not change under a stored run."""
    sources = (path.read_bytes() for path in sorted(Path(__file__).parent.rglob("*.py")))
    return hashlib.blake2b(b"".join(sources), digest_size=16).hexdigest()


@functools.lru_cache(maxsize=1)
def _installed_folders() -> tuple[Path, ...]:
    """Folders of installed code, and this package, which has a digest of its own."""
    keys = ("stdlib", "platstdlib", "purelib", "platlib")
    return (*(Path(sysconfig.get_path(key)).resolve() for key in keys), Path(__file__).resolve().parent)


def is_installed(path: Path) -> bool:
    """Whether a file belongs to the interpreter, an installed package, or this one; not to the user's repository."""
    return any(path.is_relative_to(folder) for folder in _installed_folders())


def _imported_files(path: Path, source: bytes, roots: Sequence[Path]) -> Iterator[Path]:
    """The files of the modules that a source file imports."""
    for level, names in _imports(source):
        if level:
            yield from (file for name in names for file in _candidates(path.parents[level - 1], name))
        else:
            yield from _files_of_modules(path, names, roots)


@functools.lru_cache(maxsize=4096)
def _imports(source: bytes) -> tuple[tuple[int, tuple[str, ...]], ...]:
    """The modules that a source imports, at its top or within functions: (level of a relative import or 0, names).

    Cached, because a key is made for every run of a session, and parsing is most of its time.
    """
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return ()
    found: list[tuple[int, tuple[str, ...]]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.append((0, tuple(alias.name for alias in node.names)))
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            found.append((node.level, (base, *(f"{base}.{alias.name}".lstrip(".") for alias in node.names))))
    return tuple(found)


def _files_of_modules(path: Path, names: Iterable[str], roots: Sequence[Path]) -> Iterator[Path]:
    for name in names:
        # Beside the importing file too: so test folders and scripts find theirs without a package. Which of the two was
        # imported is not known here, so both count.
        yield from itertools.islice(_candidates(path.parent, name), 1)
        yield from itertools.islice((file for root in roots for file in _candidates(root, name)), 1)


def _packages(path: Path) -> Iterator[Path]:
    """The ``__init__.py`` of each package that a module is in; importing the module runs them."""
    inits = (folder / "__init__.py" for folder in path.parents)
    return itertools.takewhile(Path.is_file, inits)


def _candidates(folder: Path, name: str) -> Iterator[Path]:
    place = folder.joinpath(*name.split(".")) if name else folder
    for file in (place.with_suffix(".py") if name else place / "__init__.py", place / "__init__.py"):
        if file.is_file():
            yield file.resolve()


def _roots() -> list[Path]:
    """The folders that modules are imported from, other than those of installed packages."""
    roots = [Path(entry or ".").resolve() for entry in sys.path]
    return [root for root in roots if root.is_dir() and not is_installed(root)]
