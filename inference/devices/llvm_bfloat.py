"""LLVM's type bfloat, which llvmlite lacks, for the bfloat16 kernels."""

from llvmlite import ir


class BFloat(ir.types._BaseFloatType):  # type: ignore[misc]
    """The type."""

    null = "0.0"
    intrinsic_name = "bf16"

    def __str__(self) -> str:
        return "bfloat"


BFloat._create_instance()
