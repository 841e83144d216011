"""Mappings that are values."""

import random

from lllm.core.known import Known


def test_an_older_one_stays_as_it_was() -> None:
    one = Known[int]().with_("a", 1)
    two = one.with_("a", 2).with_("b", 3)
    assert (one.get("a"), one.get("b")) == (1, None)
    assert (two.get("a"), two.get("b")) == (2, 3)
    assert one != two
    assert two == Known[int]().with_("b", 3).with_("a", 2)


def test_it_is_like_a_dict_that_is_copied_for_every_change() -> None:
    chance = random.Random(1)
    real: dict[str, int] = {}
    known = Known[int]()
    for number in range(3000):
        key = str(chance.randrange(200))
        if chance.random() < 0.4:
            real.pop(key, None)
            known = known.without(key)
        else:
            real[key] = number
            known = known.with_(key, number)
        assert known.get(key) == real.get(key)
        if number % 100 == 0:
            assert known.held() == real
            assert known.only(lambda value: value % 2 == 0).held() == {
                k: v for k, v in real.items() if v % 2 == 0
            }
    assert known.only(lambda value: True) is known
    assert not known.only(lambda value: False)


def test_what_is_removed_is_forgotten() -> None:
    known = Known[int]()
    for number in range(100):
        known = known.with_(str(number), number).without(str(number))
    assert known.held() == {}
    assert sum(map(len, known._parts)) < 10
