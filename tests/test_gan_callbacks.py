"""Callbacks of ``GAN.fit``, and what it prints where there is no terminal."""

# Loops over steps run at least once, which pyright cannot know.
# pyright: reportPossiblyUnboundVariable=false

from importlib import import_module

import numpy as np
import pytest

from gan_shared.errors import UserError
from gan_shared.hooks import Event, Every
from tests.fixtures import ANY
from tests.test_gan import CURVES, IMAGES, NAMES, fresh, refusal, tensors, trained

__all__ = ["trained"]


@NAMES
def test_callbacks_are_called_after_their_steps_and_change_nothing(trained, name):
    """What one of them returns, at step 2 and at the end, joins the history."""
    gan, seen, numbers = fresh(name), [], []

    def note(event: Event) -> None:
        seen.append((event.step, event.last, event.backend.export(event.state)["trainer/step"].item()))

    def brightness(event: Event) -> dict[str, float]:
        numbers.append(event.numbers())
        return {"brightness": event.step / 4}

    gan = gan.fit(IMAGES, steps=3, callbacks=[Every(3, note), Every(2, brightness, at_end=True)])
    gan = gan.fit(IMAGES, steps=2, callbacks=[import_module(f"gan_{name}").Every(1, note)])
    assert seen == [(3, True, 3), (4, False, 4), (5, True, 5)]
    assert tensors(gan) == tensors(trained[name])
    assert [line["step"] for line in gan.history] == [2, 3, 4, 5]
    assert [line.get("brightness") for line in gan.history] == [0.5, 0.75, None, None]
    lines = [{key: value for key, value in line.items() if key != "brightness"} for line in gan.history]
    assert numbers == [{key: value for key, value in line.items() if key != "step"} for line in lines[:2]]
    assert [line for line in lines if line["step"] != 3] == trained[name].history
    assert sorted(lines[0]) == sorted(["step", *CURVES])


@NAMES
def test_a_callback_sees_what_the_gan_would_sample(name):
    """After the last step they are those of the trained GAN, before others."""
    seen: dict[int, np.ndarray] = {}
    gan = fresh(name).fit(
        IMAGES, steps=3, callbacks=[Every(1, lambda event: seen.update({event.step: event.samples(5, seed=7)}))]
    )
    np.testing.assert_array_equal(seen[3], gan.sample(5, seed=7))
    assert len(seen) == 3 and (seen[1] != seen[3]).any()
    with pytest.raises(UserError, match="num_images: found 0"):
        fresh(name).fit(IMAGES, callbacks=[Every(1, lambda event: event.samples(0))])


@NAMES
def test_an_exception_in_a_callback_ends_fit_and_leaves_the_gan_as_it_was(name):
    gan = fresh(name).fit(IMAGES, steps=1)
    before, history = tensors(gan), list(gan.history)

    def failing(event: Event) -> None:
        raise ZeroDivisionError(event.step)

    with pytest.raises(ZeroDivisionError, match=r"^3$"):
        gan.fit(IMAGES, steps=5, callbacks=[Every(3, failing)])
    assert tensors(gan) == before and gan.steps_done == 1 and gan.history == history
    message = refusal(lambda: gan.fit(IMAGES, callbacks=[print]))
    assert message == "callbacks: found <built-in function print>, expected entries such as Every(100, function)"


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ({"step": 9}, "Every: found the name 'step', expected one that no other number has"),
        ({"generator_loss": 0.0}, "Every: found the name 'generator_loss', expected one"),
        ({3: 0.0}, "Every: found the name 3, expected one"),
        ({"fid": "low"}, "Every: found 'low' as fid, expected a number"),
        ({"fid": 10**400}, "as fid, expected a number"),
    ],
)
def test_numbers_that_cannot_be_logged_are_refused(returned, words):
    gan = fresh(ANY)
    assert words in refusal(lambda: gan.fit(IMAGES, steps=1, callbacks=[Every(1, lambda event: returned)]))
    twice = [Every(1, lambda event: {"fid": 1.0})] * 2
    assert "the name 'fid'" in refusal(lambda: gan.fit(IMAGES, steps=1, callbacks=twice))
    assert gan.steps_done == 0 and gan.history == []


@pytest.mark.parametrize("callbacks", [None, Every(1, print), [Every], "every"])
def test_what_is_no_list_of_entries_is_refused(callbacks):
    assert refusal(lambda: fresh(ANY).fit(IMAGES, steps=1, callbacks=callbacks)).startswith("callbacks: found ")


def test_callbacks_may_come_from_a_generator():
    gan = fresh(ANY).fit(IMAGES, steps=1, callbacks=(Every(n, lambda event: {"fid": 0.5}) for n in (1, 2)))
    assert gan.history[-1]["fid"] == 0.5


@NAMES
def test_fit_says_how_far_it_is_where_there_is_no_terminal(name, capsys, monkeypatch):
    fresh(name).fit(IMAGES, steps=3)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("step 3 of 3, D ") and line.endswith(" steps/s, 00:00 left")
    monkeypatch.setattr("sys.stderr", None)
    fresh(name).fit(IMAGES, steps=3)
