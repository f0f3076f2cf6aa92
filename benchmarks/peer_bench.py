"""The contests over one pair."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import peer_tables
from peer_ceiling import against_ceiling
from peer_ours import Ours
from peer_question import Question, text
from peer_server import Server
from peer_simple import tell
from peer_tables import PLAIN, Contest, Level
from peer_trials import take_turns

from dspark_local import load
from dspark_local.cli.progress import Progress
from dspark_local.scheduling.policies import named
from dspark_local.scheduling.scheduler import Auto

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from peer_build import Programs
    from peer_server import Load, Setting

    from dspark_local.bench.prompts import Prompt

AUTO = "auto"
WARM = 8  # tokens of an answer before the clock counts
THEIRS, SIMPLE, OURS = "theirs", "simple", "ours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """One pair, how both sides draft on it, and what is asked."""

    programs: Programs
    load: Load
    settings: Sequence[Setting]
    policies: Sequence[str]
    prompts: Sequence[Prompt]
    tokens: int
    trials: int

    @property
    def fixed(self) -> dict[str, str]:
        """The policy of ours for each setting of theirs."""
        return {setting.shown: policy(setting) for setting in self.settings}

    def single(self, *, with_simple: bool) -> str:
        """One request at a time. Raises what loading raises, and BackendError."""
        with self._ours(self.load, [*self.fixed.values(), *self.policies]) as ours, self._servers(self.load) as theirs:
            questions = self._questions(ours)
            _warm([*theirs.values(), *ours.values()], questions[0])
            contestants = {
                (who, name): lambda question, one=one: one.answer(question, self.tokens)
                for who, group in ((THEIRS, theirs), (OURS, ours))
                for name, one in group.items()
            }
            for setting in self.settings if with_simple else ():
                if setting.gamma:  # it always drafts
                    contestants[SIMPLE, setting.shown] = lambda question, setting=setting: tell(
                        self.programs.simple, self.load, setting, question, self.tokens
                    )
            made = take_turns(contestants, questions, self.trials, "one request")
            own = _of(OURS, made)
            vocab = ours[PLAIN].runtime.vocab
            texts = {name: [text(vocab, run.tokens) for run in trials[0]] for name, trials in own.items()}
        contest = Contest(self.prompts, _of(THEIRS, made), _of(SIMPLE, made), own, self.fixed, texts)
        parts = ["One request at a time, the same γ on both sides:", peer_tables.by_setting(contest)]
        if contest.simple:
            parts.append(peer_tables.by_simple(contest))
        for name in self.policies:
            best = peer_tables.fastest(contest.theirs)
            parts.append(f"{name} against llama-server's fastest; same texts: {contest.same(best, name)}:")
            parts.append(peer_tables.by_kind(contest, name))
        return "\n\n".join(parts)

    def ceiling(self) -> str:
        """Every policy against its own decodes. Raises what loading raises."""
        with self._ours(self.load, [*self.fixed.values(), *self.policies]) as ours:
            questions = self._questions(ours)
            _warm(list(ours.values()), questions[0])
            contestants = {
                name: lambda question, one=one: against_ceiling(one, question, self.tokens)
                for name, one in ours.items()
            }
            shares = take_turns(contestants, questions, self.trials, "ceiling")
        return f"The same decodes with nothing between them:\n\n{peer_tables.ceiling(shares)}"

    def crowd(self, sizes: Sequence[int]) -> str:
        """So many requests at once, greedily, prefill included. Raises what loading raises, and BackendError."""
        levels = [self._level(n) for n in sizes]
        about = "Total tokens per second of requests that come at once, T = 0, prefill included:"
        parts = [about, peer_tables.crowds(levels)]
        parts += [peer_tables.crowd_ratios(levels, name) for name in self.policies]
        return "\n\n".join(parts)

    def _level(self, n: int) -> Level:
        wider = replace(self.load, slots=n)
        with self._ours(wider, self.policies) as ours, self._servers(wider) as theirs:
            questions = self._questions(ours)
            # greedily, for a drawn text may end sooner on one side, which then answers fewer at once
            asked = [replace(questions[i % len(questions)], temperature=0.0) for i in range(n)]
            _warm([*theirs.values(), *ours.values()], asked[0])
            contestants = {
                (who, name): lambda crowd, one=one: one.crowd(crowd, self.tokens)
                for who, group in ((THEIRS, theirs), (OURS, ours))
                for name, one in group.items()
            }
            made = take_turns(contestants, [asked], self.trials, f"{n} at once")
        return Level(n, _of(THEIRS, made), _of(OURS, made))

    def _questions(self, ours: Mapping[str, Ours]) -> list[Question]:
        return [Question.of(ours[PLAIN].runtime.vocab, prompt) for prompt in self.prompts]

    @contextmanager
    def _servers(self, load: Load) -> Iterator[dict[str, Server]]:
        with ExitStack() as stack:
            yield {s.shown: stack.enter_context(Server(self.programs.server, load, s)) for s in self.settings}

    @contextmanager
    def _ours(self, wanted: Load, names: Sequence[str]) -> Iterator[dict[str, Ours]]:
        """One runtime for all policies, plain decoding too, taps and all: threads of a second one would slow both."""
        pair, options = wanted.pair, {"slots": wanted.slots, "threads": wanted.threads, "ctx_size": wanted.ctx_size}
        with Progress() as progress:
            assert pair.drafter is not None
            runtime = load(pair.target, drafter=pair.drafter, progress=progress, **options)
        with runtime:
            auto = runtime.policy
            assert isinstance(auto, Auto)
            ours = {}
            for name in dict.fromkeys((PLAIN, *names)):
                known = deepcopy(auto)  # so that none learns from another
                fresh = named(name, known.cost, gamma=known.gamma, calibration=known.calibration)
                ours[name] = Ours(name, runtime, auto if name == AUTO else fresh)
            yield ours


def policy(setting: Setting) -> str:
    """Our name for what llama.cpp does with a setting."""
    if setting.p_min:
        return f"threshold:{setting.p_min:g}"
    return f"fixed:{setting.gamma}" if setting.gamma else PLAIN


def _of(side: str, made: Mapping[tuple[str, str], list]) -> dict[str, list]:
    return {name: answers for (who, name), answers in made.items() if who == side}


def _warm(contestants: Sequence[Server | Ours], question: Question) -> None:
    for one in contestants:
        one.answer(question, WARM)
