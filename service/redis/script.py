"""Loads a Lua file, and runs it: by its digest, and whole where Redis does not know it yet."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files
from typing import Any

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the digest under which Redis keeps it."""

    text: str
    sha: str

    @classmethod
    def load(cls, folder: str, *names: str) -> "Script":
        """Read `<name>.lua` of a package; before the last name come those that it leans on."""
        root = files(folder)
        text = "\n".join(root.joinpath(f"{name}.lua").read_text("utf-8") for name in names)
        return cls(text, sha1(text.encode()).hexdigest())  # noqa: S324  Redis's own choice

    def by_sha(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The command that is short, and that Redis may answer with NOSCRIPT."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)

    def whole(self, keys: Sequence[Any], arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The command that works on any server, and has it keep the script."""
        return ("EVAL", self.text, len(keys), *keys, *arguments)

    def run_blocking(self, client: Redis, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """Run on a blocking client. Raises RedisError."""
        execute: Any = client.execute_command
        try:
            return execute(*self.by_sha(keys, arguments))
        except NoScriptError:
            return execute(*self.whole(keys, arguments))

    async def run(self, client: AsyncRedis, keys: Sequence[Any], arguments: Sequence[Any]) -> Any:
        """Run on an asyncio client. Raises RedisError."""
        execute: Any = client.execute_command
        try:
            return await execute(*self.by_sha(keys, arguments))
        except NoScriptError:
            return await execute(*self.whole(keys, arguments))
