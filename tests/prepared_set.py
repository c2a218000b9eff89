"""Writes a small set as TensorFlow Datasets lays sets out."""

import tensorflow_datasets as tfds

import jaxmatte.data.host_tensorflow  # noqa: F401


def write_prepared_set(root, features, records, *, name="mattes", split="test"):
    """Write one shard below `root`; `features` maps names to TensorFlow Datasets' features."""
    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    described = tfds.features.FeaturesDict(features)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version("1.0.0"), data_dir=str(folder), module_name=""
    )
    info = tfds.core.DatasetInfo(builder=identity, features=described)
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=100)
    writer.initialize_splits([split])
    writer.add_examples({split: [described.encode_example(record) for record in records]})
    writer.close_all()
