"""A worker that dies at one of its jobs: before anything is done, or right after all is done."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from callisto_telnetd.maintenance.restore_job import stage_job, switch_job
from callisto_telnetd.maintenance.worker import JOBS, Tell, main


def die_before(_order: Mapping[str, Any], _tell: Tell) -> Mapping[str, Any]:
    """Die without having done anything."""
    os._exit(9)


def die_half_way(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Die with the new state made, and nothing told."""
    stage_job(order, tell)
    os._exit(9)


def die_after(order: Mapping[str, Any], tell: Tell) -> Mapping[str, Any]:
    """Die with everything done, and nothing told."""
    switch_job(order, tell)
    os._exit(9)


if __name__ == "__main__":
    job, _, death = os.environ["DYING"].partition(":")
    main({**JOBS, job: f"tests.maintenance.dying_worker:{death}"})
