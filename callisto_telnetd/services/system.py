"""The machine that Callisto runs on: numbers with their units in their names, wording is left to the menus.

Nothing here waits: percentages are those since the last reading, and no program is started (so not
``platform.processor()``, which runs ``uname``).
"""

from __future__ import annotations

import os
import platform
import socket
import time
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_interface
from pathlib import Path

import psutil

from callisto_telnetd.errors import FolderError

_FAMILIES = (socket.AF_INET, socket.AF_INET6)


@dataclass(frozen=True, slots=True)
class ProcessorFacts:
    """Which processor, and how busy it is."""

    model: str
    cores: int
    """Logical ones."""
    load_1min: float
    """Mean number of processes that ran or waited for a processor or a disk; as many as cores is full load."""
    load_5min: float
    load_15min: float
    used_percent: float
    """0 to 100 over all cores, since the last reading; 0 where that was a moment ago."""


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """The RAM."""

    total_bytes: int
    available_bytes: int
    """What programs could have without swapping."""
    used_percent: float


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """The file system that a folder is on."""

    folder: str
    total_bytes: int
    free_bytes: int
    """Without what is reserved for root."""
    used_percent: float


@dataclass(frozen=True, slots=True)
class InterfaceFacts:
    """A network interface that is up."""

    name: str
    addresses: tuple[str, ...]
    """IPv4 and IPv6 with their prefix, such as ``192.0.2.7/24``."""


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """The machine at one moment."""

    host_name: str
    operating_system: str
    kernel: str
    uptime_s: float
    """Since the machine started; take it from the appliance's clock to have when that was."""
    processor: ProcessorFacts
    memory: MemoryFacts
    disk: DiskFacts
    """The file system of the data folder."""
    network: tuple[InterfaceFacts, ...]
    """The interfaces that are up and have an address; loopback only where it is alone."""


def system_facts(disk: DiskFacts) -> SystemFacts:
    """Return the facts of this machine beside those of a disk; takes a few milliseconds, and waits for no disk."""
    return SystemFacts(
        host_name=socket.gethostname(),
        operating_system=_OPERATING_SYSTEM,
        kernel=f"{platform.system()} {platform.release()}",
        uptime_s=_uptime_s(),
        processor=_processor(),
        memory=_memory(),
        disk=disk,
        network=_network(),
    )


def _processor() -> ProcessorFacts:
    load_1min, load_5min, load_15min = os.getloadavg()
    return ProcessorFacts(
        model=_processor_model(),
        cores=psutil.cpu_count() or 1,
        load_1min=load_1min,
        load_5min=load_5min,
        load_15min=load_15min,
        used_percent=psutil.cpu_percent(),
    )


@cache
def _processor_model() -> str:
    """Read once: on large machines /proc/cpuinfo takes milliseconds to make."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip() in ("model name", "Model"):  # x86; boards with an ARM
                    return value.strip()
    except OSError:
        pass  # no Linux, or /proc is hidden: the architecture must do
    return platform.machine()


def _memory() -> MemoryFacts:
    memory = psutil.virtual_memory()
    return MemoryFacts(memory.total, memory.available, memory.percent)


def disk_facts(folder: Path) -> DiskFacts:
    """Return the facts of the disk that a folder is on; waits for it.

    Raises:
        FolderError: the folder is missing, or cannot be read.
    """
    try:
        usage = psutil.disk_usage(str(folder))
    except OSError as error:
        raise FolderError(f"{folder}: {error.strerror}") from error
    return DiskFacts(str(folder), usage.total, usage.free, usage.percent)


def _network() -> tuple[InterfaceFacts, ...]:
    try:
        states, interfaces = psutil.net_if_stats(), psutil.net_if_addrs()
    except OSError:
        return ()  # systemd's RestrictAddressFamilies without AF_NETLINK: the interfaces are hidden, the rest is not
    up = {name: addresses for name, addresses in interfaces.items() if name in states and states[name].isup}
    outward: list[InterfaceFacts] = []
    loopback: list[InterfaceFacts] = []
    for name, addresses in up.items():
        found = [_address(entry.address, entry.netmask) for entry in addresses if entry.family in _FAMILIES]
        if found:
            alone = all(ip_interface(address).is_loopback for address in found)
            (loopback if alone else outward).append(InterfaceFacts(name, tuple(found)))
    return tuple(outward or loopback)


def _address(address: str, netmask: str | None) -> str:
    """Return the address with its prefix, without the scope, which is the interface's name again."""
    plain = address.partition("%")[0]
    if netmask is None:
        return plain
    bits = socket.inet_pton(socket.AF_INET6 if ":" in netmask else socket.AF_INET, netmask)
    return f"{plain}/{int.from_bytes(bits, 'big').bit_count()}"


def _operating_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()


_OPERATING_SYSTEM = _operating_system()
"""Read once, before the first session waits for a disk."""


def _uptime_s() -> float:
    """Read from the clock that counts since the start, sleep included, and that nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
