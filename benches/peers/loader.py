"""The peers of `benches/loader.rs`: PyTorch's DataLoader and Python's pools. Prints one JSON object."""

import gzip
import json
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pool
from pathlib import Path

import torch
from torch.utils.data import DataLoader, Dataset

DATA = Path(__file__).resolve().parents[2] / "datasets" / "fashion-mnist"
TASKS = 1_000_000


class FashionMnist(Dataset):
    def __init__(self):
        images = gzip.open(DATA / "train-images-idx3-ubyte.gz").read()[16:]
        labels = gzip.open(DATA / "train-labels-idx1-ubyte.gz").read()[8:]
        self.images = torch.frombuffer(bytearray(images), dtype=torch.uint8).reshape(-1, 1, 28, 28)
        self.labels = torch.frombuffer(bytearray(labels), dtype=torch.uint8).long()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return (self.images[index].float() / 255 - 0.2860) / 0.3530, self.labels[index]


def seconds(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def add_one(x):
    return x + 1


def main():
    torch.set_num_threads(1)
    data = FashionMnist()
    result = {}
    for workers in (0, 2):
        loader = DataLoader(data, batch_size=64, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        times = [seconds(lambda: sum(1 for _ in loader)) for _ in range(3)]
        result[f"samples/s with {workers} workers"] = len(data) / statistics.median(times)
    with Pool(2) as pool:
        pool.map(add_one, range(100))
        # The chunk size that each picks by itself would be one for the executor: give both a good one.
        result["multiprocessing_pool_s"] = statistics.median(
            seconds(lambda: pool.map(add_one, range(TASKS), chunksize=1000)) for _ in range(3)
        )
    with ProcessPoolExecutor(2) as executor:
        list(executor.map(add_one, range(100)))
        result["concurrent_futures_s"] = statistics.median(
            seconds(lambda: list(executor.map(add_one, range(TASKS), chunksize=1000))) for _ in range(3)
        )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
