"""Pictures of a dictionary: the numbers they collect, worked out by hand, and that each of them draws."""

import numpy as np
import pytest

from dgmlab.run import Run
from dgmlab.viz import dictionary as pictures

FIRST = {"usage/a": [0, 4, 3, 0], "usage_fake/a": [0, 8, 0, 0], "js/a": 0.3,
         "usage/b": [1, 1], "usage_fake/b": [2, 0], "js/b": 0.4}
LAST = {"usage/a": [2, 6, 0, 0], "usage_fake/a": [2, 0, 0, 2], "js/a": 0.1,
        "usage/b": [4, 0], "usage_fake/b": [4, 0], "js/b": 0.2}


def make_run(folder, *rows):
    run = Run.start(folder, {})
    for i, row in enumerate(rows):
        run.log(10 * (i + 1), **row)
        run.log(10 * (i + 1) + 5, d_loss=1.0)
    run.close()
    return run


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "runs" / "21_biggan_train" / "fq", FIRST, LAST)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_usage_is_that_of_the_last_evaluation_sorted_by_real_use(run):
    info = pictures.collect_usage(run)
    a, b = info.panels
    assert info.step == 20 and (a.layer, b.layer) == ("a", "b")
    np.testing.assert_array_equal(a.order, [1, 0, 2, 3])
    np.testing.assert_allclose(a.real, [0.75, 0.25, 0, 0])
    np.testing.assert_allclose(a.fake, [0, 0.5, 0, 0.5])
    assert a.least == 1 / 8 and a.dead == 0.25 and b.dead == 0.5
    assert a.perplexity == pytest.approx(4 / 3**0.75)  # entropy log 4 - 3/4 log 3
    # m = (3/8, 3/8, 0, 1/4): p gives 3/4 log2 2 + 1/4 log2 2/3, q gives 1/2 log2 4/3 + 1/2 log2 2
    assert a.js == pytest.approx((0.75 + 0.25 * np.log2(2 / 3) + 0.5 * np.log2(4 / 3) + 0.5) / 2) and b.js == 0
    figure = pictures.plot_usage(run)
    assert figure.axes[0].get_title(loc="left") == "a: 25% dead, perplexity 2 of 4, JS 0.656 bits"
    assert legend(figure.axes[0]) == ["real", "generated"] and figure.png()


def test_bars_of_a_large_dictionary_are_its_shares_up_and_down(tmp_path):
    rng = np.random.default_rng()
    real, fake = rng.integers(0, 50, (2, 1024))
    row = {"usage/a": real.tolist(), "usage_fake/a": fake.tolist(), "js/a": 0.0}
    ax = pictures.plot_usage(make_run(tmp_path / "run", row)).axes[0]
    up, down = (patch.get_data().values for patch in ax.patches)
    np.testing.assert_allclose(up, np.sort(real)[::-1] / real.sum())
    assert down.sum() == pytest.approx(-1) and down.max() <= 0
    assert ax.get_ylim()[1] >= up.max() and ax.get_ylim()[0] <= down.min()


def test_lives_stand_in_the_order_of_birth(run):
    a, b = pictures.collect_code_life(run)
    np.testing.assert_array_equal(a.steps, [10, 20])
    np.testing.assert_array_equal(a.order, [1, 2, 0, 3])
    np.testing.assert_array_equal(a.usage, [[12, 3, 0, 0], [6, 0, 4, 2]])  # real and generated together
    assert (a.living, a.never, a.deaths, a.revivals) == (3, 0, 1, 0)
    assert (b.living, b.never, b.deaths, b.revivals) == (1, 0, 1, 0)
    figure = pictures.plot_code_life(run, "b")
    assert figure.axes[0].get_title(loc="left") == "b: 1 of 2 codes live, 0 never did; 1 deaths, 0 revivals"
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array().filled(-1), [[3, 8], [1, -1]])
    assert len(pictures.plot_code_life(run).axes) == 4 and figure.png()


def test_codes_that_never_lived_come_last(tmp_path):
    info, = pictures.collect_code_life(make_run(tmp_path / "run", {"usage/a": [0, 1, 0], "usage_fake/a": [0, 0, 9]}))
    np.testing.assert_array_equal(info.order, [2, 1, 0])
    assert info.never == 1 and info.living == 2


def test_divergence_of_one_run_and_of_several(run, tmp_path):
    info = pictures.collect_divergence(run)
    (_, (a, b)), = info.panels
    assert (a.label, b.label) == ("a", "b")
    np.testing.assert_array_equal(a.steps, [10, 20])
    np.testing.assert_array_equal(b.values, [0.4, 0.2])
    other = make_run(tmp_path / "runs" / "21_biggan_train" / "other",
                     {key: value for key, value in FIRST.items() if key.endswith("/a")})
    info = pictures.collect_divergence([run, other])
    assert [(title, [curve.label for curve in curves]) for title, curves in info.panels] == [
        ("a", ["fq", "other"]), ("b", ["fq", "other"])]
    figure = pictures.plot_divergence([run, other])
    assert figure.axes[1].get_title(loc="left") == "b" and legend(figure.axes[0]) == ["fq", "other"] and figure.png()


def test_a_run_without_dictionaries_is_named(tmp_path, run):
    plain = make_run(tmp_path / "plain")
    for draw in (pictures.plot_usage, pictures.plot_code_life, pictures.plot_divergence):
        with pytest.raises(ValueError, match=r"plain.*logged.*add_fq"):
            draw(plain)
    with pytest.raises(KeyError, match="'c'.*Choose one of: a, b"):
        pictures.plot_code_life(run, "c")


def test_patches_lie_in_rows_with_white_between():
    patches = np.random.default_rng().integers(0, 255, (2, 3, 3, 5, 5), dtype=np.uint8)
    info = pictures.collect_patches(patches, [7, 9], [100, 2])
    assert info.sheet.shape == (14, 21, 3)
    np.testing.assert_array_equal(info.sheet[7:12, 14:19], patches[1, 2].transpose(1, 2, 0))
    assert (info.sheet[5:7] == 255).all() and (info.sheet[:, 5:7] == 255).all()
    figure = pictures.plot_patches(patches, [7, 9], [1000, 2])
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["code 7\n1,000 times", "code 9\n2 times"]
    assert figure.png()
    with pytest.raises(ValueError, match="1 codes and 2 counts"):
        pictures.plot_patches(patches, [7], [1000, 2])
    with pytest.raises(ValueError, match="float64"):
        pictures.plot_patches(patches / 255, [7, 9], [1000, 2])


def test_cells_are_as_far_from_one_code_as_from_the_other():
    sites = np.random.default_rng().normal(size=(9, 2))
    sites = np.concatenate([sites, sites[:2]])  # codes may lie upon each other
    for ends in pictures.cells(sites):
        middle = ends[0] + 1e-3 * (ends[1] - ends[0])
        gaps = np.sort(np.linalg.norm(np.unique(sites, axis=0) - middle, axis=1))
        assert gaps[0] == pytest.approx(gaps[1], rel=1e-6)
    assert len(pictures.cells(np.array([[0.0, 0], [1, 0]]))) == 1
    assert pictures.cells(np.zeros((3, 2))).shape == (0, 2, 2)


def test_dead_and_far_codes_are_told_from_live_ones():
    real = np.array([[0.0, 0], [1, 1], [2, 0]])
    entries = np.array([[0.0, 0], [1, 1], [0.5, 0.5], [400, 0]])
    info = pictures.collect_dictionary_2d(real, None, entries, [5, 1, 0, 0])
    assert (info.dead, info.outside) == (2, 1) and info.fake.shape == (0, 2)
    assert info.x == pytest.approx((-0.16, 2.16)) and info.y == pytest.approx((-0.16, 1.16))
    assert pictures.collect_dictionary_2d(real, None, -entries, [5, 1, 0, 0]).outside == 3
    figure = pictures.plot_dictionary_2d(real, real, entries, [5, 1, 0, 0])
    ax = figure.axes[0]
    assert ax.get_title(loc="left") == "2 of 4 codes dead, 1 out of sight"
    assert legend(ax) == ["real", "generated", "code, by use", "dead code"]
    codes, dead = ax.collections[-2:]
    np.testing.assert_array_equal(codes.get_offsets(), entries[:2])
    np.testing.assert_array_equal(dead.get_offsets(), entries[2:])
    sizes = codes.get_sizes()
    assert sizes[0] > sizes[1] and tuple(dead.get_facecolor()[0]) == (1, 1, 1, 1) and figure.png()
    with pytest.raises(ValueError, match=r"found shape \(3,\) for 4 codes"):
        pictures.plot_dictionary_2d(real, None, entries, [1, 2, 3])
    with pytest.raises(ValueError, match=r"dictionary must be finite points \(N, 2\), found shape \(4, 3\)"):
        pictures.plot_dictionary_2d(real, None, np.zeros((4, 3)), [1, 2, 3, 4])


def test_centroids_that_serve_both_are_counted():
    centroids = np.array([[0.0, 0], [10, 0], [0, 10], [50, 50]])
    real, fake = np.array([[1.0, 0], [9, 0], [0, -1]]), np.array([[0.0, 1], [0, 9]])
    info = pictures.collect_centroids(real, fake, centroids)
    np.testing.assert_array_equal(info.n_real, [2, 1, 0, 0])
    np.testing.assert_array_equal(info.n_fake, [1, 0, 1, 0])
    assert info.shared == 1
    figure = pictures.plot_centroids(real, fake, centroids, title="plain")
    assert figure.axes[0].get_title(loc="left") == "plain: 1 of 4 centroids serve both"
    assert legend(figure.axes[0]) == ["real", "generated", "centroid"] and figure.png()
