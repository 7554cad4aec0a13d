-- Published models. At most one is active.
CREATE TABLE models (
  version text PRIMARY KEY,
  state text NOT NULL CHECK (state IN ('published', 'active', 'held')),
  create_time timestamptz NOT NULL,
  activate_time timestamptz,
  metrics jsonb NOT NULL,
  item_count bigint NOT NULL,
  event_count bigint NOT NULL,
  size_bytes bigint NOT NULL,
  has_ranker boolean NOT NULL,
  note text NOT NULL
);
CREATE UNIQUE INDEX models_one_active ON models (state) WHERE state = 'active';

-- What was active when, for going back.
CREATE TABLE model_activations (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  version text NOT NULL REFERENCES models,
  activate_time timestamptz NOT NULL,
  reason text NOT NULL
);

CREATE TABLE training_runs (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  state text NOT NULL CHECK (state IN ('running', 'done', 'failed')),
  stage text NOT NULL,
  done bigint NOT NULL,
  total bigint NOT NULL,
  model_version text,
  message text NOT NULL,
  start_time timestamptz NOT NULL,
  change_time timestamptz NOT NULL
);
