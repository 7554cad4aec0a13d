-- Days that left this table for good: the lake has them, and had the same count and checksum then.
CREATE TABLE retired_days (
  day date PRIMARY KEY,
  row_count bigint NOT NULL,
  checksum text NOT NULL,
  retire_time timestamptz NOT NULL DEFAULT now()
);
