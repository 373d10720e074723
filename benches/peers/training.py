"""The PyTorch peer of firebox's `training` example: the same CNN, data and recipe, in eager mode on the CPU.

Prints a line per epoch, then one JSON object with the result. `seconds` is the wall time from the start
of training to the end of the test, with the validation after each epoch; imports, reading the files and
building the model are not in it.
"""

import argparse
import copy
import gzip
import json
import math
import resource
import struct
import sys
import time
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Dataset

MEAN, STD = 0.2860, 0.3530
VALIDATION_IMAGES = 5_000
DATA_DIR = Path(__file__).resolve().parents[2] / "datasets" / "fashion-mnist"


def peak_rss_bytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# The CUDA build of PyTorch maps hundreds of MiB before any work is done: report that part on its own.
IMPORT_RSS_BYTES = peak_rss_bytes()


class ConvBlock(nn.Sequential):
    def __init__(self, in_channels, out_channels):
        super().__init__(
            nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class Cnn(nn.Sequential):
    def __init__(self, classes=10, channels=1):
        super().__init__(
            ConvBlock(channels, 32),
            nn.MaxPool2d(2, 2),
            ConvBlock(32, 64),
            nn.MaxPool2d(2, 2),
            nn.Flatten(),
            nn.Linear(64 * 7 * 7, 128),
            nn.ReLU(inplace=True),
            nn.Linear(128, classes),
        )


def read_idx(path, dims):
    """A gzipped IDX file of unsigned bytes as a tensor of `dims` dimensions."""
    try:
        with gzip.open(path) as file:
            data = bytearray(file.read())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: {error}") from error
    header = 4 + 4 * dims
    if len(data) < header or data[:4] != bytes([0, 0, 8, dims]):
        raise ValueError(f"{path}: not an IDX file of unsigned bytes with {dims} dimensions")
    shape = struct.unpack_from(f">{dims}I", data, 4)
    if len(data) - header != math.prod(shape):
        raise ValueError(f"{path}: shape {shape} wants {math.prod(shape)} bytes, got {len(data) - header}")
    return torch.frombuffer(data, dtype=torch.uint8, offset=header).reshape(shape)


def read_split(folder, name):
    """Images as uint8 [N, 1, 28, 28] and labels as int64 [N]."""
    images = read_idx(folder / f"{name}-images-idx3-ubyte.gz", 3)
    labels = read_idx(folder / f"{name}-labels-idx1-ubyte.gz", 1)
    if len(images) != len(labels):
        raise ValueError(f"{folder}: {name} has {len(images)} images and {len(labels)} labels")
    if images.shape[1:] != (28, 28):
        raise ValueError(f"{folder}: {name} images are {tuple(images.shape[1:])}, expected (28, 28)")
    return images.unsqueeze(1), labels.long()


def normalise(images):
    return images.float().div_(255).sub_(MEAN).div_(STD)


class TensorLoader:
    """Batches by indexing whole tensors: no call per sample and no collation, unlike DataLoader."""

    def __init__(self, images, labels, batch_size, generator=None):
        self.images, self.labels = images, labels
        self.batch_size = batch_size
        self.generator = generator  # shuffles if given

    def __len__(self):
        return math.ceil(len(self.images) / self.batch_size)

    def __iter__(self):
        if self.generator is None:
            batches = zip(self.images.split(self.batch_size), self.labels.split(self.batch_size))
        else:
            order = torch.randperm(len(self.images), generator=self.generator)
            batches = ((self.images[i], self.labels[i]) for i in order.split(self.batch_size))
        for images, labels in batches:
            yield normalise(images), labels


class FashionMnist(Dataset):
    """One normalised sample at a time, for DataLoader."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return normalise(self.images[index]), self.labels[index]


def make_loader(kind, images, labels, batch_size, generator=None):
    if kind == "tensor":
        return TensorLoader(images, labels, batch_size, generator)
    # No worker processes: for images in memory they cost more than they bring.
    return DataLoader(
        FashionMnist(images, labels), batch_size, shuffle=generator is not None, generator=generator
    )


def train_epoch(model, loader, optimizer, scheduler, memory_format):
    model.train()
    total_loss, samples = 0.0, 0
    for images, labels in loader:
        loss = F.cross_entropy(model(images.contiguous(memory_format=memory_format)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        total_loss += loss.item() * len(labels)
        samples += len(labels)
    return total_loss / samples, samples


@torch.inference_mode()
def evaluate(model, loader, memory_format):
    model.eval()
    total_loss, correct, samples = 0.0, 0, 0
    for images, labels in loader:
        logits = model(images.contiguous(memory_format=memory_format))
        total_loss += F.cross_entropy(logits, labels, reduction="sum").item()
        correct += (logits.argmax(dim=1) == labels).sum().item()
        samples += len(labels)
    return total_loss / samples, correct / samples


def positive(text):
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def parse_args():
    parser = argparse.ArgumentParser(description="Trains a CNN on Fashion-MNIST with PyTorch on the CPU.")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="folder of the four IDX .gz files")
    parser.add_argument("--epochs", type=positive, default=3)
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--lr", type=float, default=3e-3, help="peak of the one-cycle schedule")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=positive, help="default: PyTorch's own choice, every core")
    parser.add_argument("--limit-train", type=positive, help="train on this many of the 55,000 images")
    parser.add_argument("--limit-test", type=positive, help="validate and test on at most this many images each")
    parser.add_argument("--loader", choices=["tensor", "dataloader"], default="tensor",
                        help="index tensors directly (faster), or a DataLoader over samples")
    parser.add_argument("--channels-last", action="store_true", help="NHWC memory format")
    return parser.parse_args()


def main():
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)

    try:
        images, labels = read_split(args.data_dir, "train")
        test_images, test_labels = read_split(args.data_dir, "t10k")
    except (OSError, ValueError) as error:
        sys.exit(f"training.py: cannot read the data set: {error}")
    if len(images) <= VALIDATION_IMAGES:
        sys.exit(f"training.py: {len(images)} training images leave none beside {VALIDATION_IMAGES} for validation")

    generator = torch.Generator().manual_seed(args.seed)
    order = torch.randperm(len(images), generator=generator)
    valid, train = order[:VALIDATION_IMAGES][: args.limit_test], order[VALIDATION_IMAGES:][: args.limit_train]
    train_loader = make_loader(args.loader, images[train], labels[train], args.batch_size, generator)
    valid_loader = make_loader(args.loader, images[valid], labels[valid], args.batch_size)
    test_loader = make_loader(
        args.loader, test_images[: args.limit_test], test_labels[: args.limit_test], args.batch_size
    )

    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    model = Cnn().to(memory_format=memory_format)
    optimizer = torch.optim.Adam(model.parameters())  # the schedule sets the learning rate
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=args.lr,
        total_steps=args.epochs * len(train_loader),
        pct_start=0.3,
        anneal_strategy="cos",
        div_factor=25,
        final_div_factor=1e4,
        cycle_momentum=False,
    )

    best_accuracy, best_state = -1.0, None
    train_seconds, train_samples = 0.0, 0
    start = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        epoch_start = time.perf_counter()
        train_loss, samples = train_epoch(model, train_loader, optimizer, scheduler, memory_format)
        epoch_seconds = time.perf_counter() - epoch_start
        train_seconds += epoch_seconds
        train_samples += samples
        valid_loss, valid_accuracy = evaluate(model, valid_loader, memory_format)
        if valid_accuracy > best_accuracy:
            best_accuracy, best_state = valid_accuracy, copy.deepcopy(model.state_dict())
        print(
            f"epoch {epoch}/{args.epochs}: train loss {train_loss:.4f}, valid loss {valid_loss:.4f}, "
            f"valid accuracy {valid_accuracy:.4f}, {samples / epoch_seconds:.0f} samples/s",
            flush=True,
        )
    model.load_state_dict(best_state)
    test_loss, test_accuracy = evaluate(model, test_loader, memory_format)
    seconds = time.perf_counter() - start

    print(json.dumps({
        "framework": "pytorch",
        "version": torch.__version__,
        "test_accuracy": test_accuracy,
        "test_loss": test_loss,
        "epochs": args.epochs,
        "seconds": round(seconds, 3),
        "samples_per_s": round(train_samples / train_seconds, 1),
        "threads": torch.get_num_threads(),
        "peak_rss_bytes": peak_rss_bytes(),
        "import_rss_bytes": IMPORT_RSS_BYTES,
        "loader": args.loader,
        "channels_last": args.channels_last,
        "seed": args.seed,
    }))


if __name__ == "__main__":
    main()
