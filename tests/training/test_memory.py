"""A long training takes no more memory than a short one."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import psutil
import pytest

torch = pytest.importorskip("torch", reason="training needs torch, an extra")

from dspark_local.models.locations import find  # noqa: E402 - after the skip
from dspark_local.training import fit  # noqa: E402
from dspark_local.training.blocks import pick_anchors  # noqa: E402
from dspark_local.training.design import design  # noqa: E402
from dspark_local.training.loop import loss_of  # noqa: E402
from dspark_local.training.network import Drafter  # noqa: E402
from dspark_local.training.plan import Plan  # noqa: E402
from dspark_local.training.schedule import Schedule  # noqa: E402
from dspark_local.training.states import States, bfloat16  # noqa: E402
from dspark_local.training.target import TargetFile  # noqa: E402
from dspark_local.training.text import Text, batches  # noqa: E402

STEPS = 60


def resident() -> list[int]:
    """Bytes after each step on batches of ever new shapes."""
    plan = Plan(schedule=Schedule(steps=STEPS), threads=1)
    fit.prepare(plan)
    target = TargetFile.open(find("demo", "none").target)
    heads = fit.heads(target, plan)
    drafter = Drafter(design(target.gguf)).to(heads.dtype)
    rng = np.random.default_rng(0)
    texts = [Text.said([1] * 16, [2] * n, ended=True, temperature=0.0) for n in rng.integers(20, 150, 400).tolist()]
    width, taps = drafter.design.shape.hidden_size, len(drafter.design.taps)
    found = []
    for step, batch in enumerate(batches(texts, range(len(texts)), tokens=768, seed=(1,))[:STEPS]):
        anchors = pick_anchors(heads.flags(batch.learn), 4, torch.Generator().manual_seed(step))
        states = States(*(bfloat16(rng.standard_normal((*batch.ids.shape, n * width), np.float32)) for n in (taps, 1)))
        loss_of(drafter, heads, batch, states, anchors).backward()
        found.append(psutil.Process().memory_info().rss)
    return found


@pytest.mark.slow
def test_kernels_for_new_shapes_are_not_all_kept() -> None:
    """OneDNN keeps a thousand by itself: 3 MiB a step at this size. Its limits are read once, so in a new process."""
    done = subprocess.run([sys.executable, __file__], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    assert len(found) == STEPS
    assert found[-1] - found[STEPS // 3] < 50 << 20


if __name__ == "__main__":
    sys.stdout.write(json.dumps(resident()))
