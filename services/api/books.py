"""Telling of every request that has ended: metrics, usage, traces, the access line.

What must not live here: how any of them keeps it.
"""

from __future__ import annotations

import logging
import time

from cluster.core.lease import PoolName
from cluster.core.usage import counts_of
from services.api.account import Account, Ending
from services.api.gateway import Gateway
from services.api.spans import is_failure, spans_of

logger = logging.getLogger(__name__)


class Bookkeeper:
    """Tells metrics, usage, traces and the access log of every request, once."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def started(self) -> None:
        """A request is being served."""
        self._gateway.metrics.started()

    def refused(self, account: Account) -> None:
        """A request was refused before it was counted as being served."""
        self._gateway.metrics.refused(account.refusal_code)
        seconds = self._gateway.clock() - account.started_s
        self._log(account, seconds)
        self._trace(account, seconds)

    def ended(self, account: Account) -> None:
        """A request that `started` told of has ended."""
        gateway, metrics = self._gateway, self._gateway.metrics
        seconds = gateway.clock() - account.started_s
        if account.pool is not None and account.first_byte_s is not None:
            self._answered(account, account.pool, account.first_byte_s)
            if not account.is_shared:
                self.paid(account)
        elif account.refusal_code:
            metrics.refused(account.refusal_code)
        metrics.ended(account.route, account.pool, account.ending.value, seconds)
        if account.identity is not None:
            refusal = account.refusal_code if account.first_byte_s is None else ""
            metrics.of_tenant(account.identity.tenant.name, account.ending.value, refusal, account.first_byte_s)
        self._log(account, seconds)
        self._trace(account, seconds)

    def paid(self, account: Account) -> None:
        """What an answer cost, and whether its endpoint failed under way; once for each answer."""
        gateway, metrics, pool, outcome = self._gateway, self._gateway.metrics, account.pool, account.outcome
        if pool is None:
            return
        failure = None if account.delivery is None else account.delivery.broken
        if account.ending is Ending.BROKEN and failure is not None and account.replica is not None:
            metrics.broken(pool, failure.kind.value)
            gateway.directory.failed(account.replica)
        if account.status >= 400 or account.identity is None:  # noqa: PLR2004 - HTTP's client errors begin here
            return
        tenant = account.identity.tenant.name
        if outcome is not None:
            metrics.used(pool, account.served_model, tenant, outcome)
            metrics.predicted(
                account.expected_cached_tokens, outcome.cached_tokens, is_from_redis=account.expects_redis
            )
        if gateway.usage is not None and account.route.is_metered:
            counts = counts_of(outcome, is_broken=account.ending is not Ending.OK)
            gateway.usage.record(tenant, account.identity.key_id, account.served_model, counts)

    def _answered(self, account: Account, pool: PoolName, first_byte_s: float) -> None:
        metrics = self._gateway.metrics
        metrics.answered(account.route, pool, account.prompt_tokens or 0, first_byte_s)
        if account.revision:
            metrics.revision(pool, account.revision, account.ending.value, first_byte_s)

    def _log(self, account: Account, seconds: float) -> None:
        identity, outcome = account.identity, account.outcome
        self._gateway.access_log.write(
            account.request_id,
            "" if account.recording is None else account.recording.trace_id,
            account.route.value,
            account.api.value,
            status=account.status,
            ending=account.ending.value,
            tenant=None if identity is None else identity.tenant.name,
            key=None if identity is None else identity.key_id,
            model=account.model,
            pool=account.pool,
            replica=account.replica,
            attempts=account.attempts,
            prompt_tokens=account.prompt_tokens if outcome is None else outcome.prompt_tokens,
            predicted_tokens=account.expected_cached_tokens if account.pool is not None else None,
            cached_tokens=None if outcome is None else outcome.cached_tokens,
            output_tokens=None if outcome is None else outcome.output_tokens,
            first_byte_s=account.first_byte_s,
            seconds=seconds,
            sent_bytes=account.sent_bytes,
        )

    def _trace(self, account: Account, seconds: float) -> None:
        recording, tracing = account.recording, self._gateway.tracing
        if recording is None or tracing is None:
            return
        if not tracing.keeps(recording, is_error=is_failure(account), seconds=seconds):
            return
        try:
            ended_s = account.started_s + seconds
            tracing.export(spans_of(account, recording, ended_s=ended_s, wall_ns=time.time_ns()))
        except Exception:
            # The request has its answer, whatever an engine or a client put into its telling.
            logger.exception("no spans of a request", extra=account.log_fields)
