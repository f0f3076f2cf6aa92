"""What some slot holds, or held, no other prefills again; and texts are what they are without any of that."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dspark_local.backend.scripted import ScriptedDraft, ScriptedTarget, erring, random_logits
from dspark_local.drafters.dspark import DSpark
from dspark_local.drafters.model import Model
from dspark_local.engine import Engine
from dspark_local.errors import BackendError
from dspark_local.formats.translation import Translation
from dspark_local.sampling.rule import Sampler
from dspark_local.scheduling.policy import Fixed
from dspark_local.snapshots import LEAST, Snapshot, Snapshots
from dspark_local.types import FinishReason, SamplingParams
from tests.engine.harness import engine, run, say

if TYPE_CHECKING:
    from dspark_local.sequence import Sequence

MODEL = random_logits(10, seed=7)
GREEDY = Sampler.of(SamplingParams(seed=1))
SYSTEM = [1, 2, 3, 4] * 100
MUCH = 1 << 30


def prefilled(made: Engine, prompt: list[int], n: int = 1) -> tuple[int, Sequence]:
    """Rows decoded for a prompt and the first of n tokens; and how that ends."""
    before = len(made.target.decodes)
    sequence = made.add(prompt, GREEDY, max_tokens=n)
    while not sequence.stats.predicted_n:
        made.step()
    rows = sum(map(sum, made.target.decodes[before:]))
    run(made)
    return rows, sequence


def alone(prompt: list[int], n: int) -> list[int]:
    return say(engine(MODEL, n_vocab=10, n_ctx=8192), prompt, n).tokens


def perfect(sequence: Sequence) -> bool:
    """Whether the drafter, which is the target itself, was right all the time: its cache was whole."""
    return sequence.stats.draft_n == sequence.stats.draft_n_accepted > 0


def model_drafted(slots: int) -> Engine:
    """With a small model as the drafter."""
    small = ScriptedTarget(MODEL, 10, n_slots=slots)
    return Engine(
        ScriptedTarget(MODEL, 10, n_slots=slots),
        Model(small, Translation.identity(10)),
        Fixed(3),
        is_end=lambda _: False,
        keep_bytes=MUCH,
    )


@pytest.mark.parametrize("running", [True, False])
def test_a_shared_beginning_is_copied(running: bool) -> None:
    """From a slot that runs, and from one that is idle and keeps its own text; the drafter's cache comes along."""
    made = engine(MODEL, MODEL, n_vocab=10, slots=3, gamma=3)
    first = made.add([*SYSTEM, 5], GREEDY, max_tokens=300 if running else 100)
    while first.stats.rounds < 3:
        made.step()
    if not running:
        run(made)
    second = made.add([*SYSTEM, 6, 6], GREEDY, max_tokens=30)
    assert second.cached == len(SYSTEM)
    assert second.slot != first.slot
    run(made)
    assert first.tokens == alone([*SYSTEM, 5], 300 if running else 100)
    assert second.tokens == alone([*SYSTEM, 6, 6], 30)
    assert perfect(first)
    assert perfect(second)
    assert prefilled(made, [*first.tokens, 0])[0] <= 3  # its slot still holds it


@pytest.mark.parametrize("whose", ["target", "drafter"])
def test_a_cache_that_forgets_its_beginning_goes_on_only_where_it_ends(whose: str) -> None:
    """A text that another slot, or the same one, holds a beginning of is prefilled whole; one that goes on is not."""
    target = ScriptedTarget(MODEL, 10, n_slots=2, forgetful=whose == "target")
    draft = ScriptedDraft(MODEL, 10, n_slots=2, forgetful=whose == "drafter")
    made = Engine(target, DSpark(draft), Fixed(0), is_end=lambda _: False)
    first = say(made, [*SYSTEM, 5], 20)
    assert prefilled(made, [*first.tokens, 7], 5)[0] == 2
    rows, second = prefilled(made, [*SYSTEM, 6], 5)
    assert rows == len(SYSTEM) + 1
    assert second.tokens == alone([*SYSTEM, 6], 5)
    assert prefilled(made, [*second.tokens, 8], 5)[0] == 2


def test_a_text_that_nobody_holds_costs_no_other_its_cache() -> None:
    """Asked for its state, there is none; the conversation that is held goes on where it ends."""
    made = engine(MODEL, MODEL, n_vocab=10, gamma=3)
    first = say(made, [*SYSTEM, 5], 20)
    assert made.snapshot([9, 9, 9]) is None
    assert prefilled(made, [*first.tokens, 7], 5)[0] <= 3


def test_spans_of_unlike_lengths_go_apart_where_they_must() -> None:
    """A target that wants them alike is given them so, prompts' chunks too, and each says what it says alone."""
    target = ScriptedTarget(MODEL, 10, n_slots=3, forgetful=True, uniform=True)  # asserts it
    draft = ScriptedDraft(erring(MODEL, 10, lambda n: n % 3 == 0), 10, n_slots=3)
    made = Engine(target, DSpark(draft), Fixed(3), is_end=lambda _: False)
    prompts = [[*SYSTEM, 5], [1, 2], [3] * 40, [7, 7, 7], [*SYSTEM, 6]]
    running = []
    for prompt in prompts:
        while not made.free:
            made.step()
        running.append(made.add(prompt, GREEDY, max_tokens=20 + len(prompt) % 7))
        made.step()
    run(made)
    assert {len(widths) for widths in target.decodes} >= {1, 2}
    for prompt, sequence in zip(prompts, running, strict=True):
        assert sequence.tokens == alone(prompt, 20 + len(prompt) % 7)


def test_prompts_that_begin_alike_and_come_together_wait_for_one() -> None:
    """Of eight prompts with one beginning, that is decoded once; of those that share little, each is on its own."""
    made = engine(MODEL, MODEL, n_vocab=10, slots=8, gamma=3)
    together = [made.add([*SYSTEM, n, 5], GREEDY, max_tokens=20) for n in range(8)]
    while not all(s.prefilled for s in together):
        made.step()
    rows = sum(map(sum, made.target.decodes))
    assert rows < 2 * len(SYSTEM)
    run(made)
    for n, sequence in enumerate(together):
        assert sequence.tokens == alone([*SYSTEM, n, 5], 20)
        assert perfect(sequence)
    for n in range(8):
        made.add([9, 9, 9, n, *[n] * 20], GREEDY, max_tokens=1)
    made.step()
    assert all(s.prefilled for s in made.active)


def test_who_waits_goes_on_when_his_leader_leaves() -> None:
    """A prompt that waited for one that is cancelled has what was done of it, and does the rest."""
    made = engine(MODEL, MODEL, n_vocab=10, slots=3, gamma=3, n_batch=64)
    leader = made.add([*SYSTEM, 5], GREEDY, max_tokens=20)
    followers = [made.add([*SYSTEM, 6, n], GREEDY, max_tokens=20) for n in range(2)]
    made.step()
    made.step()
    assert [s.cached for s in followers] == [0, 0]
    made.finish(leader, FinishReason.CANCELLED)
    made.step()
    assert followers[0].cached >= 128
    run(made)
    for n, sequence in enumerate(followers):
        assert sequence.tokens == alone([*SYSTEM, 6, n], 20)
        assert perfect(sequence)


@pytest.mark.parametrize("fixed_width", [None, 4])
def test_the_second_turn_of_a_long_conversation_decodes_a_tenth(fixed_width: int | None) -> None:
    """After 4096 tokens, rows until the second answer begins; also where others took all slots meanwhile."""
    for between in (0, 1, 3):
        made = engine(
            MODEL, MODEL, n_vocab=10, slots=2, gamma=3, n_ctx=8192, fixed_width=fixed_width, keep_bytes=MUCH
        )
        cold, first = prefilled(made, [3, 1, 4, 1] * 1024, n=50)
        for n in range(between):
            say(made, [n] * 300, 20)
        warm, second = prefilled(made, [*first.tokens, 7, 7, 7], n=50)
        assert warm * 10 <= cold
        assert second.tokens == alone([*first.tokens, 7, 7, 7], 50)
        assert perfect(second)
        assert second.stats.accepted_length >= 0.98 * first.stats.accepted_length


def test_without_a_budget_nothing_is_kept() -> None:
    """And short texts never are: they are prefilled as soon."""
    for keep, length in ((0, 1000), (MUCH, LEAST - 50)):
        made = engine(MODEL, MODEL, n_vocab=10, keep_bytes=keep)
        first = say(made, [1] * length, 4)
        say(made, [2] * 300, 4)
        assert prefilled(made, [*first.tokens, 5])[0] > length


@settings(max_examples=100, deadline=None)
@given(
    slots=st.integers(1, 3),
    fixed_width=st.sampled_from([None, 4]),
    keep=st.sampled_from([0, 4000, MUCH]),
    kind=st.sampled_from(["plain", "small", "windowed"]),
    turns=st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(1, 30), st.integers(0, 4)),
        min_size=2,
        max_size=8,
    ),
)
def test_conversations_in_any_order_say_what_each_says_alone(
    slots: int, fixed_width: int | None, keep: int, kind: str, turns: list[tuple[int, int, int, int]]
) -> None:
    """Several conversations with shared beginnings, each turn longer, at once and in turns, stopped anywhere."""
    if kind == "plain":
        made = engine(MODEL, MODEL, n_vocab=10, slots=slots, gamma=3, fixed_width=fixed_width, keep_bytes=keep)
    else:
        made = model_drafted(slots) if kind == "small" else windowed(slots)
    texts = {who: [*SYSTEM[: 100 * who], who] for who in range(4)}
    asked: list[tuple[Sequence, list[int], int]] = []
    for who, new, n, steps in turns:
        prompt = [*texts[who], *[new] * (150 * (new == 3) + 1)]
        while not made.free:
            made.step()
        sequence = made.add(prompt, GREEDY, max_tokens=n)
        asked.append((sequence, prompt, n))
        for _ in range(steps):
            made.step()
        texts[who] = sequence.tokens[:]
    run(made)
    for sequence, prompt, n in asked:
        assert sequence.tokens == alone(prompt, n)
        assert sequence.error is None
        assert sequence.stats.draft_n == sequence.stats.draft_n_accepted


@dataclass(slots=True)
class Windowed(ScriptedTarget):
    """Gives away what a window of its last tokens holds: a slot that is put back never goes back behind it."""

    windowed: bool = True
    restored: dict[int, int] = field(default_factory=dict)  # how long the state was, by slot

    def rewind(self, slot: int, n: int) -> int:
        assert n == 0 or n >= self.restored.get(slot, 0)
        if n == 0:
            self.restored.pop(slot, None)
        return ScriptedTarget.rewind(self, slot, n)

    def restore(self, slot: int, state: bytearray) -> int:
        self.restored[slot] = ScriptedTarget.restore(self, slot, state)
        return self.restored[slot]


def windowed(slots: int = 1) -> Engine:
    """A window, and a stream that several slots share and that gives cells away."""
    target = Windowed(MODEL, 10, n_ctx=8192, n_slots=slots, forgetful=slots > 1)
    drafter = DSpark(ScriptedDraft(MODEL, 10, n_slots=slots))
    return Engine(target, drafter, Fixed(3), is_end=lambda _: False, keep_bytes=MUCH)


@pytest.mark.parametrize("slots", [1, 2])
def test_a_window_that_was_put_back_goes_on_and_never_back(slots: int) -> None:
    """A conversation goes on where it was left; a text that leaves it earlier starts cold, and is said right."""
    made = windowed(slots)
    first = say(made, [*SYSTEM, 5], 20)
    for n in range(6, 6 + slots):
        say(made, [n] * 300, 4)
    rows, second = prefilled(made, [*first.tokens, 7], 20)
    assert rows <= 8
    assert second.tokens == alone([*first.tokens, 7], 20)
    assert perfect(second)
    rows, third = prefilled(made, [*second.tokens, 8], 20)
    assert rows <= 8  # its slot goes on, behind what was put back
    assert third.tokens == alone([*second.tokens, 8], 20)
    earlier = [*SYSTEM, 5, 9, 9]
    rows, fourth = prefilled(made, earlier, 20)
    assert rows > len(SYSTEM)
    assert fourth.tokens == alone(earlier, 20)


def test_a_snapshot_of_a_window_serves_nothing_but_what_goes_on_where_it_ends() -> None:
    """So a longer one replaces none, and what it holds of a text is not cut."""
    held = Snapshots(100, whole=True)
    held.add(kept([1] * 10, 40))
    held.add(kept([1] * 20, 40))
    assert len(held) == 2
    assert held.covers([1] * 10)
    assert not held.covers([1] * 5)
    assert held.best([1] * 15, lambda n, _: n)[1] == 10
    assert held.best([1] * 9 + [2], lambda n, _: n)[1] == 0


def test_a_slot_whose_state_cannot_be_put_back_starts_cold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it would have gone on with some of what it held."""
    made = engine(MODEL, MODEL, n_vocab=10, gamma=3, keep_bytes=MUCH)
    short, long = [1] * 100, [1] * 100 + [2] * 400
    for prompt in (long, [3] * 300, short):
        say(made, prompt, 4)
    monkeypatch.setattr(ScriptedTarget, "restore", failing)
    second = say(made, [*long, 4], 20)
    assert second.tokens == alone([*long, 4], 20)
    assert perfect(second)


def failing(*_: object) -> int:
    raise BackendError("no state goes back")


@dataclass(slots=True)
class Stubborn(ScriptedTarget):
    """Gives no state away, and takes no copies."""

    def copy(self, source: int, slot: int, n: int) -> None:
        self.caches[slot] = []
        raise BackendError(f"no copy of {n} from {source}")

    def state(self, slot: int, most: int) -> bytearray:
        raise BackendError(f"no state of {slot} in {most}")


def test_where_a_cache_cannot_be_taken_out_requests_start_cold() -> None:
    """No copy and no snapshot: all is prefilled, and said right."""
    made = engine(MODEL, MODEL, n_vocab=10, slots=2, gamma=3, keep_bytes=MUCH)
    made.target = Stubborn(MODEL, 10, n_slots=2)
    made._caches._target = made.target
    first = say(made, [*SYSTEM, 5], 20)
    for prompt in ([*SYSTEM, 6], [7] * 300, [8] * 300, [*first.tokens, 9]):
        assert say(made, prompt, 20).tokens == alone(prompt, 20)


@pytest.mark.parametrize("small", [True, False])
def test_a_state_goes_from_one_engine_to_another(small: bool) -> None:
    """The second engine decodes only what is new, and its drafter is as good as ever; nothing held, nothing taken."""
    one, two = (
        model_drafted(1) if small else engine(MODEL, MODEL, n_vocab=10, gamma=3, keep_bytes=MUCH) for _ in range(2)
    )
    first = say(one, [*SYSTEM, 5], 40)
    snapshot = one.snapshot(first.tokens)
    assert snapshot
    assert snapshot.tokens == first.tokens[:-1]
    assert one.snapshot([8, 8]) is None
    two.adopt(snapshot)
    rows, second = prefilled(two, [*first.tokens, 6], n=30)
    assert rows <= 8
    assert second.tokens == alone([*first.tokens, 6], 30)
    assert perfect(second)


def test_a_state_is_of_its_text_alone() -> None:
    """A slot that went on with something else gives away what both share, and no more."""
    made = engine(MODEL, MODEL, n_vocab=10)
    say(made, [*SYSTEM, 5, 5, 5], 20)
    snapshot = made.snapshot([*SYSTEM, 6])
    assert snapshot
    assert snapshot.tokens == SYSTEM


def kept(tokens: list[int], size: int) -> Snapshot:
    return Snapshot(tokens, 0, bytearray(size), bytearray())


@pytest.mark.parametrize("whole", [True, False])
def test_a_snapshot_that_made_way_while_it_was_put_back_stays_away(whole: bool) -> None:
    """The slot that it goes to may hold what it is a beginning of, and that is kept first."""
    begun, longer = kept([1] * LEAST, 10), kept([1] * LEAST + [2], 10)
    held = Snapshots(100)
    held.add(begun)
    held.add(longer)
    held.used(begun, whole=whole)
    assert held.best([*longer.tokens, 3], lambda n, _: n) == (longer, LEAST + 1)
    assert len(held) == 1


def test_snapshots_stay_within_their_budget() -> None:
    """The ones not used for longest go; one that a longer text begins with goes first; too large a one is refused."""
    held = Snapshots(100)
    a, b, longer = kept([1] * 10, 40), kept([2] * 10, 40), kept([2] * 20, 50)
    held.add(a)
    held.add(b)
    assert held.size == 80
    assert held.covers([1] * 5)
    held.add(longer)
    assert len(held) == 2
    held.used(a, whole=False)
    held.add(kept([3], 30))
    assert not held.covers([2])
    assert held.covers([1])
    held.used(a, whole=True)
    assert not held.covers([1])
    assert held.best([3, 4], lambda n, _: n)[1] == 1
