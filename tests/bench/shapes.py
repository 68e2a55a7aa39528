"""Pipelines of any size for the benchmarks, written for plumb and for each peer: the same graph, the same trivial
command (`echo NUMBER > OUT`), the same source files."""
import os

WIDTH = 100  # stages in a layer


def chain(size):
    """Each stage takes the one before; every tenth a source as well."""
    for number in range(size):
        yield number, [number - 1] if number else [], number // 10 if number % 10 == 0 else None


def layers(size):
    """Each stage takes three of the layer before; the last one takes the whole last layer."""
    body = size - 1
    for number in range(body):
        layer, place = divmod(number, WIDTH)
        above = [(layer - 1) * WIDTH + (place + step) % WIDTH for step in range(3)] if layer else []
        yield number, above, number // 10 if number % 10 == 0 else None
    yield body, list(range(max(0, (body - 1) // WIDTH - 1) * WIDTH, body)), None


SHAPES = {"chain": chain, "layers": layers}


def save(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(text)
    return path


def sources(folder, size):
    for number in range((size + 9) // 10):
        path = os.path.join(folder, "raw", f"{number}.txt")
        if not os.path.exists(path):
            save(path, f"source {number}\n")


def goals_of(size, goals):
    return [size - 1 - place * (size // goals) for place in range(min(goals, size))]


def plumb(folder, shape, size, goals=1, first="echo"):
    """`first` is the first stage's program: another one changes one parameter of the pipeline."""
    sources(folder, size)
    wanted = ", ".join(f'"s{number}"' for number in goals_of(size, goals))
    text = [f'schema = 1\n[pipeline]\nname = "{shape}-{size}"\ngoal = [{wanted}]\n']
    text += [f'[source.r{number}]\npath = "raw/{number}.txt"\n' for number in range((size + 9) // 10)]
    for number, above, raw in SHAPES[shape](size):
        program = first if number == 0 else "echo"
        lines = [f"[stage.s{number}]", 'uses = "command"']
        lines += [f'with.argv = ["sh", "-c", "{program} {number} > $0", "{{out:o}}"]']
        lines += [f'inputs.i{place} = "s{one}.o"' for place, one in enumerate(above)]
        lines += [] if raw is None else [f'inputs.raw = "source.r{raw}"']
        text.append("\n".join(lines + ['outputs = { o = "o.txt" }', ""]))
    return save(os.path.join(folder, f"{shape}-{size}-{goals}-{first}.toml"), "\n".join(text))


def branches(folder, count):
    """A stage crossed over two axes to `count` branches."""
    wide = 100
    values = lambda name, size: f"{name} = [{', '.join(str(one) for one in range(size))}]"
    text = f"""schema = 1
[axes]
{values("left", wide)}
{values("right", count // wide)}
[[plan]]
mode = "cross"
[stage.make]
uses = "command"
with.argv = ["sh", "-c", "echo $0 $1 > $2", {{ axis = "left" }}, {{ axis = "right" }}, "{{out:o}}"]
outputs = {{ o = "o.txt" }}
"""
    return save(os.path.join(folder, f"branches-{count}.toml"), text)


def inputs_of(above, raw):
    return [f"out/{one}" for one in above] + ([] if raw is None else [f"raw/{raw}.txt"])


def ninja(folder, shape, size):
    sources(folder, size)
    text = ["rule make", "  command = echo $number > $out", ""]
    for number, above, raw in SHAPES[shape](size):
        text += [f"build out/{number}: make {' '.join(inputs_of(above, raw))}", f"  number = {number}"]
    save(os.path.join(folder, "build.ninja"), "\n".join(text + ["", f"default out/{size - 1}", ""]))


def snakemake(folder, shape, size):
    sources(folder, size)
    text = [f'rule all:\n    input: "out/{size - 1}"\n']
    for number, above, raw in SHAPES[shape](size):
        given = ", ".join(f'"{path}"' for path in inputs_of(above, raw))
        given = f"    input: {given}\n" if given else ""
        text.append(f'rule s{number}:\n{given}    output: "out/{number}"\n    shell: "echo {number} > {{output}}"\n')
    save(os.path.join(folder, "Snakefile"), "\n".join(text))


def dvc(folder, shape, size):
    sources(folder, size)
    os.makedirs(os.path.join(folder, "out"), exist_ok=True)
    text = ["stages:"]
    for number, above, raw in SHAPES[shape](size):
        text += [f"  s{number}:", f"    cmd: echo {number} > out/{number}"]
        given = inputs_of(above, raw)
        text += ["    deps:"] + [f"    - {path}" for path in given] if given else []
        text += ["    outs:", f"    - out/{number}"]
    save(os.path.join(folder, "dvc.yaml"), "\n".join(text + [""]))


def redun(folder, shape, size):
    """Redun calls tasks as functions: a stage's arguments are the results of those above it."""
    sources(folder, size)
    text = ["from redun import File, task", "", 'redun_namespace = "bench"', ""]
    text += ["@task(script=True)", "def step(number, raw, above):", '    return f"echo {number}"', ""]
    text += ["@task()", "def main():", "    made = []"]
    for number, above, raw in SHAPES[shape](size):
        source = "None" if raw is None else f'File("raw/{raw}.txt")'
        text.append(f"    made.append(step({number}, {source}, [{', '.join(f'made[{one}]' for one in above)}]))")
    save(os.path.join(folder, "workflow.py"), "\n".join(text + ["    return made[-1]", ""]))
