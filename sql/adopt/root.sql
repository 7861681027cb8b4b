-- The column of a table ($1) that is its primary key, if that is one column of a type ($2) which can
-- be a tenant column as it is; and columns that its tenants' names and slugs can be taken from.
select quote_ident(a.attname), a.attname::text,
    (
        select quote_ident(n.attname)
        from pg_attribute n
        where n.attrelid = x.indrelid and not n.attisdropped
          and n.attname = 'name' and n.atttypid in ('text'::regtype, 'varchar'::regtype)
    ),
    (
        select quote_ident(n.attname)
        from pg_attribute n
        where n.attrelid = x.indrelid and not n.attisdropped
          and n.attname = 'slug' and n.atttypid in ('text'::regtype, 'varchar'::regtype)
    )
from pg_index x
    join pg_attribute a on a.attrelid = x.indrelid and a.attnum = x.indkey[0]
where
    x.indrelid = $1::oid
    and x.indisprimary
    and x.indnkeyatts = 1
    and a.attidentity = ''
    and a.attgenerated = ''
    and format_type(a.atttypid, null) = $2::text
