-- no-transaction
create index concurrently notes_stars on notes (stars);
