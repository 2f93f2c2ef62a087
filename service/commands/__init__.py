"""The commands of ``stridecast``: one file each, with its options (``Options``) and what it does (``run``)."""
