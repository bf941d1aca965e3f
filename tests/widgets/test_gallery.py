"""Galleries and translations worked without a browser: a lambda stands in for the generator."""

import io

import numpy as np
import pytest
from PIL import Image

from dgmlab.widgets import Gallery, Translator


class Toy:
    """A generator of flat pictures whose red tells the seed, green the class (255 for all), blue the truncation."""

    def __init__(self):
        self.calls = []

    def sample(self, n, classes, truncation, seed):
        self.calls.append((n, classes, round(truncation, 2), seed))
        x = np.zeros((n, 3, 8, 8), np.uint8)
        x[:, 0], x[:, 1], x[:, 2] = seed, 255 if classes is None else classes[0], round(100 * truncation)
        return x

    def walk(self, seeds, classes, truncation):
        self.calls.append((seeds, classes, round(truncation, 2)))
        return np.linspace(*(self.sample(1, classes, truncation, seed)[0] for seed in seeds), 5).astype(np.uint8)


@pytest.fixture
def toy():
    return Toy()


@pytest.fixture
def gallery(toy):
    return Gallery(toy.sample, ("cat", "dog"), n=4, columns=2, walk=toy.walk, seed=10)


def shown(gallery):
    """Colours of the first picture in the PNG that the browser gets."""
    pixels = np.asarray(Image.open(io.BytesIO(gallery.grid.value)).convert("RGB"))
    return tuple(int(v) for v in pixels[pixels.shape[0] - 40, 40])


def test_a_gallery_shows_samples_at_once(gallery, toy):
    assert toy.calls == [(4, None, 1.0, 10)] and gallery.pictures[:, 0, 0, 0].tolist() == [10] * 4
    assert gallery.status.text == "4 samples, seed 10, all classes, truncation 1.00"
    assert shown(gallery) == (10, 255, 100) and gallery.grid.layout.display is None
    assert gallery.static().numbers["captions"] == ["cat", "dog", "cat", "dog"]


def test_controls_change_what_is_sampled_and_what_was_is_kept(gallery, toy):
    gallery.next.click()
    assert gallery.seed.value == 11 and shown(gallery)[0] == 11
    gallery.classes.value = 1
    gallery.truncation.value = 0.5
    assert toy.calls[-1] == (4, [1], 0.5, 11) and shown(gallery) == (11, 1, 50)
    assert gallery.status.text == "4 samples, seed 11, dog, truncation 0.50"
    assert gallery.static().numbers["captions"] == []
    before = len(toy.calls)
    gallery.truncation.value = 1.0
    gallery.classes.value = -1
    gallery.back.click()
    assert len(toy.calls) == before and shown(gallery) == (10, 255, 100)
    gallery.show(seed=0)
    gallery.back.click()
    assert gallery.seed.value == 0 and not gallery.truncation.continuous_update


def test_show_sets_several_controls_and_samples_once(gallery, toy):
    pictures = gallery.show(seed=3, class_name="dog", truncation=0.25)
    assert toy.calls[1:] == [(4, [1], 0.25, 3)] and pictures[0, :, 0, 0].tolist() == [3, 1, 25]
    assert gallery.show(class_name="all")[0, 1, 0, 0] == 255
    assert gallery.show(class_name="cat")[0, 1, 0, 0] == 0
    with pytest.raises(KeyError, match="no class is called 'dot'. Did you mean 'dog'"):
        gallery.show(class_name="dot")


def test_a_walk_goes_to_the_next_seed_and_on(gallery, toy):
    assert gallery.film.layout.display == "none"
    gallery.walker.click()
    assert ((10, 11), [0], 1.0) in toy.calls and gallery.frames[:, 0, 0, 0].tolist() == [10, 10, 10, 10, 11]
    assert gallery.seed.value == 11 and shown(gallery)[0] == 11 and gallery.film.layout.display is None
    assert gallery.status.text == "5 pictures from seed 10 to 11, and 4 samples, seed 11, all classes, truncation 1.00"
    assert Image.open(io.BytesIO(gallery.movie.value)).n_frames >= 2
    gallery.classes.value = 1
    assert gallery.film.layout.display == gallery.movie.layout.display == "none" and gallery.frames is None
    gallery.walk_on()
    assert ((11, 12), [1], 1.0) in toy.calls and gallery.seed.value == 12
    assert gallery.static_walk().numbers["row_names"] == ["12 to 13"]


def test_an_unconditional_gallery_has_no_classes_and_without_walk_no_button(toy):
    gallery = Gallery(toy.sample, n=2)
    controls = gallery.view.children[1].children
    assert gallery.classes not in controls and gallery.walker not in controls and gallery.truncation in controls
    assert gallery.status.text == "2 samples, seed 0, truncation 1.00" and toy.calls == [(2, None, 1.0, 0)]
    walking = Gallery(toy.sample, n=2, walk=toy.walk)
    walking.walk_on()
    assert ((0, 1), None, 1.0) in toy.calls


def test_errors_are_one_line_and_the_pictures_stay(toy):
    def sample(n, classes, truncation, seed):
        if seed == 1:
            raise RuntimeError("no memory\nlong story")
        return toy.sample(n if seed != 2 else n - 1, classes, truncation, seed) * (1.0 if seed == 3 else 1)

    gallery = Gallery(sample, n=3, walk=lambda *asked: toy.walk(*asked)[:1])
    before = gallery.grid.value
    for seed, line in ((1, "RuntimeError: no memory"),
                       (2, "ValueError: sample must return 3 pictures, found 2. Check the callable."),
                       (3, "ValueError: pictures (N, 3, S, S) uint8 were expected, at least one, found (3, 3, 8, 8) float")):
        gallery.show(seed=seed)
        assert gallery.status.failed and gallery.status.text.startswith(line) and gallery.grid.value == before
    with pytest.raises(ValueError, match="uint8 were expected"):
        gallery.static()
    gallery.show(seed=0)
    assert not gallery.status.failed
    assert gallery.walk_on() is None and gallery.seed.value == 0
    assert gallery.status.text.startswith("ValueError: walk must return at least its 2 ends, found 1")


CATS, DOGS = (np.stack([np.full((3, 8, 8), 10 * i + base, np.uint8) for i in range(n)]) for n, base in ((3, 0), (5, 100)))


@pytest.fixture
def translator():
    calls = []

    def translate(x, direction):
        calls.append((int(x[0, 0, 0, 0]), direction))
        if direction == "dog to cat":
            return 255 - x, None, None
        return 255 - x, np.full((1, 2, 2), 0.5), x

    made = Translator(translate, {"cat to dog": CATS, "dog to cat": DOGS})
    made.calls = calls
    return made


def test_a_translator_shows_the_first_picture_and_the_way_back(translator):
    assert translator.calls == [(0, "cat to dog")] and translator.status.text == "cat to dog, picture 0 of 0 to 2"
    source, translated, heat, back = translator.result
    assert (source == 0).all() and (translated == 255).all() and heat.shape == (1, 2, 2) and (back == 0).all()
    assert translator.static().numbers["column_names"] == ["source", "heat map", "translated", "back"]
    assert all(bytes(image.value).startswith(b"\x89PNG") for image in (translator.board, translator.strip))


def test_pictures_and_directions_are_chosen_and_translated_once(translator):
    strip = translator.strip.value
    translator.picture.value = 2
    assert translator.calls[1:] == [(20, "cat to dog")] and translator.strip.value != strip
    translator.direction.value = "dog to cat"
    assert translator.calls[2:] == [(100, "dog to cat")] and translator.picture.max == 4
    assert translator.static().numbers["column_names"] == ["source", "translated"]
    source, *_ = translator.show("dog to cat", 4)
    assert (source == 140).all() and translator.calls[3:] == [(140, "dog to cat")]
    translator.show("cat to dog", 2)
    assert translator.picture.value == 2 and len(translator.calls) == 4  # known
    assert (translator.show(picture=1)[0] == 10).all() and translator.direction.value == "cat to dog"
    with pytest.raises(IndexError, match="'cat to dog' has no picture 3; choose one from 0 to 2"):
        translator.show(picture=3)
    with pytest.raises(KeyError, match="no direction is called 'cat to dig'. Did you mean 'cat to dog'"):
        translator.show("cat to dig")


def test_a_broken_translator_is_a_line():
    made = Translator(lambda x, direction: (x,), {"a to b": CATS})
    assert made.status.text == ("ValueError: translate must return (translated, heat_maps, back), found 1 things. "
                                "Check the callable.")
    with pytest.raises(ValueError, match="pictures of at least one direction were expected"):
        Translator(None, {})
