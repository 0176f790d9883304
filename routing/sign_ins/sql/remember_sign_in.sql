-- Purpose: the password was right, or whoever runs the gateway says so: forget the wrong ones at this address, and remember
--          it as one of the user's. Old rows go, so that the names that strangers make up do not stay.
-- Locks:   the pair's row, and the old rows.
-- Rows:    none.
WITH old AS (
    DELETE FROM routing_signintries
    WHERE since < now() - interval '1 day' AND coalesce(signed_in_at, '-infinity') < now() - %(known_for_s)s * interval '1 s'
      AND NOT (user_name = %(user_name)s AND address = %(address)s)
)
INSERT INTO routing_signintries (user_name, address, tries, since, signed_in_at)
VALUES (%(user_name)s, %(address)s, 0, now(), now())
ON CONFLICT (user_name, address) DO UPDATE SET tries = 0, signed_in_at = now()
