"""The tests' common settings do not depend on earlier tests."""

import sys

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

NEW, OLD = np.random.default_rng(1), np.random.RandomState(1)


def examples():
    found = []

    @hypothesis.given(st.tuples(st.integers(0, 2**64), st.floats(), st.text()))
    def test(values):
        found.append(repr(values))

    test()
    return found


def test_examples_are_the_same_after_other_modules(tmp_path, monkeypatch):
    """Hypothesis takes constants from modules, but not from tests: this one is as nengonet's."""
    before = examples()
    lines = [f"N{n} = {n * 10**6 + 7}; T{n} = 'text {n}'; F{n} = {n}.125" for n in range(100)]
    (tmp_path / "constants_of_an_example.py").write_text("\n".join(lines), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    import constants_of_an_example

    assert examples() == before
    monkeypatch.delitem(sys.modules, constants_of_an_example.__name__)


@pytest.mark.parametrize("turn", [1, 2])
def test_a_draw_does_not_depend_on_other_tests(turn):
    assert NEW.random() == np.random.default_rng(1).random()
    assert OLD.random_sample() == np.random.RandomState(1).random_sample()
