"""LLVM's bfloat, which llvmlite has no name for: for the kernels that are compiled for bfloat16."""

from llvmlite import ir


class BFloat(ir.types._BaseFloatType):  # type: ignore[misc]
    """The type."""

    null = "0.0"
    intrinsic_name = "bf16"

    def __str__(self) -> str:
        return "bfloat"


BFloat._create_instance()
