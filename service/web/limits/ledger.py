"""Counts what callers do within a time: decides at once, and shares the counts soon after."""

import asyncio
import logging
import math
from contextlib import suppress
from contextvars import Context
from typing import Any, Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from service.redis.deadline import Deadline
from service.redis.keys import ResultKeys
from service.redis.script import Script, ScriptConnection
from service.settings.limits import Limit

logger: Final = logging.getLogger(__name__)

_SCRIPT: Final = Script.load("service.web.limits", "charge")
_LONGEST: Final = 1.0  # seconds for which charges are collected, while they are few
_SHORTEST: Final = 0.05
_MANY: Final = 0.01  # of a quota: when a caller has had that, other processes are told soon
_MAX_AT_ONCE: Final = 500  # callers that are charged in one step of Redis
_FEW: Final = 1_000  # accounts that are kept without looking which are settled


class _Account(msgspec.Struct, eq=False):
    """What a caller has had of a limit: its quota is `whole` again at that time of the loop.

    `unshared` is how many of it Redis has not been told of; at `many` it is told soon.
    """

    key: str
    limit: Limit
    many: int
    whole: float = 0.0
    unshared: int = 0


class Ledger:
    """The accounts of callers, each of which is in Redis for all processes that share it.

    A request does not wait for Redis: it is decided by what this process knows, and Redis is told
    afterwards, of many at once, and answers with what all processes together have let in: within a
    second, and sooner where a caller comes nearer to its limit. So at once a caller may have its
    quota of each process; what is too much, it lacks afterwards. While Redis is away each process
    counts alone. To be used on one loop.
    """

    def __init__(self, client: Redis, keys: ResultKeys, *, timeout: float) -> None:
        self._connection = ScriptConnection(client, timeout=timeout)
        self._keys = keys
        self._accounts: dict[tuple[str, str], _Account] = {}
        self._unshared: list[_Account] = []
        self._sharing: asyncio.Task[None] | None = None
        self._soon = asyncio.Event()
        self._many = _FEW

    def take(self, name: str, limit: Limit, caller: str) -> tuple[float, float]:
        """Charge the caller for one: the seconds until its quota is whole again, and, where it has
        none left, those until it has one; nothing is charged then.
        """
        now = asyncio.get_running_loop().time()
        account = self._accounts.get((name, caller))
        if account is None:
            key = self._keys.charged(name, caller)
            many = math.ceil(limit.quota * _MANY)
            account = self._accounts[name, caller] = _Account(key, limit, many)
        whole = max(account.whole, now) + limit.step
        if (wait := whole - now - limit.seconds) > 0:
            return account.whole - now, wait
        account.whole = whole
        account.unshared += 1
        if account.unshared == 1:
            self._unshared.append(account)
            if self._sharing is None:
                # Not in the caller's context, or a request, with all it holds, would live as long.
                self._sharing = asyncio.create_task(self._share(), context=Context())
        if account.unshared == account.many:
            self._soon.set()
        return whole - now, 0.0

    def wait_for_one(self, name: str, limit: Limit, caller: str) -> float:
        """The seconds until the caller has one left; 0 where it has."""
        account = self._accounts.get((name, caller))
        if account is None:
            return 0.0
        now = asyncio.get_running_loop().time()
        return max(0.0, max(account.whole, now) + limit.step - now - limit.seconds)

    async def aclose(self) -> None:
        """Share no more."""
        if self._sharing is not None:
            self._sharing.cancel()
            await asyncio.wait([self._sharing])
        await self._connection.disconnect()

    async def _share(self) -> None:
        try:
            while self._unshared:
                with suppress(TimeoutError):
                    async with Deadline(_LONGEST - _SHORTEST):
                        await self._soon.wait()
                await asyncio.sleep(_SHORTEST)
                self._soon.clear()
                batch, self._unshared = self._unshared, []
                for start in range(0, len(batch), _MAX_AT_ONCE):
                    await self._charge(batch[start : start + _MAX_AT_ONCE])
                self._forget_settled()
        finally:
            self._sharing = None

    async def _charge(self, accounts: list[_Account]) -> None:
        arguments: list[Any] = []
        for account in accounts:
            arguments += (account.unshared, account.limit.step, account.limit.seconds)
            account.unshared = 0
        keys = [account.key for account in accounts]
        try:
            debts = await self._connection.run(_SCRIPT, keys, arguments)
        except (RedisError, OSError) as error:  # a TimeoutError is an OSError
            logger.debug("What callers have done is not shared: %s", error)
            return
        now = asyncio.get_running_loop().time()
        for account, debt in zip(accounts, debts, strict=True):
            account.whole = now + float(debt) + account.unshared * account.limit.step

    def _forget_settled(self) -> None:
        """Forget accounts that are as new ones; looked for only when there are twice as many."""
        if len(self._accounts) < self._many:
            return
        now = asyncio.get_running_loop().time()
        self._accounts = {
            name: account
            for name, account in self._accounts.items()
            if account.whole > now or account.unshared
        }
        self._many = max(_FEW, 2 * len(self._accounts))
