"""The class answers together: codes, counts, ends and bounds of polls."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from pixelviz.service import polls
from pixelviz.service.polls import LASTS, MOST_PHONES, MOST_POLLS, PollError, Polls

OPTIONS = {"gap": ("all", "bright", "none"), "water": ("dark", "bright")}


class Clock:
    """A clock that is put forward by hand."""

    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def here(clock):
    return Polls(OPTIONS, clock)


def refused(key):
    return pytest.raises(PollError, match=polls.ERRORS[key][:20])


def test_answers_are_counted_and_hidden_until_their_owner_reveals_them(here):
    mine = here.open()
    for phone, option in (("a", "all"), ("b", "bright"), ("c", "bright")):
        seen = here.vote(mine["code"], phone, "gap", option)
        assert seen["counts"] is None
    assert here.look(mine["code"], "gap") == {"phones": 3, "committed": 3, "counts": None}
    with refused("owner"):
        here.reveal(mine["code"], "guess", "gap")
    assert here.look(mine["code"], "gap")["counts"] is None
    shown = here.reveal(mine["code"], mine["secret"], "gap")
    assert shown == here.look(mine["code"], "gap")
    assert shown["counts"] == {"all": 1, "bright": 2, "none": 0}
    assert here.look(mine["code"], "water") == {"phones": 3, "committed": 0, "counts": None}


def test_a_phones_first_answer_counts_once_and_none_after_the_reveal(here):
    mine = here.open()
    for option in ("all", "bright", "all"):
        here.vote(mine["code"], "a", "gap", option)
    here.reveal(mine["code"], mine["secret"], "gap")
    late = here.vote(mine["code"], "b", "gap", "bright")
    assert late["counts"] == {"all": 1, "bright": 0, "none": 0}
    assert (late["phones"], late["committed"]) == (2, 1)


def test_two_classes_do_not_hear_each_other(here):
    one, other = here.open(), here.open()
    here.vote(one["code"], "a", "gap", "all")
    assert here.look(other["code"], "gap") == {"phones": 0, "committed": 0, "counts": None}
    with refused("owner"):
        here.end(other["code"], one["secret"])


def test_codes_are_typed_by_hand_and_a_wrong_one_gets_a_message(here):
    mine = here.open()
    assert here.join(f" {mine['code'].lower()} ", "a") == {"code": mine["code"]}
    for code in ("XXXXX", "", None, [], mine["code"] + "A"):
        with refused("gone"):
            here.join(code, "a")
        with refused("gone"):
            here.look(code, "gap")


def test_a_poll_ends_after_two_hours_or_when_its_owner_ends_it(here, clock):
    mine, early = here.open(), here.open()
    here.end(early["code"], early["secret"])
    with refused("gone"):
        here.join(early["code"], "a")
    clock.now += LASTS - 1
    here.vote(mine["code"], "a", "gap", "all")
    clock.now += 2
    for asked in (
        lambda: here.vote(mine["code"], "a", "gap", "all"),
        lambda: here.look(mine["code"], "gap"),
        lambda: here.reveal(mine["code"], mine["secret"], "gap"),
    ):
        with refused("gone"):
            asked()


def test_nonsense_is_no_answer(here):
    mine = here.open()
    for phone, step, option in (
        ("a", "gap", "dark"), ("a", "gap", None), ("a", "nowhere", "all"), ("a", ["gap"], "all"), ("a", "gap", ["all"]),
        ("", "gap", "all"), (7, "gap", "all"), ("a" * 65, "gap", "all"),
    ):  # fmt: skip
        with refused("answer"):
            here.vote(mine["code"], phone, step, option)
    assert here.look(mine["code"], "gap")["committed"] == 0


def test_numbers_are_bounded_and_whoever_opens_many_closes_no_class(here, clock):
    mine = here.open()
    here.join(mine["code"], "a")
    opened = [here.open()["code"] for _ in range(MOST_POLLS + 10)]
    assert here.look(mine["code"], "gap")["phones"] == 1
    with refused("gone"):
        here.join(opened[0], "a")
    for code in opened[-MOST_POLLS + 1 :]:
        here.join(code, "a")
    with refused("many"):
        here.open()
    clock.now += LASTS + 1
    again = here.open()
    for k in range(MOST_PHONES):
        here.join(again["code"], str(k))
    with refused("full"):
        here.join(again["code"], "one more")
    assert here.join(again["code"], "0"), "who has a seat keeps it"


def test_two_hundred_phones_at_once(here):
    mine = here.open()

    def phone(k):
        here.join(mine["code"], f"phone {k}")
        for _ in range(3):  # a page that asks again
            here.vote(mine["code"], f"phone {k}", "gap", OPTIONS["gap"][k % 3])
            here.look(mine["code"], "gap")

    with ThreadPoolExecutor(32) as pool:
        list(pool.map(phone, range(200)))
    assert here.look(mine["code"], "gap") == {"phones": 200, "committed": 200, "counts": None}
    shown = here.reveal(mine["code"], mine["secret"], "gap")
    assert shown["counts"] == {"all": 67, "bright": 67, "none": 66}
