-- Events become a table partitioned by day, in steps that hold no lock for long. First the columns that it has more: the day
-- of the event's entry in the stream, and its place there. Rows from before have the day 1970-01-01 and no place until upkeep
-- moves them to their days. The defaults are constants, so no row is written.
ALTER TABLE events
  ADD COLUMN day date NOT NULL DEFAULT '1970-01-01',
  ADD COLUMN stream_partition smallint NOT NULL DEFAULT 0,
  ADD COLUMN stream_offset bigint NOT NULL DEFAULT 0,
  ADD CONSTRAINT events_before_day CHECK (day < '1970-01-02') NOT VALID;
