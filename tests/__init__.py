"""The tests. In all of them, what `process`, `models` and `samplers` take and give must have the shapes declared."""

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # a whole number is a float as well
install_import_hook(["pixelviz.process", "pixelviz.models", "pixelviz.samplers"], "tests.checked")
