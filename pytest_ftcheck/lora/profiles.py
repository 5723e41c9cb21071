"""How much hypothesis draws: few cases and always the same ones in CI, many new ones at night."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import hypothesis

CI, NIGHTLY = "ftcheck-ci", "ftcheck-nightly"
# What hypothesis loads by itself: nobody has chosen these.
OF_HYPOTHESIS = ("default", "ci")


def register() -> None:
    """Make the profiles known to hypothesis, for ``--hypothesis-profile``. Called by hypothesis when it is imported."""
    # Not before: hypothesis imports this module while it is imported, and may be imported because this module is.
    import hypothesis

    # A layer of a slow machine is no wrong layer.
    always = hypothesis.settings(deadline=None)
    hypothesis.settings.register_profile(CI, always, max_examples=25, derandomize=True, database=None)
    # Said where it is false too: hypothesis's own default is another one where it sees that it runs in CI.
    hypothesis.settings.register_profile(NIGHTLY, always, max_examples=1000, derandomize=False, print_blob=True)


def chosen_profile() -> hypothesis.settings:
    """The profile that somebody has loaded, and else the one for CI."""
    import hypothesis

    register()
    loaded = hypothesis.settings.get_current_profile_name()
    return hypothesis.settings.get_profile(CI if loaded in OF_HYPOTHESIS else loaded)
