"""``python -m bench [NAME …] [--quick]``: measure callisto-telnetd beside two bare servers, in one run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

from bench.backup import measure_backup
from bench.commands import measure_commands
from bench.compact import measure_compact
from bench.connecting import measure_prompt, measure_start
from bench.logins import measure_logins
from bench.paste import measure_editor, measure_paste
from bench.repair import measure_repair
from bench.report import Row, load_warning, machine, other_work, table, write_document
from bench.schedule import measure_schedule
from bench.servers import Bench, open_bench
from bench.sessions import measure_sessions
from bench.trace_file import measure_trace_file
from bench.trace_idle import measure_trace_idle
from bench.trace_stalled import measure_trace_stalled
from bench.trace_viewers import measure_trace_viewers
from bench.wire import MeasurementError

MEASURES: dict[str, Callable[..., Iterator[Row]]] = {
    "prompt": measure_prompt,
    "commands": measure_commands,
    "editor": measure_editor,
    "paste": measure_paste,
    "start": measure_start,
    "logins": measure_logins,
    "sessions": measure_sessions,
    "trace-file": measure_trace_file,
    "trace-viewers": measure_trace_viewers,
    "trace-stalled": measure_trace_stalled,
    "trace-idle": measure_trace_idle,
    "schedule": measure_schedule,
    "repair": measure_repair,
    "compact": measure_compact,
    "backup": measure_backup,
}


def main() -> int:
    """Measure what the command line names, print the table, and keep a full run in the documentation."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(MEASURES)}; none: all")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions; the numbers are rough")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(MEASURES)
    if unknown:
        parser.error(f"no measure named {', '.join(sorted(unknown))}; there are: {', '.join(MEASURES)}")
    print(machine(), flush=True)
    rows: list[Row] = []
    busy, failed = [], []
    with open_bench() as bench:
        for name in arguments.names or MEASURES:
            busy.append(other_work())
            if not _measure(bench, name, rows, quick=arguments.quick):
                failed.append(name)
    warning = load_warning(busy)
    print("", table(rows), warning, sep="\n")
    if failed:
        print(f"not measured, or only in part: {', '.join(failed)}")
    elif not arguments.names and not arguments.quick:
        write_document(rows, warning)
    return int(bool(failed) or any(row.reached is False for row in rows))


def _measure(bench: Bench, name: str, rows: list[Row], *, quick: bool) -> bool:
    """Add the rows of one measure, as far as it comes, and say whether it came to its end."""
    print(f"{name} …", end=" ", flush=True)
    try:
        for row in MEASURES[name](bench, quick=quick):
            rows.append(row)  # noqa: PERF402 - those before a failure are kept
    except MeasurementError as error:
        print(error, flush=True)
        return False
    print("done", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
