"""Writing a model as its recipe writes it, loading it again, and reading what is in the files."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..isolation import preserved_settings, seed_everything
from ..scratch import prefix
from .adapted import active, config_of, is_prompt
from .names import shared_base

if TYPE_CHECKING:
    from torch import Tensor, nn

    from .evidence import Evidence

Tensors = dict[str, "Tensor"]
PICKLED = (".bin", ".pt", ".pth", ".ckpt")


class SavingFails(NotApplicable):
    """Saving or loading raised: reported by one check, and for the others a reason that there is nothing to look at."""


@dataclass
class Folder:
    """A temporary folder that lives as long as this object."""

    held: tempfile.TemporaryDirectory[str] = field(
        default_factory=lambda: tempfile.TemporaryDirectory(prefix=prefix()), repr=False
    )

    @property
    def path(self) -> Path:
        return Path(self.held.name)


@dataclass
class Saved:
    """A save that was made: what was saved, as it was before, the same object after it, and what the files hold."""

    folder: Folder
    before: nn.Module
    after: nn.Module
    by_recipe: bool

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def tensors(self) -> Tensors:
        """Every tensor in the files, by file and name."""
        return read_tensors(self.path)

    @property
    def own_tensors(self) -> Tensors:
        """Those of the active adapter alone, where several were saved."""
        if self.adapter_folder is None:
            return self.tensors
        own = self.adapter_folder.relative_to(self.path)
        return {name: t for name, t in self.tensors.items() if Path(name.partition(": ")[0]).parent == own}

    @property
    def adapter_folder(self) -> Path | None:
        """Where the adapter's own configuration is; None where no adapter was saved as PEFT saves it."""
        found = [path.parent for path in self.path.rglob("adapter_config.json")]
        name = getattr(self.before, "active_adapter", None)
        # The default adapter is in the folder itself, every other one in a folder of its name.
        return min(found, key=lambda folder: (folder.name != name, len(folder.parts)), default=None)


def saved(evidence: Evidence) -> Saved:
    """The moved model, saved as the recipe saves, or else by its own ``save_pretrained``. Made once."""

    def make() -> Saved:
        model = evidence.moved_model()
        before, folder = copy.deepcopy(model), Folder()
        with quiet(), preserved_settings(evidence.recipe.threads), failing("saving"):
            (evidence.recipe.save or save_pretrained)(model, folder.path)
        return Saved(folder, before, model, evidence.recipe.save is not None)

    return evidence.once("saved", make)


def save_pretrained(model: nn.Module, folder: Path) -> None:
    """The save that models of transformers and PEFT bring along. NotApplicable for other models."""
    own = getattr(model, "save_pretrained", None)
    if not callable(own):
        raise NotApplicable("the recipe has no save, and the model no save_pretrained")
    own(str(folder))


def write(model: nn.Module, **options: Any) -> Folder:
    """``model`` written by its own ``save_pretrained`` into a new folder."""
    own = getattr(model, "save_pretrained", None)
    if not callable(own) or not callable(getattr(type(model), "from_pretrained", None)):
        raise NotApplicable(f"{type(model).__name__} has no save_pretrained and from_pretrained")
    folder = Folder()
    with quiet():
        own(str(folder.path), **options)
    return folder


def reload(kind: Any, folder: Path, evidence: Evidence) -> nn.Module:
    """The model that ``kind.from_pretrained`` makes of ``folder``, on the evidence's device."""
    with quiet(), preserved_settings(evidence.recipe.threads):
        seed_everything(evidence.seed + 17)  # what the file does not hold must not happen to be drawn right
        return kind.from_pretrained(str(folder)).to(evidence.device)  # type: ignore[no-any-return]


def loaded(evidence: Evidence) -> nn.Module:
    """What the recipe's ``load`` makes of the saved folder, or else the loading that its files ask for. Made once."""

    def make() -> nn.Module:
        save = saved(evidence)
        with failing("loading"):
            return load_saved(evidence, save)

    return evidence.once("loaded", make)


def load_saved(evidence: Evidence, save: Saved) -> nn.Module:
    recipe = evidence.recipe
    if recipe.load is not None:
        with quiet(), preserved_settings(recipe.threads):
            # What the file does not hold must not happen to be drawn right, unless the base itself is drawn.
            seed_everything(evidence.seed + (0 if _base_is_drawn(evidence) else 17))
            return recipe.load(save.path).to(evidence.device)
    if save.adapter_folder is not None and not evidence.is_full:
        return load_adapter(evidence, save.adapter_folder, active(save.before))  # type: ignore[no-any-return]
    kind = type(save.before)
    if (save.path / "config.json").exists() and callable(getattr(kind, "from_pretrained", None)):
        return reload(kind, save.path, evidence)
    raise NotApplicable("the recipe has no load, and what it saves is no folder of PEFT or transformers")


def _base_is_drawn(evidence: Evidence) -> bool:
    """Whether the weights of the base model come from the seed of the run."""
    import torch

    try:
        given = shared_base(evidence).state_dict()
    except NotApplicable:
        return True
    seed_everything(evidence.seed + 17)
    drawn = evidence.recipe.model().state_dict()
    return any(key in given and not torch.equal(value.to(given[key]), given[key]) for key, value in drawn.items())


@contextlib.contextmanager
def failing(what: str) -> Iterator[None]:
    """Turn what the body raises into SavingFails."""
    try:
        yield
    except NotApplicable:
        raise
    except Exception as error:
        text = str(error).splitlines()
        raise SavingFails(f"{what} raised {type(error).__name__}: {text[0] if text else ''}") from error


def load_adapter(evidence: Evidence, folder: Path, name: str = "default", **options: Any) -> Any:
    """A fresh base with the adapter in ``folder``, by ``PeftModel.from_pretrained``."""
    from peft import PeftModel

    with quiet(), preserved_settings(evidence.recipe.threads):
        base = evidence.base_model()
        seed_everything(evidence.seed + 17)
        return PeftModel.from_pretrained(base, str(folder), adapter_name=name, **options)


def read_tensors(folder: Path) -> Tensors:
    """Every tensor of the files in ``folder``, as "file: name"; of a pickled file no code is run."""
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    found: Tensors = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".safetensors":
            try:
                held = load_file(str(path))
            except SafetensorError as error:
                # Whoever loads it finds that; what looks at its tensors has none.
                raise NotApplicable(f"{path.name} cannot be read ({error})") from None
            found.update({f"{path.relative_to(folder)}: {name}": tensor for name, tensor in held.items()})
        elif path.suffix in PICKLED:
            try:
                held = torch.load(path, map_location="cpu", weights_only=True)
            except Exception as error:
                raise NotApplicable(f"{path.name} is no file of tensors alone ({type(error).__name__})") from None
            found.update({f"{path.relative_to(folder)}: {name}": t for name, t in _flat(held)})
    return found


def _flat(held: Any, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    import torch

    if isinstance(held, torch.Tensor):
        yield prefix, held
    elif isinstance(held, dict):
        for key, value in held.items():
            yield from _flat(value, f"{prefix}.{key}".lstrip("."))


def fingerprint(tensor: Tensor) -> str:
    """What is the same for two tensors of the same shape, dtype and bits."""
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest = hashlib.blake2b(flat.numpy().tobytes(), digest_size=16).hexdigest()
    return f"{tuple(tensor.shape)} {tensor.dtype} {digest}"


def held_in(tensors: Tensors, parameters: Tensors) -> dict[str, list[str]]:
    """Name of a parameter -> the names under which ``tensors`` hold its value, in whatever dtype they are."""
    by_print: dict[str, list[str]] = {}
    for name, tensor in tensors.items():
        by_print.setdefault(fingerprint(tensor), []).append(name)
    dtypes = {tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    return {
        name: [
            one for dtype in dtypes | {parameter.dtype} for one in by_print.get(fingerprint(parameter.to(dtype)), [])
        ]
        for name, parameter in parameters.items()
    }


def is_merged_export(save: Saved) -> bool:
    """Whether the files hold a whole model whose adapted weights are neither the base's nor an adapter's."""
    tensors = save.tensors
    bases = {name: p.detach() for name, p in save.before.named_parameters() if ".base_layer." in name}
    shapes = {tuple(tensor.shape) for tensor in tensors.values()}
    whole = bool(bases) and all(tuple(p.shape) in shapes for p in bases.values())
    return whole and not any(held_in(tensors, bases).values())


def writes_an_adapter(evidence: Evidence) -> Saved:
    """The save of an adapter method that changes layers, as an adapter. NotApplicable where it is something else."""
    save = saved(evidence)
    config = getattr(save.before, "peft_config", None)
    if config is not None and is_prompt(config_of(save.before)):
        raise NotApplicable("what is saved of a trained prompt is worked out from its parameters")
    return save


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """No warnings, no log of transformers below an error and no progress bars, while it lasts."""
    library = sys.modules.get("transformers.utils.logging")
    logger = logging.getLogger("transformers")
    level, bars = logger.level, library is not None and getattr(library, "is_progress_bar_enabled", lambda: False)()
    logger.setLevel(logging.ERROR)
    if library is not None and bars:
        library.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if library is not None and bars:
            library.enable_progress_bar()
