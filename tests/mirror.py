"""A program that prints as JSON what it finds itself to be: ``python -m tests.mirror WORDS``; it exits with code 7."""

import gc
import json
import locale
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

if __name__ == "__main__":
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kept = ("Umask", "Uid", "Gid", "Groups", "SigBlk", "SigIgn", "SigCgt", "CapEff", "NoNewPrivs", "Threads", "PPid")
    found = {
        "words": sys.argv,
        "main": (sys.modules["__main__"] is sys.modules[__name__], __spec__.name, __file__),
        "path": sys.path,
        "flags": str(sys.flags),
        "bytecode": sys.dont_write_bytecode,
        "environment": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109 - as the system says it
        "descriptors": {
            link.name: str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
        },
        "open": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - the folder itself is open while it is read
        "streams": [
            (each.encoding, each.errors, each.line_buffering, each.mode, each.fileno(), each.isatty())
            for each in (sys.stdin, sys.stdout, sys.stderr, sys.__stdout__)
            if each is not None
        ],
        "given": sys.stdin.read(),
        "status": {name: status[name] for name in kept},
        "group": (os.getpgid(0), os.getsid(0)),
        "limits": [resource.getrlimit(each) for each in range(16)],
        "handlers": [str(signal.getsignal(each)) for each in signal.valid_signals()],
        "collector": (gc.isenabled(), gc.get_threshold()),
        "locale": locale.setlocale(locale.LC_ALL),
        "zone": time.tzname,
        "threads": threading.active_count(),
        "priority": os.getpriority(os.PRIO_PROCESS, 0),
    }
    print(json.dumps(found))
    sys.stderr.write("the end\n")
    sys.exit(7)
