"""Inner selection of the ridge initialisation: one leave-group-out decomposition against a fit for each left-out group.

    OMP_NUM_THREADS=1 python benchmarks/ridge_selection.py --revision 13e5e48

The problem has the size of a fold of `libs/actprompt/configs/florence3d.yaml` on ten actors: 195 clips, each with 24
time warps, of nine classes; image feature (768), skeleton trajectory (1855) and named parameters (43) in a text space
of width 384. The selection of an earlier revision, read from git, and the present one run one after the other on the
same numbers and have to choose the same setting; further problems without time warps compare choices alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F

from icube_common.prompts import ridge_init
from icube_common.prompts.ridge_init import LinearProjection, RidgeBlock

MODULE = "libs/icube_common/src/icube_common/prompts/ridge_init.py"
ACTORS, CLIPS, CLASSES, DIM = 10, 195, 9, 384
# of libs/actprompt: width, ridge penalty, whether the copies of a clip differ
BLOCKS = ((768, 10.0, False), (1855, 0.1, True), (43, 3.0, False))


def earlier(revision: str) -> ModuleType:
    """The module of an earlier revision."""
    repository = Path(__file__).resolve().parents[1]
    source = subprocess.run(
        ["git", "show", f"{revision}:{MODULE}"], cwd=repository, check=True, capture_output=True, text=True
    ).stdout
    module = ModuleType("earlier_ridge_init")
    sys.modules[module.__name__] = module
    exec(compile(source, f"{revision}:{MODULE}", "exec"), module.__dict__)
    return module


def problem(seed: int, copies: int) -> dict[str, Any]:
    """Arguments of `select_by_group_cv`: clips around the mean of their class, shifted by actor."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    actors, labels = torch.arange(CLIPS) % ACTORS, torch.randint(CLASSES, (CLIPS,), generator=generator)
    blocks = []
    for width, penalty, differs in BLOCKS:
        clips = 0.03 * normal(CLASSES, width)[labels] + normal(CLIPS, width) + normal(ACTORS, width)[actors]
        rows = clips.repeat(copies, 1)
        if differs:
            rows[CLIPS:] += 0.3 * normal(len(rows) - CLIPS, width)
        blocks.append(RidgeBlock(rows / width**0.5, penalty, LinearProjection(width, DIM)))
    classes = F.normalize(normal(1, DIM) + 0.3 * normal(CLASSES, DIM), dim=-1)
    targets = F.normalize(classes - classes.mean(0), dim=-1)[labels]
    # the more of the prior is noise, the smaller the weight that it should get
    prior = F.normalize(targets + 0.5 * (1 + seed % 5) * normal(CLIPS, DIM), dim=-1)
    return {
        "blocks": blocks,
        "targets": targets.repeat(copies, 1),
        "prior": prior.repeat(copies, 1),
        "labels": labels,
        "groups": [f"actor {number}" for number in actors.tolist()],
        "classes": classes,
        "copies": copies,
    }


def timed(module: ModuleType, case: dict[str, Any]) -> tuple[dict[str, float], float]:
    """The chosen setting and the seconds of a selection."""
    start = time.perf_counter()
    chosen = module.select_by_group_cv(**case)
    return vars(chosen), time.perf_counter() - start


def main() -> None:
    """Compare choices and seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--revision", default="13e5e48", help="revision with a fit for each left-out group")
    parser.add_argument("--copies", type=int, default=25, help="rows of each clip")
    parser.add_argument("--seeds", type=int, default=6, help="further problems, of one row for each clip")
    options = parser.parse_args()
    before = earlier(options.revision)
    for seed in range(1, 1 + options.seeds):
        case = problem(seed, 1)
        (chosen, _), (expected, _) = timed(ridge_init, case), timed(before, case)
        assert chosen == expected, (seed, chosen, expected)
        print(f"problem {seed}, {CLIPS} rows: {chosen}, the same")
    case = problem(0, options.copies)
    (chosen, seconds), (expected, seconds_before) = timed(ridge_init, case), timed(before, case)
    assert chosen == expected, (chosen, expected)
    print(
        f"{CLIPS} x {options.copies} rows: {seconds:.1f} s, before {seconds_before:.1f} s "
        f"({seconds_before / seconds:.1f} times); {chosen}, the same"
    )


if __name__ == "__main__":
    main()
