-- concurrently
-- The key of the partitioned table.
CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS events_before_key ON events (event_id, day);
