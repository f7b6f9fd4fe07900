#!/usr/bin/env python3
"""How near to its bound a pipeline of pairs comes: overlap.py PIPER [--before PIPER] [--kinds ...] [--pp ...] [--ratios ...]

A mixture of experts (4 layers a rank, ep 8) under kinds x stages x microbatches x ratios of all-to-all to computation, simulated on a
machine whose all-to-alls are alone on their links: the step with the program given by --before, by default, and with memory to spare
("peak"); the shares of the all-to-alls that are hidden in steady state and over the step; the peak of the rank that takes most beside the one by default.
The bound is computed here, from the order of passes (piper plan --csv) and the times of kernels (piper plan --dump), by no code of the
simulator. It is the longer of (a) the step of that order with all-to-alls of length 0, where a pair takes as long as both of its passes compute,
plus the all-to-alls of the passes outside of pairs on its longest path, and (b) what the busiest stream of all-to-alls has to carry. Of passes is
the longest path where a pair takes as long as the longer of its streams, a forward as both, and a backward hides what its BW can.
--weights prints instead how far from the best of them orders by other weights of an all-to-all are, in a scheduler of its own, where a rank runs one
pair after the other; --search how far from the longer of its two streams the best order of a pair is that simulated annealing finds, with and
without BW that stand in the pair behind, and the one of that scheduler.
"""
import argparse
import heapq
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile

EP = 8
LAYERS = 4
PLACEMENT = {"dualpipe": "two-way", "dualpipev": "v", "zb-v": "v", "interleaved": "interleaved", "interleaved-zb": "interleaved"}
MODEL = {"model_type": "qwen3_moe", "vocab_size": 4096, "hidden_size": 2048, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 64, "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 1024, "tie_word_embeddings": False}


def machine(bandwidth):
    return {"name": "links", "source": "all-to-alls alone on their links", "flops": {"float32": 6e13, "bfloat16": 6e14},
            "bandwidth": 2.7e12, "launch": 0, "ranks_per_node": EP,
            "links": {"node": {"latency": 0, "bandwidth": bandwidth}, "network": {"latency": 0, "bandwidth": 1e15}}}


class Job:
    """A folder with the job's files; peak: GiB or None."""

    def __init__(self, at, kind, pp, microbatches, stages=None, peak=None):
        self.at, self.options = at, ["-m", "m.json", "-s", "s.json", "-t", "t.json"]
        layers = LAYERS * (stages or pp)
        layout = {"pp": pp, "dp": EP, "ep": EP, "placement": PLACEMENT.get(kind, "standard")}
        schedule = {"kind": kind, "microbatches": microbatches, **({"peak": peak} if peak else {})}
        self.write("m", {**MODEL, "num_hidden_layers": layers})
        self.write("s", [{"op": "layout", **layout}, {"op": "schedule", **schedule}])
        self.write("t", {"batch_size": microbatches * EP, "seq_len": 2048, "steps": 1, "dtype": "bfloat16"})

    def write(self, name, what):
        with open(f"{self.at}/{name}.json", "w") as f:
            json.dump(what, f)

    def plan(self, piper, *options):
        done = subprocess.run([piper, "plan", *self.options, *options], cwd=self.at, capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        return done.stdout

    def simulate(self, piper, bandwidth):
        self.write("machine", machine(bandwidth))
        return json.loads(self.plan(piper, "--simulate", "--machine", "machine.json", "--json"))


# ---- the bound ------------------------------------------------------------------------------------------------------------


def number(line, key):
    found = re.search(rf"\b{key}=([\d.e+-]+)", line)
    return float(found[1]) if found else 0.0


def pass_times(at, piper, layers, stages, bandwidth):
    """By stage: computing and travelling of F and of B, and what ends the step. From the plans of one microbatch, a stage a rank."""
    job = Job(at, "1f1b", stages, 1)
    job.write("m", {**MODEL, "num_hidden_layers": layers})
    job.write("machine", machine(bandwidth))
    of, program = [], {}
    for line in map(str.strip, job.plan(piper, "--machine", "machine.json", "--dump").split("\n")):
        if line.startswith("program "):
            if line.startswith("program 0 "):
                of.append({"F": 0.0, "B": 0.0, "F travels": 0.0, "B travels": 0.0, "end": 0.0, "reduces": 0.0})
                program = {}
            program[int(line.split()[1])] = number(line, "seconds")
        elif line.startswith("instr "):
            op, which = re.search(r"op=(\S+) pass=(\S+)", line).groups()
            which = "F" if which == "F" else "B"
            if op == "RUN":
                of[-1][which] += program[int(number(line, "what"))]
            elif op in ("SUMSQ", "UPDATE"):
                of[-1]["end"] += number(line, "seconds")
            elif op == "ALL_REDUCE":  # at least one is left when the last backward ends
                of[-1]["reduces"] = max(of[-1]["reduces"], number(line, "seconds"))
            elif op.startswith("ALL_TO_ALL"):
                of[-1][f"{which} travels"] += number(line, "seconds")
    assert len(of) == stages
    return of


def rows_of(csv):
    """By pipeline rank: groups of cells (stage, pass, microbatch)."""
    return [[[(int(s), x, int(m)) for s, x, m in re.findall(r"(\d+)([FBIW])(\d+)", group)]
             for group in re.findall(r"\([^)]*\)[A-Z_]*|[^,()]+", row)] for row in csv.strip().split("\n")]


def bound(rows, times):
    """(a), (b), of passes."""
    stages = len(times)
    share = {"F": ("F", 1), "B": ("B", 1), "I": ("B", 0.5), "W": ("B", 0.5)}

    def computes(s, x):
        return times[s % stages][share[x][0]] * share[x][1]

    def travels(s, x):
        return 0.0 if x == "W" else times[s % stages][f"{share[x][0]} travels"]

    def needs(s, x, m):
        if x == "F":
            return [(s - 1, "F", m)] if s % stages else []
        if x == "W":
            return [(s, "I", m)]
        return [(s, "F", m)] + ([(s + 1, "gradient", m)] if s % stages < stages - 1 else [])

    def by_path(group):
        """Computing, and all-to-alls on the path."""
        return sum(computes(s, x) for s, x, _ in group), sum(travels(s, x) for s, x, _ in group if len(group) == 1)

    def by_pass(group):
        compute, travel = sum(computes(s, x) for s, x, _ in group), sum(travels(s, x) for s, x, _ in group)
        hides = compute if len(group) > 1 else compute / 2 if group[0][1] == "B" else 0
        return max(compute, compute - hides + travel), 0.0

    def longest(takes):
        done, at, free = {}, [0] * len(rows), [(0.0, 0.0)] * len(rows)
        left = sum(len(r) for r in rows)
        while left:
            before = left
            for r, row in enumerate(rows):
                while at[r] < len(row) and all(k in done for c in row[at[r]] for k in needs(*c)):
                    group = row[at[r]]
                    begin = max([free[r]] + [done[k] for c in group for k in needs(*c)])
                    end = tuple(map(sum, zip(begin, takes(group))))
                    for s, x, m in group:
                        done[s, x, m] = end
                        if x in "BI":
                            done[s, "gradient", m] = end
                    free[r], at[r], left = end, at[r] + 1, left - 1
            assert left < before, "this order can never run"
        ends = [sum(t["end"] for t in of) + min(t["reduces"] for t in of)
                for of in ([times[s] for s in {s % stages for g in row for s, _, _ in g}] for row in rows)]
        return sum(max((f[0] + e, f[1]) for f, e in zip(free, ends)))

    return longest(by_path), max(sum(travels(s, x) for g in row for s, x, _ in g) for row in rows), longest(by_pass)


# ---- the grid -------------------------------------------------------------------------------------------------------------


def hidden(of):
    total = of["communication_seconds"]["all-to-all"]
    return f"{100 * (1 - of['exposed_seconds']['all-to-all'] / total):.0f}%" if total else "-"


def peak(out):
    return max(r["peak_bytes"]["total"] for r in out["per_rank"])


def grid(o):
    print("| kind | pp | microbatches | ratio | before, ms | by default | with memory | peak | bound, ms | over it | "
          "over that of passes | hidden, steady | hidden, step |\n|" + "---|" * 13)
    worst = 0.0
    for kind in o.kinds:
        for pp in o.pp:
            for microbatches in (f * pp for f in o.microbatches):
                with tempfile.TemporaryDirectory() as at:
                    stages = pp if kind == "dualpipe" else 2 * pp
                    job = Job(at, kind, pp, microbatches)
                    mean = job.simulate(o.piper, 1e11)["mean"]
                    rows = rows_of(job.plan(o.piper, "--csv", "-"))
                    paired = kind in ("dualpipe", "dualpipev")
                    for ratio in o.ratios:
                        bandwidth = 1e11 * mean["communication_seconds"]["all-to-all"] / (ratio * mean["compute_seconds"])
                        job = Job(at, kind, pp, microbatches)
                        default = job.simulate(o.piper, bandwidth)
                        before = job.simulate(o.before, bandwidth)["step_seconds"] if o.before else 0.0
                        out = Job(at, kind, pp, microbatches, peak=1e5).simulate(o.piper, bandwidth)
                        step = out["step_seconds"]
                        limits = bound(rows, pass_times(at, o.piper, LAYERS * pp, stages, bandwidth)) if paired else ()
                        over = [f"{100 * (step / x - 1):.1f}%" for x in (max(limits[:2]), limits[2])] if paired else ["-", "-"]
                        worst = max(worst, default["step_seconds"] / before, step / before) if before else worst
                        print(f"| {kind} | {pp} | {microbatches} | {ratio} | {1e3 * before:.1f} | "
                              f"{1e3 * default['step_seconds']:.1f} | {1e3 * step:.1f} | {peak(out) / peak(default):.3f} | "
                              f"{f'{1e3 * max(limits[:2]):.1f}' if paired else '-'} | {over[0]} | {over[1]} | "
                              f"{hidden(out['mean']['steady_state'])} | {hidden(out['mean'])} |", flush=True)
    if worst:
        print(f"\nThe longest step beside the one before: {worst:.3f}.")


# ---- weights --------------------------------------------------------------------------------------------------------------

SHAPES = {  # F of attention and of experts, of what joins layers in F and B, BI of both, BW of both
    "as above": (0.169, 0.344, 0.037, 0.059, 0.213, 0.344, 0.095, 0.344),
    "long sequences": (0.5, 0.344, 0.037, 0.059, 0.9, 0.344, 0.25, 0.344),
    "large experts": (0.15, 0.8, 0.03, 0.05, 0.2, 0.8, 0.1, 0.8),
    "equal": (0.3, 0.3, 0.03, 0.05, 0.35, 0.3, 0.25, 0.3),
    "small experts": (0.5, 0.2, 0.03, 0.05, 0.6, 0.2, 0.4, 0.2),
    "fused": (0.3, 0.5, 0.001, 0.001, 0.4, 0.5, 0.3, 0.5),
}


def pair(shape, layers, pieces=3):
    """Name: (stream, time or None for an all-to-all, what it needs). pieces: of the BW of experts, as many as they have weights."""
    fa, fe, fj, bj, ba, be, wa, we = shape
    t, last = {}, []
    for k in range(layers):
        t[f"F{k} join"], t[f"F{k} attention"] = ("c", fj, last), ("c", fa, [f"F{k} join"])
        t[f"F{k} to"], t[f"F{k} experts"] = ("n", None, [f"F{k} attention"]), ("c", fe, [f"F{k} to"])
        t[f"F{k} from"] = ("n", None, [f"F{k} experts"])
        last = [f"F{k} from"]
    t["F join"], last = ("c", fj, last), []
    for k in range(layers):
        t[f"B{k} join"], t[f"B{k} from"] = ("c", bj, last), ("n", None, [f"B{k} join"])
        t[f"B{k} experts"], t[f"B{k} to"] = ("c", be, [f"B{k} from"]), ("n", None, [f"B{k} experts"])
        t[f"B{k} attention"] = ("c", ba, [f"B{k} to"])
        for piece in range(pieces):
            t[f"W{k} experts {piece}"] = ("c", we / pieces, [f"B{k} experts"])
        t[f"W{k} attention"] = ("c", wa, [f"B{k} attention"])
        last = [f"B{k} attention"]
    return t


def sizes(t):
    """Computation of a pair, and how many all-to-alls it has."""
    return sum(v[1] for v in t.values() if v[1]), sum(v[1] is None for v in t.values())


def durations(t, travels):
    return {k: travels if v[1] is None else v[1] for k, v in t.items()}


ROW = 12


def row(t):
    """Pairs one after the other: both passes of one before those of the next, its BW before those of the one behind. What each run needs."""
    begins = [k for k, v in t.items() if not v[2]]
    ends = [k for k in t if k[0] != "W" and not any(k in v[2] for x, v in t.items() if x[0] != "W")]
    late = [k for k in t if k[0] == "W"]
    return {(k, i): [(x, i) for x in v[2]] + [(x, i - 1) for x in ends if k in begins and i] +
            [(x, i - 2) for x in late if k in begins and i > 1] for i in range(ROW) for k, v in t.items()}


def place(t, travels):
    """List scheduling by the longest path of a row, whose BW fill what is left open: the order of each stream."""
    takes, needs, path = durations(t, travels), row(t), {}
    after = {k: [] for k in needs}
    for k, of in needs.items():
        for x in of:
            after[x].append(k)
    missing = {k: len(of) for k, of in needs.items()}

    def find(k):
        if k not in path:
            path[k] = takes[k] + max((find(x) for x in t if k in t[x][2]), default=0)
        return path[k]

    ready, busy, order = {"c": [], "n": [], "fill": []}, {"c": 0.0, "n": 0.0}, {"c": [], "n": []}

    def begin(stream, ready, k, now):
        ready.remove(k)
        order[stream].append(k)
        busy[stream] = now + takes[k[0]]
        heapq.heappush(events, (busy[stream], k))

    def fits(now):
        """As in sched/sequence.c, next_run()."""
        travel = [busy["n"] - now] if busy["n"] > now else []
        travel += [takes[k[0]] for k in ready["n"]]
        hole, last = (travel or [math.inf])[0], sum(travel)
        inside = [k for k in ready["fill"] if takes[k[0]] <= hole]
        best = max(inside, key=lambda k: (takes[k[0]], -k[1], k[0])) if inside else min(ready["fill"], key=lambda k: (takes[k[0]], k[1], k[0]))
        waits = travel and takes[best[0]] > last and sum(takes[k[0]] for k in ready["fill"]) <= max(v[1] or 0 for v in t.values())
        return None if waits else best

    def first(of):
        return min(of, key=lambda k: (k[1], -find(k[0]), k[0]))

    def add(k):
        ready["fill" if k[0][0] == "W" else t[k[0]][0]].append(k)

    for k in needs:
        if not missing[k]:
            add(k)
    events, now = [], 0.0
    while True:
        if busy["n"] <= now and ready["n"]:
            begin("n", ready["n"], first(ready["n"]), now)
        if busy["c"] <= now and ready["c"]:
            begin("c", ready["c"], first(ready["c"]), now)
        if busy["c"] <= now and ready["fill"] and fits(now):
            begin("c", ready["fill"], fits(now), now)
        if not events:
            return order
        now = events[0][0]
        while events and events[0][0] == now:
            k = heapq.heappop(events)[1]
            for x in after[k]:
                missing[x] -= 1
                if not missing[x]:
                    add(x)


def period(needs, takes, order):
    """How long a pair of a row takes whose streams run in this order, without the first and the last ones; None: they wait for each other."""
    done, at, free = {}, {"c": 0, "n": 0}, {"c": 0.0, "n": 0.0}
    moved = True
    while moved:
        moved = False
        for stream in "cn":
            while at[stream] < len(order[stream]) and all(k in done for k in needs[order[stream][at[stream]]]):
                k = order[stream][at[stream]]
                free[stream] = done[k] = max([free[stream]] + [done[x] for x in needs[k]]) + takes[k[0]]
                at[stream] += 1
                moved = True
    if len(done) < len(needs):
        return None
    ends = [max(v for k, v in done.items() if k[1] == i and k[0][0] != "W") for i in (3, ROW - 3)]
    return (ends[1] - ends[0]) / (ROW - 6)


def weights():
    tried, ratios = (0.7, 0.8, 0.9, 0.95, 1.0, 1.06, 1.1, 1.2, 1.5), (0.2, 0.5, 0.8, 1.0, 1.2, 1.5)
    print("| all-to-alls, by computation | over the best, mean | most | over the busier stream, mean |\n|---|---|---|---|")
    over, least = {w: [] for w in tried}, {w: [] for w in tried}
    for shape in SHAPES.values():
        for layers in (1, 2, 4):
            t = pair(shape, layers)
            compute, n = sizes(t)
            orders, needs = {w: place(t, w * compute / n) for w in tried}, row(t)
            for ratio in ratios:
                step = {w: period(needs, durations(t, compute * ratio / n), orders[w]) for w in tried}
                for w in tried:
                    over[w].append(step[w] / min(step.values()) - 1)
                    least[w].append(step[w] / (compute * max(1.0, ratio)) - 1)
    for w in tried:
        print(f"| {w} | {100 * sum(over[w]) / len(over[w]):.1f}% | {100 * max(over[w]):.0f}% | {100 * sum(least[w]) / len(least[w]):.1f}% |")


def repeated(order, late):
    """The order of a pair, of a row: late are the BW that stand in the pair behind."""
    return {s: [(k, i - (k in late)) for i in range(ROW + 1) for k in order[s] if 0 <= i - (k in late) < ROW] for s in "cn"}


def anneal(t, travels, moves, rows, rng):
    """The shortest pair that is found; rows: BW may stand in the pair behind."""
    needs, takes = row(t), durations(t, travels)
    least, found = sum(v[1] or 0 for v in t.values()), []
    for weight in (1.0, 0.8):
        n = sizes(t)[1]
        order = {s: [k for k, i in of if i == 0] for s, of in place(t, weight * least / n).items()}
        late, now = set(), period(needs, takes, repeated(order, set()))
        found.append(now)
        for i in range(moves):
            stream, then_late = rng.choice("cccn"), set(late)
            of = list(order[stream])
            k = of.pop(rng.randrange(len(of)))
            of.insert(rng.randrange(len(of) + 1), k)
            if rows and k[0] == "W" and rng.random() < 0.5:
                then_late ^= {k}
            then_order = {**order, stream: of}
            then = period(needs, takes, repeated(then_order, then_late))
            if then and (then <= now or rng.random() < math.exp((now - then) / (0.008 * least * (1 - i / moves) + 1e-9))):
                order, late, now = then_order, then_late, then
                found.append(now)
    return min(found)


def search(moves=6000):
    print("| layers | ratio | best alone | best in a row | by weights, in a row |\n|---|---|---|---|---|")
    shape, rng = SHAPES["as above"], random.Random(1)
    for layers in (1, 2, 4):
        for ratio in (0.8, 1.0):
            t = pair(shape, layers)
            compute, n = sizes(t)
            travels = compute * ratio / n
            of = (anneal(t, travels, moves, False, rng), anneal(t, travels, moves, True, rng),
                  period(row(t), durations(t, travels), place(t, compute / n)))
            print(f"| {layers} | {ratio} | " + " | ".join(f"{100 * (x / compute - 1):.1f}%" for x in of) + " |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("piper")
    p.add_argument("--before")
    p.add_argument("--kinds", nargs="+", default=["dualpipev", "dualpipe"])
    p.add_argument("--pp", nargs="+", type=int, default=[4, 8, 16])
    p.add_argument("--microbatches", nargs="+", type=int, default=[2, 4, 8], help="by stages")
    p.add_argument("--ratios", nargs="+", type=float, default=[0.2, 0.5, 0.8, 1.0, 1.5])
    p.add_argument("--weights", action="store_true")
    p.add_argument("--search", action="store_true")
    o = p.parse_args()
    o.piper, o.before = os.path.abspath(o.piper), o.before and os.path.abspath(o.before)
    weights() if o.weights else search() if o.search else grid(o)


if __name__ == "__main__":
    main()
