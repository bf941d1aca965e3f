"""The article's first figure and the table of families."""

import math

import pytest

from dgmlab.viz import FAMILIES, MODELS, families_table, models_table, plot_timeline
from dgmlab.viz.timeline import FAMILY_COLOURS, Model, collect_timeline, decimal_year


def test_models_are_sourced_dated_and_of_a_known_family():
    assert {"VAE", "GAN", "Optimus", "FQ-GAN", "Prevalent", "GPT-2", "T-NLG"} <= {model.name for model in MODELS}
    for model in MODELS:
        assert model.family in FAMILY_COLOURS and len(model.source) > 10 and 2003 <= decimal_year(model.date) < 2021
    assert len({model.name for model in MODELS}) == len(MODELS)


def test_derived_counts_are_the_arithmetic_of_their_source():
    count = {model.name: model.parameters for model in MODELS}
    vae = (784 * 500 + 500) + 2 * (500 * 20 + 20) + (20 * 500 + 500) + (500 * 784 + 784)
    gan = (100 * 1200 + 1200) + (1200 * 1200 + 1200) + (1200 * 784 + 784)
    nlm = 16383 * (1 + 5 * 30 + 100) + 100 * (1 + 4 * 30)
    optimus = 108_310_272 + 124_439_808 + 768 * 64 + 32 * 12 * 768 + 32 * 768  # BERT, GPT-2, q(z|x), memory, embedding
    for name, exact in (("VAE", vae), ("GAN", gan), ("NLM", nlm), ("Optimus", optimus)):
        assert math.isclose(count[name], exact, rel_tol=0.01), name


def test_timeline_is_ordered_by_date_and_stars_what_is_unverified():
    info = collect_timeline()
    assert list(info.years) == sorted(info.years)
    assert decimal_year("2020-01") == pytest.approx(2020.04, abs=0.01)
    figure = plot_timeline()
    names = [text.get_text() for text in figure.axes[0].texts]
    assert "BigGAN*" in names and "GPT-2" in names and "* count not verified" in names
    assert figure.axes[0].get_yscale() == "log"
    with pytest.raises(ValueError, match="'X' is of the family 'flow'; choose one of: autoregressive, VAE, GAN, reference"):
        collect_timeline([Model("X", "flow", "2020-01", 1e6, "nowhere")])


def test_there_are_three_families():
    assert [family.family for family in FAMILIES] == ["VAE", "GAN", "autoregressive and self-supervised"]
    assert len(families_table().rows) == 3
    assert "233,000,000" in models_table().text()
