"""Large imports: without collections of cycles while they last, and left out of later ones."""

import gc
from pathlib import Path

import pytest

from taskcluster import imports


def test_what_is_imported_is_left_out_of_later_collections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "of_many_objects.py").write_text("import gc\nOBJECTS = [[] for _ in range(10_000)], gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = gc.get_freeze_count()
    with imports.large():
        import of_many_objects

        objects, collecting = of_many_objects.OBJECTS
    assert not collecting
    assert gc.isenabled()
    frozen = gc.get_freeze_count()
    assert frozen >= before + len(objects)
    with imports.large():  # again, with nothing new: what runs have made since is not kept
        import of_many_objects
    assert gc.get_freeze_count() == frozen


def test_a_failing_import_leaves_the_collector_on_and_one_that_is_off_stays_off() -> None:
    with pytest.raises(ModuleNotFoundError), imports.large():
        import not_there  # noqa: F401
    assert gc.isenabled()
    gc.disable()
    try:
        with imports.large():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
