"""Statistics computed anew, against those of all images at once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from drawn_weights import draw_variables

from jaxmatte.matting import InputError
from jaxmatte.models.dim import DimSpec
from jaxmatte.models.layers import imagenet_and_trimap
from jaxmatte.train.recalibrate import recalibrate

SPEC = DimSpec.teacher(0.0625)


def batches(count):
    random = np.random.default_rng(3)
    return [
        {
            # Batches that differ in brightness: the variance between them counts.
            "image": random.random((2, 32, 32, 3), np.float32) * np.float32(number + 1) / count,
            "trimap": random.choice(np.array([0, 128, 255], np.uint8), (2, 32, 32)),
        }
        for number in range(count)
    ]


def test_the_first_normalisation_sees_all_batches_as_one():
    variables, given = draw_variables(SPEC, 0), batches(3)
    actual = recalibrate(SPEC, variables, given)
    layer = variables["params"]["encoder"]["stage1"]["conv1"]
    maps = np.concatenate(
        [
            jax.lax.conv_general_dilated(
                imagenet_and_trimap(jnp.asarray(batch["image"]), jnp.asarray(batch["trimap"])),
                layer["kernel"],
                (1, 1),
                "SAME",
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )
            for batch in given
        ]
    ).astype(np.float64)
    maps += layer["bias"]
    statistics = actual["batch_stats"]["encoder"]["stage1"]["bn1"]
    np.testing.assert_allclose(statistics["mean"], maps.mean((0, 1, 2)), atol=1e-5)
    # Each batch's variance is unbiased, which for 2,048 pixels is a part in 2,048.
    np.testing.assert_allclose(statistics["var"], maps.var((0, 1, 2)), rtol=1e-3)
    # Deeper statistics change too, weights do not.
    before = variables["batch_stats"]["decoder"]["up3"]["bn"]["mean"]
    assert np.abs(actual["batch_stats"]["decoder"]["up3"]["bn"]["mean"] - before).max() > 1e-2
    assert actual["params"] is variables["params"]


def test_no_batch_is_refused():
    with pytest.raises(InputError, match="no training batch"):
        recalibrate(SPEC, draw_variables(SPEC, 0), [])
