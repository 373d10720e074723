"""The PyTorch peer of `benches/step.rs`: the same steps in eager mode on the CPU, for `benches/peers/step`.

Reads lines of a step, a batch size, a number of steps and a variant, such as `cnn 64 20 channels-last+fused`, and
answers each with one line of JSON. `plain` is the variant without any of:

channels-last   images and weights of convolutions in NHWC
fused           Adam in one pass, `fused=True`, which is not PyTorch's default
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

from common import ROOT, positive
from training import Cnn

# As in benches/step.rs, which says what they are.
LR, SIDE, CLASSES = 1e-3, 28, 10
TIME, FEATURES, HIDDEN = 64, 128, 256
LATENT, PIXELS = 100, 784
WARM_UP = 3
VARIANTS = {"channels-last", "fused"}


def reference():
    """The models that firebox's are tested against."""
    path = ROOT / "tests" / "fixtures" / "reference.py"
    spec = importlib.util.spec_from_file_location("reference", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def adam(model, variant, lr=LR, betas=(0.9, 0.999)):
    # Not `fused=False`: that would also refuse what PyTorch picks by default.
    return torch.optim.Adam(model.parameters(), lr, betas, **({"fused": True} if "fused" in variant else {}))


def layout(variant):
    return torch.channels_last if "channels-last" in variant else torch.contiguous_format


def learn(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def cnn(batch, variant):
    model = Cnn(CLASSES, 3).to(memory_format=layout(variant))
    optimizer = adam(model, variant)
    images = torch.randn(batch, 3, SIDE, SIDE).contiguous(memory_format=layout(variant))
    classes = torch.arange(batch) % CLASSES
    return lambda: [learn(optimizer, F.cross_entropy(model(images), classes))]


def cnn_eval(batch, variant):
    model = Cnn(CLASSES, 3).to(memory_format=layout(variant)).eval()
    images = torch.randn(batch, 3, SIDE, SIDE).contiguous(memory_format=layout(variant))

    @torch.inference_mode()
    def step():
        return [model(images)]

    return step


def recurrent(kind):
    def prepare(batch, variant):
        model = kind(FEATURES, HIDDEN, batch_first=True)
        optimizer = adam(model, variant)
        sequences = torch.randn(batch, TIME, FEATURES)
        return lambda: [learn(optimizer, model(sequences)[0].square().mean())]

    return prepare


def gan(batch, variant):
    generator = nn.Sequential(
        nn.Linear(LATENT, 256), nn.ReLU(inplace=True), nn.Linear(256, 512), nn.ReLU(inplace=True),
        nn.Linear(512, PIXELS), nn.Tanh(),
    )
    discriminator = nn.Sequential(
        nn.Linear(PIXELS, 512), nn.LeakyReLU(0.2, inplace=True), nn.Linear(512, 256), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(256, 1),
    )
    generates, judges = (adam(model, variant, 2e-4, (0.5, 0.999)) for model in (generator, discriminator))
    real, noise = torch.randn(batch, PIXELS).tanh(), torch.randn(batch, LATENT)
    ones, zeros = torch.ones(batch, 1), torch.zeros(batch, 1)
    binary = F.binary_cross_entropy_with_logits

    def step():
        fake = generator(noise)
        first = learn(judges, binary(discriminator(real), ones) + binary(discriminator(fake.detach()), zeros))
        return [first, learn(generates, binary(discriminator(fake), ones))]

    return step


def attention(batch, variant):
    model = reference().AttentionBlock(HIDDEN)
    optimizer = adam(model, variant)
    outputs, state = torch.randn(batch, TIME, HIDDEN), torch.randn(batch, 1, HIDDEN)

    def step():
        # In a model they come from an encoder and a decoder, which learn by these gradients.
        context, _ = model(outputs.detach().requires_grad_(), state.detach().requires_grad_())
        return [learn(optimizer, context.square().mean())]

    return step


def gemm(size, _):
    left, right, product = torch.randn(size, size), torch.randn(size, size), torch.empty(size, size)
    return lambda: [torch.mm(left, right, out=product)[:1, :1]]


STEPS = {
    "cnn": cnn,
    "lstm": recurrent(nn.LSTM),
    "rnn": recurrent(nn.RNN),
    "gan": gan,
    "attention": attention,
    "cnn-eval": cnn_eval,
    "gemm": gemm,
}


def read(values):
    return [value.mean().item() for value in values]


class Prepared:
    """A step that has been warmed up."""

    def __init__(self, name, batch, variant):
        torch.manual_seed(1)
        self.step = STEPS[name](batch, variant)
        self.first = read(self.step())
        for _ in range(WARM_UP - 1):
            self.step()

    def run(self, steps):
        times = []
        for _ in range(steps):
            begun = time.perf_counter()
            last = self.step()
            times.append(time.perf_counter() - begun)
        return {
            "median": statistics.median(times),
            "mean": statistics.fmean(times),
            "first": self.first,
            "last": read(last),
            "threads": torch.get_num_threads(),
        }


def parse(line):
    words = line.split()
    if len(words) != 4:
        raise ValueError(f"expected a step, a batch size, a number of steps and a variant, got {line!r}")
    name, batch, steps, variant = words
    if name not in STEPS:
        raise ValueError(f"no step {name!r}")
    variant = set(variant.split("+")) - {"plain"}
    if variant - VARIANTS:
        raise ValueError(f"no variant {', '.join(sorted(variant - VARIANTS))}")
    try:
        return name, positive(batch), positive(steps), frozenset(variant)
    except ValueError:
        raise ValueError(f"expected numbers of at least 1 in {line!r}") from None


def main():
    parser = argparse.ArgumentParser(description="Answers lines such as `cnn 64 20 plain` with the seconds of a step.")
    parser.add_argument("--threads", type=positive, help="default: PyTorch's own choice, every core")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    prepared = {}
    for line in sys.stdin:
        try:
            name, batch, steps, variant = parse(line.strip())
        except ValueError as error:
            print(json.dumps({"error": str(error)}), flush=True)
            continue
        # The variants of one step are asked for in turn; another step takes their place.
        prepared = {key: value for key, value in prepared.items() if key[:2] == (name, batch)}
        key = (name, batch, variant)
        if key not in prepared:
            prepared[key] = Prepared(*key)
        print(json.dumps(prepared[key].run(steps)), flush=True)


if __name__ == "__main__":
    main()
