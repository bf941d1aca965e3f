"""Corpora and pictures: what they are, where they come from, and how they become batches. Knows no system.

    grammar    the embedded default: English sentences with known factors and an exactly known entropy
    text       `load_text(name)` and `load_labelled(name)`: files, folders, known corpora, the Hugging Face hub
    reading    the file formats, line by line, gzipped or not
    catalogue  the facts about every corpus: addresses, sha256, licences, citations
    registry   find, get (resumable) and check them on this machine; `dgmlab data list | get | check`
    batching   batches as a pure function of (lengths, batch size, seed, epoch): by length, or equally large
    stream     the same for corpora that do not fit in memory: shards, resumable in the middle of one
    images     `load_images(name)`, `load_pair(name)`, `describe(name)`: pictures with classes, domains, a sanity card
    image_folders, image_files  the layouts: folders of pictures; parquet, CIFAR's batches, scikit-learn's samples
    pixels     decode and fit a picture, [-1, 1] and back, mirror, crop

Importing these brings in neither `datasets` nor anything of Jupyter; torch only for pictures and when rows are padded.
"""
