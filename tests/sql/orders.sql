-- The table of the demo and of tests: what crds/examples/orders.yaml writes, and what the database adds for whoever judges a run.
CREATE SCHEMA IF NOT EXISTS shop;

CREATE TABLE IF NOT EXISTS shop.orders (
  id text PRIMARY KEY,
  customer text,
  amount numeric(12, 2),
  placed_at timestamptz,
  payload jsonb,
  written bigint GENERATED ALWAYS AS IDENTITY,  -- the order of writing
  written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  written_by text NOT NULL DEFAULT current_setting('cluster_name')  -- the instance
);
