"""Corpora: what they are, where they come from, and how they become batches. Knows no system.

    grammar    the embedded default: English sentences with known factors and an exactly known entropy
    text       `load_text(name)` and `load_labelled(name)`: files, folders, known corpora, the Hugging Face hub
    reading    the file formats, line by line, gzipped or not
    catalogue  the facts about every corpus: addresses, sha256, licences, citations
    registry   find, get (resumable) and check them on this machine; `dgmlab data list | get | check`
    batching   length-bucketed batches as a pure function of (lengths, batch size, seed, epoch)
    stream     the same for corpora that do not fit in memory: shards, resumable in the middle of one

Importing these brings in neither `datasets` nor anything of Jupyter; torch only when rows are padded.
"""
