"""The PyTorch peer of firebox's `gan` example: the same networks, data and recipe, in eager mode on the CPU.

Prints a line per epoch, then one JSON object with the result. With --samples it writes what the generator (its moving
average) makes, for firebox's `gan --score` to judge. `seconds` is the wall time of training: there is no judge in it.
"""

import argparse
import copy
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from training import DATA_DIR, IMPORT_RSS_BYTES, peak_rss_bytes, positive, read_split

VALIDATION_IMAGES = 5_000


def mlp_generator(latent):
    return nn.Sequential(
        nn.Linear(latent, 256), nn.ReLU(inplace=True), nn.Linear(256, 512), nn.ReLU(inplace=True),
        nn.Linear(512, 784), nn.Tanh(),
    )


def mlp_discriminator():
    return nn.Sequential(
        nn.Linear(784, 512), nn.LeakyReLU(0.2, inplace=True), nn.Linear(512, 256), nn.LeakyReLU(0.2, inplace=True),
        nn.Linear(256, 1),
    )


def dcgan_generator(latent, features=64):
    return nn.Sequential(
        nn.Unflatten(1, (latent, 1, 1)),
        nn.ConvTranspose2d(latent, 2 * features, 7, bias=False), nn.BatchNorm2d(2 * features), nn.ReLU(inplace=True),
        nn.ConvTranspose2d(2 * features, features, 4, 2, 1, bias=False), nn.BatchNorm2d(features),
        nn.ReLU(inplace=True),
        nn.ConvTranspose2d(features, 1, 4, 2, 1, bias=False), nn.Tanh(),
    )


def dcgan_discriminator(features=64):
    return nn.Sequential(
        nn.Conv2d(1, features, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(features, 2 * features, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * features),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(2 * features, 1, 7, bias=False), nn.Flatten(),
    )


def initialise_as_dcgan(module):
    """Weights as the paper has them."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)


def discriminator_loss(loss, real, fake, target):
    if loss == "non-saturating":
        return (F.binary_cross_entropy_with_logits(real, torch.full_like(real, target))
                + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)))
    if loss == "least-squares":
        return 0.5 * (F.mse_loss(real, torch.full_like(real, target)) + F.mse_loss(fake, torch.zeros_like(fake)))
    return F.relu(1 - real).mean() + F.relu(1 + fake).mean()


def generator_loss(loss, fake):
    if loss == "non-saturating":
        return F.binary_cross_entropy_with_logits(fake, torch.ones_like(fake))
    if loss == "least-squares":
        return 0.5 * F.mse_loss(fake, torch.ones_like(fake))
    return -fake.mean()


@torch.no_grad()
def follow(average, model, decay):
    """One step of the moving average; buffers are the model's."""
    ours, theirs = list(average.parameters()), list(model.parameters())
    torch._foreach_mul_(ours, decay)
    torch._foreach_add_(ours, theirs, alpha=1 - decay)
    for to, value in zip(average.buffers(), model.buffers()):
        to.copy_(value)


def parse_args():
    parser = argparse.ArgumentParser(description="Trains a GAN on Fashion-MNIST with PyTorch on the CPU.")
    parser.add_argument("--data-dir", type=Path, default=DATA_DIR, help="folder of the four IDX .gz files")
    parser.add_argument("--arch", choices=["mlp", "dcgan"], default="mlp")
    parser.add_argument("--loss", choices=["non-saturating", "least-squares", "hinge"], default="non-saturating")
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--critic-steps", type=positive, default=1)
    parser.add_argument("--latent", type=positive, default=100)
    parser.add_argument("--epochs", type=positive, default=25)
    parser.add_argument("--batch-size", type=positive, default=64)
    parser.add_argument("--lr", type=float, default=2e-4)
    parser.add_argument("--ema", type=float, default=0.999, help="0 for none")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=positive, help="default: PyTorch's own choice, every core")
    parser.add_argument("--limit-train", type=positive, help="train on this many of the 55,000 images")
    parser.add_argument("--channels-last", action="store_true", help="NHWC memory format, for dcgan")
    parser.add_argument("--samples", type=Path, metavar="FILE", help="write samples as safetensors")
    parser.add_argument("--count", type=positive, default=10_000, help="how many of them")
    return parser.parse_args()


def main():
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    try:
        images, _ = read_split(args.data_dir, "train")
    except (OSError, ValueError) as error:
        sys.exit(f"gan.py: cannot read the data set: {error}")
    if len(images) <= VALIDATION_IMAGES:
        sys.exit(f"gan.py: {len(images)} training images leave none beside {VALIDATION_IMAGES} for validation")
    order = torch.randperm(len(images))
    images = images[order[VALIDATION_IMAGES:][: args.limit_train]]

    if args.arch == "mlp":
        images = images.flatten(1)
        generator, discriminator = mlp_generator(args.latent), mlp_discriminator()
    else:
        generator, discriminator = dcgan_generator(args.latent), dcgan_discriminator()
        generator.apply(initialise_as_dcgan)
        discriminator.apply(initialise_as_dcgan)
    memory_format = torch.channels_last if args.channels_last else torch.contiguous_format
    if args.arch == "dcgan":
        generator, discriminator = (m.to(memory_format=memory_format) for m in (generator, discriminator))
    average = copy.deepcopy(generator).requires_grad_(False)
    adam_g = torch.optim.Adam(generator.parameters(), lr=args.lr, betas=(0.5, 0.999))
    adam_d = torch.optim.Adam(discriminator.parameters(), lr=args.lr, betas=(0.5, 0.999))

    step, start = 0, time.perf_counter()
    for epoch in range(1, args.epochs + 1):
        sums, epoch_start = [0.0, 0.0], time.perf_counter()
        for indices in torch.randperm(len(images)).split(args.batch_size):
            real = images[indices].float().div_(127.5).sub_(1.0)
            if args.arch == "dcgan":
                real = real.contiguous(memory_format=memory_format)
            fake = generator(torch.randn(len(indices), args.latent))
            discriminator.requires_grad_(True)
            loss_d = discriminator_loss(
                args.loss, discriminator(real), discriminator(fake.detach()), 1 - args.label_smoothing)
            adam_d.zero_grad()
            loss_d.backward()
            adam_d.step()
            sums[0] += loss_d.item() * len(indices)
            step += 1
            if step % args.critic_steps == 0:
                # Its own gradients are not needed here.
                discriminator.requires_grad_(False)
                loss_g = generator_loss(args.loss, discriminator(fake))
                adam_g.zero_grad()
                loss_g.backward()
                adam_g.step()
                sums[1] += loss_g.item() * len(indices)
                if args.ema > 0:
                    follow(average, generator, args.ema)
        seconds = time.perf_counter() - epoch_start
        print(f"epoch {epoch}/{args.epochs}: discriminator {sums[0] / len(images):.4f}, generator "
              f"{sums[1] * args.critic_steps / len(images):.4f}, {len(images) / seconds:.0f} samples/s", flush=True)
    seconds = time.perf_counter() - start

    if args.samples:
        maker = (average if args.ema > 0 else generator).eval()
        with torch.inference_mode():
            parts = [maker(torch.randn(n, args.latent)) for n in torch.ones(args.count).split(500) for n in [len(n)]]
        save_file({"samples": torch.cat(parts).reshape(-1, 1, 28, 28).contiguous()}, args.samples)
    print(json.dumps({
        "framework": "pytorch",
        "version": torch.__version__,
        "epochs": args.epochs,
        "seconds": round(seconds, 3),
        "samples_per_s": round(args.epochs * len(images) / seconds, 1),
        "threads": torch.get_num_threads(),
        "peak_rss_bytes": peak_rss_bytes(),
        "import_rss_bytes": IMPORT_RSS_BYTES,
        "seed": args.seed,
    }))


if __name__ == "__main__":
    main()
