"""FQ-GAN: a discriminator that compares features by the codes of a dictionary which follows real and fake images.

Zhao, Li, Yu, Gao, Chen: "Feature Quantization Improves GAN Training", ICML 2020, arXiv 2004.02088.

    look-up, straight-through gradient     dgmlab.quantize.VectorQuantizer.forward
    commitment term                        dgmlab.quantize.VectorQuantizer(commit_weight=...), attach.collect(D).commit
    dictionary by moving averages          dgmlab.quantize.update_dictionaries
    quantization at chosen layers          attach.add_fq, attach.remove_fq
    losses with the commitment term        train.train, both players
    BigGAN, TAC-GAN, StyleGAN2, U-GAT-IT   train (biggan, tacgan), train_stylegan (stylegan), translate (ugatit, cycle)
    what is watched while they train       watch: distance, use of the dictionaries, alarm
    a trained model                        sample: load_trained, sample, walk; translator: translate
    points in the plane, in seconds        toy (mixtures)

The smallest usage that works, with any discriminator D that gives scores (N, 1):

    from dgmlab.fqgan import add_fq, collect, update_dictionaries
    D = add_fq(D, ["blocks.0", "blocks.1"], n_codes=256)
    loss = (1 - D(real)).relu().mean() + collect(D).commit.mean()
    loss = loss + (1 + D(fake)).relu().mean() + collect(D).commit.mean()
    loss.backward(); optimizer.step(); update_dictionaries(D)

and with the loop of this folder:

    from dgmlab.fqgan.train import TrainConfig, train
    from dgmlab.run import Run
    train(Run.start("runs/digits", {}), TrainConfig(data="digits", fq="quantize"))

What differs from the paper: its text sends the codes on to the next layer (`mode="quantize"`, the default here), the
authors' code only adds the commitment term (`mode="regularize"`; their published numbers come from that), and `mode="warmup"`
goes from the one to the other. The dictionary begins at features of the first batch, dead codes are revived, it moves once
per step of an optimizer whatever the number of passes, and all ranks have the same.
"""

from dgmlab import front_door

__getattr__ = front_door(__name__, {
    "add_fq": "attach", "remove_fq": "attach", "collect": "attach", "Collected": "attach",
    "Trained": "sample", "load_trained": "sample", "save_trained": "sample", "walk": "sample",
    "feature_map": "watch", "layer_vectors": "watch",
    "VectorQuantizer": "dgmlab.quantize", "update_dictionaries": "dgmlab.quantize", "frozen": "dgmlab.quantize",
})
