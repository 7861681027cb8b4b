// Everyday work of lib/pq through database/sql, as two tenants at once, and the owner.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/lib/pq"
)

const insert = "insert into crm_leads (full_name, email) values ($1, $2) returning tenant_id"

var table = named("with_pq")

type asker interface {
	Query(text string, arguments ...any) (*sql.Rows, error)
}

// The first column.
func column(by asker, text string, arguments ...any) []string {
	rows, err := by.Query(text, arguments...)
	must(err)
	return read(rows)
}

func read(rows *sql.Rows) (column []string) {
	defer rows.Close()
	for rows.Next() {
		var value string
		must(rows.Scan(&value))
		column = append(column, value)
	}
	must(rows.Err())
	return
}

// The one value of a result, behind which another may come.
func read1(rows *sql.Rows) (value string) {
	for rows.Next() {
		must(rows.Scan(&value))
	}
	return
}

func refused(what, state string, err error) *pq.Error {
	var refusal *pq.Error
	if !errors.As(err, &refusal) {
		fail("%s: expected %s, got %v", what, state, err)
	}
	check(what, string(refusal.Code), state)
	return refusal
}

func open(url string, connections int) *sql.DB {
	db := got(sql.Open("postgres", url))
	db.SetMaxOpenConns(connections)
	return db
}

func rows(of side, db *sql.DB) {
	check("reads its own rows", column(db, only), []string{of.own})
	tx := got(db.Begin())
	check("insert is given its tenant", column(tx, insert, "pq", email("pq", "first")), []string{of.own})
	changed := got(got(tx.Exec("update crm_leads set status = 'lost' where tenant_id = $1", of.other)).RowsAffected())
	check("nothing of another tenant's is changed", changed, int64(0))
	check("an update of everything", column(tx, "update crm_leads set status = 'lost' returning tenant_id")[0], of.own)
	must(tx.Rollback())
	_, err := db.Exec("insert into crm_leads (tenant_id, full_name, email) values ($1, 'x', 'x')", of.other)
	refused("another tenant's row", "42501", err)
	_, err = db.Exec("update crm_leads set tenant_id = $1", of.other)
	refused("a row moved to another tenant", "42501", err)
	_, err = db.Exec("select no_such from projects")
	refused("an unknown column", "42703", err)
	check("and goes on", column(db, only), []string{of.own})
}

// A statement that is prepared once, on whichever connections of the pool it is used.
func prepared(of side, db *sql.DB) {
	statement := got(db.Prepare("select tenant_id::text || $1 from projects where $2 limit 1"))
	defer statement.Close()
	var all sync.WaitGroup
	for n := 0; n < 30; n++ {
		all.Add(1)
		go func(n int) {
			defer all.Done()
			var value string
			must(statement.QueryRow(fmt.Sprint(n), true).Scan(&value))
			check("a prepared statement", value, of.own+fmt.Sprint(n))
		}(n)
	}
	all.Wait()
	several := got(db.Query("select 1; select tenant_id from projects limit 1"))
	check("the first of two statements", read1(several), "1")
	check("the other", several.NextResultSet(), true)
	check("of its own", read1(several), of.own)
	must(several.Close())
}

func transactions(of side, db *sql.DB) {
	for n := 0; n < 10; n++ {
		tx := got(db.BeginTx(context.Background(), &sql.TxOptions{Isolation: sql.LevelRepeatableRead}))
		statement := got(tx.Prepare(insert))
		check("in a transaction", read(got(statement.Query("pq", email("pq", n)))), []string{of.own})
		check("its level", column(tx, "show transaction_isolation"), []string{"repeatable read"})
		got(tx.Exec("savepoint one"))
		_, err := statement.Exec("pq", email("pq", n))
		refused("a unique violation", "23505", err)
		_, err = tx.Exec("select 1")
		refused("a failed transaction", "25P02", err)
		got(tx.Exec("rollback to one"))
		check("goes on from the savepoint", column(tx, only), []string{of.own})
		must(tx.Rollback())
	}
	tx := got(db.BeginTx(context.Background(), &sql.TxOptions{ReadOnly: true}))
	_, err := tx.Exec("update projects set name = name")
	refused("a read-only transaction", "25006", err)
	must(tx.Rollback())
	tx = got(db.Begin())
	got(tx.Exec("declare c no scroll cursor for select p.tenant_id from generate_series(1, 1000), (select tenant_id from projects limit 1) p"))
	count := 0
	for page := column(tx, "fetch 300 from c"); len(page) > 0; page = column(tx, "fetch 300 from c") {
		check("a cursor's page", page[0], of.own)
		count += len(page)
	}
	check("a cursor", count, 1000)
	must(tx.Commit())
}

func types(db *sql.DB) {
	when := time.Date(2026, 2, 28, 23, 59, 59, 999999000, time.UTC)
	bytes := []byte{0, 255, '\\', '\''}
	for n := int64(0); n < 5; n++ {
		var (
			number  int64
			decimal string
			at      time.Time
			data    []byte
			words   []string
			numbers pq.Int64Array
			missing sql.NullString
			text    string
		)
		row := db.QueryRow("select $1::int8, $2::numeric, $3::timestamptz, $4::bytea, $5::text[], $6::int8[], $7::text, $8::jsonb->'clé'->>1",
			n<<40, "-1234567890123456789.0001", when, bytes, pq.Array([]string{"é", "q\"{,}", ""}), pq.Array([]int64{n, -1}), nil, `{"clé": [1, "è"]}`)
		must(row.Scan(&number, &decimal, &at, &data, pq.Array(&words), &numbers, &missing, &text))
		check("numbers", []any{number, decimal}, []any{n << 40, "-1234567890123456789.0001"})
		check("a timestamp", at.UTC(), when)
		check("bytes", data, bytes)
		check("arrays", []any{words, numbers}, []any{[]string{"é", "q\"{,}", ""}, pq.Int64Array{n, -1}})
		check("null and JSON", []any{missing.Valid, text}, []any{false, "è"})
	}
}

func copying(of side, db *sql.DB) {
	tx := got(db.Begin())
	statement := got(tx.Prepare(pq.CopyIn("crm_leads", "full_name", "email")))
	for n := 0; n < 2000; n++ {
		got(statement.Exec("pq", email("pq", n)))
	}
	check("COPY FROM", got(got(statement.Exec()).RowsAffected()), int64(2000))
	must(statement.Close())
	count := column(tx, "select count(*) from crm_leads where email like $1 and tenant_id = $2", email("pq", "%"), of.own)
	check("under its policies", count, []string{"2000"})
	must(tx.Rollback())
	tx = got(db.Begin())
	statement = got(tx.Prepare(pq.CopyIn("crm_leads", "tenant_id", "full_name", "email")))
	got(statement.Exec(of.other, "x", email("pq", "copied")))
	_, err := statement.Exec()
	refused("COPY FROM with another tenant's row", "42501", err)
	must(tx.Rollback())
}

func cancelling(of side, db *sql.DB) {
	within, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	_, err := db.ExecContext(within, "select pg_sleep(60)")
	refused("a cancelled query", "57014", err)
	check("after a cancel", column(db, only), []string{of.own})
}

// As the driver starts with, and what SET has changed.
func settings(of side) {
	db := open(of.url+"&application_name=with_pq&timezone=Asia/Tokyo&search_path=pg_catalog,public&statement_timeout=54321", 1)
	defer db.Close()
	show := "select concat_ws(' ', current_setting('application_name'), current_setting('timezone'), current_setting('search_path'), current_setting('statement_timeout'))"
	for n := 0; n < 10; n++ {
		check("its startup parameters", column(db, show), []string{"with_pq Asia/Tokyo pg_catalog,public 54321ms"})
	}
	got(db.Exec("set timezone = 'America/Lima'"))
	for n := 0; n < 10; n++ {
		check("its SET", column(db, "show timezone"), []string{"America/Lima"})
	}
}

func listening(of side) {
	channel := "with_pq_" + of.name
	listener := pq.NewListener(of.session, 10*time.Millisecond, time.Second, nil)
	must(listener.Listen(channel))
	db := open(of.session, 1)
	defer db.Close()
	got(db.Exec("select pg_notify($1, 'salut')", channel))
	select {
	case told := <-listener.Notify:
		check("a notification", told.Extra, "salut")
	case <-time.After(20 * time.Second):
		fail("no notification")
	}
	must(listener.Close())

	// A tenant that may not is told so, and why; the driver gives up on it.
	free, state, setting := of.url, "42501", "allowed_statements"
	if transaction {
		free, state, setting = of.freed, "0A000", "session_statements"
	}
	ends := make(chan error, 1)
	connected := make(chan error, 100)
	listener = pq.NewListener(free, 10*time.Millisecond, time.Second, func(_ pq.ListenerEventType, err error) { connected <- err })
	must(<-connected)
	go func() { ends <- listener.Listen("news") }()
	select {
	case err := <-ends:
		checkIn("the hint", setting, refused("LISTEN", state, err).Hint)
	case <-time.After(20 * time.Second):
		fail("LISTEN is neither refused nor accepted")
	}
	listener.Close()
}

// One server connection for both tenants: they take turns, and both name their statements alike.
func turns(of side) {
	for round := 0; round < 4; round++ {
		db := open(of.narrow, 1)
		statement := got(db.Prepare("select '" + of.name + "' || tenant_id from projects limit 1"))
		for n := 0; n < 5; n++ {
			check("its own statement", read(got(statement.Query())), []string{of.name + of.own})
		}
		check("one server connection: its own rows", column(db, only), []string{of.own})
		must(statement.Close())
		must(db.Close())
	}
}

// The owner changes a table under the tenants' prepared statements.
func migrating() {
	owner := open(url("OWNER_URL"), 1)
	defer owner.Close()
	got(owner.Exec("drop table if exists " + table))
	got(owner.Exec("begin; create table " + table + " (id int generated always as identity, word text, n bigint); select cloison.protect('" + table + "'); commit"))
	defer owner.Exec("drop table " + table)
	var statements []*sql.Stmt
	for _, of := range sides {
		db := open(of.url, 1)
		defer db.Close()
		got(db.Exec("insert into "+table+" (word, n) values ($1, 7)", of.name))
		for _, text := range []string{"select word from " + table, "select * from " + table} {
			statement := got(db.Prepare(text))
			for n := 0; n < 3; n++ {
				got(statement.Query()).Close()
			}
			statements = append(statements, statement)
		}
	}
	got(owner.Exec("alter table " + table + " alter n type double precision, add extra text default 'new'"))
	for n, of := range sides {
		check("a statement that the change does not touch", read(got(statements[2*n].Query())), []string{of.name})
		// As Postgres itself does without a proxy: the driver prepares again when it is told to.
		_, err := statements[2*n+1].Query()
		refused("a statement that it touches", "0A000", err)
		db := open(of.url, 1)
		var (
			extra string
			value float64
		)
		must(db.QueryRow("select extra, n from "+table+" where word = $1", of.name).Scan(&extra, &value))
		check("the new columns", []any{extra, value}, []any{"new", 7.0})
		must(db.Close())
	}
}

func logins() {
	refused("a forged token", "28P01", open(url("FORGED_URL"), 1).Ping())
	checkIn("is told", "token has expired", refused("an expired token", "28P01", open(url("EXPIRED_URL"), 1).Ping()).Message)
}

func main() {
	together(func(of side) {
		db := open(of.url, 3)
		defer db.Close()
		rows(of, db)
		prepared(of, db)
		transactions(of, db)
		types(db)
		copying(of, db)
		cancelling(of, db)
		settings(of)
		listening(of)
		turns(of)
	})
	migrating()
	logins()
	finish()
}
