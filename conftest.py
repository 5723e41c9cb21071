"""For all of this project: `pytester` must be asked for at the root."""

pytest_plugins = ["pytester"]
