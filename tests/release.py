"""What is built is complete: installed from the wheel, and from the sdist, into environments that have nothing else.

``python tests/release.py DIST``: the folder with the two files (``tox run -e release``).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TEST = """
def test_a_report_is_written(ft_lora):
    assert ft_lora.loss.finite
"""
# The pages, the catalogue and a training: templates, entry points and every module that they import are there.
COMMANDS = (
    ["--ftcheck-list-checks"],
    ["-q", "--ftcheck-device=cpu", "--ftcheck-steps=4", "--ftcheck-no-cache", "--ftcheck-report=html", "test_it.py"],
)


def tried(file: Path) -> None:
    """Install ``file``, and use it in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        venv.create(place / "venv", with_pip=True)
        python = str(place / "venv" / ("Scripts" if sys.platform == "win32" else "bin") / "python")
        # Of the extras, what a report needs.
        install = [python, "-m", "pip", "install", "-q", "--constraint", str(ROOT / "constraints.txt")]
        subprocess.run([*install, f"{file}[report]"], check=True)
        (place / "test_it.py").write_text(TEST)
        for command in COMMANDS:
            subprocess.run([python, "-m", "pytest", *command], cwd=place, check=True, stdout=subprocess.DEVNULL)
        assert (place / "ftcheck-report.html").stat().st_size > 1e6
        print(f"{file.name}: installed and used")


def main(dist: Path) -> None:
    files = sorted(dist.glob("pytest_ftcheck-*"))
    assert {file.suffix for file in files} == {".whl", ".gz"}, files
    for file in files:
        tried(file)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
