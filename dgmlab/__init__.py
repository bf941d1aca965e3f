"""dgmlab: an interactive workbench for deep generative models.

A map of the house; imports go down the list, never up.

    cli                      `dgmlab run | list | sweep | report | data | doctor | bench`
    viz/ widgets/ report     pictures: take arrays, paths, callables and Run objects, never a model
    optimus/ fqgan/          one folder per paper; they never import each other
    data/ metrics/ quantize  corpora, numbers and the vector quantizer; know no system
    run config training checkpoint    bookkeeping: a run is a folder, a config is a frozen dataclass
    notebooks sweep          the headless runner, and grids of runs

`import dgmlab` imports nothing heavy; ask for the module you need, e.g. `from dgmlab.optimus import Optimus`.
"""

__version__ = "0.1.0"
