-- Purpose: sums of spend that are kept beside the ledger, so that reports do not add up all of its entries. An entry is
--          either rolled up (its part is in accounting_spendsum) or it is not, and then reports read the entry itself.
--          These triggers note in accounting_unrolledentry which entries wait. accounting.ledger.rollup rolls them up
--          later, so a settlement locks no sum. They work for whoever writes, so for the gateway's version before, too.
-- Locks:   an adjustment waits while entries are rolled up (accounting_rollup's row), which takes some milliseconds.

-- Its requests have ended and what it consumed is known: from now on only adjustments change what it weighs. An entry
-- that an operator resolved may still get the attempts of its late request, so it is never rolled up.
CREATE OR REPLACE FUNCTION accounting_note_settled() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO accounting_unrolledentry (entry_id, stays) VALUES (NEW.id, NEW.resolved_by <> '') ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

-- An adjustment changes what its entry weighs. An entry that is rolled up is taken out of the sums before, and waits again.
CREATE OR REPLACE FUNCTION accounting_note_adjusted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    rollup accounting_rollup;
BEGIN
    SELECT * INTO rollup FROM accounting_rollup FOR SHARE;
    IF NOT FOUND OR EXISTS (SELECT FROM accounting_unrolledentry WHERE entry_id = NEW.entry_id) OR NOT EXISTS (
        SELECT FROM accounting_ledgerentry WHERE id = NEW.entry_id AND state IN ('posted', 'voided')
          AND NOT (created_at >= rollup.from_at AND created_at < rollup.until_at)
    ) THEN
        RETURN NEW;
    END IF;
    INSERT INTO accounting_spendsum
        (dimension, name, value, bucket, requests, failed, input_tokens, output_tokens, cost_usd, unpriced)
    SELECT dimension, name, value, bucket, -requests, -failed, -input_tokens, -output_tokens, -cost_usd, -unpriced
    FROM accounting_entryspend WHERE entry_id = NEW.entry_id;
    INSERT INTO accounting_unrolledentry (entry_id, stays) VALUES (NEW.entry_id, false);
    RETURN NEW;
END $$;

CREATE OR REPLACE TRIGGER accounting_entry_inserted AFTER INSERT ON accounting_ledgerentry
    FOR EACH ROW WHEN (NEW.state IN ('posted', 'voided')) EXECUTE FUNCTION accounting_note_settled();
CREATE OR REPLACE TRIGGER accounting_entry_settled AFTER UPDATE ON accounting_ledgerentry
    FOR EACH ROW WHEN (NEW.state IN ('posted', 'voided') AND OLD.state NOT IN ('posted', 'voided'))
    EXECUTE FUNCTION accounting_note_settled();
-- After accounting_adjustment_bounds, which locks the entry: triggers run in the order of their names.
CREATE OR REPLACE TRIGGER accounting_adjustment_noted BEFORE INSERT ON accounting_adjustment
    FOR EACH ROW EXECUTE FUNCTION accounting_note_adjusted();
