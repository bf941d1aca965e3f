"""Pictures of a latent space: maps, paths, analogies, grids."""

import numpy as np
import pytest

from dgmlab.viz import latent
from dgmlab.viz.words import break_lines, changed_words, marked_html, text_width


def blobs(n=40, dims=6, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return rng.normal(size=(n, dims)) + 12 * labels[:, None], labels


def test_tsne_is_reproducible_and_keeps_clusters_apart():
    features, labels = blobs()
    xy = latent.tsne(features, seed=3, perplexity=8)
    assert xy.shape == (40, 2) and xy.dtype == np.float64
    np.testing.assert_array_equal(xy, latent.tsne(features, seed=3, perplexity=8))
    assert latent.knn_accuracy(xy, labels, k=5) == 1.0


@pytest.mark.parametrize("features", [
    np.random.default_rng(0).normal(size=(7, 80)),  # more columns than 50 and fewer points than three times the perplexity
    np.zeros((12, 4)),                              # a collapsed posterior: all means equal
    np.arange(9.0)[:, None],                        # one dimension
])
def test_tsne_copes_with_hard_input(features):
    xy = latent.tsne(features)
    assert xy.shape == (len(features), 2) and np.isfinite(xy).all()


def test_tsne_refuses_what_it_cannot_map():
    with pytest.raises(ValueError, match=r"at least 4 points, found an array \(3, 2\)"):
        latent.tsne(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="found NaN or inf in 1 of 5 points"):
        latent.tsne(np.array([[0, np.nan]] + [[0, 1]] * 4))


def test_neighbours_vote_without_the_point_itself():
    # two pairs and a stray: each pair's members vote for each other, the stray (label 1) sits beside label 0
    xy = np.array([[0, 0], [0, 1], [9, 0], [9, 1], [0, 3.0]])
    assert latent.knn_accuracy(xy, [0, 0, 1, 1, 1], k=1) == pytest.approx(4 / 5)


def test_tsne_panels_carry_scores_of_the_map_that_is_drawn():
    features, labels = blobs()
    line = np.zeros((40, 2)) + np.arange(40)[:, None]
    info = latent.collect_tsne({"apart": features[:, :2], "mixed": line}, labels, ["a", "b"])
    apart, mixed = info.panels
    assert apart.knn == 1.0 and apart.silhouette > 0.7 and mixed.silhouette < 0.1 and info.chance == 0.5
    figure = latent.plot_tsne({"apart": features[:, :2], "mixed": features[:, 2:4]}, labels, ["a", "b"])
    assert [ax.get_title(loc="left").strip() for ax in figure.axes] == ["apart", "mixed"]
    assert "10 neighbours agree 100% (chance 50%)" in figure.axes[0].texts[0].get_text()
    with pytest.raises(ValueError, match=r"'apart' must be \(40, 2\)"):
        latent.collect_tsne({"apart": features}, labels)
    with pytest.raises(ValueError, match="labels must be numbers 0 to 0 for 1 names, found 0 to 1"):
        latent.collect_tsne({"apart": features[:, :2]}, labels, ["a"])


def test_changed_words_are_those_the_row_above_lacks():
    words, changed = changed_words("a cat sits .", "a big cat sat .")
    assert words == ("a", "big", "cat", "sat", ".") and changed == (False, True, False, True, False)
    assert marked_html(("<b>", "x"), (False, True)).startswith("&lt;b&gt; <mark")


def test_path_rows_compare_each_sentence_with_the_one_before():
    rows = latent.collect_path(["a cat .", "a dog .", "a dog ."])
    assert [row.tau for row in rows] == [0, 0.5, 1]
    assert [row.changed for row in rows] == [(False,) * 3, (False, True, False), (False,) * 3]
    with pytest.raises(ValueError, match="found 2 taus and 1 sentences"):
        latent.collect_path(["a"], [0, 1])
    figure = latent.plot_path(["a cat .", "a dog $5 _ .", ""], title="x", current=1)
    assert [row["tau"] for row in figure.numbers["rows"]] == [0, 0.5, 1]
    assert figure.png()


def test_long_sentences_are_broken_within_the_width():
    words = ["word"] * 30
    lines = break_lines(words, [False] * 30, 120, 10)
    assert len(lines) > 1 and sum(map(len, lines)) == 30
    assert all(x + text_width(word, 10) <= 120 for line in lines for word, _, x in line)
    assert len(break_lines(["w" * 80], [False], 50, 10)) == 1  # one word too long stays whole


def test_map_notes_are_spread_out_and_sentences_match():
    xy = np.array([[0, 0], [0.1, 0], [10, 0], [0, 10.0]])
    assert sorted(latent.spread_out(xy, 3)) in ([0, 2, 3], [1, 2, 3])
    assert len(latent.spread_out(xy, 9)) == 4
    info = latent.collect_map(xy, None, list("abcd"), notes=[2])
    assert info.sentences == ("c",) and info.names == ("0",)
    with pytest.raises(ValueError, match="found 3 sentences and 4 points"):
        latent.collect_map(xy, None, list("abc"))
    figure = latent.plot_map(xy, [0, 0, 1, 1], list("abcd"), ["x", "y"], places=[(5, 5, "between")])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert "between" in texts and figure.numbers["places"] == [[5, 5, "between"]] and len(texts) == 5


def test_analogies_mark_what_differs_from_c_and_count_successes():
    tries = [("a", "b", "the cat sits", "the cats sit", True), ("a", "b", "c", "d", False), ("a", "b", "c", "c")]
    rows = latent.collect_analogies(tries)
    assert rows[0].changed == (False, True, True) and [row.ok for row in rows] == [True, False, None]
    assert "1 of 2 as intended" in latent.plot_analogy(tries).axes[0].texts[0].get_text()


def test_grid_counts_distinct_sentences():
    info = latent.collect_grid([["a", "a"], ["b", "a"]])
    np.testing.assert_array_equal(info.kind, [[0, 0], [1, 0]])
    assert info.distinct == 2
    assert latent.plot_latent_grid([["a", "a"], ["b", "a"]], [0, 1], [0, 1]).numbers["distinct"] == 2
