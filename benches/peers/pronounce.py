"""The PyTorch peer of firebox's `pronounce` example: the same words, network and recipe, in eager mode on the CPU.

Prints a line per epoch, then one JSON object with the result. `seconds` is the wall time from the start of training to
the end of the test, with the validation after each epoch, which decodes greedily as the test does; imports, reading the
dictionary and building the model are not in it.
"""

import argparse
import copy
import gzip
import json
import random
import re
import resource
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from common import positive

DATA_DIR = Path(__file__).resolve().parents[2] / "datasets" / "cmudict"
LETTERS = "abcdefghijklmnopqrstuvwxyz'-."
PADDING, BEGIN, END = 0, 1, 2
LONGEST = 40


def peak_rss_bytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# The CUDA build of PyTorch maps hundreds of MiB before any work is done: report that part on its own.
IMPORT_RSS_BYTES = peak_rss_bytes()


def read_words(folder):
    """All pronunciations of each spelling, without stress marks, as firebox's example has them."""
    words = {}
    with gzip.open(folder / "cmudict.dict.gz", "rt", encoding="utf-8") as file:
        for line in file:
            name, *phonemes = line.split(" #")[0].split()
            phonemes = tuple(phoneme.rstrip("012") for phoneme in phonemes)
            known = words.setdefault(re.sub(r"\(\d+\)$", "", name), [])
            if phonemes not in known:
                known.append(phonemes)
    return words


def part(spelling):
    """The part of the split, by the upper half of FNV-1a with 64 bits."""
    value = 0xCBF29CE484222325
    for byte in spelling.encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return {0: "test", 1: "valid"}.get((value >> 32) % 20, "train")


def encode(words, sounds, most):
    """(letters, phonemes between begin and end, all right pronunciations) for up to `most` pronunciations of each word."""
    samples = []
    for spelling, pronunciations in words:
        letters = [1 + LETTERS.index(letter) for letter in spelling]
        right = [[3 + sounds[phoneme] for phoneme in pronunciation] for pronunciation in pronunciations]
        samples += [(letters, [BEGIN, *phonemes, END], right) for phonemes in right[:most]]
    return samples


def batches(samples, size, shuffle):
    """Batches of words of similar length: windows of 100 batches are sorted, and the batches of the epoch shuffled."""
    order = list(range(len(samples)))
    if shuffle:
        random.shuffle(order)
    made = []
    for start in range(0, len(order), 100 * size):
        window = sorted(order[start:start + 100 * size], key=lambda i: (len(samples[i][0]), len(samples[i][1])))
        made += [window[first:first + size] for first in range(0, len(window), size)]
    random.shuffle(made)
    return made


def padded(sequences):
    return nn.utils.rnn.pad_sequence([torch.tensor(s) for s in sequences], batch_first=True, padding_value=PADDING)


class Seq2Seq(nn.Module):
    def __init__(self, tokens, embedding, hidden, dropout):
        super().__init__()
        self.letters = nn.Embedding(1 + len(LETTERS), embedding, padding_idx=PADDING)
        self.encoder = nn.LSTM(embedding, hidden // 2, batch_first=True, bidirectional=True)
        self.phonemes = nn.Embedding(tokens, embedding, padding_idx=PADDING)
        self.W = nn.Linear(hidden, hidden)
        self.V = nn.Linear(hidden, 1)
        self.cell = nn.LSTMCell(embedding + hidden, hidden)
        self.fc = nn.Linear(2 * hidden, tokens)
        self.dropout = nn.Dropout(dropout)

    def read(self, letters):
        lengths = (letters != PADDING).sum(1)
        packed = pack_padded_sequence(
            self.dropout(self.letters(letters)), lengths, batch_first=True, enforce_sorted=False
        )
        outputs, (h, c) = self.encoder(packed)
        outputs, _ = pad_packed_sequence(outputs, batch_first=True)
        # What is the same at all steps is computed once.
        return outputs, self.W(outputs), letters == PADDING, torch.cat([*h], 1), torch.cat([*c], 1)

    def step(self, vectors, outputs, mapped, padding, h, c):
        scores = self.V(torch.tanh(mapped + h.unsqueeze(1))).squeeze(2).masked_fill(padding, -torch.inf)
        context = torch.bmm(scores.softmax(1).unsqueeze(1), outputs).squeeze(1)
        h, c = self.cell(torch.cat([vectors, context], 1), (h, c))
        return context, h, c

    def forward(self, letters, phonemes):
        outputs, mapped, padding, h, c = self.read(letters)
        vectors = self.dropout(self.phonemes(phonemes[:, :-1]))
        made = []
        for step in range(vectors.shape[1]):
            context, h, c = self.step(vectors[:, step], outputs, mapped, padding, h, c)
            made.append(torch.cat([h, context], 1))
        return self.fc(self.dropout(torch.stack(made, 1)))

    def greedy(self, letters):
        outputs, mapped, padding, h, c = self.read(letters)
        token = torch.full((len(letters),), BEGIN)
        found, ended = [], torch.zeros(len(letters), dtype=torch.bool)
        for _ in range(LONGEST):
            context, h, c = self.step(self.phonemes(token), outputs, mapped, padding, h, c)
            token = self.fc(torch.cat([h, context], 1)).argmax(1)
            found.append(token)
            ended |= token == END
            if ended.all():
                break
        rows = torch.stack(found, 1).tolist()
        return [row[:row.index(END)] if END in row else row for row in rows]


def edit_distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(diagonal + (x != y), row[j] + 1, row[j - 1] + 1)
    return row[-1]


def train_epoch(model, samples, args, optimizer, scheduler):
    model.train()
    total_loss, tokens = 0.0, 0
    for batch in batches(samples, args.batch_size, True):
        letters, phonemes = padded([samples[i][0] for i in batch]), padded([samples[i][1] for i in batch])
        logits, targets = model(letters, phonemes), phonemes[:, 1:]
        loss = F.cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=PADDING, label_smoothing=args.label_smoothing
        )
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip_norm)
        optimizer.step()
        scheduler.step()
        count = (targets != PADDING).sum().item()
        total_loss += loss.item() * count
        tokens += count
    return total_loss / tokens


@torch.inference_mode()
def evaluate(model, samples):
    """Cross-entropy, phoneme error rate by the nearest pronunciation, and word error rate."""
    model.eval()
    total_loss, tokens, edits, phonemes_right, wrong = 0.0, 0, 0, 0, 0
    for batch in batches(samples, 256, False):
        letters, phonemes = padded([samples[i][0] for i in batch]), padded([samples[i][1] for i in batch])
        targets = phonemes[:, 1:].flatten()
        total_loss += F.cross_entropy(
            model(letters, phonemes).flatten(0, 1), targets, ignore_index=PADDING, reduction="sum"
        ).item()
        tokens += (targets != PADDING).sum().item()
        for i, found in zip(batch, model.greedy(letters)):
            distance, length = min(
                ((edit_distance(right, found), len(right)) for right in samples[i][2]), key=lambda pair: pair[0]
            )
            edits, phonemes_right, wrong = edits + distance, phonemes_right + length, wrong + (distance > 0)
    return total_loss / tokens, edits / phonemes_right, wrong / len(samples)


def parse_args():
    parser = argparse.ArgumentParser(description="Learns pronunciations from CMUdict with PyTorch on the CPU.")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="folder of cmudict.dict.gz")
    parser.add_argument("--epochs", type=positive, default=4)
    parser.add_argument("--batch-size", type=positive, default=128)
    parser.add_argument("--lr", type=float, default=3e-3, help="peak of the one-cycle schedule")
    parser.add_argument("--embedding", type=positive, default=128)
    parser.add_argument("--hidden", type=positive, default=256)
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--clip-norm", type=float, default=2.0)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=positive, help="default: PyTorch's own choice, every core")
    parser.add_argument("--limit-train", type=positive, help="train on this many words")
    parser.add_argument("--limit-test", type=positive, help="validate and test on at most this many words each")
    return parser.parse_args()


def main():
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    random.seed(args.seed)

    try:
        words = read_words(args.data_dir)
    except (OSError, EOFError) as error:
        sys.exit(f"pronounce.py: cannot read the dictionary: {error}")
    sounds = sorted({phoneme for known in words.values() for pronunciation in known for phoneme in pronunciation})
    sounds = {phoneme: number for number, phoneme in enumerate(sounds)}
    split = {name: [] for name in ("train", "valid", "test")}
    for word in words.items():
        split[part(word[0])].append(word)
    train = encode(split["train"][:args.limit_train], sounds, None)
    valid, test = (encode(split[name][:args.limit_test], sounds, 1) for name in ("valid", "test"))

    model = Seq2Seq(3 + len(sounds), args.embedding, args.hidden, args.dropout)
    optimizer = torch.optim.Adam(model.parameters())  # the schedule sets the learning rate
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=args.lr,
        total_steps=args.epochs * len(batches(train, args.batch_size, False)),
        pct_start=0.3,
        anneal_strategy="cos",
        div_factor=25,
        final_div_factor=1e4,
        cycle_momentum=False,
    )

    best_per, best_state = float("inf"), None
    train_seconds = 0.0
    start = time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        epoch_start = time.perf_counter()
        train_loss = train_epoch(model, train, args, optimizer, scheduler)
        epoch_seconds = time.perf_counter() - epoch_start
        train_seconds += epoch_seconds
        valid_loss, per, wer = evaluate(model, valid)
        if per < best_per:
            best_per, best_state = per, copy.deepcopy(model.state_dict())
        print(
            f"epoch {epoch}/{args.epochs}: train loss {train_loss:.4f}, valid loss {valid_loss:.4f}, "
            f"PER {per:.4f}, WER {wer:.4f}, {len(train) / epoch_seconds:.0f} samples/s",
            flush=True,
        )
    model.load_state_dict(best_state)
    test_loss, test_per, test_wer = evaluate(model, test)
    seconds = time.perf_counter() - start

    print(json.dumps({
        "framework": "pytorch",
        "version": torch.__version__,
        "test_per": test_per,
        "test_wer": test_wer,
        "test_loss": test_loss,
        "epochs": args.epochs,
        "seconds": round(seconds, 3),
        "samples_per_s": round(args.epochs * len(train) / train_seconds, 1),
        "threads": torch.get_num_threads(),
        "peak_rss_bytes": peak_rss_bytes(),
        "import_rss_bytes": IMPORT_RSS_BYTES,
        "seed": args.seed,
    }))


if __name__ == "__main__":
    main()
