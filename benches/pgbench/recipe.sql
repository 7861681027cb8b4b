-- The same row as applications do it without the proxy: a plain setting and a policy that trusts it.
\set id random(1, 1000)
BEGIN;
SELECT set_config('app.tenant_id', ':tenant', true);
SELECT body FROM items_recipe WHERE id = :id;
COMMIT;
