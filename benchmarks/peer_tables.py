"""What the contests show, as tables. Answers lie as [trial][question]."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from peer_trials import over_tasks, ratio

from dspark_local.bench.tables import table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from measure import Run
    from peer_ceiling import Share
    from peer_simple import Told
    from peer_trials import Crowd, Rates

    from dspark_local.bench.prompts import Prompt

Runs = list[list["Run"]]
PLAIN = "plain"


def rates(answers: Sequence[Sequence[Run | Told | Crowd]], of: Sequence[int] | None = None) -> Rates:
    """Tokens per second; of some questions only, if they are named."""
    return [[trial[i].rate for i in (range(len(trial)) if of is None else of)] for trial in answers]


def fastest(theirs: Mapping[str, Sequence[Sequence[Run | Crowd]]]) -> str:
    """Their best setting over all that was asked."""
    return max(theirs, key=lambda setting: over_tasks(rates(theirs[setting])))


@dataclass(frozen=True, slots=True)
class Contest:
    """Answers of one request at a time: `theirs` and `simple` by setting, `ours` by policy.

    `fixed` is the policy of ours for each setting of theirs; `texts` are ours of the first trial, by policy.
    """

    prompts: Sequence[Prompt]
    theirs: Mapping[str, Runs]
    simple: Mapping[str, list[list[Told]]]
    ours: Mapping[str, Runs]
    fixed: Mapping[str, str]
    texts: Mapping[str, Sequence[str]]

    @property
    def greedy(self) -> list[int]:
        """Questions whose answers should be the same, whoever gives them."""
        return [i for i, prompt in enumerate(self.prompts) if not prompt.temperature]

    @property
    def kinds(self) -> dict[str, list[int]]:
        """Questions by kind; all together first."""
        kinds = dict.fromkeys(prompt.kind for prompt in self.prompts)
        of = {kind: [i for i, prompt in enumerate(self.prompts) if prompt.kind == kind] for kind in kinds}
        return {"all": list(range(len(self.prompts))), **(of if len(of) > 1 else {})}

    def same(self, setting: str, policy: str) -> str:
        """On how many greedy questions both wrote the same tokens in every trial."""
        both = (*self.theirs[setting], *self.ours[policy])
        return self._share(len({trial[i].tokens for trial in both}) == 1 for i in self.greedy)

    def same_as_simple(self, setting: str) -> str:
        """On how many greedy questions the simple program wrote our text, in the first trial, and then perhaps more.

        It does not cut its last draft to the number of tokens that it was asked for.
        """
        told, texts = self.simple[setting][0], self.texts[self.fixed[setting]]
        return self._share(told[i].text.startswith(texts[i]) for i in self.greedy)

    def _share(self, agree: Iterable[bool]) -> str:
        return f"{sum(agree)} of {len(self.greedy)}"


def by_setting(contest: Contest) -> str:
    """Both with the same γ."""
    head = ("one request", "llama-server tok/s", "τ", "ours tok/s", "τ", "ours / theirs", "95 %", "same texts")
    rows = []
    for setting, policy in contest.fixed.items():
        theirs, ours = contest.theirs[setting], contest.ours[policy]
        speeds = [cell for runs in (theirs, ours) for cell in (_speed(rates(runs)), f"{_accepted_length(runs):.2f}")]
        rows.append((setting, *speeds, *ratio(rates(ours), rates(theirs)).shown, contest.same(setting, policy)))
    return table(head, rows)


def by_simple(contest: Contest) -> str:
    """llama-speculative-simple and ours with the same γ."""
    head = ("one request", "speculative-simple tok/s", "ours tok/s", "ours / theirs", "95 %", "same texts")
    rows = []
    for setting, told in contest.simple.items():
        theirs, ours = rates(told), rates(contest.ours[contest.fixed[setting]])
        cells = (_speed(theirs), _speed(ours), *ratio(ours, theirs).shown)
        rows.append((setting, *cells, contest.same_as_simple(setting)))
    return table(head, rows)


def by_kind(contest: Contest, policy: str) -> str:
    """A policy of ours against their best setting, by kind of question."""
    best = fastest(contest.theirs)
    head = ("questions", f"llama-server, {best}, tok/s", f"ours, {policy}, tok/s", "ours / theirs", "95 %")
    rows = []
    for kind, of in contest.kinds.items():
        theirs, ours = rates(contest.theirs[best], of), rates(contest.ours[policy], of)
        rows.append((kind, _speed(theirs), _speed(ours), *ratio(ours, theirs).shown))
    return table(head, rows)


def ceiling(shares: Mapping[str, list[list[Share]]]) -> str:
    """Tokens per second of a run over those of its decodes alone, by policy."""
    rows = []
    for policy, trials in shares.items():
        ours = rates([[share.run for share in trial] for trial in trials])
        highest = [[share.ceiling_rate for share in trial] for trial in trials]
        rows.append((policy, _speed(ours), _speed(highest), *ratio(ours, highest).shown))
    return table(("ours", "tok/s", "ceiling tok/s", "ours / ceiling", "95 %"), rows)


@dataclass(frozen=True, slots=True)
class Level:
    """So many requests at once: `theirs` by setting and `ours` by policy, one crowd a trial: [trial][0]."""

    requests: int
    theirs: Mapping[str, list[list[Crowd]]]
    ours: Mapping[str, list[list[Crowd]]]


def crowds(levels: Sequence[Level]) -> str:
    """Total tokens per second by contestant."""
    names = [*(f"llama-server, {name}" for name in levels[0].theirs), *(f"ours, {name}" for name in levels[0].ours)]
    rows = []
    for level in levels:
        everybody = (*level.theirs.values(), *level.ours.values())
        rows.append((str(level.requests), *(_speed(rates(answers)) for answers in everybody)))
    return table(("requests", *names), rows)


def crowd_ratios(levels: Sequence[Level], policy: str) -> str:
    """A policy of ours against plain batched decoding of ours, and against the best of theirs."""
    head = ("requests", f"{policy} / our plain", "95 %", "their best", f"{policy} / their best", "95 %")
    rows = []
    for level in levels:
        best, ours = fastest(level.theirs), rates(level.ours[policy])
        plain, theirs = ratio(ours, rates(level.ours[PLAIN])), ratio(ours, rates(level.theirs[best]))
        rows.append((str(level.requests), *plain.shown, best, *theirs.shown))
    return table(head, rows)


def _speed(values: Rates) -> str:
    return f"{over_tasks(values):.1f}"


def _accepted_length(runs: Runs) -> float:
    return statistics.mean(run.accepted_length for trial in runs for run in trial)
