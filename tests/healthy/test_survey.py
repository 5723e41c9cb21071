"""No alarm on sound trainings: some of the survey, the whole of which is a command of its own (survey.py)."""

from __future__ import annotations

import pytest

from .survey import DROPOUT, METHODS, TARGETS, Sound, alarms, everything

SAMPLE = (
    Sound("gemma", "dora", "bfloat16", 4),
    Sound("bert-classifier", "head", "float32", 4),
    Sound("t5", "lora", "bfloat16", 1),
)


@pytest.mark.parametrize("sound", SAMPLE, ids=lambda sound: sound.name)
def test_a_sound_training_raises_no_alarm(sound: Sound) -> None:
    found, passed = alarms(sound, seed=0)
    assert [str(verdict) for verdict in found] == []
    assert passed > 70


def test_the_survey_has_every_architecture_with_every_method_and_each_precision_and_accumulation() -> None:
    sounds = everything()
    assert len({sound.name for sound in sounds}) == len(TARGETS) * len(METHODS) > 30
    for method in METHODS:
        own = [sound for sound in sounds if sound.method == method]
        assert {sound.dtype for sound in own} == {"float32", "bfloat16"}
        assert {sound.accumulation for sound in own} == {1, 4}


def test_dropout_is_on() -> None:
    for name in TARGETS:
        rates = vars(Sound(name, "full", "float32", 1).recipe().model().config)
        assert rates[DROPOUT.get(name, "attention_dropout")] == 0.1
