"""OLMo-core's fingerprint of a data set, by which a reconstruction is proved."""

import hashlib
from collections.abc import Iterable, Mapping

DATASET_CLASS = "NumpyFSLDataset"


def dataset_fingerprint(
    dataset_class: str, fields: Mapping[str, object], files: Iterable[tuple[str, int]]
) -> str:
    """Hash what a checkpoint's loader state records as its ``dataset_fingerprint``.

    No byte of a file is covered.

    Parameters
    ----------
    dataset_class
        OLMo-core's class of the data set.
    fields
        Its settings that the hash covers, in OLMo-core's order.
    files
        Name and bytes of every file, in the run's order; folders before the last ``/`` do not
        count.

    Returns
    -------
    str
        Equal to ``NumpyDatasetBase.fingerprint`` of ai2-olmo-core 3.0, 64 hex digits.
    """
    text = f"class={dataset_class}" + "".join(f"{key}={value}," for key, value in fields.items())
    text += "".join(f"path={name.rsplit('/', 1)[-1]},size={size}," for name, size in files)
    return hashlib.sha256(text.encode()).hexdigest()
