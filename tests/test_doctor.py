"""Each check of `dgmlab doctor`, on machines made up for it."""

from dgmlab import doctor


def test_lock_differences_are_counted_and_build_tags_ignored(tmp_path, monkeypatch):
    lock = tmp_path / "constraints.txt"
    lock.write_text(
        "# made by uv\nalpha==1.0\nbeta==2.0 ; python_full_version >= '3.8'\nbeta==1.0 ; python_full_version < '3.8'\n"
        "gamma==3.0\n    # via alpha\nabsent==9\n"
    )
    monkeypatch.setattr(doctor, "_version", {"alpha": "1.0+cpu", "beta": "2.1", "gamma": "3.0"}.get)
    check = doctor.check_lock(lock)
    assert (check.state, check.found) == ("note", "1 of 3 differ from the lock: beta 2.1 (lock: 2.0)")
    monkeypatch.setattr(doctor, "_version", {"alpha": "1.0", "beta": "2.0"}.get)
    assert doctor.check_lock(lock).found == "2 packages as in the lock (4 pinned)"
    assert doctor.check_lock(tmp_path / "none").state == "note"


def test_too_old_and_missing_packages_are_bad(monkeypatch):
    monkeypatch.setattr(doctor, "_version", {"torch": "2.9.1+cu130"}.get)
    found = {check.name: check for check in doctor.check_packages()}
    assert found["torch"].state == "bad" and "torch 2.11 or newer" in found["torch"].advice
    assert found["transformers"].state == "bad" and found["transformers"].found == "not installed"
    assert found["notebooks"].state == "note" and "papermill" in found["notebooks"].found
    monkeypatch.setattr(doctor, "_version", lambda name: "2.11.0" if name == "torch" else "5.17.0")
    assert [check.state for check in doctor.check_packages()] == ["ok"] * 3


def test_data_folder_that_does_not_exist_is_bad(tmp_path, monkeypatch):
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path / "nowhere"))
    (check,) = doctor.check_data()
    assert check.state == "bad" and "does not exist" in check.found


def test_found_data_sets_are_named(tmp_path, monkeypatch):
    (tmp_path / "ptb").mkdir()
    (tmp_path / "ptb" / "ptb.train.txt").write_text("a sentence\n")
    monkeypatch.setenv("DGMLAB_DATA", str(tmp_path))
    (check,) = doctor.check_data()
    assert check.state == "ok" and check.found == f"{tmp_path}: ptb"


def test_home_that_cannot_be_written_is_bad(tmp_path):
    (tmp_path / "file").write_text("")
    check = doctor.check_writable(tmp_path / "file" / "home")
    assert check.state == "bad" and "Set DGMLAB_HOME" in check.advice
    assert doctor.check_writable(tmp_path).state == "ok"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_this_machine_passes(tmp_path, monkeypatch):
    monkeypatch.setenv("DGMLAB_HOME", str(tmp_path))
    monkeypatch.delenv("DGMLAB_DATA", raising=False)
    found = {check.name: check for check in doctor.examine()}
    assert not [check for check in found.values() if check.state == "bad"]
    assert {"python", "torch", "transformers", "cpu", "memory", "disk", "runs", "data", "versions"} <= set(found)
