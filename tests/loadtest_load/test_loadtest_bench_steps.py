"""Steps are counted alike at every run, and more of them when more is done."""

from loadtest.bench.micro.steps import Steps, steps


def once(number: int) -> int:
    return number + 1


def test_what_is_done_twice_counts_twice() -> None:
    one = steps(lambda: once(1), calls=7)
    two = steps(lambda: once(once(1)), calls=7)
    nothing = steps(lambda: None, calls=7)
    assert (one.functions, two.functions, nothing.functions) == (2, 3, 1)
    assert two.bytecodes > one.bytecodes > nothing.bytecodes > 0


def test_every_run_counts_the_same() -> None:
    assert len({steps(lambda: sorted([3, 1, 2], key=once), calls=5) for _ in range(3)}) == 1


def test_only_warm_calls_are_counted() -> None:
    found: dict[int, int] = {}

    def cold_at_first() -> None:
        if 1 not in found:
            found[1] = sum(once(each) for each in range(50))

    assert steps(cold_at_first, calls=2) == Steps(steps(cold_at_first, calls=2).bytecodes, 1)
