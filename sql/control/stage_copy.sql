select cloison.stage_copy(pg_catalog.to_regclass($1::text)::oid, $2::text[], $3::boolean, $4::boolean)
