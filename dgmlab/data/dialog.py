"""Dialogs as (context, response) pairs, and style text to fuse with them.

    load_dialog("toy")                              embedded; every context has 16 right answers, all known: `toy_answers`
    load_dialog("dailydialog", "test")              every turn but the first answers the turns before it (Li et al. 2017)
    load_dialog("mine.tsv"), load_dialog("my/")     `context TAB response` lines; the context's turns joined by ` EOS `
    load_style("toy"), load_style("caption_style:romantic"), load_style("tinyshakespeare:ROMEO"), load_style("notes.txt")

Files without a valid or test part are cut by a hash of the context, so that no context is in two parts.
"""

import itertools
import re
from functools import partial
from pathlib import Path
from typing import NamedTuple

from dgmlab.config import unknown_name
from dgmlab.data import registry
from dgmlab.data.reading import ALIASES, canonical_split, check_limit, cut, draw, lines, numbered_lines
from dgmlab.data.text import load_labelled, load_text

TURN_MARKS = re.compile(r"\s*(?:\bEOS\b|__eou__)\s*")  # between the turns of a context in a file
PERCENT = 10  # of valid and of test, where they are cut from train


class Exchange(NamedTuple):
    """context: the turns so far, oldest first, one or more; response: the turn that follows."""

    context: tuple
    response: str


def load_dialog(name, split="train", limit=None, seed=0):
    """The exchanges of one split.

    name   'toy', 'dailydialog', or the path of a file or of a folder with train, valid and test files (see above)
    split  'train', 'valid' (also 'dev', 'val', 'validation') or 'test'
    limit  at most so many exchanges, drawn with `seed`, in the order of the corpus
    -> list of Exchange
    """
    split = canonical_split(split)
    check_limit(limit, "exchanges")
    if name == "toy":
        found = [pair for pair in _toy() if cut(" ".join((*pair.context, pair.response)), PERCENT) == split]
    elif name == "dailydialog":
        found = list(_dailydialog(registry.find(name), split))
    else:
        found = _from_path(name, split)
    if not found:
        raise ValueError(f"split '{split}' of '{name}' has no exchange: expected a context and a response or more. Check it.")
    return draw(found, limit, seed)


def by_context(exchanges):
    """The responses of each distinct context together: dict context -> list of responses, in the order of the first."""
    together = {}
    for context, response in exchanges:
        together.setdefault(context, []).append(response)
    return together


def last_turns(turns, max_length, between=1):
    """The latest turns that a model can hold: as many whole turns from the end as fit.

    turns       lists of token ids, oldest first; where even the last does not fit, its last `max_length` ids are kept
    max_length  tokens; `between` of them stand between two turns
    -> list of lists of ids, oldest first
    """
    if not turns or not turns[-1]:
        raise ValueError("a context is empty; expected at least one turn with a word in it.")
    kept, room = [turns[-1][-max_length:]], max_length - len(turns[-1])
    for turn in reversed(turns[:-1]):
        room -= len(turn) + between
        if room < 0:
            break
        kept.append(turn)
    return kept[::-1]


def _dailydialog(folder, split):
    split = "validation" if split == "valid" else split
    for dialogue in lines(folder / split / f"dialogues_{split}.txt"):
        turns = [turn.strip() for turn in dialogue.split("__eou__") if turn.strip()]
        yield from (Exchange(tuple(turns[:i]), turns[i]) for i in range(1, len(turns)))


def _from_path(name, split):
    path = Path(name).expanduser()
    if path.is_dir():
        parts = {}
        for file in sorted(path.iterdir()):
            words = set(re.split(r"[._-]", file.name.lower()))
            parts.update({key: partial(_tab_exchanges, file) for key, aliases in ALIASES.items() if words & set(aliases)})
    elif path.is_file():
        parts = {"train": partial(_tab_exchanges, path)}
    else:
        if "/" in name or path.suffix:
            raise FileNotFoundError(f"dialogs were expected as a file or folder at {path.absolute()}. Check the path.")
        raise KeyError(unknown_name(name, ("toy", "dailydialog"), "dialog corpus") + " Or give a file or a folder.")
    if "train" not in parts and split not in parts:
        raise FileNotFoundError(f"'{name}' has no split '{split}', nor a train part to cut it from; found: "
                                f"{', '.join(parts) or 'no file that names its split'}.")
    found = list(parts[split if split in parts else "train"]())
    cut_off = {"valid", "test"} - set(parts)
    if split in parts and not (split == "train" and cut_off):
        return found
    keep = {split} if split != "train" else {"train", "valid", "test"} - cut_off
    return [pair for pair in found if cut(" ".join(pair.context), PERCENT) in keep]


def _tab_exchanges(path):
    """Exchanges of `context TAB response` lines; a mistake names its line."""
    for number, text in numbered_lines(path):
        if not text.strip():
            continue
        cells = [cell.strip() for cell in text.split("\t")]
        if len(cells) != 2:
            raise ValueError(f"{path}, line {number}: expected context TAB response, found {len(cells)} tab-separated cells.")
        turns = tuple(turn for turn in TURN_MARKS.split(cells[0]) if turn)
        if not turns or not cells[1]:
            raise ValueError(f"{path}, line {number}: the {'response' if turns else 'context'} is empty.")
        yield Exchange(turns, cells[1])


# the toy


WHENS = ("today", "tonight", "tomorrow", "on sunday")
INTENTS = {  # what is asked about -> verb of the answer, what it can be answered by
    "eat": ("have", ("soup", "rice", "fish", "cake")),
    "drink": ("drink", ("tea", "milk", "water", "juice")),
    "visit": ("see", ("the park", "the beach", "the market", "the zoo")),
    "play": ("play", ("chess", "tennis", "cards", "golf")),
    "watch": ("watch", ("a film", "the news", "the stars", "a race")),
    "read": ("read", ("a novel", "a poem", "a letter", "the paper")),
}
FORMS = ("let us {verb} {item} {when} .", "how about {item} {when} ?", "i would love {item} .", "{item} again , please .")
STYLE_FORM = "arr , {} , matey !"


def _toy():
    """Every context with every right answer: 6 intents x 4 times x 4 ways to ask x 16 answers = 1,536 exchanges."""
    for intent, when in itertools.product(INTENTS, WHENS):
        asked = (f"what shall we {intent} {when} ?",), (f"do you know what to {intent} {when} ?",)
        earlier = (f"are you free {when} ?", "yes , i am ."), ("hello !", f"shall we meet {when} ?")
        contexts = (*asked, *((*turns, f"what shall we {intent} ?") for turns in earlier))
        yield from (Exchange(context, answer) for context in contexts for answer in toy_answers(context))


def toy_answers(context):
    """All right answers to a context of the toy: 4 things x 4 ways to say it -> tuple of 16 str.

    What is asked stands in the last turn, when in the last turn or an earlier one.
    """
    text = " ".join(context)
    intent = next((intent for intent in INTENTS if re.search(rf"\b{intent} ", context[-1])), None)
    when = next((when for when in WHENS if when in text), None)
    if intent is None or when is None:
        raise ValueError(f"not a context of the toy: '{text[:60]}'. Take one of load_dialog('toy').")
    verb, items = INTENTS[intent]
    return tuple(form.format(verb=verb, item=item, when=when) for item in items for form in FORMS)


# style


def toy_styled(answer):
    """An answer of the toy as its pirate says it: 'i would love tea .' -> 'arr , i would love tea , matey !'"""
    return STYLE_FORM.format(answer[:-2])


def load_style(name, split="train", limit=None, seed=0):
    """Sentences of one style, paired with nothing, at most `limit` of them, drawn with `seed`.

    name  'toy' (a pirate's answers to the toy's questions), 'CORPUS:CLASS' of a labelled corpus ('caption_style:romantic'),
          'tinyshakespeare' or 'tinyshakespeare:SPEAKER' (sentences of the speeches), or what `load_text` reads
    -> list of str
    """
    split = canonical_split(split)
    check_limit(limit, "sentences")
    corpus, _, wanted = name.partition(":")
    if name == "toy":
        answers = dict.fromkeys(pair.response for pair in _toy())
        found = _part([toy_styled(answer) for answer in answers], split)
    elif corpus == "tinyshakespeare":
        found = _part(_speeches(registry.find(corpus) / "input.txt", wanted), split)
    elif wanted and not Path(name).expanduser().exists() and corpus != "hub":
        sentences, labels, names = load_labelled(corpus, split)
        if wanted not in names:
            raise KeyError(unknown_name(wanted, names, f"class of '{corpus}'"))
        found = [s for s, label in zip(sentences, labels, strict=True) if names[label] == wanted]
    else:
        return load_text(name, split, limit, seed)
    return draw(found, limit, seed)


def _part(sentences, split):
    return [sentence for sentence in sentences if cut(sentence, PERCENT) == split]


def _speeches(path, speaker):
    """Sentences of `NAME:` speeches, verse joined to prose; of one speaker, or of all where it is ''."""
    speeches = [text.strip().partition(":\n") for text in "\n".join(text for _, text in numbered_lines(path)).split("\n\n")]
    names = sorted({name for name, _, text in speeches if text})
    if speaker and speaker not in names:
        raise KeyError(unknown_name(speaker, names, "speaker of the plays"))
    told = [" ".join(text.split()) for name, _, text in speeches if text and speaker in ("", name)]
    return list(dict.fromkeys(sentence for text in told for sentence in re.split(r"(?<=[.!?])\s+", text)))
