#!/usr/bin/env python3
"""Shows that cost grows linearly with the number of stages: no-op runs and plans from 10 to 100,000 stages, CPU time,
one plot with logarithmic axes (an SVG that this script writes itself).

    tests/bench/linear.py [--plumb target/release/plumb] [--folder /dev/shm/plumb-bench] [--out tests/bench/linear.svg]

Filling the cache with 100,000 stages takes minutes; `--sizes 10,100,1000,10000` is the short form.
"""
import argparse
import math
import os

import shapes
from measure import median, run

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
COLOURS = {"first plan": "#b3541e", "no-op run": "#1e6fb3", "ideal (linear)": "#999999"}
LEFT, TOP, WIDE, HIGH = 64, 20, 420, 260


def svg(series, sizes):
    values = [value for line in series.values() for _, value in line]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    first, last = math.log10(sizes[0]), math.log10(sizes[-1])
    x = lambda size: LEFT + (math.log10(size) - first) / (last - first) * WIDE
    y = lambda value: TOP + (high - math.log10(value)) / (high - low) * HIGH
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDE + 150}" height="{TOP + HIGH + 50}" '
           'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>']
    for power in range(low, high + 1):
        at = y(10**power)
        text = f"{10**power:g} ms" if power < 3 else f"{10 ** (power - 3):g} s"
        out.append(f'<path d="M{LEFT} {at:.1f}H{LEFT + WIDE}" stroke="#ddd"/><text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{text}</text>')
    for size in sizes:
        out.append(f'<path d="M{x(size):.1f} {TOP}V{TOP + HIGH}" stroke="#ddd"/><text x="{x(size):.1f}" y="{TOP + HIGH + 18}" text-anchor="middle">{size:,}</text>')
    out.append(f'<text x="{LEFT + WIDE / 2}" y="{TOP + HIGH + 40}" text-anchor="middle">stages in a chain</text>')
    for place, (name, line) in enumerate(series.items()):
        points = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in line)
        dashes = ' stroke-dasharray="4 4"' if name.startswith("ideal") else ""
        out.append(f'<polyline points="{points}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"{dashes}/>')
        out += [f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="{COLOURS[name]}"/>' for size, value in line if not dashes]
        at = TOP + 14 + 18 * place
        out.append(f'<path d="M{LEFT + WIDE + 10} {at - 4}h18" stroke="{COLOURS[name]}" stroke-width="2"{dashes}/><text x="{LEFT + WIDE + 34}" y="{at}">{name}</text>')
    return "\n".join(out + ["</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plumb", default=os.path.join(ROOT, "target/release/plumb"))
    parser.add_argument("--folder", default="/dev/shm/plumb-bench")
    parser.add_argument("--out", default=os.path.join(ROOT, "tests/bench/linear.svg"))
    parser.add_argument("--sizes", default="10,100,1000,10000,100000")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    sizes = [int(size) for size in options.sizes.split(",")]
    series = {"first plan": [], "no-op run": []}
    os.makedirs(options.folder, exist_ok=True)
    for size in sizes:
        path = shapes.plumb(options.folder, "chain", size)
        plumb = lambda cache, what: [options.plumb, "--cache", os.path.join(options.folder, cache), what, path]
        plan = median(plumb("empty", "plan"), options.repeat)
        run(plumb("cache", "run"))
        again = median(plumb("cache", "run"), options.repeat)
        print(f"{size:7} stages: first plan {plan.cpu * 1e3:8.1f} ms CPU, {plan.megabytes:4.0f} MB; no-op run {again.cpu * 1e3:8.1f} ms CPU, {again.megabytes:4.0f} MB", flush=True)
        series["first plan"].append((size, plan.cpu * 1e3))
        series["no-op run"].append((size, again.cpu * 1e3))
    size, value = series["no-op run"][-1]
    series["ideal (linear)"] = [(one, value * one / size) for one in sizes if one >= size / 1000]
    shapes.save(options.out, svg(series, sizes))


main()
