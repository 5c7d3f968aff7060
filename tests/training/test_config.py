"""Settings of a run: the schedule and the refusals."""

import pytest

from framelets.training import RunConfig


def test_learning_rate_rises_and_falls():
    config = RunConfig(num_steps=200, warmup_steps=20, learning_rate=2e-3, final_fraction=0.1)

    rates = [config.learning_rate_at(step) for step in range(200)]

    assert rates.index(max(rates)) in (19, 20)
    assert max(rates) == pytest.approx(2e-3)
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert config.learning_rate_at(200) == pytest.approx(2e-4)
    assert config.learning_rate_at(110) == pytest.approx((2e-3 + 2e-4) / 2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_steps", 0),
        ("batch_size", -1),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("weight_decay", -1.0),
        ("final_fraction", 2.0),
        ("average_decay", 1.0),
        ("optimizer", "adam"),
    ],
)
def test_config_refuses(name, value):
    with pytest.raises(ValueError, match=name):
        RunConfig(**{name: value})
