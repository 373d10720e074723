"""Python's pools of processes, each at its best: the peers of `Pool::processes`.

    ../.venv/bin/python measure.py                  every work, every peer; one JSON object
    ../.venv/bin/python measure.py squares bytes    some works
    ../.venv/bin/python measure.py --best best.json keep the variants' figures in a file, and add to those that it has
    ../.venv/bin/python measure.py --serve          answers lines such as `squares joblib` with one line of JSON each

The works, with two processes:

squares     a million small tasks, x → x²
bytes       a thousand tasks of 1 MB: bytes there, the same bytes back
arrays      the same with NumPy's arrays
batches     batches of 64 samples of 3×224×224 f32 that cost nothing to make, by PyTorch's DataLoader; seconds of one
round-trip  one small task after the other; seconds of one
start-1     a pool of one process made, and its first task answered; start-4 with 4 processes
memory      what a worker takes for itself alone, in bytes
idle        ticks of the processor that the pool takes in 5 s without a task, parent included

Each peer is tried with every variant that it has here (calls, start methods, sizes of chunks), and the best one
counts. A variant is measured on a pool that has run it once before. `--serve` takes the best of best.json beside this
file where that knows the work and the peer, and else tries all variants when it is first asked.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import cache
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import work  # noqa: E402

PROCESSES = 2
TASKS = 1_000_000
LARGE_TASKS, LARGE_BYTES = 1000, 1_000_000
# As many different payloads, more than a chunk has: pickle would send equal ones of a chunk once.
PAYLOADS = 64
ROUND_TRIPS = 2000
METHODS = ("fork", "spawn")
BEST = Path(__file__).resolve().parent / "best.json"
CHUNKS = {"squares": (1000, 5000, 20_000, 125_000), "bytes": (1, 4, 16), "arrays": (1, 4, 16)}


@contextmanager
def multiprocessing_pool(method, processes=PROCESSES):
    with get_context(method).Pool(processes) as pool:
        yield pool


@contextmanager
def executor(method, processes=PROCESSES):
    with ProcessPoolExecutor(processes, mp_context=get_context(method)) as pool:
        yield pool


@contextmanager
def joblib_pool(backend, batch="auto", processes=PROCESSES, **options):
    from joblib import Parallel
    from joblib.externals.loky import get_reusable_executor, set_loky_pickler

    set_loky_pickler("pickle" if backend == "loky+pickle" else None)
    with Parallel(processes, backend=backend.removesuffix("+pickle"), batch_size=batch, **options) as pool:
        yield pool
    if backend.startswith("loky"):
        get_reusable_executor().shutdown()  # the next variant has workers of its own


@cache
def payloads():
    return [os.urandom(LARGE_BYTES) for _ in range(PAYLOADS)]


@cache
def arrays():
    import numpy

    return [numpy.frombuffer(payload, dtype=numpy.uint8) for payload in payloads()]


def tasks_of(name):
    """The function of a work and its tasks."""
    if name == "squares":
        return work.square, range(TASKS)
    payload = payloads() if name == "bytes" else arrays()
    return work.echo, list(itertools.islice(itertools.cycle(payload), LARGE_TASKS))


def consume(name, results):
    """Takes the results: numbers are kept, as `map` keeps them; large ones are looked at and dropped."""
    if name == "squares":
        results = results if isinstance(results, list) else list(results)
        return len(results), max(results)
    size = 0
    for count, result in enumerate(results, 1):
        size += len(result)
    return count, size


def expected(name):
    return (TASKS, (TASKS - 1) ** 2) if name == "squares" else (LARGE_TASKS, LARGE_TASKS * LARGE_BYTES)


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def repeat(call, rounds):
    """The seconds of each round, after one that isn't counted."""
    call()
    return [seconds(call) for _ in range(rounds)]


def measured(name, call, rounds):
    def checked():
        got = consume(name, call())
        assert got == expected(name), f"{name}: expected {expected(name)}, got {got}"

    return repeat(checked, rounds)


def of_tasks(name, peer):
    """The variants of a peer: a label, and what gives the seconds of some rounds."""
    function, tasks = tasks_of(name)

    def multiprocessing(method, kind, chunk):
        def run(rounds):
            with multiprocessing_pool(method) as pool:
                call = getattr(pool, kind)
                return measured(name, lambda: call(function, tasks, chunk), rounds)

        return f"{kind}, {method}, chunks of {chunk}", run

    def futures(method, chunk):
        def run(rounds):
            with executor(method) as pool:
                return measured(name, lambda: pool.map(function, tasks, chunksize=chunk), rounds)

        return f"map, {method}, chunks of {chunk}", run

    def joblib(backend, batch, dispatch, nbytes):
        from joblib import delayed

        def run(rounds):
            task = delayed(function)
            options = {"pre_dispatch": dispatch, "max_nbytes": nbytes}
            if name != "squares" and backend != "multiprocessing":
                options["return_as"] = "generator"  # results needn't all be kept
            with joblib_pool(backend, batch, **options) as pool:
                return measured(name, lambda: pool(task(x) for x in tasks), rounds)

        mapped = f", memory maps from {nbytes}" if nbytes else ""
        return f"{backend}, batches of {batch}, pre_dispatch {dispatch}{mapped}", run

    chunks = CHUNKS[name]
    if peer == "multiprocessing":
        kinds = ("map", "imap", "imap_unordered")
        return [multiprocessing(*variant) for variant in itertools.product(METHODS, kinds, chunks)]
    if peer == "concurrent.futures":
        return [futures(*variant) for variant in itertools.product(METHODS, chunks)]
    if name == "squares":
        settings = itertools.product(("loky", "loky+pickle", "multiprocessing"), ("auto", 5000, 20_000),
                                     ("2*n_jobs", "all"), (None,))
    else:
        limits = (None, "100K") if name == "arrays" else (None,)
        settings = itertools.product(("loky", "loky+pickle", "multiprocessing"), (1, 4), ("2*n_jobs",), limits)
    return [joblib(*setting) for setting in settings]


def batches(_, peer):
    """PyTorch's DataLoader; its default collation writes a batch into shared memory in the worker."""
    import torch
    from torch.utils.data import DataLoader

    torch.set_num_threads(1)
    data, batch = work.Free(), 64

    def variant(method, prefetch, strategy):
        def run(rounds):
            torch.multiprocessing.set_sharing_strategy(strategy)
            loader = DataLoader(data, batch, num_workers=PROCESSES, prefetch_factor=prefetch,
                                multiprocessing_context=method, persistent_workers=True)

            def epoch():
                count = 0
                for samples in loader:
                    count += len(samples)
                assert count == work.SAMPLES, f"batches: expected {work.SAMPLES} samples, got {count}"

            return [taken / (work.SAMPLES // batch) for taken in repeat(epoch, rounds)]

        return f"{method}, prefetch_factor {prefetch}, {strategy}", run

    return [variant(*settings) for settings in itertools.product(
        METHODS, (2, 4, 8), ("file_descriptor", "file_system"))]


def round_trip(_, peer):
    def variant(method):
        def run(rounds):
            with (multiprocessing_pool if peer == "multiprocessing" else executor)(method) as pool:
                def ask():
                    return pool.apply(work.square, (3,)) if peer == "multiprocessing" else (
                        pool.submit(work.square, 3).result())

                return [taken / ROUND_TRIPS for taken in repeat(lambda: [ask() for _ in range(ROUND_TRIPS)], rounds)]

        return method, run

    return [variant(method) for method in METHODS]


def ways(peer):
    return ("loky",) if peer == "joblib" else METHODS


def opened(peer, how, processes):
    """A pool, and what has each of its processes answer one task."""
    numbers = range(processes)
    if peer == "multiprocessing":
        return multiprocessing_pool(how, processes), lambda pool: pool.map(work.square, numbers, 1)
    if peer == "concurrent.futures":
        return executor(how, processes), lambda pool: list(pool.map(work.square, numbers))
    from joblib import delayed

    return joblib_pool(how, 1, processes), lambda pool: pool(delayed(work.square)(x) for x in numbers)


def start(name, peer):
    processes = int(name.removeprefix("start-"))

    def variant(how):
        def once():
            pool, ask = opened(peer, how, processes)
            begun = time.perf_counter()
            with pool as pool:
                ask(pool)
                return time.perf_counter() - begun

        def run(rounds):
            return [once() for _ in range(rounds + 1)][1:]

        return how, run

    return [variant(how) for how in ways(peer)]


def children():
    """The processes that this one has started: numbers and ticks."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue  # it has ended
        if int(fields[1]) == os.getpid():
            found[int(stat.parent.name)] = int(fields[11]) + int(fields[12])
    return found


def unshared(process):
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in rollup if line.startswith("Private_"))


def memory(_, peer):
    def variant(how):
        def run(rounds):
            pool, ask = opened(peer, how, PROCESSES)
            with pool as pool:
                ask(pool)
                # The smallest may be a resource tracker, no worker.
                taken = sorted(map(unshared, children()), reverse=True)[:PROCESSES]
                return [statistics.fmean(taken)] * rounds

        return how, run

    return [variant(how) for how in ways(peer)]


def idle(_, peer):
    def ticks():
        own = os.times()
        return sum(children().values()) + round(os.sysconf("SC_CLK_TCK") * (own.user + own.system))

    def variant(how):
        def run(rounds):
            pool, ask = opened(peer, how, PROCESSES)
            with pool as pool:
                ask(pool)
                time.sleep(0.5)
                before = ticks()
                time.sleep(5)
                return [ticks() - before] * rounds

        return how, run

    return [variant(how) for how in ways(peer)]


POOLS = ("multiprocessing", "concurrent.futures", "joblib")
WORKS = {
    "squares": (of_tasks, POOLS),
    "bytes": (of_tasks, POOLS),
    "arrays": (of_tasks, POOLS),
    "batches": (batches, ("DataLoader",)),
    "round-trip": (round_trip, POOLS[:2]),
    "start-1": (start, POOLS[:2]),  # joblib would compute in the caller
    "start-4": (start, POOLS),
    "memory": (memory, POOLS),
    "idle": (idle, POOLS),
}


def measure(name, peer, rounds, only):
    """The variants of a peer on a work: medians of the rounds."""
    figures = {}
    for label, run in WORKS[name][0](name, peer):
        if only in label:
            times = run(rounds)
            figures[label] = {"median": statistics.median(times), "least": min(times), "most": max(times)}
            print(f"{name}, {peer}, {label}: {figures[label]['median']:.6g}", file=sys.stderr, flush=True)
    return figures


def best(figures):
    return min(figures, key=lambda label: figures[label]["median"])


def read(file):
    return json.loads(file.read_text()) if file.exists() else {}


def serve():
    """Answers `WORK PEER` with one round of the peer's best variant."""
    known, chosen = read(BEST), {}
    for line in sys.stdin:
        name, peer = line.split()
        if (name, peer) not in chosen:
            variants = dict(WORKS[name][0](name, peer))
            figures = known.get(name, {}).get(peer)
            label = best(figures) if figures else min(variants, key=lambda label: variants[label](1)[0])
            chosen[name, peer] = label, variants[label]
        label, run = chosen[name, peer]
        print(json.dumps({"seconds": run(1)[0], "variant": label}), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"some of {', '.join(WORKS)}; default all")
    parser.add_argument("--peer", help="one peer; default all that a work has")
    parser.add_argument("--variant", default="", metavar="WORDS", help="only variants with these words in their label")
    parser.add_argument("--rounds", type=int, default=5, help="default 5")
    parser.add_argument("--best", type=Path, metavar="FILE", help="keep the figures in FILE as well")
    parser.add_argument("--serve", action="store_true", help="answer lines of a work and a peer")
    args = parser.parse_args()
    unknown = [name for name in args.works if name not in WORKS]
    if unknown:
        parser.error(f"no work {', '.join(unknown)}: expected some of {', '.join(WORKS)}")
    if args.serve:
        return serve()
    result = {}
    for name in args.works or WORKS:
        for peer in WORKS[name][1]:
            if args.peer in (None, peer) and (figures := measure(name, peer, args.rounds, args.variant)):
                result.setdefault(name, {})[peer] = {"best": best(figures), "variants": figures}
                if args.best:
                    kept = read(args.best)
                    kept.setdefault(name, {}).setdefault(peer, {}).update(figures)
                    args.best.write_text(json.dumps(kept, indent=1) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
