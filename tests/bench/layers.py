#!/usr/bin/env python3
"""Results to a bucket and back, through moto's S3 on loopback: plumb beside DVC (dvc-s3), `aws s3 cp` and s5cmd, one
checkpoint of 2 GB and 20,000 files of 4 KB; and a plan whose 10,000 results all lie in the bucket.

    tests/bench/layers.py [--plumb target/release/plumb] [--folder /dev/shm/plumb-layers] [--peers FOLDER] [--part N]
                          [--only one|many|plan]

push    what lies in the program's own cache, or in a folder, goes to an empty bucket of a fresh server
pull    it comes back to where nothing of it is, and stands in a folder (plumb: `cache pull`, then `get --link`; DVC: hard
        links too; the copiers have no cache and check no digest)
server  CPU time of moto meanwhile: it is one Python process, and most of the wall time is its
"""
import argparse
import glob
import os
import re
import shutil
import subprocess
import sys
import threading

import peers
import shapes
from files import pipeline
from measure import Took, row, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    """A fresh S3 with one bucket, which counts what it is asked."""

    def __init__(self, copiers):
        self.child = subprocess.Popen(
            [copiers.program("moto_server"), "-H", "127.0.0.1", "-p", "0"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        said = next(line for line in self.child.stderr if "Running on " in line)
        self.url = said.split("Running on ")[1].strip()
        self.asked = []
        # It would stop at a full pipe.
        threading.Thread(target=self.listen, daemon=True).start()
        self.variables = {
            "AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "word", "AWS_EC2_METADATA_DISABLED": "true",
        }

    def listen(self):
        for line in self.child.stderr:
            self.asked += re.findall(r'"([A-Z]+) \S+ HTTP', line)

    def cpu(self):
        with open(f"/proc/{self.child.pid}/stat") as file:
            fields = file.read().rsplit(") ", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def measure(self, *commands, **more):
        """What the commands took together, what the server took meanwhile, and how often it was asked."""
        cpu, asked = self.cpu(), len(self.asked)
        took = [run(command, **more) for command in commands]
        whole = Took(sum(one.wall for one in took), sum(one.cpu for one in took), max(one.megabytes for one in took))
        whole.server, whole.requests = self.cpu() - cpu, len(self.asked) - asked
        return whole

    def stop(self):
        self.child.kill()
        self.child.wait()


def environment(server, home, copiers):
    return {**copiers.environment(home), **server.variables}


def settle(options, server, home, env):
    """A key, and the layer in plumb's settings."""
    os.makedirs(os.path.join(home, ".config/plumb"), exist_ok=True)
    shapes.save(os.path.join(home, ".config/plumb/config.toml"), 'write = "lab"\n[layer.lab]\nurl = "s3://bucket/plumb"\n')
    if not os.path.exists(os.path.join(home, ".config/plumb/key")):
        run([options.plumb, "key", "new"], env=env)


def plumb(options, server, folder, kind, amount, copiers):
    path, env = pipeline(folder, kind, amount), environment(server, folder, copiers)
    # As `aws` does of itself: of a large object that names no checksum moto computes one, which takes longer than sending it.
    env["AWS_CHECKSUM_ALGORITHM"] = "SHA256"
    settle(options, server, folder, env)
    command = lambda cache, *words: [options.plumb, "--cache", os.path.join(folder, cache), *words]
    run(command("mine", "run", path), env=env)
    push = server.measure(command("mine", "cache", "push", path), env=env)
    shutil.rmtree(os.path.join(folder, "mine"))
    place = os.path.join(folder, "back")
    get = command("theirs", "get", path, "make.data", place, "--link")
    return push, server.measure(command("theirs", "cache", "pull", path), get, env=env), place


def dvc(options, server, folder, kind, amount, copiers):
    others = peers.Peers(os.path.join(options.peers, "dvc-s3"), peers.DVC_S3)
    env, work = {**others.environment(folder), **server.variables}, os.path.join(folder, "dvc")
    os.makedirs(work)
    data = make(folder, kind, amount, os.path.join(work, "data"))
    dvc = lambda *words: [others.program("dvc"), *words, "--quiet"]
    for words in (
        ("init", "--no-scm"), ("config", "cache.type", "hardlink,copy"), ("remote", "add", "-d", "lab", "s3://bucket/dvc"),
        ("remote", "modify", "lab", "endpointurl", server.url), ("add", "data"),
    ):
        run(dvc(*words), folder=work, env=env)
    push = server.measure(dvc("push"), folder=work, env=env)
    for gone in (os.path.join(work, ".dvc/cache"), os.path.join(work, ".dvc/tmp"), os.path.join(folder, "cache")):
        shutil.rmtree(gone, ignore_errors=True)
    shutil.rmtree(data) if os.path.isdir(data) else os.remove(data)
    return push, server.measure(dvc("pull"), folder=work, env=env), data


def aws(options, server, folder, kind, amount, copiers):
    env, data, back = environment(server, folder, copiers), make(folder, kind, amount), os.path.join(folder, "back")
    whole = ["--recursive"] if kind == "many" else []
    copy = lambda source, place: [copiers.program("aws"), "s3", "cp", source, place, "--only-show-errors", *whole]
    push = server.measure(copy(data, "s3://bucket/data"), env=env)
    return push, server.measure(copy("s3://bucket/data", back), env=env), back


def s5cmd(options, server, folder, kind, amount, copiers):
    env, data, back = environment(server, folder, copiers), make(folder, kind, amount), os.path.join(folder, "back")
    ends = (data, "s3://bucket/data") if kind == "one" else (data + "/", "s3://bucket/data/")
    there = ends[1] if kind == "one" else ends[1] + "*"
    copy = lambda source, place: [
        copiers.program("s5cmd"), "--endpoint-url", server.url, "--log", "error", "cp", source, place]
    push = server.measure(copy(*ends), env=env)
    return push, server.measure(copy(there, back + ("" if kind == "one" else "/")), env=env), back


def make(folder, kind, amount, place=None):
    pipeline(folder, kind, amount)
    place = place or os.path.join(folder, "data")
    run([sys.executable, os.path.join(folder, "make.py"), kind, place, str(amount)])
    return place


def size(place):
    files = [place] if os.path.isfile(place) else glob.glob(os.path.join(place, "**"), recursive=True)
    return sum(os.path.getsize(path) for path in files if os.path.isfile(path))


def transfers(options, copiers, kind, amount):
    took, expected = {}, amount if kind == "one" else amount * 4096
    for program in (plumb, dvc, aws, s5cmd):
        shutil.rmtree(options.folder, ignore_errors=True)
        os.makedirs(options.folder)
        server = Server(copiers)
        try:
            run([copiers.program("aws"), "s3", "mb", "s3://bucket"], env=environment(server, options.folder, copiers))
            *both, place = program(options, server, options.folder, kind, amount, copiers)
        finally:
            server.stop()
        assert size(place) == expected, f"{program.__name__}: {size(place)} bytes came back"
        for way, one in zip(("push", "pull"), both):
            took[program.__name__, way] = one
            row(f"{kind}: {way}, {program.__name__}", one, f"server {one.server:6.1f} s CPU, {one.requests} requests")
    for way in ("push", "pull"):
        ours, dvcs = took["plumb", way], took["dvc", way]
        fastest = min((took[name, way].wall, name) for name in ("aws", "s5cmd"))
        print(f"{kind}: {way}: plumb / {fastest[1]} {ours.wall / fastest[0]:.2f} wall; "
              f"DVC / plumb {dvcs.wall / ours.wall:.1f} wall, {dvcs.cpu / ours.cpu:.1f} CPU", flush=True)


def plan(options, copiers, records):
    """All results in the bucket and none here: the first plan reads the catalogue, the next ones look for news."""
    shutil.rmtree(options.folder, ignore_errors=True)
    os.makedirs(options.folder)
    server = Server(copiers)
    try:
        env = environment(server, options.folder, copiers)
        run([copiers.program("aws"), "s3", "mb", "s3://bucket"], env=env)
        settle(options, server, options.folder, env)
        path = shapes.save(os.path.join(options.folder, "p.toml"), f"""schema = 1
[axes]
n = {{ replicate = {records // 25} }}
part = {{ replicate = 25 }}
[stage.step]
uses = "command"
outputs = {{ out = "out" }}
with.argv = ["sh", "-c", "echo $0 $1 > {{out:out}}", {{ axis = "n" }}, {{ axis = "part" }}]
""")
        command = lambda cache, *words: [options.plumb, "--cache", os.path.join(options.folder, cache), *words, path]
        run(command("mine", "run"), env=env)
        whole = lambda name, one: row(f"{records} records: {name}", one, f"server {one.server:.2f} s CPU, {one.requests} requests")
        whole("push", server.measure(command("mine", "cache", "push"), env=env))
        whole("first plan", server.measure(command("theirs", "plan"), env=env))
        for _ in range(3):
            whole("no-op plan", server.measure(command("theirs", "plan"), env=env))
    finally:
        server.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plumb", default=os.path.join(ROOT, "target/release/plumb"))
    parser.add_argument("--folder", default="/dev/shm/plumb-layers")
    parser.add_argument("--peers", default=os.path.expanduser("~/.cache/plumb-bench-peers"))
    parser.add_argument("--only", choices=("one", "many", "plan"))
    parser.add_argument("--part", type=int, default=1, metavar="N", help="an N-th of the data")
    options = parser.parse_args()
    options.plumb = os.path.abspath(options.plumb)
    copiers = peers.Peers(os.path.join(options.peers, "copiers"), peers.COPIERS)
    part = options.part
    for kind, amount in (("plan", 10_000 // part), ("one", (2 << 30) // part), ("many", 20_000 // part)):
        if options.only in (None, kind):
            plan(options, copiers, amount) if kind == "plan" else transfers(options, copiers, kind, amount)
    shutil.rmtree(options.folder, ignore_errors=True)


if __name__ == "__main__":
    main()
