"""From sentences to paired id batches, and from a run folder back to a model and its tokenizers.

A sentence x becomes `<bos> x <eos>` (`[CLS] x [SEP]` with BERT's tokenizer) for the encoder, and `<bos> x` predicting
`x <eos>` for the decoder. Letters: B batch, T time.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from dgmlab.data.batching import batches, pad
from dgmlab.optimus.model import Optimus
from dgmlab.run import locate

SPECIALS = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}
PAPER_SPECIALS = {"pad_token": "<PAD>", "bos_token": "<BOS>", "eos_token": "<EOS>"}  # in this order, as released


class Tokenizers(NamedTuple):
    """The tokenizer of each side; one and the same object for the presets with a vocabulary of their own."""

    encoder: PreTrainedTokenizerFast
    decoder: PreTrainedTokenizerFast

    def save(self, folder):
        self.encoder.save_pretrained(Path(folder) / "encoder_tokenizer")
        self.decoder.save_pretrained(Path(folder) / "decoder_tokenizer")

    @classmethod
    def load(cls, folder):
        """Those that `save` left in the folder; a folder that holds one tokenizer, as GPT-2's do, has it on both sides."""
        sides = [Path(folder) / f"{side}_tokenizer" for side in cls._fields]
        return cls(*(AutoTokenizer.from_pretrained(str(side if side.is_dir() else folder)) for side in sides))


class Pair(NamedTuple):
    """A batch: encoder_ids (B, Tx) and encoder_mask (B, Tx); decoder_ids (B, Ty) and target_ids (B, Ty), -100 where padded."""

    encoder_ids: torch.Tensor
    encoder_mask: torch.Tensor
    decoder_ids: torch.Tensor
    target_ids: torch.Tensor

    def to(self, device):
        return Pair(*(tensor.to(device) for tensor in self))

    def rows(self, start, stop):
        return Pair(*(tensor[start:stop] for tensor in self))


def word_tokenizer(sentences):
    """One id per whitespace word; for the grammar, whose words are few and known."""
    words = sorted({word for sentence in sentences for word in sentence.split()})
    vocabulary = {word: i for i, word in enumerate([*SPECIALS.values(), *words])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token=SPECIALS["unk_token"]))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return _wrap(core)


def bpe_tokenizer(sentences, vocab_size=8000):
    """Byte-level BPE trained on the corpus: any text round-trips, nothing is unknown. `<unk>` in the text stays one token."""
    core = Tokenizer(models.BPE())
    core.normalizer = normalizers.Strip()
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=list(SPECIALS.values()), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    core.train_from_iterator(sentences, trainer)
    return _wrap(core)


def _wrap(core):
    return PreTrainedTokenizerFast(tokenizer_object=core, clean_up_tokenization_spaces=False, **SPECIALS)


def paper_tokenizers(encoder="bert-base-cased", decoder="gpt2"):
    """BERT's tokenizer, and GPT-2's with the paper's three tokens added; hub names or local folders."""
    tokenizer = AutoTokenizer.from_pretrained(decoder)
    for name, token in PAPER_SPECIALS.items():
        tokenizer.add_special_tokens({name: token})
    return Tokenizers(AutoTokenizer.from_pretrained(encoder), tokenizer)


def build_tokenizers(size, sentences, vocab_size, encoder="bert-base-cased", decoder="gpt2"):
    """The tokenizers of a preset: the backbones' own for 'paper', else words (vocab_size 0) or a BPE of `vocab_size`."""
    if size == "paper":
        return paper_tokenizers(encoder, decoder)
    tokenizer = bpe_tokenizer(sentences, vocab_size) if vocab_size else word_tokenizer(sentences)
    return Tokenizers(tokenizer, tokenizer)


class Corpus:
    """Sentences as ids of both sides, and their batches.

    max_length  longest sentence in decoder tokens (`<bos>` and `<eos>` not counted); longer ones are dropped and counted
                in `n_dropped`, as in the paper, since a cut sentence is another sentence; the others' numbers are
                `kept` (len,)
    """

    def __init__(self, sentences, tokenizers, max_length, what="the corpus"):
        self.tokenizers = tokenizers
        encoder_ids, decoder_ids = (_ids(tokenizer, sentences) for tokenizer in tokenizers)
        kept = [i for i, ids in enumerate(decoder_ids) if 0 < len(ids) <= max_length and len(encoder_ids[i]) <= max_length]
        if not kept:
            longest = max(map(len, decoder_ids), default=0)
            raise ValueError(f"{what} has no sentence of 1 to {max_length} tokens ({len(decoder_ids)} sentences, the longest "
                             f"{longest} tokens). Raise max_length, or check the data.")
        self.n_dropped = len(decoder_ids) - len(kept)
        self.kept = np.array(kept)
        self.sentences = [sentences[i] for i in kept]
        self.encoder_rows = [encoder_ids[i] for i in kept]
        self.decoder_rows = [decoder_ids[i] for i in kept]
        self.lengths = np.array([len(ids) for ids in self.decoder_rows])

    def __len__(self):
        return len(self.sentences)

    def epoch_batches(self, batch_size, seed):
        """A function epoch -> list of index arrays: length-bucketed, shuffled, the same for the same seed and epoch."""
        return lambda epoch: batches(self.lengths, batch_size, seed, epoch)

    def pair(self, index):
        """The Pair of the sentences at `index` (B,)."""
        dec = self.tokenizers.decoder
        encoder_ids, mask = encoder_batch(self.tokenizers.encoder, [self.encoder_rows[i] for i in index])
        decoder_ids = pad([[dec.bos_token_id, *self.decoder_rows[i]] for i in index], dec.pad_token_id)
        target_ids = pad([[*self.decoder_rows[i], dec.eos_token_id] for i in index], -100)
        return Pair(encoder_ids, mask, decoder_ids, target_ids)


def encoder_batch(tokenizer, rows):
    """Id lists, each put between the tokenizer's two marks (CLS and SEP where it has them) -> (ids, mask), both (B, T)."""
    first = tokenizer.bos_token_id if tokenizer.cls_token_id is None else tokenizer.cls_token_id
    last = tokenizer.eos_token_id if tokenizer.sep_token_id is None else tokenizer.sep_token_id
    ids = pad([[first, *row, last] for row in rows], -1)
    mask = (ids != -1).long()
    return ids.masked_fill(mask == 0, tokenizer.pad_token_id), mask


def _ids(tokenizer, sentences):
    """Token ids of each sentence, without special tokens."""
    return tokenizer(sentences, add_special_tokens=False)["input_ids"] if sentences else []


def to_text(tokenizer, rows):
    """Sentences of generated ids (N, T): bos, eos and pad are dropped, `<unk>` is a word like any other -> list of N str"""
    hidden = {tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id}
    texts = tokenizer.batch_decode([[i for i in row if i not in hidden] for row in torch.as_tensor(rows).tolist()])
    return [" ".join(text.replace(SPECIALS["unk_token"], f" {SPECIALS['unk_token']} ").split()) for text in texts]


def check_length(sentences, tokenizers, max_length):
    """ValueError naming the first sentence that the model cannot hold."""
    encoder_ids, decoder_ids = (_ids(tokenizer, list(sentences)) for tokenizer in tokenizers)
    for sentence, other, ids in zip(sentences, encoder_ids, decoder_ids, strict=True):
        length = max(len(ids), len(other))
        if length > max_length:
            raise ValueError(f"a sentence has {length} tokens but the model holds {max_length}: '{sentence[:60]}...'. "
                             "Shorten it, or train with a larger max_length.")
        if not ids:
            raise ValueError("a sentence is empty; expected at least one word.")


def save_trained(folder, model, tokenizers):
    """model/ with config.json and safetensors, tokenizers beside it; what `load_trained` reads."""
    model.save_pretrained(Path(folder))
    tokenizers.save(folder)


def model_folder(folder):
    """The folder with config.json: the one that is named, or model/ inside it."""
    folder = locate(folder)
    folder = folder / "model" if (folder / "model").is_dir() else folder
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"a trained model was expected at {folder}/config.json. Train one with 11_optimus_train.")
    return folder


def load_trained(folder):
    """(model in evaluation mode, tokenizers) of a run folder or of its model/ folder."""
    folder = model_folder(folder)
    return Optimus.from_pretrained(folder).eval(), Tokenizers.load(folder)
