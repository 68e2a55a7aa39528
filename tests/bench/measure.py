"""Running programs and what they took: wall time, CPU time with all children, peak memory. Ratios are of medians in
one call, so that they hold on a machine that is doing other things as well."""
import os
import statistics
import subprocess
import sys
import time


class Took:
    """What a program took: seconds of wall and CPU, and the most memory that one of its processes held."""

    def __init__(self, wall, cpu, megabytes):
        self.wall, self.cpu, self.megabytes = wall, cpu, megabytes


def run(command, folder=None, env=None):
    """Runs a program to its end; a failure ends the benchmark with the program's last words."""
    start = time.perf_counter()
    child = subprocess.Popen(
        command, cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - start
    if child.returncode:
        sys.exit(f"{' '.join(command)}: exit {child.returncode}\n{said.decode(errors='replace')[-4000:]}")
    return Took(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def median(command, repeat, **more):
    """The medians of several calls."""
    all_of_them = [run(command, **more) for _ in range(repeat)]
    part = lambda name: statistics.median(getattr(one, name) for one in all_of_them)
    return Took(part("wall"), part("cpu"), part("megabytes"))


def row(name, took, more=""):
    print(f"{name:52} {took.wall * 1e3:10.1f} ms {took.cpu * 1e3:10.1f} ms CPU {took.megabytes:7.0f} MB  {more}", flush=True)
