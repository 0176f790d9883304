-- Purpose: count a try to sign in before its password is looked at, so that tries at once, also on other machines, are
--          counted one after the other. A window begins with its first try and ends by itself, whoever goes on trying.
-- Locks:   the row of the name, of the address, or of both; it is committed at once.
-- Rows:    one: tries (this one included), left_s (until the window ends).
INSERT INTO routing_signintries AS t (user_name, address, tries, since)
VALUES (%(user_name)s, %(address)s, 1, now())
ON CONFLICT (user_name, address) DO UPDATE
SET tries = CASE WHEN t.since + %(window_s)s * interval '1 s' < now() THEN 1 ELSE least(t.tries, 1000000) + 1 END,
    since = CASE WHEN t.since + %(window_s)s * interval '1 s' < now() THEN now() ELSE t.since END
RETURNING tries, ceil(extract(epoch FROM since + %(window_s)s * interval '1 s' - now()))::int AS left_s
