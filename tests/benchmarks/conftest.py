"""`adscore` in process and small bundles, as for the verbs' own tests."""

from tests.worker.commands.conftest import adscore, tiny_models

__all__ = ["adscore", "tiny_models"]
