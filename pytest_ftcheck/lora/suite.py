"""``test_lora = lora_properties(MyAdapter)``: one test item for each property."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from ..checks.verdict import Verdict
from ..errors import RecipeError
from ..outcome import conclude
from ..session import SESSION
from .adapter import FEATURES, Adapter
from .catalogue import all_properties, property_called
from .property import LAYERS, NETWORKS, Property
from .trying import try_property

# What needs nothing but ``wrap`` and ``factors``: where it does not apply, nothing was tried.
NECESSARY = "output-is-base-plus-update"


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
        if verdict.check == NECESSARY and not verdict.applies:
            pytest.fail(f"0 layers were tried on {subject.name}: {verdict.reason}", pytrace=False)
        conclude(pytestconfig.stash[SESSION], verdict)

    return test


def check_lora(adapter: Adapter | type[Adapter]) -> list[Verdict]:
    """Hold ``adapter`` to every property, without pytest; what is wrong is in ``verdict.findings``."""
    subject = _instance(adapter)
    return [try_property(one, subject) for one in all_properties().values()]


def _instance(adapter: Adapter | type[Adapter]) -> Adapter:
    found = adapter() if isinstance(adapter, type) and issubclass(adapter, Adapter) else adapter
    if not isinstance(found, Adapter):
        raise RecipeError(f"the adapter is {adapter!r}; allowed: a class derived from pytest_ftcheck.lora.Adapter")
    for need in ("wrap", "factors"):
        if not found.can(need):
            raise RecipeError(f"{found.name}.{need} is missing; it is necessary, as pytest_ftcheck.lora.Adapter says")
    _known(found, "kinds", found.kinds, (*LAYERS, *NETWORKS))
    _known(found, "features", found.features, FEATURES)
    if not found.kinds:
        raise RecipeError(f"{found.name}.kinds is empty; allowed: {', '.join((*LAYERS, *NETWORKS))}")
    return found


def _known(adapter: Adapter, setting: str, values: tuple[str, ...], allowed: tuple[str, ...]) -> None:
    unknown = [value for value in values if value not in allowed]
    if unknown or isinstance(values, str):
        raise RecipeError(f"{adapter.name}.{setting} has {unknown[0]!r}; allowed: {', '.join(allowed)}")
