"""How much there is to learn from: triplets of real and of synthetic instructions side by side."""

from typing import NamedTuple

from dgmlab.viz import style


class Share(NamedTuple):
    """Triplets of one source: label, how many are real and synthetic, and the synthetic share in [0, 1]."""

    label: str
    real: int
    synthetic: int
    share: float


def collect_triplets(counts):
    """counts: dict label -> (real, synthetic), numbers of triplets, at least one in all. -> tuple of Share"""
    found = []
    for label, (real, synthetic) in counts.items():
        if real < 0 or synthetic < 0 or real + synthetic == 0:
            raise ValueError(f"'{label}' has {real} real and {synthetic} synthetic triplets; expected at least one.")
        found.append(Share(label, int(real), int(synthetic), synthetic / (real + synthetic)))
    if not found:
        raise ValueError("expected the counts of at least one source, found none.")
    return tuple(found)


def in_words(count):
    """6482268 as '6,482 K', smaller numbers whole."""
    return f"{count / 1000:,.0f} K" if count >= 10_000 else f"{count:,}"


@style.styled
def plot_triplets(counts, title="triplets to learn from"):
    """One bar a source, all of the same length: the share that people wrote and the share that a speaker wrote, with counts.

    counts  dict label -> (real, synthetic)
    -> Figure
    """
    shares = collect_triplets(counts)
    figure, ax = style.canvas(7.6, 0.95 + 0.58 * len(shares))
    for row, (_, real, synthetic, share) in enumerate(shares):
        ax.barh(row, 100 * (1 - share), height=0.5, color=style.ORANGE)
        ax.barh(row, 100 * share, left=100 * (1 - share), height=0.5, color=style.BLUE)
        lines = [f"{in_words(real)} real, {100 * (1 - share):.1f} %", f"{in_words(synthetic)} synthetic, {100 * share:.1f} %"]
        ax.text(101, row, "\n".join(lines), va="center", fontsize=8.5, linespacing=1.35)
    ax.set(xlim=(0, 100), ylim=(len(shares) - 0.5, -0.5), xlabel="share of the triplets (%)")
    ax.set_yticks(range(len(shares)), [share.label for share in shares])
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    ax.set_title(title)
    return style.finish(figure, {"shares": shares})
