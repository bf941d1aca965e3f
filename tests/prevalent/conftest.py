"""Houses that several test files share: one worked out by hand, one of the real ones, and connectivity files of any."""

import json

import numpy as np
import pytest

from dgmlab.data.registry import data_home
from dgmlab.prevalent.house import House


@pytest.fixture
def cottage():
    """a at the origin, b 2 m north, c 3 m east, d excluded in the south, e 3 m above and 2 m north of b; a triangle a b c."""
    position = np.array([[0, 0, 1.5], [0, 2, 1.5], [3, 0, 1.5], [0, -2, 1.5], [0, 4, 4.5]])
    joined = np.zeros((5, 5), dtype=bool)
    for pair in ("ab", "ac", "bc", "ad", "dc", "be"):
        i, j = ("abcde".index(letter) for letter in pair)
        joined[i, j] = joined[j, i] = True
    return House("cottage", tuple("abcde"), position, np.array([1, 1, 1, 0, 1], dtype=bool), joined)


@pytest.fixture
def random_scan():
    """Name of a real house, another one each time."""
    files = sorted((data_home() / "matterport" / "connectivity").glob("*_connectivity.json"))
    if not files:
        pytest.skip("needs matterport/connectivity in DGMLAB_DATA")
    return str(np.random.default_rng().choice([file.name.split("_")[0] for file in files]))


@pytest.fixture(scope="session")
def write_house():
    """Function (folder, house, change) -> Path: a connectivity file of `house`, after a change of its rows."""
    def write(folder, house, change=lambda rows: None):
        tables = zip(house.viewpoints, *(table.tolist() for table in (house.position, house.included, house.unobstructed)),
                     strict=True)
        rows = [{"image_id": name, "pose": [1, 0, 0, x, 0, 1, 0, y, 0, 0, 1, z, 0, 0, 0, 1], "included": included,
                 "visible": list(joined), "unobstructed": list(joined), "height": 1.5}
                for name, (x, y, z), included, joined in tables]
        change(rows)
        path = folder / f"{house.scan}_connectivity.json"
        path.write_text(json.dumps(rows))
        return path

    return write
