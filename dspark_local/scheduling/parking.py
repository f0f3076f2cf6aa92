"""When a policy that has parked looks again whether drafting pays, and how long it reckons nothing until then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dspark_local.scheduling.policy import Request

LATE = 64  # rounds without a block from which on little is known of a text
_SOON, _LATEST = 8, 256  # rounds parked before a probe: the first time, and at most
_SELDOM = 32  # new texts to a probe, at most, while probes find nothing


@dataclass(slots=True)
class Parking:
    """Rounds parked, and what probes found: each that finds nothing doubles the wait, and the new texts to a probe."""

    _waited: int = 0
    _patience: int = _SOON  # rounds parked before a probe
    _every: int = 1  # how many new texts share a probe
    _texts: int = 0  # of them since the last one
    _rounds: int = 0  # to come before anything is reckoned again
    _resters: int = 0  # requests that rest

    @property
    def left(self) -> int:
        """Rounds to the next probe."""
        left = self._patience - self._waited
        return left if left > 0 else LATE

    @property
    def odds(self) -> float:
        """That a probe finds what drafts well: lower with every one that did not."""
        return 1 / (1 + self._every)

    def rests(self, requests: Sequence[Request]) -> bool:
        """Whether this round, too, parks unreckoned: those who rest do so until their time is up or a text is new."""
        if self.still(requests):
            self._rounds -= 1
            self._waited += 1
            return True
        self._rounds = 0
        return False

    def still(self, requests: Sequence[Request]) -> bool:
        """Whether they would."""
        return bool(self._rounds) and len(requests) == self._resters and all(r.rounds for r in requests)

    def rest(self, requests: Sequence[Request], rounds: int) -> None:
        """Reckon nothing for so many rounds."""
        self._resters, self._rounds = len(requests), rounds

    def candidates(self, requests: Sequence[Request]) -> list[Request]:
        """One more round parked, and who may look now: new texts if it is their turn, all after a long wait."""
        self._waited += 1
        able = [r for r in requests if r.limit]
        new = [r for r in able if r.rounds == 0]
        self._texts += len(new)
        if new and self._texts >= self._every:
            able = new
        elif self._waited <= self._patience:
            return []
        self._texts = 0
        return able

    def drafts(self) -> None:
        """Somebody drafts: the wait begins anew."""
        self._waited = 0

    def judge(self, *, found: bool, paid: bool) -> None:
        """What the last probe found, and whether drafting has paid lately in any case."""
        self._patience = _SOON if found else min(_LATEST, 2 * self._patience)
        self._every = 1 if found or paid else min(_SELDOM, 2 * self._every)
