from tests.wire import test_responses_bounds


def test_long() -> None:
    test_responses_bounds.explore(2000)
