"""Few-label probes: how well frozen features tell classes apart when 1 to 10,000 labels of each class are known.

A logistic regression is fitted to features that nobody trains any more, on several draws of n labels a class, and tested on
sentences whose labels it never sees (Li et al. 2020, section 5.4 and figure 4c: Yelp, 1 to 10,000 labels a class).

The draws are a function of the labels and the seed alone, and nested: the rows of 10 labels a class hold those of 3. So all
feature sets of one corpus are probed on the same draws, and their difference is paired.

Letters: N rows, F features, K classes, M test rows, S sizes, D draws.
"""

import math
from typing import NamedTuple

import numpy as np

SIZES = (1, 3, 10, 30, 100, 300, 1000, 3000, 10_000)  # labels a class
STRENGTHS = (0.1, 1.0, 10.0, 100.0, 1000.0)  # scikit-learn's C, for features whose rows have length 1 on average
DEFAULT = 10.0  # where nothing can be held out to choose one
FOLDS = 5
MANY = 1000  # rows from which one held-out fold is enough


class Curve(NamedTuple):
    """scores (S, D) of each size and draw; n_labels (S,) labels a class; seed, and n_rows the draws were made from."""

    n_labels: tuple
    scores: np.ndarray
    seed: int
    n_rows: int


class Interval(NamedTuple):
    """A mean over draws and its 95 % interval; floats or arrays of one shape."""

    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Scale(NamedTuple):
    """Where features lie: mean (F,), and width (F,), their deviation times the root of F."""

    mean: np.ndarray
    width: np.ndarray

    @classmethod
    def of(cls, features):
        """The scale of features (N, F), for which no label is needed. A feature that never changes is left at 0."""
        std = features.std(axis=0)
        still = std <= 1e-6 * std.max(initial=0)
        return cls(features.mean(axis=0), np.where(still, np.inf, std) * math.sqrt(features.shape[1]))

    def __call__(self, features):
        """Centred features whose rows have length 1 on average, so that one grid of penalties serves any F. (N, F)"""
        return (features - self.mean) / self.width


def draw_labels(labels, n, draw, seed=0):
    """Rows of one draw of n labels a class, without replacement -> (n K,) int64, class by class.

    labels  (N,) ints; draw, seed  ints >= 0. A larger n gives the same rows and more
    """
    labels = np.asarray(labels)
    kinds, counts = np.unique(labels, return_counts=True)
    if len(kinds) < 2:
        raise ValueError(f"labels of two classes or more were expected, found {len(kinds)}. Check the labels of the corpus.")
    if not 1 <= n <= counts.min():
        raise ValueError(f"{n} labels a class were asked for, but class {kinds[counts.argmin()]} has {counts.min()} rows. "
                         f"Ask for 1 to {counts.min()}.")
    order = np.random.default_rng([seed, draw]).permutation(len(labels))
    return np.concatenate([order[labels[order] == kind][:n] for kind in kinds])


def fit_probe(features, labels, seed=0):
    """A logistic regression whose L2 penalty is chosen on these rows alone, see `choose_strength`.

    features  (N, F) float, scaled; labels  (N,) ints of two classes or more
    -> fitted `sklearn.linear_model.LogisticRegression`
    """
    return _regression(choose_strength(features, labels, seed)).fit(features, labels)


def choose_strength(features, labels, seed=0):
    """The C of STRENGTHS with the highest held-out log-likelihood in cross-validation of the labelled rows.

    Five stratified folds, or as many as the rarest class has labels; from 1,000 rows on, one of the five is held out. Where a
    class has one label nothing can be held out and C is 10: with two classes every C then has the same boundary, the plane
    half way between the two points. No other row takes part, the test set least of all.
    """
    from sklearn.model_selection import StratifiedKFold

    labels = np.asarray(labels)
    n_folds = min(FOLDS, int(np.unique(labels, return_counts=True)[1].min()))
    if n_folds < 2:
        return DEFAULT
    folds = list(StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(features, labels))
    likelihood = np.zeros(len(STRENGTHS))
    for kept, held_out in folds[:1] if len(labels) >= MANY else folds:
        probe = _regression(warm_start=True)  # each penalty starts where the one before ended
        for i, strength in enumerate(STRENGTHS):
            p = probe.set_params(C=strength).fit(features[kept], labels[kept]).predict_proba(features[held_out])
            truth = np.searchsorted(probe.classes_, labels[held_out])
            likelihood[i] += np.log(np.maximum(p[np.arange(len(truth)), truth], 1e-12)).sum()
    return STRENGTHS[int(likelihood.argmax())]  # of equals the stronger penalty


def _regression(strength=DEFAULT, warm_start=False):
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000, warm_start=warm_start)


def probe_curve(features, labels, test_features, test_labels, n_labels=SIZES, n_draws=5, seed=0, progress=None):
    """Test accuracy of a probe for every number of labels a class and every draw.

    features, labels            (N, F) float and (N,) ints: the rows that labels are drawn from. All N give the scale, since
                                that takes no label
    test_features, test_labels  (M, F) and (M,): only ever predicted
    n_labels, n_draws           labels a class; draws of each, at least two, five for an interval worth its name
    progress                    called with the number of probes done
    -> Curve
    """
    features, test_features = (np.asarray(part, dtype=np.float64) for part in (features, test_features))
    labels, test_labels = np.asarray(labels), np.asarray(test_labels)
    _check(features, labels, test_features, test_labels, n_draws)
    scale = Scale.of(features)
    scaled, unseen = scale(features), scale(test_features)
    scores = np.empty((len(n_labels), n_draws))
    for i, n in enumerate(n_labels):
        for draw in range(n_draws):
            rows = draw_labels(labels, n, draw, seed)
            scores[i, draw] = (fit_probe(scaled[rows], labels[rows], seed).predict(unseen) == test_labels).mean()
            if progress is not None:
                progress(i * n_draws + draw + 1)
    return Curve(tuple(n_labels), scores, seed, len(labels))


class Draw(NamedTuple):
    """One probe: the rows (n K,) whose labels it knows, and its probabilities (M, K) of the test rows."""

    rows: np.ndarray
    probabilities: np.ndarray


def probe_draw(features, labels, test_features, n, draw=0, seed=0):
    """The probe of `probe_curve` at n labels a class in one draw, for a look at what it gets wrong. -> Draw"""
    features, labels = np.asarray(features, dtype=np.float64), np.asarray(labels)
    scale, rows = Scale.of(features), draw_labels(labels, n, draw, seed)
    fitted = fit_probe(scale(features[rows]), labels[rows], seed)
    return Draw(rows, fitted.predict_proba(scale(np.asarray(test_features, dtype=np.float64))))


def probe_score(features, labels, test_features, seed=0):
    """Predictions (M,) of a probe that knows all N labels: classes where `labels` are ints, else numbers by ridge regression.

    The penalty of the ridge is chosen by leaving one of the N rows out at a time.
    """
    from sklearn.linear_model import RidgeCV

    features, labels = np.asarray(features, dtype=np.float64), np.asarray(labels)
    scale = Scale.of(features)
    scaled, unseen = scale(features), scale(np.asarray(test_features, dtype=np.float64))
    if labels.dtype.kind in "iu":
        return fit_probe(scaled, labels, seed).predict(unseen)
    return RidgeCV(np.logspace(-4, 4, 17)).fit(scaled, labels).predict(unseen)


def interval(values, level=0.95):
    """Mean over the last axis and its Student t interval, mean +- t(D - 1) std / sqrt(D). (..., D) -> Interval of (...)

    It speaks of other draws of labels, on this test set. Where draws share most of their rows (n near the size of the corpus)
    it is too narrow.
    """
    from scipy import stats

    values = np.asarray(values, dtype=np.float64)
    if values.shape[-1] < 2:
        raise ValueError(f"an interval needs two draws or more, found {values.shape[-1]}. Use n_draws=5.")
    mean = values.mean(-1)
    half = stats.t.ppf((1 + level) / 2, values.shape[-1] - 1) * values.std(-1, ddof=1) / math.sqrt(values.shape[-1])
    return Interval(mean, mean - half, mean + half)


def paired_difference(curve, other):
    """By how much `curve` is above `other` at each size, over the same draws -> Interval of (S,)"""
    for name in ("n_labels", "seed", "n_rows"):
        if getattr(curve, name) != getattr(other, name):
            raise ValueError(f"curves on the same draws were expected, found {name} {getattr(curve, name)} and "
                             f"{getattr(other, name)}. Probe both with the same labels, sizes and seed.")
    if curve.scores.shape != other.scores.shape:
        raise ValueError(f"as many draws were expected of both curves, found {curve.scores.shape[1]} and "
                         f"{other.scores.shape[1]}. Probe both with the same n_draws.")
    return interval(curve.scores - other.scores)


def _check(features, labels, test_features, test_labels, n_draws):
    """ValueError in one line where the arrays of a probe do not fit each other."""
    for what, rows, kinds in (("", features, labels), ("test ", test_features, test_labels)):
        if rows.ndim != 2 or len(rows) != len(kinds) or not len(rows):
            raise ValueError(f"{what}features (N, F) with a label each were expected, found {rows.shape} and {len(kinds)} "
                             "labels. Encode the sentences that the labels are of.")
        if not np.isfinite(rows).all():
            raise ValueError(f"finite {what}features were expected, found NaN or inf. Look at the model's training curve.")
    if features.shape[1] != test_features.shape[1]:
        raise ValueError(f"features of one width were expected, found {features.shape[1]} and {test_features.shape[1]}. "
                         "Encode both with the same model.")
    unknown = sorted(set(test_labels.tolist()) - set(labels.tolist()))
    if unknown:
        raise ValueError(f"test labels among those of the training rows were expected, found also "
                         f"{', '.join(map(str, unknown))}. Take both from one corpus.")
    if n_draws < 2:
        raise ValueError(f"an interval needs two draws or more, found n_draws={n_draws}. Use n_draws=5.")
