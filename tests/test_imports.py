"""Large imports, without collections of cycles."""

import gc

import pytest

from taskcluster.operations.processes import imports


def test_nothing_is_collected_during_a_large_import_and_all_is_afterwards() -> None:
    with pytest.raises(ModuleNotFoundError), imports.large():
        assert not gc.isenabled()
        import not_there  # noqa: F401
    assert gc.isenabled()
