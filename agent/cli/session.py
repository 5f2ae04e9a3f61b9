"""Many calls of one command: made by the daemon, or by a gateway that stays open in this process.

A gateway that is opened for each call would lose its open lines and what it read in advance.
"""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any, Self, TypeVar

from agent.core.errors import Refused
from agent.core.state import connect, owned
from agent.core.storage import volatile
from agent.core.tasks import end

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agent.gateway.gateway import Gateway

Answer = dict[str, Any]
T = TypeVar("T")


def _silent(_: Answer) -> None:
    """Discard progress."""


class Session:
    """Makes calls until it is closed. Use it as a context manager."""

    def __init__(self, config: Path, state: Path, command: str, named: str | None) -> None:
        """`command`: shown to people who find the gateway occupied. `named`: who makes the calls,
        for those that need a person.
        """
        self._config, self._state, self._command, self._named = config, state, command, named
        self._gateway: Gateway | None = None
        self._begun: set[asyncio.Task[Any]] = set()
        door = connect(state) or connect(volatile(state))
        self.daemon = door is not None
        """whether a running agent makes the calls"""
        if door is not None:
            door.close()

    def __enter__(self) -> Self:
        """Open the gateway, unless a daemon runs. Raises Refused."""
        self._stack = ExitStack()
        if self.daemon:
            return self
        try:
            # the lock keeps a daemon from starting while this process writes to the state
            self._stack.enter_context(owned(self._state, self._command))
            self._loop = asyncio.new_event_loop()
            thread = Thread(target=self._loop.run_forever, daemon=True)
            thread.start()
            self._stack.callback(self._loop.close)
            self._stack.callback(thread.join)
            self._stack.callback(self._loop.call_soon_threadsafe, self._loop.stop)
            self._opened = AsyncExitStack()
            self._run(self._open())
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Close the gateway."""
        try:
            if not self.daemon:
                self._run(self._close())
        finally:
            self._stack.close()

    def ask(self, call: str, progress: Callable[[Answer], None] = _silent, **args: Any) -> Answer:
        """Make a call and return its answer. An interruption ends the call. Raises Refused."""
        future = self.begin(call, progress, **args)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise

    def record(self, call: str, **args: Any) -> Answer:
        """As `ask`, for a call that needs the name of a person."""
        return self.ask(call, named=self._named, **args)

    def begin(
        self, call: str, progress: Callable[[Answer], None] = _silent, **args: Any
    ) -> Future[Answer]:
        """Begin a call; the future has its answer. Several calls may run at the same time."""
        if not self.daemon:
            return asyncio.run_coroutine_threadsafe(self._made(call, progress, args), self._loop)

        future: Future[Answer] = Future()

        def asked() -> None:
            from agent.local import ask_daemon

            try:
                answer = ask_daemon(self._state, call, args, progress, typed=self._command)
                if answer is None:
                    raise Refused("gardien was stopped meanwhile. To continue: gardien commission")
                future.set_result(answer)
            except BaseException as error:  # noqa: BLE001 -- handed to the caller
                future.set_exception(error)

        # no pool: at its end it would wait for a search that a person has interrupted
        Thread(target=asked, daemon=True).start()
        return future

    def outside(self, work: Callable[[], T], *, edits: bool = False) -> T:
        """Do work with the rights of the person: root acts as the agent's account otherwise.

        `edits`: the work changes the configuration, which is in use afterwards. Raises Refused.
        """
        if self.daemon:
            result = work()
            if edits:
                self.record("reload")
            return result
        self.__exit__()
        try:
            return work()
        finally:
            self.__enter__()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _close(self) -> None:
        """End calls that nobody waits for, such as one that reads ahead, and close the gateway."""
        await end(asyncio.all_tasks() & self._begun)
        await self._opened.aclose()

    async def _open(self) -> None:
        from agent.app import visited

        before, opening = self._gateway, visited(self._config, self._state)
        self._gateway = gateway = await self._opened.enter_async_context(opening)
        known = {} if before is None else {one.name: one for one in before.lines.devices()}
        for device in gateway.lines.devices():
            if old := known.get(device.name):
                device.serial, device.latest = old.serial, old.latest

    async def _made(self, call: str, progress: Callable[[Answer], None], args: Answer) -> Answer:
        from agent.api.calls import CALLS
        from agent.api.registry import Caller
        from agent.local import account

        async def say(message: Answer) -> None:
            progress(message)

        task = asyncio.current_task()
        assert self._gateway is not None
        assert task is not None
        self._begun.add(task)
        task.add_done_callback(self._begun.discard)
        return await CALLS[call](self._gateway, Caller(account(os.getuid()), say), **args)
