-- What can be recommended. `key` is what models, rings and bitmaps speak: given at the first upsert, never reused, and an
-- item that is deleted keeps its row for that.
CREATE TABLE items (
  key integer GENERATED ALWAYS AS IDENTITY (MAXVALUE 268435455) PRIMARY KEY,  -- 28 bits, as the profile's ring has it
  id text UNIQUE NOT NULL,
  title text NOT NULL,
  categories text[] NOT NULL,
  tags text[] NOT NULL,
  numeric_attributes jsonb NOT NULL,
  string_attributes jsonb NOT NULL,
  create_time timestamptz NOT NULL,
  expire_time timestamptz,
  available boolean NOT NULL,
  media_url text NOT NULL,
  deleted boolean NOT NULL DEFAULT false,
  -- The transaction of the last change. Followers ask for `changed_xid >= the xmin they saw last`, so that what
  -- commits late is not missed, which a time or a sequence would do.
  changed_xid xid8 NOT NULL DEFAULT pg_current_xact_id()
);
CREATE INDEX items_changed_xid ON items (changed_xid);

CREATE TABLE users (
  id text PRIMARY KEY,
  numeric_attributes jsonb NOT NULL,
  string_attributes jsonb NOT NULL,
  create_time timestamptz NOT NULL,
  changed_time timestamptz NOT NULL DEFAULT now()
);
