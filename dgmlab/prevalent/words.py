"""Words and ids: the vocabulary of R2R, made from its sentences as the published code makes it, or BERT's word pieces.

    Words.build(sentences)              words with at least 5 uses, as in R2R (Anderson et al. 2018)
    Words.load(folder), .save(folder)   words.txt, one word a line; also reads a published list such as train_vocab.txt
    Words.wordpiece(folder_or_name)     bert-base-uncased: a folder with vocab.txt, or a name on the Hugging Face hub

Both number the five special tokens differently, so read `words.pad`, `.unk`, `.cls`, `.sep` and `.mask`. CLS begins and SEP
ends a sentence, also the ones that a speaker writes.
"""

import os
import re
import string
from collections import Counter
from pathlib import Path

import numpy as np
import torch

PAD, UNK, CLS, SEP, MASK = range(5)
SPECIAL = ("<PAD>", "<UNK>", "<CLS>", "<SEP>", "<MASK>")
MAX_LENGTH = 80  # CLS and SEP included (Tan et al. 2019)
FILE = "words.txt"


def tokenize(text):
    """Lower-case words and punctuation as the R2R code splits them: '...' stays whole, other runs of marks fall apart."""
    tokens = []
    for word in re.split(r"(\W+)", text.strip().lower()):
        word = word.strip()
        marks = word and all(char in string.punctuation for char in word)
        tokens += list(word) if marks and set(word) != {"."} else [word] if word else []
    return tokens


class Words:
    """A vocabulary. `len(words)` ids, the special ones `pad`, `unk`, `cls`, `sep`, `mask`; `vocabulary` tuple of str by id."""

    def __init__(self, vocabulary, special=SPECIAL, split=tokenize, join=" ".join):
        self.vocabulary = tuple(vocabulary)
        self.index = {word: i for i, word in enumerate(self.vocabulary)}
        if len(self.index) < len(self.vocabulary):
            twice = Counter(self.vocabulary).most_common(1)[0][0]
            raise ValueError(f"a vocabulary holds each word once, found '{twice}' twice. Remove one of them.")
        missing = [token for token in special if token not in self.index]
        if missing:
            raise ValueError(f"a vocabulary holds special tokens, found no {' '.join(missing)}. Add them, or use Words.build.")
        self.pad, self.unk, self.cls, self.sep, self.mask = (self.index[token] for token in special)
        self.special = frozenset((self.pad, self.unk, self.cls, self.sep, self.mask))
        self._split, self._join = split, join

    def __len__(self):
        return len(self.vocabulary)

    @classmethod
    def build(cls, texts, min_count=5):
        """The words with at least `min_count` uses in `texts`, most frequent first (equals in order of first use)."""
        counts = Counter(token for text in texts for token in tokenize(text))
        return cls((*SPECIAL, *(word for word, n in counts.most_common() if n >= min_count)))

    @classmethod
    def load(cls, path):
        """What `save` wrote (a folder), or a list with one word a line; the special tokens of other lists are left out."""
        path = Path(path)
        if path.is_dir() and (path / "vocab.txt").is_file() and not (path / FILE).exists():
            return cls.wordpiece(path)
        path = path / FILE if path.is_dir() else path
        if not path.is_file():
            advice = "Words.build(texts).save(folder) makes one."
            raise FileNotFoundError(f"a vocabulary was expected at {path}, found none. {advice}")
        lines = path.read_text(encoding="utf-8").split("\n")
        return cls((*SPECIAL, *(word for word in lines if word and not re.fullmatch(r"<[A-Z]+>", word))))

    def save(self, folder):
        """Write the vocabulary into `folder`, so that `Words.load(folder)` gives it back."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (FILE if self.vocabulary[: len(SPECIAL)] == SPECIAL else "vocab.txt")
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text("\n".join(self.vocabulary) + "\n", encoding="utf-8")
        os.replace(part, path)

    @classmethod
    def wordpiece(cls, name):
        """BERT's lower-cased word pieces: a folder that holds vocab.txt, or a name on the hub such as bert-base-uncased."""
        from transformers import BertTokenizer

        folder = Path(name)
        if folder.is_dir() and not (folder / "vocab.txt").is_file():
            raise FileNotFoundError(f"word pieces were expected at {folder / 'vocab.txt'}, found none. Give a folder of BERT.")
        tokenizer = BertTokenizer.from_pretrained(str(name))
        index = tokenizer.get_vocab()
        special = (tokenizer.pad_token, tokenizer.unk_token, tokenizer.cls_token, tokenizer.sep_token, tokenizer.mask_token)
        return cls(sorted(index, key=index.get), special, tokenizer.tokenize, tokenizer.convert_tokens_to_string)

    def encode(self, text, max_length=MAX_LENGTH, cut=None):
        """Ids of a sentence, CLS first and SEP last.

        max_length  of the ids; a longer sentence is an error unless `cut` says which side may go: its 'end' or its 'start'
        -> list of int
        """
        if cut not in (None, "end", "start"):
            raise ValueError(f"cut is None, 'end' or 'start', found {cut!r}.")
        ids = [self.index.get(token, self.unk) for token in self._split(text)]
        room = max_length - 2
        if len(ids) > room:
            if cut is None:
                raise ValueError(
                    f"'{text[:40]}...' has {len(ids) + 2} tokens with CLS and SEP, but the model reads {max_length}. "
                    "Raise max_length, or let go of a side with cut='end' or cut='start'."
                )
            ids = ids[:room] if cut == "end" else ids[len(ids) - room :]
        return [self.cls, *ids, self.sep]

    def tokens(self, ids):
        """One str per id, special tokens included: the labels of an attention over `ids`."""
        return [self.vocabulary[i] for i in ids]

    def decode(self, ids):
        """The text up to the first SEP, without CLS, PAD and MASK; unknown words show as the UNK token."""
        ids = [int(i) for i in ids]
        ids = ids[: ids.index(self.sep)] if self.sep in ids else ids
        return self._join([self.vocabulary[i] for i in ids if i not in (self.cls, self.pad, self.mask)])

    def batch(self, texts, max_length=MAX_LENGTH, cut=None):
        """Sentences side by side, padded to the longest. -> ids (B, T) long, mask (B, T) bool, False where padded"""
        return self.pad_batch([self.encode(text, max_length, cut) for text in texts])

    def pad_batch(self, sequences):
        """Lists of ids side by side. -> ids (B, T) long, mask (B, T) bool, False where padded"""
        lengths = np.array([len(ids) for ids in sequences])
        mask = np.arange(lengths.max(initial=0)) < lengths[:, None]
        table = np.full(mask.shape, self.pad, dtype=np.int64)
        table[mask] = [i for ids in sequences for i in ids]
        return torch.from_numpy(table), torch.from_numpy(mask)
