"""Is a difference between networks more than chance? One rule for every table that compares runs.

Each row of a table is a network or recipe, trained with several seeds; one row is the base. For a row with k seeds in
common with the base, the difference is the mean over these seeds of (accuracy of the row - accuracy of the base). Its
variance has two parts::

    variance = 2 s**2 / k + v

s is the standard deviation from run to run: what is left of all accuracies of the table once the mean of each row and
of each seed is subtracted, pooled over the rows, with (rows - 1) (seeds - 1) degrees of freedom when all rows have the
same seeds. It assumes that all rows vary alike; one row alone has too few runs to tell.

v comes from the n evaluation images. All seeds see the same images, so more seeds do not make it smaller. On the same
images, two accuracies with errors e1 and e2 differ with the variance (D - (e1 - e2)**2) / n, where D is the fraction of
images on which exactly one of the two is right. D is at most e1 + e2. Networks agree more than their accuracies alone
imply (Mania et al. 2019), so D of independent errors, e1 (1 - e2) + e2 (1 - e1), is a bound as well, and a smaller one.
It gives v <= (e1 (1 - e1) + e2 (1 - e2)) / n. Given which images were right, v is estimated instead: the variance over
images of the difference, averaged over seeds, divided by n. That is usually a good deal smaller.

The two-sided p-value is Student's, with the degrees of freedom of s times (variance / (2 s**2 / k))**2, as only that
part is estimated from few values. Holm's procedure then allows for the number of rows: the chance that any row without
a true difference is called different is at most 5 %. The interval of a row has the level at which Holm's procedure
judges it (at least 95 %), so it excludes zero exactly when the verdict is "difference".

Sources: Student 1908 (doi:10.1093/biomet/6.1.1); pairing by blocks and pooling: Fisher 1935, The Design of Experiments,
chapter 4; degrees of freedom: Satterthwaite 1946 (doi:10.2307/3002019); two accuracies on the same images: McNemar 1947
(doi:10.1007/BF02295996); that networks agree: Mania et al. 2019 (arXiv:1905.12580); several rows: Holm 1979
(Scandinavian Journal of Statistics 6, pages 65 to 70).
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

ALPHA = 0.05
DIFFERENCE = "difference"
NOT_SEEN = "no difference seen"
TOO_FEW = "too few seeds to say"


@dataclass(frozen=True)
class Verdict:
    """What can be said about one row; all numbers but p in percentage points.

    Attributes:
        name: str, of the row.
        gains: tuple of the differences from the base, one for each seed that both have.
        mean: float, their mean; NaN without a common seed.
        low, high: floats, ends of the interval; NaN when there are too few seeds.
        p: float, adjusted by Holm's procedure: at most 0.05 for a difference; NaN when there are too few seeds.
        verdict: str, DIFFERENCE, NOT_SEEN or TOO_FEW.
    """

    name: str
    gains: tuple
    mean: float
    low: float = math.nan
    high: float = math.nan
    p: float = math.nan
    verdict: str = TOO_FEW


def compare(accuracies, base, images=None):
    """Compare each row of a table with the base by the rule above.

    Args:
        accuracies: dict {row: {seed: accuracy in 0..1}}; all runs evaluated on the same images. In place of an accuracy
            may be a bool array (images,): which images were classified correctly.
        base: str, name of the row that the others are compared with.
        images: int, number of evaluation images; not needed when arrays are given.

    Returns:
        list of Verdict, in the order of the rows, without the base. A row that shares fewer than two seeds with the
        base gets TOO_FEW and does not count in Holm's procedure.

    Raises:
        ValueError: an accuracy outside 0..1, or neither images nor arrays.
    """
    sd, degrees = run_to_run_sd(accuracies)
    of_base, found, tests = accuracies[base], {}, []
    for name, runs in accuracies.items():
        if name == base:
            continue
        pairs = [(runs[seed], of_base[seed]) for seed in sorted(runs.keys() & of_base.keys())]
        gains = [100 * (np.mean(row) - np.mean(other)) for row, other in pairs]
        found[name] = Verdict(name, tuple(map(float, gains)), float(np.mean(gains)) if gains else math.nan)
        if len(pairs) > 1 and degrees:
            seeds_part = 2 * sd**2 / len(pairs)
            se, freedom = _standard_error(seeds_part, _images_part(pairs, images), degrees)
            t = abs(found[name].mean) / se if se else (math.inf if found[name].mean else 0.0)
            tests.append((two_sided_p(t, freedom), name, se, freedom))
    adjusted = 0.0
    for place, (p, name, se, freedom) in enumerate(sorted(tests)):
        remaining = len(tests) - place
        if adjusted <= ALPHA:  # after the first row that shows nothing, the level stays
            level = ALPHA / remaining
        adjusted = max(adjusted, min(1.0, remaining * p))
        half = t_quantile(1 - level / 2, freedom) * se
        row = found[name]
        verdict = DIFFERENCE if adjusted <= ALPHA else NOT_SEEN
        found[name] = Verdict(name, row.gains, row.mean, row.mean - half, row.mean + half, adjusted, verdict)
    return list(found.values())


def report(verdicts):
    """A table of verdicts as text, the largest difference first, in percentage points."""
    width = max(len(verdict.name) for verdict in verdicts)
    lines = [f"{'':{width}}  points  interval          p (Holm)  verdict"]
    for row in sorted(verdicts, key=lambda verdict: -verdict.mean):
        rest = " " * 26
        if row.verdict != TOO_FEW:
            p = f"{row.p:.3f}" if row.p >= 0.001 else "< 0.001"
            rest = f"[{row.low:+5.1f}, {row.high:+5.1f}]  {p:>8}"
        lines.append(f"{row.name:{width}}  {row.mean:+6.1f}  {rest}  {row.verdict}")
    return "\n".join(lines)


def run_to_run_sd(accuracies):
    """The pooled standard deviation from run to run.

    Args:
        accuracies: as for ``compare``.

    Returns:
        (float, percentage points; int, degrees of freedom). NaN and 0 when no row can be compared over seeds.
    """
    runs = [(name, seed, np.mean(value)) for name, row in accuracies.items() for seed, value in row.items()]
    if not all(0 <= value <= 1 for _, _, value in runs):
        raise ValueError("accuracies are fractions, 0..1; found one outside")
    rows, seeds = sorted({name for name, _, _ in runs}), sorted({seed for _, seed, _ in runs})
    design = np.array([[*(name == row for row in rows), *(seed == other for other in seeds)] for name, seed, _ in runs])
    values = np.array([100 * value for _, _, value in runs])
    fitted, _, rank, _ = np.linalg.lstsq(design.astype(float), values, rcond=None)
    degrees = len(runs) - int(rank)
    return (float(np.sqrt(np.sum((values - design @ fitted) ** 2) / degrees)) if degrees else math.nan), degrees


def smallest_difference(sd, seeds, rows, images, accuracy, power=0.8):
    """The true difference that a table would show with the given probability.

    Args:
        sd: float, from run to run, in percentage points.
        seeds: int, of each row and of the base.
        rows: int, that are compared with the base.
        images: int, evaluation images.
        accuracy: float, 0..1, about that of the networks; for the bound on the images' part.
        power: float, the probability.

    Returns:
        float, percentage points; infinite for a single seed.
    """
    if seeds < 2:
        return math.inf
    images_part = 2 * 100**2 * accuracy * (1 - accuracy) / images
    se, freedom = _standard_error(2 * sd**2 / seeds, images_part, rows * (seeds - 1))
    return (t_quantile(1 - ALPHA / rows / 2, freedom) + t_quantile(power, freedom)) * se


def _images_part(pairs, images):
    """The variance by the sampling of images, in points squared, of [(row's result, base's result) of a seed]."""
    if all(np.ndim(result) for pair in pairs for result in pair):
        of_image = np.mean([np.subtract(row, other, dtype=float) for row, other in pairs], axis=0)
        return 100**2 * np.var(of_image, ddof=1) / len(of_image)
    if images is None:
        raise ValueError("images is None; give the number of evaluation images")
    means = np.mean([[np.mean(result) for result in pair] for pair in pairs], axis=0)
    return 100**2 * float(np.sum(means * (1 - means))) / images


def _standard_error(seeds_part, images_part, degrees):
    """(standard error, degrees of freedom) of a difference whose variance has these two parts."""
    variance = seeds_part + images_part
    return math.sqrt(variance), degrees * (variance / seeds_part) ** 2 if seeds_part else math.inf


@cache
def _nodes():
    return np.polynomial.legendre.leggauss(200)


def two_sided_p(t, degrees):
    """The probability that Student's t is farther from zero than ``t``; degrees above 1000 count as 1000."""
    # With t = sqrt(degrees) tan(angle) the density becomes a power of the cosine, integrated by Gauss's method.
    degrees = min(degrees, 1000)
    start = math.atan(t / math.sqrt(degrees))
    nodes, weights = _nodes()
    half = (math.pi / 2 - start) / 2
    tail = half * np.sum(weights * np.cos(start + half * (nodes + 1)) ** (degrees - 1))
    log_total = math.lgamma(degrees / 2) - math.lgamma((degrees + 1) / 2) + math.log(math.pi) / 2
    return float(min(1.0, 2 * tail / math.exp(log_total)))


def t_quantile(probability, degrees):
    """The quantile of Student's t for a probability of 0.5 or more, such as 0.975."""
    degrees = min(degrees, 1000)
    low, high = 0.0, math.pi / 2
    for _ in range(60):  # the angle of two_sided_p, halved down to rounding
        middle = (low + high) / 2
        if two_sided_p(math.sqrt(degrees) * math.tan(middle), degrees) > 2 * (1 - probability):
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)
