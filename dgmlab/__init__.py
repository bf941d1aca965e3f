"""dgmlab: an interactive workbench for deep generative models.

A map of the house; imports go down the list, never up.

    cli                      `dgmlab run | list | sweep | report | data | doctor | bench`
    viz/ widgets/ report     pictures: take arrays, paths, callables and Run objects, never a model
    optimus/ fqgan/ prevalent/  one folder per paper; they never import each other
    data/ metrics/ quantize  corpora, numbers and the vector quantizer; know no system
    run config training checkpoint    bookkeeping: a run is a folder, a config is a frozen dataclass
    notebooks sweep          the headless runner, and grids of runs

`import dgmlab` imports nothing heavy; ask for the module you need, e.g. `from dgmlab.optimus import Optimus`.
"""

__version__ = "0.1.0"


def front_door(package, home):
    """A system's module `__getattr__` (PEP 562): its public names and its files, imported on first use.

    package  the system's `__name__`
    home     public name -> the file of the package that holds it, or another module by its full name
    """
    from importlib import import_module

    def find(name):
        if name in home:
            module = home[name]
            return getattr(import_module(module if "." in module else f"{package}.{module}"), name)
        try:
            return import_module(f"{package}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise
            raise AttributeError(f"module '{package}' has no attribute '{name}'") from None

    return find
