"""What the engine asks before and after drafting: how many to draft, how many of them to verify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from dspark_local.types import Why

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.types import Round


@dataclass(frozen=True, slots=True)
class Request:
    """What a policy may know of a sequence before its round.

    `limit` is the most drafts that it could still use; `depth` the tokens that its caches hold; `rounds` how many it
    has had (0: the text is new); `pending` the committed rows that the drafter has yet to take, which a drafting
    round pays for; `offered` the chances of drafts that are at hand and cost nothing, each given those before it.
    """

    slot: int
    limit: int
    depth: int = 0
    rounds: int = 0
    pending: int = 0
    temperature: float = 0.0
    offered: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """γ, common to the sequences that draft, and their slots; γ 0 parks, and then the drafter takes no rows either.

    `takers` are the slots that verify what is offered to them instead.

    `rate` and `plain` are predicted tokens per second of this plan and of plain decoding, where the policy knows
    them: when parked, `rate` is that of the best round that would draft.
    """

    gamma: int = 0
    slots: tuple[int, ...] = ()
    why: Why = Why.DRAFT
    rate: float = 0.0
    plain: float = 0.0
    takers: tuple[int, ...] = ()


class Policy(Protocol):
    """Chooses γ for a round, then each sequence's ℓ; learns from what happened."""

    def plan(self, requests: Sequence[Request]) -> Plan:
        """Who drafts in this round, and how much. No slot with limit 0 drafts."""
        ...

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:
        """ℓ for each sequence that the plan let draft or take: how many of its `drafted` tokens are to be verified.

        `confidences` holds c_k for each drafted token [P §3.2.1], or nothing where the drafter knows none.
        """
        ...

    def observe(self, rounds: Sequence[Round]) -> None:
        """Learn from the records of a round: one per request of its plan, in that order."""
        ...


@dataclass(slots=True)
class Fixed:
    """Always γ tokens, all of them verified."""

    gamma: int

    def plan(self, requests: Sequence[Request]) -> Plan:
        """γ, or less when no sequence could use as many."""
        return everyone(requests, self.gamma)

    def admit(self, confidences: Sequence[Sequence[float]], drafted: Sequence[int]) -> list[int]:  # noqa: ARG002 - fixed: confidence is not asked
        """All that was drafted."""
        return list(drafted)

    def observe(self, rounds: Sequence[Round]) -> None:
        """Nothing to learn."""


def everyone(requests: Sequence[Request], gamma: int) -> Plan:
    """γ for all that can use a draft, or as many as the longest can use."""
    slots = tuple(r.slot for r in requests if r.limit)
    longest = max((r.limit for r in requests), default=0)
    return Plan(min(gamma, longest), slots) if slots and gamma else Plan(why=Why.PARK if slots else Why.LIMIT)
