"""``python -m bench [NAME …] [--quick]``: measure callisto-telnetd beside two bare servers, in one run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator

from bench.commands import measure_commands
from bench.connecting import measure_prompt, measure_start
from bench.logins import measure_logins
from bench.paste import measure_editor, measure_paste
from bench.report import Row, load_warning, machine, other_work, table, write_document
from bench.servers import Bench, open_bench
from bench.sessions import measure_sessions

MEASURES: dict[str, Callable[..., Iterator[Row]]] = {
    "prompt": measure_prompt,
    "commands": measure_commands,
    "editor": measure_editor,
    "paste": measure_paste,
    "start": measure_start,
    "logins": measure_logins,
    "sessions": measure_sessions,
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
    rows, busy = [], []
    with open_bench() as bench:
        for name in arguments.names or MEASURES:
            busy.append(other_work())
            rows += _measure(bench, name, quick=arguments.quick)
    warning = load_warning(busy)
    print("", table(rows), warning, sep="\n")
    if not arguments.names and not arguments.quick:
        write_document(rows, warning)
    return int(any(row.reached is False for row in rows))


def _measure(bench: Bench, name: str, *, quick: bool) -> list[Row]:
    print(f"{name} …", end=" ", flush=True)
    rows = list(MEASURES[name](bench, quick=quick))
    print("done", flush=True)
    return rows


if __name__ == "__main__":
    sys.exit(main())
