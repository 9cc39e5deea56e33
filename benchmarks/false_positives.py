"""How often a test of airepair/report/statistics.py finds a difference between two models that are
equally good: simulated, with a known truth.

    python -m benchmarks.false_positives --out reports/statistics/false_positives.md

Each simulated seed draws 497 test images of 1,797, as digits does, and both models answer them.
Whether one is right depends on the image, on the seed's subject (shared by both, as two repairs of
one subject share it), on the model at that seed, and on chance. "Each its own images": each model
also has images that suit it at every seed. The truth is 0, or two points for the rate at which a
real difference is found.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from airepair.host.atomic import write_atomically
from airepair.report.comparison import LEVEL
from airepair.report.statistics import Pair, by_image, by_seed

IMAGES, TESTED = 1_797, 497
SEEDS = (3, 5, 10, 20)
DRAWS = 1_999  # of each bootstrap; the reports draw more, for the sake of small p-values only


@dataclass(frozen=True)
class World:
    """Standard deviations, in units of the latent score whose sign decides: accuracy is about 85 %,
    the difference of two models at one seed has a standard deviation of about two points (both as
    on digits), and about 8 % of the answers differ.

    ease of an image (mean 2.1), the seed's subject on an image, a model at a seed (all images), a
    model on an image (all seeds), chance.
    """

    ease: float = 1.6
    subject: float = 1.0
    model: float = 0.1
    taste: float = 0.0
    chance: float = 0.6
    ahead: float = 0.0  # of the first model


WORLDS = {
    "equal": World(),
    "equal, each its own images": World(taste=0.5),
    "two points better": World(ahead=0.19),
}


def pairs(world: World, seeds: int, generator: np.random.Generator) -> list[Pair]:
    """One simulated comparison."""
    ease = generator.normal(2.1, world.ease, IMAGES)
    taste = generator.normal(0, world.taste, (2, IMAGES))
    found = []
    for seed in range(seeds):
        index = np.sort(
            np.random.default_rng(seed).permutation(IMAGES)[:TESTED]
        )  # a seed draws the same split every time
        shared = ease[index] + generator.normal(0, world.subject, TESTED)
        model = generator.normal(0, world.model, (2, 1)) + np.array([[world.ahead], [0.0]])
        first, second = shared + model + taste[:, index] + generator.normal(0, world.chance, (2, TESTED)) > 0
        found.append(Pair(first, second, index))
    return found


def rates(world: World, seeds: int, times: int) -> dict[str, float]:
    """Shares of simulated comparisons that each test tells apart."""
    generator = np.random.default_rng([seeds, *map(ord, repr(world))])
    told = np.zeros((times, 4), bool)
    for k in range(times):
        found = pairs(world, seeds, generator)
        both = by_image(found, DRAWS)
        alone = by_seed([float(p.first.mean() - p.second.mean()) for p in found], DRAWS)
        told[k] = [p < LEVEL for p in (alone.bootstrap, both.bootstrap, both.permutation, both.p)]
    return dict(zip(("seeds", "both", "permutation", "larger"), told.mean(0).tolist(), strict=True))


def table(times: int) -> str:
    """The rates as Markdown."""
    lines = [
        f"Shares of {times:,} simulated comparisons with p below {LEVEL:g} (`python -m "
        f"benchmarks.false_positives`; standard error up to"
        f" {(0.25 / times) ** 0.5:.3f}, {(LEVEL * (1 - LEVEL) / times) ** 0.5:.3f} at {LEVEL:g}).",
        "",
        "| truth | seeds | bootstrap of seeds | bootstrap of seeds and images | permutation of seeds | "
        "the larger p |",
        "|---|---|---|---|---|---|",
    ]
    for name, world in WORLDS.items():
        for seeds in SEEDS:
            lines.append(
                f"| {name} | {seeds} | "
                + " | ".join(f"{v:.3f}" for v in rates(world, seeds, times).values())
                + " |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Prints or writes the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument(
        "--times", type=int, default=1_000, help="simulated comparisons of each kind (default: 1,000)"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="where the table is written (default: it is printed)"
    )
    args = parser.parse_args()
    text = table(args.times)
    if args.out:
        write_atomically(args.out, text.encode())
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
