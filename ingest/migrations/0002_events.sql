-- The record of truth: each accepted event once.
CREATE TABLE events (
  event_id text PRIMARY KEY,
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
  context jsonb
);
CREATE INDEX events_subject ON events (subject, event_time);
