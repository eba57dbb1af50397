"""The commands of python -m pixelviz: a function each, whose annotations are its options."""
