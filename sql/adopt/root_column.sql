-- The type of a table's primary key ($1), if that is one column; whether it can be a tenant column as
-- it is; and the column by which most tables refer to it.
select format_type(a.atttypid, null), a.attidentity = '' and a.attgenerated = '', quote_ident(a.attname),
    (
        select f.attname::text
        from pg_constraint k
            join pg_attribute f on f.attrelid = k.conrelid and f.attnum = k.conkey[1]
        where k.confrelid = x.indrelid and k.contype = 'f' and cardinality(k.conkey) = 1
          and k.conrelid <> k.confrelid
        group by f.attname
        order by count(*) desc, f.attname
        limit 1
    )
from pg_index x
    join pg_attribute a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
where x.indrelid = to_regclass($1) and x.indisprimary and x.indnkeyatts = 1
