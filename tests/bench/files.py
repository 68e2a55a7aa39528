#!/usr/bin/env python3
"""Files into a cache, verified there, and out again: plumb beside DVC with hard links, one file of 4 GB and 100,000
files of 4 KB in 1,000 folders. CPU time, since the machine does other things as well.

    tests/bench/files.py [--plumb target/release/plumb] [--folder /dev/shm/plumb-files] [--peers FOLDER] [--small]

plumb:  add     a `command` stage whose output is the data, moved into the cache (less the stage's own process, by its record)
        verify  `plumb cache verify`
        restore `plumb get --link` of the result to a place beside the cache
DVC:    add     `dvc add`            (hashes, moves, links back)
        verify  `dvc status` with its index of file times removed: it re-hashes what is in the workspace
        restore `dvc checkout` after the workspace's copy is deleted
"""
import argparse
import glob
import json
import os
import shutil
import sys

import shapes
from measure import row, run
from peers import Peers

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAKE = """import os, sys
kind, to, amount = sys.argv[1], sys.argv[2], int(sys.argv[3])
if kind == "one":
    with open("/dev/urandom", "rb") as noise, open(to, "wb") as file:
        block = noise.read(1 << 22)
        for number in range(amount >> 22):
            file.write(number.to_bytes(8, "little") + block[8:])
else:
    for number in range(amount):
        if number % 100 == 0:
            os.makedirs(os.path.join(to, str(number // 100)))
        with open(os.path.join(to, str(number // 100), str(number)), "wb") as file:
            file.write(number.to_bytes(8, "little") * 512)
"""


def pipeline(folder, kind, amount):
    shapes.save(os.path.join(folder, "make.py"), MAKE)
    return shapes.save(os.path.join(folder, f"{kind}.toml"), f"""schema = 1
[stage.make]
uses = "command"
outputs = {{ data = "data" }}
with.files = ["make.py"]
with.argv = ["{sys.executable}", "make.py", "{kind}", "{{out:data}}", "{amount}"]
""")


def plumb(options, folder, kind, amount):
    path, place = pipeline(folder, kind, amount), os.path.join(folder, f"{kind}-restored")
    cache = os.path.join(folder, f"{kind}-cache")
    command = lambda *words: [options.plumb, "--cache", cache, *words]
    # For DVC.
    run([sys.executable, os.path.join(folder, "make.py"), kind, os.path.join(folder, "alone"), str(amount)])
    add = run(command("run", path))
    [record] = glob.glob(os.path.join(cache, "v1/actions/*/*"))
    add.cpu -= json.loads(open(record).read().split("\n", 1)[1])["cost"]["cpu_seconds"]
    verify = run(command("cache", "verify"))
    return add, verify, run(command("get", path, "make.data", place, "--link"))


def dvc(peers, folder, kind, amount):
    env, program = peers.environment(folder), peers.program("dvc")
    work = os.path.join(folder, f"{kind}-dvc")
    os.makedirs(work)
    data = os.path.join(work, "data")
    os.rename(os.path.join(folder, "alone"), data)
    dvc = lambda *words: run([program, *words], folder=work, env=env)
    dvc("init", "--no-scm", "--quiet")
    dvc("config", "cache.type", "hardlink,copy")
    add = dvc("add", "--quiet", "data")
    for index in ("site_cache_dir", "tmp"):
        shutil.rmtree(os.path.join(work, ".dvc", index), ignore_errors=True)
    shutil.rmtree(os.path.join(folder, "cache"), ignore_errors=True)
    verify = dvc("status", "--quiet")
    shutil.rmtree(data) if os.path.isdir(data) else os.remove(data)
    return add, verify, dvc("checkout", "--quiet")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plumb", default=os.path.join(ROOT, "target/release/plumb"))
    parser.add_argument("--folder", default="/dev/shm/plumb-files")
    parser.add_argument("--peers", default=os.path.expanduser("~/.cache/plumb-bench-peers"))
    parser.add_argument("--small", action="store_true", help="a sixteenth of the data")
    options = parser.parse_args()
    options.plumb = os.path.abspath(options.plumb)
    peers = Peers(options.peers)
    part = 16 if options.small else 1
    for kind, amount in (("one", (4 << 30) // part), ("many", 100_000 // part)):
        shutil.rmtree(options.folder, ignore_errors=True)
        os.makedirs(options.folder)
        ours, theirs = plumb(options, options.folder, kind, amount), dvc(peers, options.folder, kind, amount)
        for name, one, other in zip(("add", "verify", "restore"), ours, theirs):
            row(f"{kind}: {name}, plumb", one)
            row(f"{kind}: {name}, DVC", other, f"CPU of DVC / plumb: {other.cpu / max(one.cpu, 1e-3):.1f}")
        whole = [sum(one.cpu for one in all_of_them) for all_of_them in (ours, theirs)]
        print(f"{kind}: all three: plumb {whole[0]:.2f} s CPU, DVC {whole[1]:.2f} s CPU, {whole[1] / whole[0]:.1f} times")
    shutil.rmtree(options.folder)


if __name__ == "__main__":
    main()
