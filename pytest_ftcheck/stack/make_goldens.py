"""Write the golden checkpoints with whatever releases are installed: meant to be run under old ones.

    python -m pytest_ftcheck.stack.make_goldens FOLDER [NAME ...]

writes those that the installed transformers is the declared author of (4.45.2 with peft 0.13.2; 4.57.6), or the named
ones, into FOLDER, which is ``pytest_ftcheck/stack/golden_checkpoints`` in a checkout. They are written once and then
only read: a golden that is written anew by the release that it judges says nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .goldens import ADAPTERS, MODELS, NUMBERS, compute
from .models import batch, build, moved
from .releases import installed

ROWS = 2


def write_model(name: str, folder: Path) -> None:
    """Save the model at random values, and the numbers that it gives."""
    golden = MODELS[name]
    model = moved(build(golden.architecture, **golden.settings)).eval()
    model.save_pretrained(folder / name)
    (folder / name / "generation_config.json").unlink(missing_ok=True)
    _write_numbers(model, batch(golden.architecture, rows=ROWS), folder / name)


def write_adapter(name: str, folder: Path) -> None:
    """Save an adapter at random values on the base that ``write_model`` has written, and the numbers of both."""
    import peft

    from .models import auto_class

    golden = ADAPTERS[name]
    architecture = MODELS[golden.base].architecture
    base = auto_class(architecture).from_pretrained(folder / golden.base)
    model = peft.get_peft_model(base, getattr(peft, golden.config)(**golden.settings))
    moved(model, only_trainable=True).eval()
    model.save_pretrained(folder / name)
    (folder / name / "README.md").unlink(missing_ok=True)
    _forget_where(folder / name / "adapter_config.json")
    _write_numbers(model, batch(architecture, rows=ROWS), folder / name)


def _forget_where(configuration: Path) -> None:
    """The base is given when the adapter is loaded; where it lay on the writer's disk is nobody's business."""
    settings = {**json.loads(configuration.read_text()), "base_model_name_or_path": None}
    configuration.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def _write_numbers(model: Any, inputs: dict[str, Any], folder: Path) -> None:
    from safetensors.torch import save_file

    logits, loss, gradient = compute(model, inputs)
    author = " ".join(f"{library} {installed(library)}" for library in ("transformers", "peft", "torch"))
    facts = {"loss": loss, "gradient": gradient, "written_by": author}
    save_file({**inputs, "logits": logits}, folder / NUMBERS, metadata={"facts": json.dumps(facts)})


def main(folder: Path, names: list[str]) -> None:
    release = installed("transformers")
    models = [name for name in MODELS if name in names or (not names and MODELS[name].release == release)]
    adapters = [name for name in ADAPTERS if name in names or (not names and release == "4.45.2")]
    for name in models:
        write_model(name, folder)
    for name in adapters:
        write_adapter(name, folder)
    print(f"{len(models)} models and {len(adapters)} adapters in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
