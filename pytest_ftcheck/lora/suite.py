"""``test_lora = lora_properties(MyAdapter)``: one test item for each property."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from ..checks.verdict import Verdict
from ..errors import RecipeError
from ..outcome import conclude
from ..session import SESSION
from .adapter import Adapter
from .catalogue import all_properties, property_called
from .property import Property
from .trying import try_property


def lora_properties(
    adapter: Adapter | type[Adapter], *, expected_failures: Mapping[str, str] | None = None
) -> Callable[..., None]:
    """A test function that becomes one item for each property: give it a name that pytest collects.

    ::

        test_lora = lora_properties(MyAdapter)

    ``adapter`` derives from ``Adapter``. ``expected_failures`` is {property id: reason}; a property that is in it and
    holds fails the test. A property that needs what the adapter has not is skipped as *not applicable*, with the
    reason, and counted apart. Raises RecipeError for what is no adapter, and for an id that there is not.
    """
    subject = _instance(adapter)
    expected = dict(expected_failures or {})
    for id, reason in expected.items():
        property_called(id)
        if not (isinstance(reason, str) and reason.strip()):
            raise RecipeError(f"expected_failures[{id!r}] is {reason!r}; allowed: the reason, as a text")
    planned = [pytest.param(one, id=id) for id, one in all_properties().items()]

    @pytest.mark.parametrize("lora_property", planned)
    def test(lora_property: Property, pytestconfig: pytest.Config) -> None:
        __tracebackhide__ = True
        verdict = try_property(lora_property, subject, expected=expected.get(lora_property.id))
        conclude(pytestconfig.stash[SESSION], verdict)

    return test


def check_lora(adapter: Adapter | type[Adapter]) -> list[Verdict]:
    """Hold ``adapter`` to every property, without pytest; what is wrong is in ``verdict.findings``."""
    subject = _instance(adapter)
    return [try_property(one, subject) for one in all_properties().values()]


def _instance(adapter: Adapter | type[Adapter]) -> Adapter:
    found = adapter() if isinstance(adapter, type) and issubclass(adapter, Adapter) else adapter
    if not isinstance(found, Adapter):
        raise RecipeError(
            f"lora_properties was given {adapter!r}; allowed: a class derived from pytest_ftcheck.lora.Adapter"
        )
    return found
