"""Runs a script in several processes of this machine that form one jax cluster.

    python -m jaxelbo.local_processes 2 script.py [arguments]
    JAX_NUM_CPU_DEVICES=4 python -m jaxelbo.local_processes 2 script.py     # two processes with four CPU devices each

The script is as for one process: `jax.devices()` are those of all, `jax.local_devices()` its own. On a cluster with
SLURM, or on pods of TPUs, start one process a host by its own means instead, and let the script begin with
``jax.distributed.initialize()``, which needs no arguments there.
"""

import argparse
import os
import runpy
import socket
import subprocess
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import jax


def main(arguments: Sequence[str] | None = None) -> int:
    """Starts the processes and waits; the exit status is the first that is not 0, whose failure ends the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("num_processes", type=int)
    parser.add_argument("script")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help="arguments of the script")
    parser.add_argument("--member", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.num_processes < 1:
        parser.error(f"num_processes must be at least 1, got {options.num_processes}")
    if options.member:
        return _run_member(options)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jaxelbo.local_processes", "--member"]
    script = [str(options.num_processes), options.script, *options.rest]
    processes = [subprocess.Popen([*command, f"{index}:{port}", *script]) for index in range(options.num_processes)]
    try:
        return _first_failure(processes)
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()


def _first_failure(processes: Sequence[subprocess.Popen]) -> int:
    waiting = list(processes)
    while waiting:
        for process in list(waiting):
            try:
                status = process.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
            waiting.remove(process)
            if status:
                return status
    return 0


def _run_member(options: argparse.Namespace) -> int:
    index, port = map(int, options.member.split(":"))
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=options.num_processes, process_id=index)
    sys.argv = [options.script, *options.rest]
    try:
        runpy.run_path(options.script, run_name="__main__")
    except SystemExit as end:
        if end.code:
            _leave(end.code if isinstance(end.code, int) else 1)
    except BaseException:
        traceback.print_exc()
        _leave(1)
    jax.distributed.shutdown()
    return 0


def _leave(status: int) -> NoReturn:
    """At once: an orderly shutdown would wait for the others, which may be waiting for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    sys.exit(main())
