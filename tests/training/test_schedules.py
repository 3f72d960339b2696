import keras
import pytest

from effnet_utils.training.schedules import OneCycle


def test_one_cycle_climbs_to_its_peak_and_falls_to_zero():
    cycle = OneCycle(0.4, 100, 0.2)
    rates = [float(cycle(step)) for step in range(101)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == pytest.approx(rates[20]) == pytest.approx(0.4)
    assert rates == sorted(rates[:21]) + sorted(rates[21:], reverse=True)
    assert rates[100] == 0
    assert float(cycle(150)) == 0, "a step beyond the end must not make the learning rate negative"


def test_no_warmup_starts_at_the_peak():
    cycle = OneCycle(0.4, 100, 0.0)
    assert [float(cycle(step)) for step in (0, 50, 100)] == pytest.approx([0.4, 0.2, 0.0])


def test_it_can_be_saved():
    cycle = OneCycle(0.4, 100, 0.2)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(cycle))
    assert float(again(33)) == float(cycle(33))
