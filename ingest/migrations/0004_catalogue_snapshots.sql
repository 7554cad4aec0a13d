-- A mark for each snapshot of the catalogue that a serving process keeps beside its models. Where the mark of a snapshot is
-- missing, this database is another one, or was restored to a time before it: what changed since can't be asked for.
CREATE TABLE catalogue_snapshots (
  id uuid PRIMARY KEY,
  mark_time timestamptz NOT NULL DEFAULT now()
);
