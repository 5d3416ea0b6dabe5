"""The failure ledger, as `vtr.store.ledger` keeps it: what goes wrong with single videos, and goes on record."""

from vtr.store.ledger import ALL_EXPERTS as ALL_EXPERTS
from vtr.store.ledger import Failure as Failure
from vtr.store.ledger import Kind as Kind
from vtr.store.ledger import Ledger as Ledger
from vtr.store.ledger import Status as Status
from vtr.store.ledger import read_ledger as read_ledger
from vtr.store.ledger import refuses as refuses
