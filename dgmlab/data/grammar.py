"""The embedded default corpus: a grammar of English sentences whose factors and entropy are known exactly.

    this kind cat chased the mouse happily yesterday .       number singular / plural, tense past / future / conditional,
    so these cruel chefs will cook the soup sadly tomorrow ? topic, sentiment positive / negative, mood statement / question

A sentence is drawn by choosing five independent FACTORS (uniform) and five lexical SLOTS (not uniform, see CHOICE_PROBS):

    statement      this|these ADJECTIVE SUBJECT [will|would] VERB the OBJECT ADVERB WHEN .
    question    so this|these ADJECTIVE SUBJECT [will|would] VERB the OBJECT ADVERB WHEN ?   (a declarative question)

The map from choices to sentences is injective: there are exactly 31,104 derivations and 31,104 distinct sentences (a test
lists them), of 9 to 11 words, over a vocabulary of 81. The entropy of the choices is therefore the entropy of the sentences,
10.07 nats, and no model can have a lower expected negative log-likelihood than `entropy()` or a lower perplexity than
`perplexity()` (2.46 per predicted token). Agreement and negation are left out on purpose: they spell a factor in several ways.

Held-out sentences: every sentence belongs for good to `train` (90 %), `valid` (5 %) or `test` (5 %), by a hash of its letters.
Training on `train` sees p(x) / 0.90, which has an entropy 0.1 nats lower than the grammar's; a model that generalises gives
held-out sentences p(x), one that has learnt the training list by heart gives them nothing. `perplexity(sentences)` is the
grammar's own perplexity on the very sentences a model is tested on: compare with that, and the luck of the draw cancels.
"""

import functools
import hashlib
import itertools
import math
from typing import NamedTuple

import numpy as np

FACTORS = {
    "number": ("singular", "plural"),
    "tense": ("past", "future", "conditional"),
    "topic": ("animals", "food", "sport", "city"),
    "sentiment": ("positive", "negative"),
    "mood": ("statement", "question"),
}

# Every topic offers the same number of options per slot, so a changed topic keeps the index of each choice.
CHOICE_PROBS = {
    "subject": (0.5, 0.3, 0.2),
    "verb": (0.4, 0.4, 0.2),
    "object": (0.4, 0.3, 0.2, 0.1),
    "adjective": (1 / 3, 1 / 3, 1 / 3),
    "adverb": (0.5, 0.25, 0.25),
}
SLOTS = {slot: len(probs) for slot, probs in CHOICE_PROBS.items()}

SUBJECTS = {  # topic -> (singular, plural) per option
    "animals": (("cat", "cats"), ("dog", "dogs"), ("horse", "horses")),
    "food": (("chef", "chefs"), ("baker", "bakers"), ("waiter", "waiters")),
    "sport": (("player", "players"), ("captain", "captains"), ("runner", "runners")),
    "city": (("tourist", "tourists"), ("driver", "drivers"), ("worker", "workers")),
}
WATCH = ("watch", "watched")  # the one verb of all topics
VERBS = {  # topic -> (base, past) per option; no verb whose past equals its base, else tense is ambiguous
    "animals": (("chase", "chased"), ("follow", "followed"), WATCH),
    "food": (("cook", "cooked"), ("serve", "served"), WATCH),
    "sport": (("win", "won"), ("lose", "lost"), WATCH),
    "city": (("visit", "visited"), ("leave", "left"), WATCH),
}
OBJECTS = {
    "animals": ("mouse", "bird", "rabbit", "duck"),
    "food": ("soup", "rice", "pasta", "stew"),
    "sport": ("match", "race", "game", "cup"),
    "city": ("museum", "bridge", "station", "market"),
}
ADJECTIVES = {"positive": ("kind", "clever", "brave"), "negative": ("cruel", "foolish", "lazy")}
ADVERBS = {"positive": ("happily", "calmly", "proudly"), "negative": ("sadly", "nervously", "bitterly")}

WHEN = {"past": "yesterday", "future": "tomorrow", "conditional": "someday"}  # like the other factors, tense shows twice

PARTS = ("train", "valid", "test")


class Try(NamedTuple):
    """One analogy a : b :: c : d. Only `factor` differs between a and b, and between c and d."""

    a: str
    b: str
    c: str
    d: str
    factor: str


class Split(NamedTuple):
    """Two samples that share no sentence."""

    train: list
    heldout: list


def _options(name):
    """The values of a factor, or the indices of a slot."""
    if name in FACTORS:
        return FACTORS[name]
    if name in SLOTS:
        return tuple(range(SLOTS[name]))
    raise KeyError(f"no factor or slot {name!r} in the grammar; choose one of: {', '.join((*FACTORS, *SLOTS))}.")


def _probs(name):
    return CHOICE_PROBS[name] if name in SLOTS else (1 / len(FACTORS[name]),) * len(FACTORS[name])


def _checked(name, value):
    options = _options(name)
    if value not in options:
        raise ValueError(f"{name} cannot be {value!r}; choose one of: {', '.join(map(str, options))}.")
    return value


def render(factors, words=None):
    """The sentence of a derivation.

    factors  dict with a value for each of FACTORS; it may also hold slots, as `parse` returns them
    words    dict slot -> index, overrides those in `factors`; a slot named in neither takes option 0
    -> str, words separated by single spaces
    """
    choice = {**dict.fromkeys(SLOTS, 0), **factors, **(words or {})}
    missing = [name for name in FACTORS if name not in choice]
    if missing:
        raise KeyError(f"render needs every factor; missing: {', '.join(missing)}.")
    for name, value in choice.items():
        _checked(name, value)
    return _sentence(choice)


def _sentence(choice):
    plural, question = choice["number"] == "plural", choice["mood"] == "question"
    tense, topic = choice["tense"], choice["topic"]
    base, past = VERBS[topic][choice["verb"]]
    subject = [
        "these" if plural else "this",
        ADJECTIVES[choice["sentiment"]][choice["adjective"]],
        SUBJECTS[topic][choice["subject"]][plural],
    ]
    rest = ["the", OBJECTS[topic][choice["object"]], ADVERBS[choice["sentiment"]][choice["adverb"]]]
    verb = {"past": [past], "future": ["will", base], "conditional": ["would", base]}[tense]
    clause = [*subject, *verb, *rest, WHEN[tense]]
    # no present tense, and questions in the order of statements: agreement and did / does / do would spell one factor in
    # several ways, depending on the others, and an analogy would test spelling rather than the factor
    return " ".join(["so", *clause, "?"] if question else [*clause, "."])


@functools.cache
def _table():
    """sentence -> its choices, for all sentences. 31,104 are few enough to be listed once (0.1 s)."""
    names = (*FACTORS, *SLOTS)
    table = {}
    for values in itertools.product(*map(_options, names)):
        sentence = _sentence(dict(zip(names, values, strict=True)))
        assert sentence not in table, f"ambiguous: {sentence}"
        table[sentence] = values
    return table


def sentences():
    """All sentences of the grammar, in a fixed order. -> list of 31,104 str"""
    return list(_table())


def vocabulary():
    """All words of the grammar, sorted. -> list of 81 str"""
    return sorted({word for sentence in _table() for word in sentence.split()})


def parse(sentence):
    """Factors and lexical slots of a sentence, or None if the grammar does not make it. -> dict name -> value | index"""
    values = _table().get(" ".join(sentence.split()))
    return None if values is None else dict(zip((*FACTORS, *SLOTS), values, strict=True))


def factors(sentence):
    """Like `parse`, without the lexical slots. -> dict factor -> value, or None"""
    found = parse(sentence)
    return None if found is None else {name: found[name] for name in FACTORS}


def labels(sentences, factor):
    """Values of one factor, for colours and probes. -> (N,) int64 index into FACTORS[factor], -1 outside the grammar"""
    options = _options(factor)
    parsed = [parse(sentence) for sentence in sentences]
    return np.array([-1 if found is None else options.index(found[factor]) for found in parsed], dtype=np.int64)


def log_prob(sentence):
    """Exact log-probability of a sentence. -> float nats, -inf if the grammar does not make it"""
    found = parse(sentence)
    if found is None:
        return -math.inf
    return sum(math.log(_probs(name)[_options(name).index(value)]) for name, value in found.items())


def entropy():
    """Exact entropy of a sentence: the sum over independent choices, since no two derivations share one. -> float nats"""
    return -sum(p * math.log(p) for name in (*FACTORS, *SLOTS) for p in _probs(name))


def mean_length():
    """Exact expected number of words: 9, one more in half of them (`so`) and in two thirds (`will`, `would`). -> float"""
    return 9 + 1 / 2 + 2 / 3


def perplexity(sentences=None):
    """The perplexity no model can beat, per predicted token (words and one end of sentence).

    sentences  None: exact, over the whole grammar; else the grammar's own perplexity on these sentences
    -> float
    """
    if sentences is None:
        return math.exp(entropy() / (mean_length() + 1))
    nats = -sum(log_prob(sentence) for sentence in sentences)
    return math.exp(nats / sum(len(sentence.split()) + 1 for sentence in sentences))


def part(sentence):
    """The part a sentence belongs to for good: 'train' (90 %), 'valid' (5 %) or 'test' (5 %), by a hash of its letters."""
    bucket = hashlib.blake2b(sentence.encode(), digest_size=4).digest()
    return {0: "valid", 1: "test"}.get(int.from_bytes(bucket, "big") % 20, "train")


def sample(n, seed=0, parts=PARTS):
    """Independent draws from the grammar (repeats happen, as in any corpus), kept where they belong to one of `parts`.

    -> list of n str
    """
    unknown = set(parts) - set(PARTS)
    if unknown or not parts:
        raise ValueError(f"parts of the grammar are {', '.join(PARTS)}; found {', '.join(sorted(unknown)) or 'none'}.")
    rng = np.random.default_rng(seed)
    names = (*FACTORS, *SLOTS)
    kept = []
    while len(kept) < n:
        size = max(1024, 2 * (n - len(kept)))
        columns = [rng.choice(len(_options(name)), size=size, p=_probs(name)) for name in names]
        for row in zip(*columns, strict=True):
            sentence = _sentence({name: _options(name)[i] for name, i in zip(names, row, strict=True)})
            if len(parts) == len(PARTS) or part(sentence) in parts:
                kept.append(sentence)
    return kept[:n]


def split(n_train, n_heldout, seed=0):
    """Training sentences and held-out sentences that share none (see the top of this file). -> Split(train, heldout)"""
    return Split(sample(n_train, seed, ("train",)), sample(n_heldout, seed + 1, ("valid", "test")))


def change(sentence, factor, value):
    """The minimal pair: the same choices with one factor (or slot) set to `value`. -> str"""
    found = parse(sentence)
    if found is None:
        raise ValueError(f"the grammar does not make {sentence!r}; only its own sentences have factors to change.")
    return _sentence({**found, factor: _checked(factor, value)})


def analogy_tries(n, seed=0, parts=("valid", "test")):
    """Tries for sentence arithmetic a : b :: c : d with one right answer.

    a and c are drawn from `parts` (held out by default) and share the value of `factor`; they differ in at least one other
    factor and one slot. b and d are their minimal pairs. The factors take turns.
    -> list of n Try
    """
    pool = {name: {} for name in FACTORS}
    drawn = sample(max(2000, 4 * n), seed, parts)
    for sentence in drawn:
        for name, value in factors(sentence).items():
            pool[name].setdefault(value, []).append(sentence)
    rng = np.random.default_rng([seed, 1])
    tries = []
    while len(tries) < n:
        factor = tuple(FACTORS)[len(tries) % len(FACTORS)]
        a = drawn[rng.integers(len(drawn))]
        value = parse(a)[factor]
        other = [option for option in FACTORS[factor] if option != value]
        new = other[rng.integers(len(other))]
        c = pool[factor][value][rng.integers(len(pool[factor][value]))]
        differs = {name for name in parse(a) if parse(a)[name] != parse(c)[name]}
        if differs & set(FACTORS) and differs & set(SLOTS):
            tries.append(Try(a, change(a, factor, new), c, change(c, factor, new), factor))
    return tries


def score_analogies(tries, answers):
    """Share of `answers` (N str) whose five factors are all right: the intended one changed, the others kept.

    -> dict: one share per factor, "all" over all tries, and "exact" where the lexical choices are right too
    """
    right = np.array([parse(y) is not None and factors(y) == factors(one.d) for one, y in zip(tries, answers, strict=True)])
    asked = np.array([one.factor for one in tries])
    shares = {name: float(right[asked == name].mean()) for name in FACTORS if (asked == name).any()}
    exact = float(np.mean([y == one.d for one, y in zip(tries, answers, strict=True)]))
    return {**shares, "all": float(right.mean()), "exact": exact}
