#!/usr/bin/env python3
"""plumb beside ninja, Snakemake, redun and DVC: the same graphs and the same trivial commands, in one call.

    tests/bench/compare.py [--plumb target/release/plumb] [--folder /dev/shm/plumb-bench] [--peers FOLDER]
                           [--sizes 1000,10000] [--peer-sizes 1000] [--only noop,changed,expand,durable,peers,ninja]

noop     first runs and no-op runs, chain and layered, one goal and a thousand: a no-op stats every source and checks
         that the blobs of every goal are there
changed  the plan after one parameter of the first stage changed
expand   the plan of 100,000 branches
durable  what a step takes with the cache on a disk (where fsync waits; with `--durable=false` it does not) and in memory
peers    first runs and no-op runs of the peers; ninja: of ninja alone, at the sizes that take the others too long

Peers are installed from PyPI at pinned versions (`peers.py`) when they are first needed. The folder should be on tmpfs:
it is the programs that are measured, not the disk. A first run is timed once, everything else is a median.
"""
import argparse
import os
import shutil
import tempfile

import shapes
from measure import median, row, run
from peers import Peers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


class Bench:
    def __init__(self, options):
        self.options = options
        self.folder = os.path.abspath(options.folder)
        os.makedirs(self.folder, exist_ok=True)
        self.installed = None
        self.took = {}

    def peer_programs(self):
        self.installed = self.installed or Peers(self.options.peers)
        return self.installed

    def plumb(self, path, command="run", cache="cache", more=()):
        return [self.options.plumb, "--cache", os.path.join(self.folder, cache), command, path, *more]

    def tell(self, name, took, more=""):
        self.took[name] = took
        row(name, took, more)

    def noop(self):
        for size in self.options.sizes:
            for shape in shapes.SHAPES:
                for goals in (1, 1000):
                    path = shapes.plumb(self.folder, shape, size, goals)
                    first = run(self.plumb(path))
                    if goals == 1:
                        self.tell(f"plumb: {shape} of {size}, first run", first, f"{first.cpu / size * 1e3:.2f} ms CPU a stage")
                    run(self.plumb(path))
                    self.tell(f"plumb: {shape} of {size}, {goals} goals, no-op", median(self.plumb(path), self.options.repeat))

    def changed(self):
        """One parameter of the first stage, upstream of the goal: planned, not run."""
        for size in self.options.sizes:
            for shape in shapes.SHAPES:
                run(self.plumb(shapes.plumb(self.folder, shape, size)))
                path = shapes.plumb(self.folder, shape, size, first="printf")
                self.tell(f"plumb: {shape} of {size}, one parameter changed, plan", median(self.plumb(path, "plan"), self.options.repeat))

    def expand(self):
        path = shapes.branches(self.folder, 100_000)
        self.tell("plumb: 100,000 branches, plan", median(self.plumb(path, "plan", "empty"), 3))

    def durable(self):
        path, steps = shapes.plumb(self.folder, "chain", 300), 300
        with tempfile.TemporaryDirectory(dir=self.options.disk) as disk:
            memory = os.path.join(self.folder, "fresh")
            kinds = (disk, "true", "on a disk"), (disk, "false", "on a disk, not durable"), (memory, "true", "in memory")
            for place, durable, name in kinds:
                shutil.rmtree(os.path.join(place, "cache"), ignore_errors=True)
                cache = ["--cache", os.path.join(place, "cache"), f"--durable={durable}"]
                took = run([self.options.plumb, *cache, "run", path, "--jobs", "1"])
                each = f"{took.wall / steps * 1e3:.2f} ms a stage, {took.cpu / steps * 1e3:.2f} ms CPU"
                self.tell(f"plumb: chain of {steps}, first run, cache {name}", took, each)

    def peers(self):
        for size in self.options.peer_sizes:
            for name in self.options.which:
                self.peer(name, size)

    def peer(self, name, size):
        place = os.path.join(self.folder, f"{name}-{size}")
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place)
        getattr(shapes, name)(place, "layers", size)
        env = self.peer_programs().environment(place)
        if name == "dvc":
            run([self.peer_programs().program("dvc"), "init", "--no-scm", "--quiet"], folder=place, env=env)
            run([self.peer_programs().program("dvc"), "config", "cache.type", "hardlink,copy"], folder=place, env=env)
        command = [self.peer_programs().program(name), *{
            "ninja": ["-j", "2"],
            "snakemake": ["--cores", "2", "--quiet", "all"],
            "redun": ["run", "workflow.py", "main"],
            "dvc": ["repro", "--quiet"],
        }[name]]
        took = run(command, folder=place, env=env)
        self.tell(f"{name}: layers of {size}, first run", took, f"{took.cpu / size * 1e3:.2f} ms CPU a stage")
        repeat = 3 if name in ("redun", "dvc") else self.options.repeat
        self.tell(f"{name}: layers of {size}, no-op", median(command, repeat, folder=place, env=env))

    def ninja(self):
        for size in [size for size in self.options.sizes if size > max(self.options.peer_sizes)]:
            self.peer("ninja", size)

    def ratios(self):
        """How many times longer a no-op run of each peer takes than plumb's of the same graph."""
        for size in sorted({*self.options.sizes, *self.options.peer_sizes}):
            ours = self.took.get(f"plumb: layers of {size}, 1 goals, no-op")
            for name in ("ninja", "snakemake", "redun", "dvc"):
                theirs = self.took.get(f"{name}: layers of {size}, no-op")
                if ours and theirs:
                    print(f"no-op, layers of {size}: {name} / plumb = {theirs.wall / ours.wall:.2f} ({theirs.cpu / ours.cpu:.2f} in CPU)")


def numbers(text):
    return [int(number) for number in text.split(",")]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plumb", default=os.path.join(ROOT, "target/release/plumb"))
    parser.add_argument("--folder", default="/dev/shm/plumb-bench", help="work here and keep it")
    parser.add_argument("--peers", default=os.path.expanduser("~/.cache/plumb-bench-peers"))
    parser.add_argument("--sizes", type=numbers, default=[1000, 10000])
    parser.add_argument("--peer-sizes", type=numbers, default=[1000])
    parser.add_argument("--which", type=lambda text: text.split(","), default=["ninja", "snakemake", "redun", "dvc"])
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--disk", default=None, help="a folder on a disk, for `durable`")
    parser.add_argument("--only", default="noop,changed,expand,durable,peers,ninja")
    options = parser.parse_args()
    bench = Bench(options)
    for part in options.only.split(","):
        getattr(bench, part)()
    bench.ratios()


main()
