-- Reads the whole table, while others read and write it: so the attaching of 0010 need not.
ALTER TABLE events VALIDATE CONSTRAINT events_before_day;
