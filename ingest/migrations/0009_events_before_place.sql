-- concurrently
CREATE INDEX CONCURRENTLY IF NOT EXISTS events_before_place ON events (stream_partition, stream_offset);
