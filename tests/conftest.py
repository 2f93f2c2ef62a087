"""What every suite needs before its own modules are imported."""

import warnings

with warnings.catch_warnings():
    # kafka-python 3 reads its schemas by functions that Python 3.11 and 3.12 call deprecated: not ours to mend.
    warnings.filterwarnings("ignore", message="(read|open)_text is deprecated", category=DeprecationWarning)
    import kafka  # noqa: F401
