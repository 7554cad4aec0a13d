-- What was accepted lately: serving asks for the events of new items every few seconds. The times rise, so that the index
-- grows at its end and costs a write little.
CREATE INDEX events_accept_time ON events (accept_time);
