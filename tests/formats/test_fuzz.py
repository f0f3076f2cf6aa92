"""Ten thousand damaged pairs, through all that stands between a user's file and llama.cpp, and then llama.cpp."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("llama_cpp")

from dspark_local.backend.probe import Prober
from dspark_local.errors import DSparkError
from dspark_local.formats.gguf import GGUF
from dspark_local.formats.inspection import inspect_files
from dspark_local.formats.model import Soundness
from tests.formats.mutants import Nursery

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from tests.formats.mutants import Mutant

FAST, ALL = 1_000, 10_000


def refuser(mutant: Mutant) -> str:
    """Whether a refused pair fails in the reader already, or by the rules."""
    try:
        GGUF.open(mutant.target)
        GGUF.open(mutant.draft)
    except DSparkError:
        return "reader"
    return "rules"


def run(indices: Iterable[int], folder: Path) -> tuple[Counter[str], list[str]]:
    """What became of the mutants, and the stories of those that the rules called sound and llama.cpp did not run."""
    fates: Counter[str] = Counter()
    killers: list[str] = []
    nursery = Nursery(folder)
    with Prober(threads=1, timeout=60) as prober:
        for index in indices:
            mutant = nursery.mutant(index)
            try:
                found = inspect_files(mutant.target, mutant.draft)
            except DSparkError as error:
                fates[f"refused by the {refuser(mutant)}"] += 1
                refusal = str(error)
                assert refusal, mutant.story
                assert "\n" not in refusal, mutant.story
                continue
            verdict = prober.check(mutant.target, mutant.draft)
            assert "\n" not in verdict.detail, mutant.story
            fate = "ran" if verdict.ok else "killed the child" if verdict.died else "refused by llama.cpp"
            fates[f"{found.soundness.value}: {fate}"] += 1
            if not verdict.ok and found.soundness is Soundness.SOUND:
                killers.append(f"{mutant.story}: {verdict.detail}")
    print(f"\n{sum(fates.values())} mutants: {dict(sorted(fates.items()))}")  # noqa: T201  # shown with -s
    return fates, killers


def test_what_the_rules_call_sound_runs(tmp_path: Path) -> None:
    """No damage raises anything but a DSparkError of one line, and no file that passes is refused or deadly."""
    fates, killers = run(range(FAST), tmp_path)
    assert killers == []
    assert sum(fates.values()) == FAST
    assert fates["sound: ran"] > FAST // 20  # damage that does no harm must pass


@pytest.mark.slow
def test_ten_thousand_mutants_never_abort(tmp_path: Path) -> None:
    """The same of the whole corpus."""
    fates, killers = run(range(ALL), tmp_path)
    assert killers == []
    assert sum(fates.values()) == ALL
