-- A record of a session that may see more than one tenant, or of what it is about to do. The proxy
-- goes on only after this row is committed.
select cloison.audit_append($1, $2, $3, $4, $5);
