-- The record of a session that may see more than one tenant. The proxy lets the client in only
-- after this row is committed.
insert into cloison.audit_log (actor, action, session, detail)
values ($1, $2, $3, $4);
