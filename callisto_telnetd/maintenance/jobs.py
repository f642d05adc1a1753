"""What the appliance does by itself on its schedule: the database's full check, and restarts of services."""

from __future__ import annotations

from functools import partial

from callisto_telnetd.errors import SettingsError, quoted
from callisto_telnetd.maintenance.self_check import SelfCheck
from callisto_telnetd.services.scheduler import Job, restart_job
from callisto_telnetd.services.supervisor import Supervisor
from callisto_telnetd.settings import DatabaseSettings, Settings
from callisto_telnetd.variables import Registry, RestartPlan

_CHECK_LIMIT_S = 3600.0


def restart_jobs(settings: Settings, variables: Registry, supervisor: Supervisor) -> list[Job]:
    """Return a job for each service that has a plan in this edition: its plan is what the variable says."""

    def plan_of(name: str) -> RestartPlan | None:
        value = variables.value(name)
        return value if isinstance(value, RestartPlan) else None

    return [
        restart_job(name, service.plan, partial(plan_of, service.plan), supervisor.restart_as_planned)
        for name, service in settings.services.items()
        if service.plan
    ]


def check_job(settings: Settings, self_check: SelfCheck) -> Job:
    """Return the job of the database's full check."""
    plan = check_plan(settings)
    return Job("database check", "[database] check", lambda: plan, self_check.run_planned, _CHECK_LIMIT_S)


def check_plan(settings: Settings) -> RestartPlan | None:
    """Return the plan of the database's full check.

    Raises:
        SettingsError: it is none.
    """
    text = settings.database.check.strip()
    try:
        return RestartPlan.parse(text) if text else None
    except ValueError:
        allowed = DatabaseSettings.model_fields["check"].description
        raise SettingsError(
            f"{settings.file}: database.check: {quoted(text)} is not allowed; allowed: {allowed}"
        ) from None
