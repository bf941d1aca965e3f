"""Dialogs and style text: the toy with all its answers, DailyDialog's layout, files, and what is said about broken ones."""

import pytest

from dgmlab.data.dialog import by_context, last_turns, load_dialog, load_style, toy_answers


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))

    def write(name, *lines):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path
    return write


def test_the_toy_has_sixteen_right_answers_to_each_of_its_96_contexts():
    parts = {split: load_dialog("toy", split) for split in ("train", "valid", "test")}
    everything = [pair for pairs in parts.values() for pair in pairs]
    assert len(everything) == len(set(everything)) == 1536
    answers = by_context(everything)
    assert len(answers) == 96
    assert all(set(found) == set(toy_answers(context)) and len(found) == 16 for context, found in answers.items())
    assert len(parts["train"]) > 1100 and min(len(parts["valid"]), len(parts["test"])) > 100


def test_the_time_may_stand_in_an_earlier_turn():
    answers = toy_answers(("are you free tonight ?", "yes , i am .", "what shall we eat ?"))
    assert "let us have soup tonight ." in answers and "i would love cake ." in answers
    assert not any("tea" in answer or "today" in answer for answer in answers)
    with pytest.raises(ValueError, match="not a context of the toy: 'who are you"):
        toy_answers(("who are you ?",))


def test_dailydialog_gives_every_turn_but_the_first_with_all_before(home):
    home("dailydialog/validation/dialogues_validation.txt", "hi . __eou__ hello . __eou__ bye . __eou__", "alone . __eou__")
    assert load_dialog("dailydialog", "dev") == [(("hi .",), "hello ."), (("hi .", "hello ."), "bye .")]


def test_files_of_contexts_and_responses(home, tmp_path):
    path = home("mine.tsv", "how are you ?\tfine .", "a EOS b __eou__ c\td", "")
    parts = [pair for split in ("train", "valid", "test") for pair in _or_nothing(path, split)]
    assert sorted(parts) == [(("a", "b", "c"), "d"), (("how are you ?",), "fine .")]
    home("set/train.tsv", "x\ty")
    home("set/dev.txt", "v\tw")
    assert load_dialog(str(tmp_path / "set"), "valid") == [(("v",), "w")]


def _or_nothing(path, split):
    try:
        return load_dialog(str(path), split)
    except ValueError:  # of so few lines, a part may be empty
        return []


def test_the_parts_cut_from_a_file_share_no_context(home):
    path = home("many.tsv", *(f"question {i % 100}\tanswer {i}" for i in range(400)))
    contexts = [{pair.context for pair in load_dialog(str(path), split)} for split in ("train", "valid", "test")]
    assert len(set.union(*contexts)) == 100 == sum(map(len, contexts)) and min(map(len, contexts)) >= 3


@pytest.mark.parametrize(("line", "told"), [
    ("no tab here", "line 2: expected context TAB response, found 1 tab-separated cells"),
    ("a\tb\tc", "found 3 tab-separated cells"), ("\tanswer", "line 2: the context is empty"),
    ("EOS\tanswer", "the context is empty"), ("question\t ", "the response is empty"),
])
def test_a_broken_line_is_named(home, line, told):
    path = home("broken.tsv", "fine\tyes", line)
    with pytest.raises(ValueError, match=told):
        load_dialog(str(path))


def test_what_is_not_there_is_said_in_one_line(tmp_path):
    with pytest.raises(KeyError, match="no dialog corpus is called 'dailydialogue'. Did you mean 'dailydialog'?"):
        load_dialog("dailydialogue")
    with pytest.raises(FileNotFoundError, match="dialogs were expected as a file or folder at .*nothing.tsv"):
        load_dialog(str(tmp_path / "nothing.tsv"))
    with pytest.raises(FileNotFoundError, match="no split 'train'.*no file that names its split"):
        load_dialog(str(tmp_path))
    with pytest.raises(ValueError, match="limit must be at least 1"):
        load_dialog("toy", limit=0)


def test_a_limit_draws_from_everywhere_and_is_the_same_each_time():
    some = load_dialog("toy", limit=50, seed=3)
    assert len(some) == 50 and some == load_dialog("toy", limit=50, seed=3) != load_dialog("toy", limit=50, seed=4)
    assert len({pair.context[-1].split()[3] for pair in some if len(pair.context) > 1}) > 3


def test_last_turns_keep_what_fits_from_the_end():
    turns = [[1, 1, 1], [2, 2], [3]]
    assert last_turns(turns, 8) == turns  # 3 + 1 + 2 + 1 + 1
    assert last_turns(turns, 7) == last_turns(turns, 4) == [[2, 2], [3]]
    assert last_turns(turns, 3) == [[3]] and last_turns([[1], [4, 5, 6]], 2) == [[5, 6]]
    for empty in ([], [[1], []]):
        with pytest.raises(ValueError, match="a context is empty"):
            last_turns(empty, 5)


def test_style_text_of_the_toy_of_a_class_and_of_a_speaker(home, tmp_path):
    styled = {sentence for split in ("train", "valid", "test") for sentence in load_style("toy", split)}
    assert "arr , let us have soup today , matey !" in styled
    home("caption_style/sentiment.train.0", "so funny .")
    home("caption_style/sentiment.train.1", "my love .", "my heart .")
    home("caption_style/sentiment.test.0", "a dog .")
    assert load_style("caption_style:romantic") == ["my love .", "my heart ."]
    with pytest.raises(KeyError, match="no class of 'caption_style' is called 'roman'. Did you mean 'romantic'?"):
        load_style("caption_style:roman")
    home("tinyshakespeare/input.txt", "ROMEO:", "Is the day", "so young? Ay me!", "", "JULIET:", "O Romeo!")
    parts = [load_style("tinyshakespeare:ROMEO", split) for split in ("train", "valid", "test")]
    assert sorted(sum(parts, [])) == ["Ay me!", "Is the day so young?"]
    with pytest.raises(KeyError, match="no speaker of the plays is called 'HAMLET'"):
        load_style("tinyshakespeare:HAMLET")
    notes = home("notes.txt", *(f"sentence {i} ." for i in range(40)))
    assert "sentence 3 ." in load_style(str(notes)) + load_style(str(notes), "valid") + load_style(str(notes), "test")
