-- Where a decision is found: the lake holds it whole, by day and token.
CREATE TABLE decisions (
  token text NOT NULL,  -- the attribution token of the answer
  subject text NOT NULL,
  surface text NOT NULL,
  model_version text NOT NULL,
  decide_time timestamptz NOT NULL,
  day date NOT NULL,
  PRIMARY KEY (token, day)
) PARTITION BY RANGE (day);
CREATE INDEX decisions_subject ON decisions (subject, decide_time);
CREATE TABLE decisions_default PARTITION OF decisions DEFAULT;

-- Who may call. A secret itself is nowhere.
CREATE TABLE api_clients (
  id text PRIMARY KEY,
  name text NOT NULL,
  secret_hash bytea NOT NULL,
  scopes text[] NOT NULL,
  origins text[] NOT NULL,  -- of browsers that may call with it; none: no browser may
  create_time timestamptz NOT NULL DEFAULT now(),
  revoke_time timestamptz
);
