-- The same row, protected by the kit: the tenant is the client's.
\set id random(1, 1000)
SELECT body FROM items WHERE id = :id;
