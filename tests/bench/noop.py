#!/usr/bin/env python3
"""What plumb itself costs: the overhead of a trivial `command` stage on a first run, and no-op runs of pipelines of
1,000 and 10,000 stages (a chain and a layered DAG, one goal and a thousand), beside the start of a trivial process.

    tests/bench/noop.py [--plumb target/release/plumb] [--sizes 1000,10000] [--repeat 7] [--folder KEPT]

A no-op run stats every source and checks that the blobs of every goal are there. Ratios are of medians in one call.
"""
import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

WIDTH = 100  # stages in a layer of the DAG
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def stage(name, number, inputs):
    """A stage that writes its number, so that every result differs."""
    lines = [f"[stage.{name}]", 'uses = "command"', f'with.argv = ["sh", "-c", "echo {number} > $0", "{{out:o}}"]']
    lines += [f'inputs.{port} = "{producer}"' for port, producer in inputs]
    return "\n".join(lines + ['outputs = { o = "o.txt" }', ""])


def chain(size):
    """Each stage takes the one before, every tenth a source as well."""
    for number in range(size):
        inputs = [("before", f"s{number - 1}.o")] if number else []
        inputs += [("raw", f"source.r{number // 10}")] if number % 10 == 0 else []
        yield stage(f"s{number}", number, inputs)


def layers(size):
    """Each stage takes three of the layer before; the last one takes the whole last layer."""
    body = size - 1
    for number in range(body):
        layer, place = divmod(number, WIDTH)
        above = [(layer - 1) * WIDTH + (place + step) % WIDTH for step in range(3)] if layer else []
        inputs = [(f"i{step}", f"s{one}.o") for step, one in enumerate(above)]
        inputs += [("raw", f"source.r{number // 10}")] if number % 10 == 0 else []
        yield stage(f"s{number}", number, inputs)
    first = max(0, (body - 1) // WIDTH - 1) * WIDTH
    yield stage(f"s{body}", body, [(f"i{one}", f"s{one}.o") for one in range(first, body)])


SHAPES = {"chain": chain, "layers": layers}


def write(folder, shape, size, goals):
    """Writes a pipeline and its sources; returns its path."""
    for number in range((size + 9) // 10):
        path = os.path.join(folder, "raw", f"{number}.txt")
        if not os.path.exists(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w") as file:
                file.write(f"source {number}\n")
    step = size // goals
    goal = ", ".join(f'"s{number}"' for number in range(size - 1, -1, -step)[:goals])
    path = os.path.join(folder, f"{shape}-{size}-{goals}.toml")
    with open(path, "w") as file:
        file.write(f'schema = 1\n\n[pipeline]\nname = "{shape}-{size}"\ngoal = [{goal}]\n\n')
        for number in range((size + 9) // 10):
            file.write(f'[source.r{number}]\npath = "raw/{number}.txt"\n\n')
        for text in SHAPES[shape](size):
            file.write(text + "\n")
    return path


def seconds(command):
    start = time.perf_counter()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    took = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout.decode(errors='replace')[-4000:]}")
    return took


def median(command, repeat):
    return statistics.median(seconds(command) for _ in range(repeat))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plumb", default=os.path.join(ROOT, "target/release/plumb"))
    parser.add_argument("--sizes", default="1000,10000")
    parser.add_argument("--repeat", type=int, default=7)
    parser.add_argument("--folder", help="work here and keep it: a second call finds the caches filled")
    options = parser.parse_args()
    folder = options.folder or tempfile.mkdtemp(prefix="plumb-bench-")
    os.makedirs(folder, exist_ok=True)
    try:
        measure(options, folder)
    finally:
        if not options.folder:
            shutil.rmtree(folder)


def measure(options, folder):
    repeat = options.repeat
    run = lambda path, cache, *more: [options.plumb, "--cache", os.path.join(folder, cache), "run", path, *more]
    true = median(["true"], 5 * repeat)
    print(f"{'start of `true`':44} {true * 1e3:9.2f} ms")
    version = median([options.plumb, "--version"], 5 * repeat)
    print(f"{'start of `plumb --version`':44} {version * 1e3:9.2f} ms {version / true:9.1f} x `true`")

    out = os.path.join(folder, "out.txt")
    bare = median(["sh", "-c", "echo 1 > $0", out], 5 * repeat)
    first = []
    for number in range(3):
        shutil.rmtree(os.path.join(folder, "first"), ignore_errors=True)
        first.append(seconds(run(write(folder, "chain", 300, 1), "first", "--jobs", "1")))
    each = statistics.median(first) / 300
    print(f"{'first run, a stage of a chain of 300':44} {each * 1e3:9.2f} ms, its command alone {bare * 1e3:.2f} ms")
    print(f"{'  overhead (target under 10 ms)':44} {(each - bare) * 1e3:9.2f} ms {each / bare:9.1f} x the command alone")

    for size in [int(size) for size in options.sizes.split(",")]:
        target = size / 10_000
        for shape in SHAPES:
            filled = seconds(run(write(folder, shape, size, 1), "cache"))
            print(f"{f'{shape} of {size}: first run':44} {filled:9.2f} s  {filled / size * 1e3:9.2f} ms a stage")
            for goals in (1, 1000):
                path = write(folder, shape, size, goals)
                seconds(run(path, "cache"))
                took = median(run(path, "cache"), repeat)
                name = f"{shape} of {size}, {goals} goal{'s' * (goals > 1)}: no-op"
                print(f"{name:44} {took * 1e3:9.1f} ms {took / true:9.1f} x `true`, {took / target:.2f} of the target")


main()
