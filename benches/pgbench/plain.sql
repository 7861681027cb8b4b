-- One row of a table that nobody protects.
\set id random(1, 1000)
SELECT body FROM items_plain WHERE tenant_id = ':tenant' AND id = :id;
