"""What a server counts, for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.responses import Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from dspark_local.runtime import Runtime
    from dspark_local.types import Stats

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)


class Metrics:
    """Counters of one server over a runtime, in a registry of their own."""

    def __init__(self, runtime: Runtime) -> None:
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "dspark_requests", "Requests by path and status.", ["path", "status"], registry=registry
        )
        running = Gauge("dspark_requests_running", "Requests that hold a slot.", registry=registry)
        running.set_function(lambda: runtime.running)
        waiting = Gauge("dspark_requests_waiting", "Requests that wait for a slot.", registry=registry)
        waiting.set_function(lambda: runtime.waiting)
        self.prompt = Counter("dspark_prompt_tokens", "Tokens of prompts.", registry=registry)
        self.predicted = Counter("dspark_predicted_tokens", "Tokens of answers.", registry=registry)
        self.rounds = Counter("dspark_rounds", "Rounds of answers.", registry=registry)
        self.drafted = Counter("dspark_draft_tokens", "Drafts that were verified.", registry=registry)
        self.accepted = Counter("dspark_draft_tokens_accepted", "Drafts that were accepted.", registry=registry)
        self.first = Histogram(
            "dspark_first_token_seconds", "From a request to its first token.", buckets=_SECONDS, registry=registry
        )
        self.between = Histogram(
            "dspark_round_seconds", "From one round of an answer to the next.", buckets=_SECONDS, registry=registry
        )

    def ended(self, stats: Stats) -> None:
        """Count an answer in, whatever ended it."""
        self.prompt.inc(stats.prompt_n)
        self.predicted.inc(stats.predicted_n)
        self.rounds.inc(stats.rounds)
        self.drafted.inc(stats.draft_n)
        self.accepted.inc(stats.draft_n_accepted)

    def response(self) -> Response:
        """All of it, in Prometheus' text format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class Counted:
    """Counts requests by what became of them."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on and note the status of its response."""

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")
                self._metrics.requests.labels(route.path if route else "other", message["status"]).inc()
            await send(message)

        await self._app(scope, receive, noted)
