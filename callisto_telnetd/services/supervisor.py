"""The processes that Callisto runs: what an earlier server has left is ended, then each service keeps its own."""

from __future__ import annotations

import asyncio
import os
import pwd
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from callisto_telnetd.errors import UnknownServiceError, listed, quoted
from callisto_telnetd.services.child import orphans_of
from callisto_telnetd.services.condition import ServiceView, State
from callisto_telnetd.services.pace import Pace
from callisto_telnetd.services.processes import ProcessTable
from callisto_telnetd.services.service import Service, Surroundings
from callisto_telnetd.services.strays import Ledger, end_all
from callisto_telnetd.settings import ServiceSettings
from callisto_telnetd.trace.hub import Hub
from callisto_telnetd.trace.logs import Log, log_incident
from callisto_telnetd.variables import Registry

__all__ = ["Pace", "ServiceView", "State", "Supervisor"]

_ORPHAN_GRACE_S = 1.0


class Supervisor:
    """All services; nothing runs before :meth:`open`."""

    def __init__(
        self,
        services: Mapping[str, ServiceSettings],
        *,
        variables: Registry,
        hub: Hub,
        log: Log,
        processes: ProcessTable,
        data: Path,
        tell: Callable[[str], None],
        pace: Pace | None = None,
    ) -> None:
        self._data = data.resolve()
        self._log = log
        self._ledger = Ledger(self._data / "run" / "services.json")
        around = Surroundings(variables, hub, log, processes, self._ledger, self._data, tell, pace or Pace())
        self._services = {name: Service(name, settings, around) for name, settings in services.items()}
        self._tasks: list[asyncio.Task[None]] = []

    def names(self) -> list[str]:
        """Return the names of all services, those that are off too, the built-in ones first."""
        return list(self._services)

    def view(self, name: str) -> ServiceView:
        """Return how a service is now.

        Raises:
            UnknownServiceError: there is none of that name.
        """
        return self._find(name).view()

    def views(self) -> list[ServiceView]:
        """Return how all of them are now."""
        return [service.view() for service in self._services.values()]

    def turned_at(self, name: str) -> float:
        """Return when the present process of a service began, or its last one ended, by the monotonic clock.

        Raises:
            UnknownServiceError: there is none of that name.
        """
        return self._find(name).condition.turned_at

    async def start(self, name: str) -> None:
        """Start a service; returns once its process runs.

        Raises:
            UnknownServiceError, ServiceError: there is none of that name, or it cannot be started.
        """
        await self._find(name).start()

    async def stop(self, name: str, reason: str = "an administrator") -> None:
        """Stop a service, and let it be; returns once nothing of it runs.

        Raises:
            UnknownServiceError, ServiceError: there is none of that name, or it does not run.
        """
        await self._find(name).stop(reason)

    async def restart(self, name: str, reason: str) -> None:
        """Stop a service and start it again; one that is held for a repair is started after that, and not before.

        Raises:
            UnknownServiceError, ServiceError: there is none of that name, it is stopped, or cannot be started.
        """
        await self._find(name).restart(reason)

    async def restart_as_planned(self, name: str, reason: str) -> str:
        """Restart a service where it is to run, and return what came of it; one that is stopped or off stays so.

        Raises:
            UnknownServiceError, ServiceError: there is none of that name, or it cannot be started.
        """
        return await self._find(name).restart_as_planned(reason)

    def held(self, name: str) -> str:
        """Return what a service is stopped for just now, and started again after; blank where it is not."""
        return self._find(name).held

    def paused_for(self, reason: str) -> AbstractAsyncContextManager[None]:
        """Keep every service with ``repair = "stop"`` stopped; those that ran start on leaving, whatever happens.

        Args:
            reason: What for, as in ``stopped for the repair``.
        """
        return self._paused(reason)

    @asynccontextmanager
    async def _paused(self, reason: str) -> AsyncIterator[None]:
        held = [service for service in self._services.values() if service.settings.repair == "stop"]
        for service in held:
            service.hold(reason)
        try:
            await asyncio.gather(*(service.rest() for service in held))
            yield
        finally:
            for service in held:
                service.release(reason)

    async def open(self, on_listening: Callable[[str], None] = lambda _address: None) -> None:
        """Begin: end what an earlier server has left, then start what is to run. Waits for none of that.

        Args:
            on_listening: Told the address of the web server, once it listens for the first time.
        """
        for service in self._services.values():
            service.place.on_listening = on_listening
            service.announce()
        self._tasks = [asyncio.create_task(self._begin(), name="services")]

    async def _begin(self) -> None:
        try:
            await self._end_orphans()
        except Exception as error:  # noqa: BLE001 - a task is a door; what is left over keeps no service from starting
            log_incident(self._log, error, during="the end of an earlier server's services")
        for service in self._services.values():
            self._tasks.append(asyncio.create_task(service.run(), name=f"service {service.name}"))

    async def _end_orphans(self) -> None:
        recorded = await asyncio.to_thread(self._ledger.read)
        if self._ledger.refused:
            self._log.warning("what run/services.json says is not used", reason=f"it {self._ledger.refused}")
        uids = {os.geteuid()} | {uid for service in self._services.values() for uid in _uids(service.settings.user)}
        ended = await asyncio.to_thread(end_all, lambda: orphans_of(self._data, recorded, uids), _ORPHAN_GRACE_S)
        if ended:
            self._log.warning("orphans of an earlier server ended", pids=", ".join(str(each.pid) for each in ended))

    async def close(self) -> None:
        """Stop all services side by side; nothing of them runs afterwards."""
        for service in self._services.values():
            service.close()
        while running := [task for task in self._tasks if not task.done()]:  # the first one starts the others
            await asyncio.wait(running)
        self._tasks.clear()

    def _find(self, name: str) -> Service:
        service = self._services.get(name)
        if service is None:
            raise UnknownServiceError(f"no service named {quoted(name)}; there are {listed(self.names(), 'and')}")
        return service


def _uids(user: str | None) -> list[int]:
    try:
        return [] if user is None else [pwd.getpwnam(user).pw_uid]
    except KeyError:
        return []
