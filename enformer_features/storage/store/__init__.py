"""Stores: large exports that are filled by the unit, by any number of processes."""

from enformer_features.storage.store.check import StoreReport
from enformer_features.storage.store.create import create_store, open_store
from enformer_features.storage.store.diff import diff
from enformer_features.storage.store.folder import Store
from enformer_features.storage.store.markers import StoreStatus
from enformer_features.storage.store.plan import StorePlan

__all__ = [
    "Store",
    "StorePlan",
    "StoreReport",
    "StoreStatus",
    "create_store",
    "diff",
    "open_store",
]
