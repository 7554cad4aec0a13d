-- What became of items and users, one row a change, for the lake's history: upkeep exports what is committed (`xid` below
-- pg_snapshot_xmin) and lets it go later. The triggers run once a statement, not once a row.
CREATE TABLE item_changes (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  change_time timestamptz NOT NULL DEFAULT now(),
  key integer NOT NULL,
  id text NOT NULL,
  item jsonb NOT NULL  -- the row after the change
);
CREATE INDEX item_changes_xid ON item_changes (xid);
CREATE INDEX item_changes_id ON item_changes (id, number);

CREATE TABLE user_changes (
  number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
  change_time timestamptz NOT NULL DEFAULT now(),
  id text NOT NULL,
  account jsonb  -- the row after the change; null: it was removed
);
CREATE INDEX user_changes_xid ON user_changes (xid);
CREATE INDEX user_changes_id ON user_changes (id, number);

CREATE FUNCTION record_new_items() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO item_changes (key, id, item) SELECT key, id, to_jsonb(n) - 'changed_xid' FROM new_rows n;
  RETURN NULL;
END $$;

-- What was told again and did not change makes no history. No nested loop: the plan is made at a session's first change, which
-- may have one row, and kept for those of a thousand.
CREATE FUNCTION record_changed_items() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
  INSERT INTO item_changes (key, id, item)
  SELECT n.key, n.id, to_jsonb(n) - 'changed_xid' FROM new_rows n JOIN old_rows o USING (key)
  WHERE (
    n.id, n.title, n.categories, n.tags, n.numeric_attributes, n.string_attributes, n.create_time, n.expire_time,
    n.available, n.media_url, n.deleted
  ) IS DISTINCT FROM (
    o.id, o.title, o.categories, o.tags, o.numeric_attributes, o.string_attributes, o.create_time, o.expire_time,
    o.available, o.media_url, o.deleted
  );
  RETURN NULL;
END $$;

CREATE FUNCTION record_new_users() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO user_changes (id, account) SELECT id, to_jsonb(n) FROM new_rows n;
  RETURN NULL;
END $$;

CREATE FUNCTION record_changed_users() RETURNS trigger LANGUAGE plpgsql SET enable_nestloop = off AS $$
BEGIN
  INSERT INTO user_changes (id, account)
  SELECT n.id, to_jsonb(n) FROM new_rows n JOIN old_rows o USING (id)
  WHERE (n.numeric_attributes, n.string_attributes, n.create_time)
    IS DISTINCT FROM (o.numeric_attributes, o.string_attributes, o.create_time);
  RETURN NULL;
END $$;

CREATE FUNCTION record_removed_users() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO user_changes (id) SELECT id FROM old_rows;
  RETURN NULL;
END $$;

CREATE TRIGGER items_inserted AFTER INSERT ON items REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION record_new_items();
CREATE TRIGGER items_updated AFTER UPDATE ON items REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION record_changed_items();
CREATE TRIGGER users_inserted AFTER INSERT ON users REFERENCING NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION record_new_users();
CREATE TRIGGER users_updated AFTER UPDATE ON users REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
  FOR EACH STATEMENT EXECUTE FUNCTION record_changed_users();
CREATE TRIGGER users_removed AFTER DELETE ON users REFERENCING OLD TABLE AS old_rows
  FOR EACH STATEMENT EXECUTE FUNCTION record_removed_users();
