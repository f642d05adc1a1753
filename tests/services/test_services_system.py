from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from ipaddress import ip_interface
from pathlib import Path

import pytest

from callisto_telnetd.errors import FolderError
from callisto_telnetd.services.system import disk_facts, system_facts


def test_the_facts_of_this_machine(tmp_path: Path) -> None:
    """Every number is there, in its range, and agrees with what the system says by other ways."""
    facts = system_facts(disk_facts(tmp_path))
    disk = os.statvfs(tmp_path)

    assert facts.host_name == os.uname().nodename
    assert facts.kernel == f"{os.uname().sysname} {os.uname().release}"
    assert facts.operating_system
    assert time.clock_gettime(time.CLOCK_BOOTTIME) - 60 < facts.uptime_s <= time.clock_gettime(time.CLOCK_BOOTTIME)
    assert facts.processor.model
    assert facts.processor.cores == os.cpu_count()
    assert 0 <= facts.processor.used_percent <= 100
    assert 0 < facts.memory.available_bytes <= facts.memory.total_bytes
    assert 0 <= facts.memory.used_percent <= 100
    assert facts.disk.folder == str(tmp_path)
    assert facts.disk.total_bytes == disk.f_blocks * disk.f_frsize
    assert 0 <= facts.disk.free_bytes <= facts.disk.total_bytes


def test_loopback_is_shown_only_where_it_is_alone(tmp_path: Path) -> None:
    """The interfaces shown have addresses, and are all outward ones or all loopback."""
    network = system_facts(disk_facts(tmp_path)).network
    loopback = {ip_interface(address).is_loopback for interface in network for address in interface.addresses}

    assert len(loopback) <= 1
    assert all(interface.addresses for interface in network)


def test_facts_are_plain_values(tmp_path: Path) -> None:
    """The facts go to JSON as they are."""
    facts = asdict(system_facts(disk_facts(tmp_path)))

    assert json.loads(json.dumps(facts))["disk"] == facts["disk"]


def test_a_missing_folder(tmp_path: Path) -> None:
    """A data folder that is not there is an error that names it."""
    with pytest.raises(FolderError) as refusal:
        disk_facts(tmp_path / "gone")

    assert str(refusal.value) == f"{tmp_path}/gone: No such file or directory"
