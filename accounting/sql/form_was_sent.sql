-- Purpose: whether a form has made its adjustment already, before the rest of it is looked at.
-- Locks:   none; two sendings of a form are for one entry, whose lock the caller holds. The column is unique all the same.
-- Rows:    one when it has.
SELECT 1 FROM accounting_adjustment WHERE form_token = %(form_token)s
