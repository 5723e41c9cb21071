"""The recipe of a repository under guard, without a session of pytest."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

import pytest

from pytest_ftcheck import Recipe


def recipe_in(folder: Path) -> Recipe:
    """What ``ft_recipe`` of the conftest.py in ``folder`` returns; the modules beside it are imported anew."""
    modules = [file.stem for file in folder.glob("*.py") if file.stem != "conftest"]
    spec = importlib.util.spec_from_file_location("conftest_under_guard", folder / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        for name in modules:
            patch.delitem(sys.modules, name, raising=False)
        importlib.invalidate_caches()
        spec.loader.exec_module(module)
        recipe = module.ft_recipe._get_wrapped_function()()
        for name in modules:
            sys.modules.pop(name, None)
    assert isinstance(recipe, Recipe)
    return recipe
