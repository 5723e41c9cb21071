"""The same answers whatever PYTHONHASHSEED is: libraries keep names in sets, and act on them in the sets' order.

peft 0.14 mixed up the copies of two ``modules_to_save`` under seeds 0 and 2, and not under 1, 3, 4 and 5.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ..checks.verdict import Verdict

SEEDS = (0, 1, 2)
# Probes whose answer has depended, or could, on the order of a set, and their cases where it would show.
_NAMES = ("lora-saved-two", "lora-saved-head", "lora-many-names", "lora-patterns", "lora-bert-classifier", "lora-tied")
SENSITIVE: dict[str, tuple[str, ...]] = {
    "second-adapter-copies-its-own-modules-only": ("head-then-embedding", "embedding-then-head"),
    "adapter-on-many-targets": ("llama", "gpt2", "t5"),
    "adapters-keep-their-weights": ("lora-saved-two", "lora-saved-head", "lora-bert-classifier"),
    "set-adapter-trains-only-that-one": ("lora-saved-two", "lora-bert-classifier"),
    "adapter-loads-as-saved": _NAMES,
    "disabled-adapter-is-the-base": _NAMES,
    "merged-adapter-computes-the-same": _NAMES,
}


class HashSeeds:
    """The sensitive probes, each in fresh processes under three hash seeds."""

    id = "same-under-every-hash-seed"
    claim = "adapters come out the same whatever PYTHONHASHSEED is"
    links = ("https://github.com/huggingface/peft/issues/2206",)

    def examine(self, seed: int = 0) -> list[Verdict]:
        """The verdicts of every process; ``method`` says under which hash seed."""
        workers = [(hash_seed, _start(hash_seed, seed)) for hash_seed in SEEDS]
        return [verdict for hash_seed, worker in workers for verdict in self._read(hash_seed, worker)]

    def _read(self, hash_seed: int, worker: subprocess.Popen[str]) -> list[Verdict]:
        import dataclasses

        name = f"PYTHONHASHSEED={hash_seed}"
        output, errors = worker.communicate(timeout=300)
        if worker.returncode:
            reason = f"the process ended with {worker.returncode}: {errors.strip().splitlines()[-1:]}"
            return [Verdict(self.id, "adapter", name, self.claim, "error", reason=reason)]
        verdicts = [Verdict.from_json(json.dumps(record)) for record in json.loads(output.splitlines()[-1])]
        return [dataclasses.replace(v, method=f"{v.method} {name}".strip()) for v in verdicts]


HASH_SEEDS = HashSeeds()


def _start(hash_seed: int, seed: int) -> subprocess.Popen[str]:
    package = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), package]))
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", __name__, str(seed)]
    return subprocess.Popen(
        command, env=environment, text=True, cwd=tempfile.gettempdir(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def main(seed: int) -> None:
    """Print the verdicts of the sensitive probes, as one line of JSON."""
    from ..codec import encode
    from .probe import probes

    chosen = [probe for probe in probes() if probe.id in SENSITIVE]
    verdicts = [probe.examine_case(case, seed) for probe in chosen for case in SENSITIVE[probe.id]]
    print(json.dumps(encode(verdicts)))


if __name__ == "__main__":
    main(int(sys.argv[1]))
