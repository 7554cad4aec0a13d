-- The table that was becomes the partition of what was before; nothing in it is read or written, so this takes milliseconds.
ALTER TABLE events RENAME TO events_before;
ALTER INDEX events_subject RENAME TO events_before_subject;
ALTER INDEX events_accept_time RENAME TO events_before_accept_time;
ALTER TABLE events_before DROP CONSTRAINT events_pkey;
ALTER TABLE events_before ADD CONSTRAINT events_before_pkey PRIMARY KEY USING INDEX events_before_key;

-- The record of truth: each accepted event once. `day` is the UTC date of the event's entry in the stream, as in the lake's
-- folders; ids are one a day. The defaults are for processes of the version before, which write while this is rolled out.
CREATE TABLE events (
  event_id text NOT NULL,
  subject text NOT NULL,
  user_id text NOT NULL,
  session_id text NOT NULL,
  item_key integer NOT NULL,
  item_id text NOT NULL,
  type smallint NOT NULL,
  custom_type text NOT NULL,
  value double precision,
  event_time timestamptz NOT NULL,
  accept_time timestamptz NOT NULL,
  attribution_token text NOT NULL,
  surface text NOT NULL,
  context jsonb,
  day date NOT NULL DEFAULT (now() AT TIME ZONE 'UTC')::date,
  stream_partition smallint NOT NULL DEFAULT 0,
  stream_offset bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (event_id, day)
) PARTITION BY RANGE (day);
CREATE INDEX events_subject ON events (subject, event_time);
CREATE INDEX events_accept_time ON events (accept_time);
CREATE INDEX events_place ON events (stream_partition, stream_offset);
ALTER TABLE events ATTACH PARTITION events_before FOR VALUES FROM (MINVALUE) TO ('1970-01-02');
-- What has no partition yet; upkeep makes them ahead of time, so that this stays empty.
CREATE TABLE events_default PARTITION OF events DEFAULT;
