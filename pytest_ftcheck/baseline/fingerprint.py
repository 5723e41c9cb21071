"""Where a number was seen: which numbers of other places it may be held to, and what has changed since."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..codec import Record
from ..run import Environment

CPU = "cpu"
# Packages whose versions decide what a training computes, by their names in ``Environment.versions``.
NUMERIC = ("torch", "transformers", "peft", "accelerate", "cuda")
OURS = "pytest-ftcheck"


def environment_class(device: str, device_name: str) -> str:
    """What a baseline's file is called after: ``"cpu"``, or the GPU's own name, such as ``"nvidia-h200"``."""
    if device == CPU:
        return CPU
    return re.sub(r"[^a-z0-9]+", "-", device_name.lower()).strip("-") or device


@dataclass(frozen=True)
class Fingerprint(Record):
    """The environment of a baseline: nothing that names a host, a person or a path.

    ``name`` is the processor's or the GPU's; ``versions`` has packages, Python, CUDA and the driver.
    """

    device: str
    name: str
    versions: dict[str, str]
    threads: int
    deterministic: bool

    @classmethod
    def of(cls, environment: Environment) -> Fingerprint:
        """That of a run's environment."""
        return cls(
            device=environment.device,
            name=environment.device_name,
            versions={"python": environment.python, **environment.versions},
            threads=environment.threads,
            deterministic=environment.deterministic,
        )

    @property
    def environment_class(self) -> str:
        return environment_class(self.device, self.name)

    def changes(self, now: Fingerprint) -> list[str]:
        """What has changed from this one to ``now``, a few words each; empty where nothing has."""
        found = [
            f"{name}: {before} -> {after}"
            for name, before, after in (
                ("processor" if self.device == CPU else "GPU", self.name, now.name),
                ("threads", self.threads, now.threads),
                ("deterministic algorithms", self.deterministic, now.deterministic),
            )
            if before != after
        ]
        packages = sorted(self.versions.keys() | now.versions.keys())
        pairs = [(name, self.versions.get(name, "absent"), now.versions.get(name, "absent")) for name in packages]
        return found + [f"{name} {before} -> {after}" for name, before, after in pairs if before != after]

    def same_machine(self, other: Fingerprint) -> bool:
        """Whether times of the one may be held to times of the other."""
        return (self.device, self.name, self.threads) == (other.device, other.name, other.threads)

    def same_bits(self, other: Fingerprint) -> bool:
        """Whether the same code, which repeats itself, must compute the same bits in both."""
        versions = all(self.versions.get(name) == other.versions.get(name) for name in NUMERIC)
        return versions and self.same_machine(other) and self.deterministic == other.deterministic

    @property
    def repeats_itself(self) -> bool:
        """Whether what gave the same bits twice will do so again: not on a GPU that adds up in any order."""
        return self.device == CPU or self.deterministic
