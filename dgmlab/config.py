"""Frozen dataclass <-> flat parameters, as notebooks, recipes and checkpoints pass them around.

An experiment's configuration is a frozen dataclass with one comment per field. Parameters come from outside (a notebook's
`parameters` cell, a YAML recipe, a command line), so they are checked here, once, before anything runs.
"""

import dataclasses
import difflib
import types
import typing


def from_params(cls, params):
    """Build the frozen dataclass `cls` from a flat dict; fields that are not given keep their defaults.

    KeyError   an unknown name; the message lists the valid ones
    TypeError  a value of another type than the field's annotation (an int is taken for a float)
    """
    hints = typing.get_type_hints(cls)
    valid = [field.name for field in dataclasses.fields(cls)]
    for name in params:
        if name not in valid:
            raise KeyError(unknown_name(name, valid, f"parameter of {cls.__name__}"))
    return cls(**{name: cast(name, value, hints[name]) for name, value in params.items()})


def to_params(config):
    """The flat dict that `from_params` takes back."""
    return dataclasses.asdict(config)


def unknown_name(name, valid, what):
    """One line for a misspelt name: what was found, the nearest match, and all valid choices."""
    close = difflib.get_close_matches(str(name), [str(v) for v in valid], n=1)
    hint = f" Did you mean '{close[0]}'?" if close else ""
    return f"no {what} is called '{name}'.{hint} Choose one of: {', '.join(map(str, valid))}."


def cast(name, value, annotation):
    """`value` if it fits `annotation` (int, float, str, bool, or a union of these), else a TypeError in one line."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        allowed = typing.get_args(annotation)
    else:
        allowed = (annotation,)
    for kind in allowed:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind in (type(None), None) and value is None:
            return None
        if isinstance(kind, type) and isinstance(value, kind) and not (kind in (int, float) and isinstance(value, bool)):
            return value
    expected = " or ".join(getattr(kind, "__name__", str(kind)) for kind in allowed)
    boolean = expected == "str" and isinstance(value, bool)
    hint = " YAML reads off, on, yes and no as booleans: put it into quotes." if boolean else ""
    raise TypeError(f"parameter '{name}' must be {expected}, found {value!r} ({type(value).__name__}).{hint}")


def differences(old, new):
    """The lines 'key: old -> new' in which two flat dicts differ, in the order of their keys."""
    keys = list(dict.fromkeys([*old, *new]))
    missing = object()
    found = []
    for key in keys:
        a, b = old.get(key, missing), new.get(key, missing)
        if a != b:
            found.append(f"{key}: {'(absent)' if a is missing else repr(a)} -> {'(absent)' if b is missing else repr(b)}")
    return found


def from_namespace(cls, namespace):
    """`from_params` on those names of a notebook's globals (or any dict) that are fields of `cls`."""
    fields = {field.name for field in dataclasses.fields(cls)}
    return from_params(cls, {name: value for name, value in namespace.items() if name in fields})
