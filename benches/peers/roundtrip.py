"""Loads models that firebox has saved into their PyTorch twins, strictly, compares what both compute, and saves the
twins for firebox to load: NAME.pt.

Run:  python roundtrip.py FOLDER     (`cargo test --test roundtrip` makes the folder and runs this)

For each model there are NAME.safetensors, its weights, and NAME.io.safetensors with `in.*` and `out.*`.
"""
import importlib.util, pathlib, sys
import torch
import torch.nn as nn
from safetensors.torch import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


r = module(ROOT / "tests/fixtures/reference.py")


class ConvBlock(nn.Module):
    def __init__(s, i, o, k, stride=1, padding=0):
        super().__init__()
        s.conv, s.bn = nn.Conv2d(i, o, k, stride=stride, padding=padding), nn.BatchNorm2d(o)

    def forward(s, x):
        return torch.relu(s.bn(s.conv(x)))


class Cnn(nn.Module):
    def __init__(s, classes, channels):
        super().__init__()
        s.conv1, s.conv2 = ConvBlock(channels, 32, 3, 1, 1), ConvBlock(32, 64, 3, 1, 1)
        s.fc1, s.fc2 = r.LinearBlock(64 * 7 * 7, 128), nn.Linear(128, classes)

    def forward(s, x):
        x = torch.max_pool2d(s.conv2(torch.max_pool2d(s.conv1(x), 2)), 2)
        return s.fc2(s.fc1(x.flatten(1)))


class Mlp(nn.Module):
    def __init__(s, sizes, between, last):
        super().__init__()
        layers = []
        for i, o in zip(sizes, sizes[1:]):
            layers += [nn.Linear(i, o), between()]
        s.main = nn.Sequential(*layers[:-1], last())

    def forward(s, x):
        return s.main(x)


MODELS = {
    "cnn": (lambda: Cnn(10, 1), lambda m, t: m(t["x"])),
    "rnn": (lambda: r.Recurrent("RNN", 5, 7, 2, True), lambda m, t: m(t["x"], t["lengths"])[0]),
    "lstm": (lambda: r.Recurrent("LSTM", 5, 7, 2, True), lambda m, t: m(t["x"], t["lengths"])[0]),
    "gru": (lambda: r.Recurrent("GRU", 5, 7, 2, True), lambda m, t: m(t["x"], t["lengths"])[0]),
    "attention": (lambda: r.AttentionBlock(8), lambda m, t: m(t["encoder"], t["decoder"])[0]),
    "multi_head": (lambda: nn.MultiheadAttention(12, 3, batch_first=True), lambda m, t: m(t["x"], t["x"], t["x"])[0]),
    "seq2seq": (lambda: r.Seq2Seq(11, 9, 5, 8, 2), lambda m, t: m(t["tokens"], t["lengths"], t["target"])),
    "language_model": (lambda: r.LanguageModel(11, 5, 6, "GRU", 2), lambda m, t: m(t["tokens"])[0]),
    "classifier": (lambda: r.SequenceClassifier(3, 11, 5, 6), lambda m, t: m(t["tokens"], t["lengths"])),
    "generator": (lambda: Mlp([16, 256, 512, 36], nn.ReLU, nn.Tanh), lambda m, t: m(t["z"])),
    "discriminator": (lambda: Mlp([36, 512, 256, 1], lambda: nn.LeakyReLU(0.2), nn.Sigmoid), lambda m, t: m(t["x"])),
    "dcgan_generator": (lambda: r.DcganGenerator(5, 2, 8, 4), lambda m, t: m(t["z"])),
    "dcgan_discriminator": (lambda: r.DcganDiscriminator(2, 8, 4), lambda m, t: m(t["x"])),
}


def main(folder):
    found = {p.name.removesuffix(".io.safetensors") for p in folder.glob("*.io.safetensors")}
    assert found == set(MODELS), f"expected {sorted(MODELS)}, got {sorted(found)}"
    for name, (make, run) in MODELS.items():
        model = make()
        model.load_state_dict(load_file(folder / f"{name}.safetensors"), strict=True)
        torch.save(model.state_dict(), folder / f"{name}.pt")
        model.eval()
        tensors = load_file(folder / f"{name}.io.safetensors")
        inputs = {k[3:]: v.long() if not v.is_floating_point() else v for k, v in tensors.items() if k.startswith("in.")}
        with torch.no_grad():
            got, expected = run(model, inputs), tensors["out.y"]
        assert got.shape == expected.shape, f"{name}: shape {tuple(got.shape)}, firebox {tuple(expected.shape)}"
        worst, limit = (got - expected).abs().max().item(), 1e-5 * expected.abs().max().item() + 1e-7
        assert worst <= limit, f"{name}: differs by {worst}, allowed {limit}"
        print(f"{name}: {len(model.state_dict())} tensors loaded strictly, outputs differ by {worst:.1e} of at most {limit:.1e}")


main(pathlib.Path(sys.argv[1]))
