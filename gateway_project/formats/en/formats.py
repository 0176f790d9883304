"""How the admin writes times: exact, sortable, and with the zone, as the ledger and the logs do."""

DATETIME_FORMAT = "Y-m-d H:i:s e"
DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
