"""Another policy for the pair that runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspark_local.scheduling.policies import Threshold, check_name, reckons
from dspark_local.scheduling.policy import Fixed

if TYPE_CHECKING:
    from dspark_local.runtime import Runtime

NAMES = ("auto", "paper", "plain", "fixed:1", "fixed:2", "fixed:3", "threshold:0.5")
"""Examples, for completion."""


def exchanged(runtime: Runtime, name: str) -> bool:
    """Give the runtime, in which nothing runs, the policy of that name; False for one that reckons with costs.

    Such a one comes with loading, which measures. Raises UsageError for a name that there is not, or beyond the block.
    """
    kind, value = check_name(name)
    if reckons(name):
        return False
    gamma = runtime.info.block_size
    if kind == "threshold":
        runtime.policy = Threshold(value, gamma)
    else:
        runtime.policy = Fixed(min(int(value), gamma))
    return True
