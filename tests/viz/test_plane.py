"""Points in the plane: what is collected, one scale for all, and colours by class."""

import numpy as np
import pytest
from matplotlib.colors import to_rgba

from dgmlab.viz import plane, style


def test_panels_share_the_scale_of_the_first_and_colour_by_class():
    rng = np.random.default_rng()
    real, fake = rng.uniform(0, 10, (300, 2)), rng.uniform(-50, 50, (300, 2))
    real[:2] = [[0, 0], [10, 10]]
    labels = rng.integers(0, 3, 300)
    info = plane.collect_points({"real": (real, labels), "fake": (fake, labels)}, limit=200)
    np.testing.assert_allclose([info.low, info.high], [[-0.6, -0.6], [10.6, 10.6]])
    np.testing.assert_array_equal(info.panels[1].counts, np.bincount(labels[:200]))
    figure = plane.plot_points({"real": (real, labels), "fake": (fake, labels)}, limit=200)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["real", "fake"]
    assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim()
    drawn = figure.axes[1].collections[0]
    np.testing.assert_array_equal(drawn.get_offsets(), fake[:200])
    np.testing.assert_allclose(drawn.get_facecolors()[:, :3], [to_rgba(style.colour(y))[:3] for y in labels[:200]])
    assert figure.png()


def test_empty_places_of_the_last_row_are_left_out():
    panel = np.random.default_rng().normal(size=(5, 2)), np.arange(5)
    assert len(plane.plot_points({str(i): panel for i in range(4)}, columns=3).axes) == 4
    with pytest.raises(ValueError, match=r"'x' must be points \(N, 2\) and N labels, found \(5, 2\) and \(4,\)"):
        plane.plot_points({"x": (panel[0], panel[1][:4])})
