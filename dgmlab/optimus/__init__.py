"""Optimus: organising sentences by pre-trained modelling of a latent space.

Li, Gao, Li, Peng, Li, Zhang, Gao: "Optimus: Organizing Sentences via Pre-trained Modeling of a Latent Space", EMNLP 2020.

    eq. 3, the ELBO with a weight beta         objective.elbo
    cyclical schedule with a zero stage        objective.cyclical_beta
    thresholded KL ("free bits")               objective.elbo(free_bits=...)
    memory and embedding injection (fig. 3)    model.Optimus(injection=...)
    importance-weighted likelihood             evaluate.importance_weighted_nll
    one pass over four corpora (section 5.1)   compare.plan, compare.fine_tune
    interpolation, analogy (section 5.2)       latent.interpolate, latent.analogy
    label-conditional generation               conditional, adversary, train_conditional, transfer
    dialog and style, in one space             dialog.DialogOptimus, fusion.fusion, train_dialog.train, respond.respond
    few labels (fig. 4)                        masked.train (the BERT twin), classify.sentence_features, finetune.train

The smallest usage that works, on the embedded grammar (a minute on two CPU cores):

    from dgmlab.run import Run
    from dgmlab.optimus.train import TrainConfig, train
    run = Run.start("runs/first", {})
    print(train(run, TrainConfig(vocab_size=0)))

What differs from the paper: the slot lives in the attention function, so generation is cached and batched; the loss can be
in nats per sentence (`length_weighted=False`) or divided by T + 2 as released; perplexities are labelled by denominator;
mutual information is taken over the whole set.
"""

from dgmlab import front_door

__getattr__ = front_door(__name__, {
    "Optimus": "model", "OptimusConfig": "model", "Posterior": "model",
    "TrainConfig": "train", "load_trained": "data", "Tokenizers": "data",
    "ConditionalOptimus": "conditional", "ConditionalConfig": "train_conditional", "load_conditional": "conditional",
    "encode_sentences": "latent", "decode_latents": "latent", "interpolate": "latent", "analogy": "latent",
})
