import dataclasses

import numpy as np
import pytest

from jaxmatte.data.examples import Example, digest, fingerprint, fingerprint_of_digests


@pytest.fixture
def examples():
    rng = np.random.default_rng(0)
    return [
        Example(
            name,
            rng.integers(0, 256, (6, 8, 3), np.uint8),
            np.array([0, 128, 255], np.uint8)[rng.integers(0, 3, (6, 8))],
            rng.integers(0, 256, (6, 8)).astype(np.float32) / np.float32(255),
        )
        for name in ("a", "b")
    ]


def test_the_fingerprint_sees_what_is_scored_against(examples):
    first, second = examples
    prints = {fingerprint(examples), fingerprint([first])}
    for change in (
        {"name": "c"},
        {"trimap": 255 - first.trimap},
        {"alpha": 1 - first.alpha},
    ):
        prints.add(fingerprint([dataclasses.replace(first, **change), second]))
    turned = first.trimap.reshape(8, 6), first.alpha.reshape(8, 6)
    prints.add(
        fingerprint_of_digests([digest("a", *turned), digest("b", second.trimap, second.alpha)])
    )
    assert len(prints) == 6


def test_the_fingerprint_sees_neither_photographs_nor_order_nor_less_than_a_level(examples):
    expected = fingerprint(examples)
    assert fingerprint(iter(examples[::-1])) == expected
    assert fingerprint([dataclasses.replace(e, image=255 - e.image) for e in examples]) == expected
    nudged = [
        dataclasses.replace(e, alpha=np.clip(e.alpha + np.float32(0.4 / 255), 0, 1))
        for e in examples
    ]
    assert fingerprint(nudged) == expected


def test_the_parts_make_the_whole(examples):
    parts = [digest(e.name, e.trimap, e.alpha.astype(np.float64)) for e in examples]
    assert fingerprint_of_digests(parts) == fingerprint(examples)


def test_names_that_are_no_text_count_too(examples):
    trimap, alpha = examples[0].trimap, examples[0].alpha
    assert digest("\udcff", trimap, alpha) != digest("\udcfe", trimap, alpha)
