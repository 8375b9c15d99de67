"""What was made is told, however long a source cannot be written to."""

from secretbinding.engine.untold import Untold
from secretbinding.generation import Made
from tests.support import builders as make

ONE = Made(make.key(), "app", "version 2 was made")
TWO = Made(make.key(), "app", "version 3 was made")
OTHERS = Made(make.key("other"), "app", "version 4 was made")


def test_events_wait_in_their_order_until_they_have_been_told() -> None:
    untold = Untold()
    untold.add([ONE, OTHERS])
    untold.add([TWO])
    assert untold.of(make.key()) == (ONE, TWO)
    untold.told(make.key(), (ONE,))
    assert untold.of(make.key()) == (TWO,)
    untold.told(make.key(), (TWO,))
    assert untold.of(make.key()) == ()
    assert untold.of(make.key("other")) == (OTHERS,)


def test_of_a_source_that_is_away_for_long_the_newest_are_kept() -> None:
    untold = Untold()
    made = [Made(make.key(), "app", f"version {number} was made") for number in range(200)]
    for one in made:
        untold.add([one])
    assert untold.of(make.key()) == tuple(made[-50:])
