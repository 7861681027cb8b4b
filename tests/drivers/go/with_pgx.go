// Everyday work of pgx and its pool, as two tenants at once, and the owner.
package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgconn"
	"github.com/jackc/pgtype"
	"github.com/jackc/pgx/v4"
	"github.com/jackc/pgx/v4/pgxpool"
)

const insert = "insert into crm_leads (full_name, email) values ($1, $2) returning tenant_id::text"

var (
	table = named("with_pgx")
	now   = context.Background()
)

type asker interface {
	Query(within context.Context, text string, arguments ...any) (pgx.Rows, error)
}

// The first column.
func column(by asker, text string, arguments ...any) []string {
	rows, err := by.Query(now, text, arguments...)
	must(err)
	return read(rows)
}

func read(rows pgx.Rows) (column []string) {
	defer rows.Close()
	for rows.Next() {
		var value string
		must(rows.Scan(&value))
		column = append(column, value)
	}
	must(rows.Err())
	return
}

func refused(what, state string, err error) *pgconn.PgError {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		fail("%s: expected %s, got %v", what, state, err)
	}
	check(what, refusal.Code, state)
	return refusal
}

// The error of a query comes with its rows.
func asked(by asker, text string, arguments ...any) error {
	rows, err := by.Query(now, text, arguments...)
	if err == nil {
		rows.Close()
		err = rows.Err()
	}
	return err
}

func rows(of side, pool *pgxpool.Pool) {
	check("reads its own rows", column(pool, only), []string{of.own})
	tx := got(pool.Begin(now))
	check("insert is given its tenant", column(tx, insert, "pgx", email("pgx", "first")), []string{of.own})
	changed := got(tx.Exec(now, "update crm_leads set status = 'lost' where tenant_id = $1", of.other))
	check("nothing of another tenant's is changed", changed.RowsAffected(), int64(0))
	check("an update of everything", column(tx, "update crm_leads set status = 'lost' returning tenant_id::text")[0], of.own)
	must(tx.Rollback(now))
	refused("another tenant's row", "42501", asked(pool, "insert into crm_leads (tenant_id, full_name, email) values ($1, 'x', 'x')", of.other))
	refused("a row moved to another tenant", "42501", asked(pool, "update crm_leads set tenant_id = $1", of.other))
	refused("an unknown column", "42703", asked(pool, "select no_such from projects"))
	check("and goes on", column(pool, only), []string{of.own})
}

// The driver keeps statements by their text: prepared, described only, or never.
func prepared(of side) {
	for _, way := range []string{"&statement_cache_mode=prepare", "&statement_cache_mode=describe", "&statement_cache_capacity=0"} {
		pool := got(pgxpool.Connect(now, of.url+"&pool_max_conns=3"+way))
		var all sync.WaitGroup
		for n := 0; n < 20; n++ {
			all.Add(1)
			go func(n int32) {
				defer all.Done()
				var (
					value string
					echo  int32
				)
				must(pool.QueryRow(now, "select tenant_id::text, $1::int4 from projects where $2 limit 1", n, true).Scan(&value, &echo))
				check("a statement"+way, []any{value, echo}, []any{of.own, n})
			}(int32(n))
		}
		all.Wait()
		pool.Close()
	}
	config := got(pgx.ParseConfig(of.url))
	config.PreferSimpleProtocol = true
	connection := got(pgx.ConnectConfig(now, config))
	for n := 0; n < 3; n++ {
		check("the simple protocol", column(connection, "select tenant_id::text || $1 from projects limit 1", "'x"), []string{of.own + "'x"})
	}
	must(connection.Close(now))
	connection = got(pgx.Connect(now, of.url))
	got(connection.Prepare(now, "by its name", "select tenant_id::text from projects where $1 limit 1"))
	for n := 0; n < 8; n++ {
		check("a statement by its name", column(connection, "by its name", true), []string{of.own})
	}
	must(connection.Deallocate(now, "by its name"))
	must(connection.Close(now))
}

func transactions(of side, pool *pgxpool.Pool) {
	for n := 0; n < 10; n++ {
		tx := got(pool.BeginTx(now, pgx.TxOptions{IsoLevel: pgx.Serializable}))
		check("in a transaction", column(tx, insert, "pgx", email("pgx", n)), []string{of.own})
		check("its level", column(tx, "show transaction_isolation"), []string{"serializable"})
		inner := got(tx.Begin(now))
		refused("a unique violation", "23505", asked(inner, insert, "pgx", email("pgx", n)))
		refused("a failed transaction", "25P02", asked(inner, "select 2"))
		must(inner.Rollback(now))
		check("goes on from the savepoint", column(tx, only), []string{of.own})
		must(tx.Rollback(now))
	}
	tx := got(pool.BeginTx(now, pgx.TxOptions{AccessMode: pgx.ReadOnly}))
	refused("a read-only transaction", "25006", asked(tx, "update projects set name = name"))
	must(tx.Rollback(now))
	must(pool.BeginFunc(now, func(tx pgx.Tx) error {
		got(tx.Exec(now, "declare c no scroll cursor for select p.tenant_id::text from generate_series(1, 1000), (select tenant_id from projects limit 1) p"))
		count := 0
		for page := column(tx, "fetch 300 from c"); len(page) > 0; page = column(tx, "fetch 300 from c") {
			check("a cursor's page", page[0], of.own)
			count += len(page)
		}
		check("a cursor", count, 1000)
		return nil
	}))
}

// Many statements with one Sync, more than the proxy takes answers for at once.
func batches(of side, pool *pgxpool.Pool) {
	tx := got(pool.Begin(now))
	batch := &pgx.Batch{}
	for n := 0; n < 4000; n++ {
		batch.Queue(insert, "pgx", email("pgx", n))
	}
	results := tx.SendBatch(now, batch)
	for n := 0; n < 4000; n++ {
		var value string
		must(results.QueryRow().Scan(&value))
		if value != of.own {
			fail("a batch has got %s", value)
		}
	}
	must(results.Close())
	check("a batch", column(tx, "select count(*)::text from crm_leads where email like $1", email("pgx", "%")), []string{"4000"})
	must(tx.Rollback(now))

	batch = &pgx.Batch{}
	batch.Queue(insert, "pgx", email("pgx", "twice"))
	batch.Queue("select 1 / (length($1) - 1)", "x")
	batch.Queue(only)
	results = pool.SendBatch(now, batch)
	var value string
	must(results.QueryRow().Scan(&value))
	var none any
	refused("an error in a batch", "22012", results.QueryRow().Scan(&none))
	if results.Close() == nil {
		fail("the statements behind it are left out")
	}
	check("and nothing of it stays", column(pool, "select count(*)::text from crm_leads where email like $1", email("pgx", "%")), []string{"0"})
}

func types(pool *pgxpool.Pool) {
	when := time.Date(2026, 2, 28, 23, 59, 59, 999999000, time.UTC)
	for n := int64(0); n < 5; n++ {
		var (
			number   int64
			at       time.Time
			data     []byte
			words    []string
			numbers  [][]int64
			missing  *string
			document map[string][]string
		)
		row := pool.QueryRow(now, "select $1::int8, $2::timestamptz, $3::bytea, $4::text[], $5::int8[], $6::text, $7::jsonb",
			n<<40, when, []byte{0, 255, '\\'}, []string{"é", "q\"{,}", ""}, [][]int64{{n, -1}, {2, 3}}, nil, map[string][]string{"clé": {"è"}})
		must(row.Scan(&number, &at, &data, &words, &numbers, &missing, &document))
		check("a number, a timestamp, bytes", []any{number, at.UTC(), data}, []any{n << 40, when, []byte{0, 255, '\\'}})
		check("arrays", []any{words, numbers}, []any{[]string{"é", "q\"{,}", ""}, [][]int64{{n, -1}, {2, 3}}})
		check("null and JSON", []any{missing == nil, document}, []any{true, map[string][]string{"clé": {"è"}}})
	}
}

// By COPY in its binary format.
func copying(of side, pool *pgxpool.Pool) {
	tx := got(pool.Begin(now))
	rows := pgx.CopyFromSlice(2000, func(n int) ([]any, error) { return []any{"pgx", email("pgx", n)}, nil })
	check("COPY FROM", got(tx.CopyFrom(now, pgx.Identifier{"crm_leads"}, []string{"full_name", "email"}, rows)), int64(2000))
	count := column(tx, "select count(*)::text from crm_leads where email like $1 and tenant_id = $2", email("pgx", "%"), of.own)
	check("under its policies", count, []string{"2000"})
	var other pgtype.UUID
	must(other.Set(of.other))
	foreign := pgx.CopyFromRows([][]any{{other, "x", email("pgx", "copied")}})
	_, err := tx.CopyFrom(now, pgx.Identifier{"crm_leads"}, []string{"tenant_id", "full_name", "email"}, foreign)
	refused("COPY FROM with another tenant's row", "42501", err)
	must(tx.Rollback(now))
}

func cancelling(of side, pool *pgxpool.Pool) {
	within, cancel := context.WithTimeout(now, 300*time.Millisecond)
	defer cancel()
	// It closes its connection, and asks for the end of the query on another.
	_, err := pool.Exec(within, "select pg_sleep(60)")
	check("a query that takes too long", errors.Is(err, context.DeadlineExceeded), true)
	check("after a cancel", column(pool, only), []string{of.own})
}

func settings(of side) {
	connection := got(pgx.Connect(now, of.url+"&application_name=with_pgx&timezone=Asia/Tokyo&statement_timeout=54321"))
	defer connection.Close(now)
	show := "select concat_ws(' ', current_setting('application_name'), current_setting('timezone'), current_setting('statement_timeout'))"
	for n := 0; n < 10; n++ {
		check("its startup parameters", column(connection, show), []string{"with_pgx Asia/Tokyo 54321ms"})
	}
	got(connection.Exec(now, "set timezone = 'America/Lima'"))
	for n := 0; n < 10; n++ {
		check("its SET", column(connection, "show timezone"), []string{"America/Lima"})
	}
}

func listening(of side) {
	channel := pgx.Identifier{"with pgx " + of.name}.Sanitize()
	connection := got(pgx.Connect(now, of.session))
	got(connection.Exec(now, "listen "+channel))
	got(connection.Exec(now, "notify "+channel+", 'salut'"))
	within, cancel := context.WithTimeout(now, 20*time.Second)
	defer cancel()
	check("a notification", got(connection.WaitForNotification(within)).Payload, "salut")
	must(connection.Close(now))

	free, state, setting := of.url, "42501", "allowed_statements"
	if transaction {
		free, state, setting = of.freed, "0A000", "session_statements"
	}
	connection = got(pgx.Connect(now, free))
	_, err := connection.Exec(now, "listen news")
	checkIn("the hint", setting, refused("LISTEN", state, err).Hint)
	check("and goes on", column(connection, only), []string{of.own})
	must(connection.Close(now))
}

// One server connection for both tenants: they take turns, and both name their statements alike.
func turns(of side) {
	for round := 0; round < 4; round++ {
		connection := got(pgx.Connect(now, of.narrow))
		got(connection.Prepare(now, "s", "select '"+of.name+"' || tenant_id from projects limit 1"))
		for n := 0; n < 5; n++ {
			check("its own statement", column(connection, "s"), []string{of.name + of.own})
		}
		check("one server connection: its own rows", column(connection, only), []string{of.own})
		must(connection.Close(now))
	}
}

// The owner changes a table under the tenants' prepared statements.
func migrating() {
	owner := got(pgx.Connect(now, url("OWNER_URL")))
	defer owner.Close(now)
	got(owner.Exec(now, "drop table if exists "+table))
	got(owner.Exec(now, "begin; create table "+table+" (id int generated always as identity, word text, n bigint); select cloison.protect('"+table+"'); commit"))
	defer owner.Exec(now, "drop table "+table)
	var connections []*pgx.Conn
	for _, of := range sides {
		connection := got(pgx.Connect(now, of.url))
		defer connection.Close(now)
		got(connection.Exec(now, "insert into "+table+" (word, n) values ($1, $2)", of.name, 7))
		for n := 0; n < 3; n++ {
			check("before the change", asked(connection, "select * from "+table), nil)
			check("of its own", column(connection, "select word from "+table), []string{of.name})
		}
		connections = append(connections, connection)
	}
	got(owner.Exec(now, "alter table "+table+" alter n type double precision, add extra text default 'new'"))
	for n, of := range sides {
		connection := connections[n]
		check("a statement that the change does not touch", column(connection, "select word from "+table), []string{of.name})
		// As Postgres itself does without a proxy: the driver prepares again behind it.
		refused("a statement that it touches", "0A000", asked(connection, "select * from "+table))
		check("and once more", asked(connection, "select * from "+table), nil)
		var value float64
		must(connection.QueryRow(now, "select n from "+table+" where extra = 'new'").Scan(&value))
		check("the new columns", value, 7.0)
		got(connection.Exec(now, "insert into "+table+" (word, n) values ($1, $2)", of.name, 7))
	}
}

func logins() {
	_, err := pgx.Connect(now, url("FORGED_URL"))
	refused("a forged token", "28P01", err)
	_, err = pgx.Connect(now, url("EXPIRED_URL"))
	checkIn("is told", "token has expired", refused("an expired token", "28P01", err).Message)
}

func main() {
	together(func(of side) {
		pool := got(pgxpool.Connect(now, of.url+"&pool_max_conns=3"))
		defer pool.Close()
		rows(of, pool)
		prepared(of)
		transactions(of, pool)
		batches(of, pool)
		types(pool)
		copying(of, pool)
		cancelling(of, pool)
		settings(of)
		listening(of)
		turns(of)
	})
	migrating()
	logins()
	finish()
}
