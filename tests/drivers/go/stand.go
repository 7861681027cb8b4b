// What the Go programs share: where everything is, and checks.
package main

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
)

// Each transaction gets another server connection, and other clients keep them moving.
var transaction = need("POOL_MODE") == "transaction"

const only = "select distinct tenant_id::text from projects union select distinct tenant_id::text from crm_leads"

// A tenant, and the one it must never see.
type side struct {
	name, own, other string
	// As everybody has it who changes nothing.
	url string
	// Where the filter and hardening give tenants back what is tested for its own sake.
	freed string
	// There, where what needs a session works, too.
	session string
	// There, with one server connection for both tenants.
	narrow string
}

var sides = []side{
	sideOf("A", "d0000000-0000-4000-8000-000000000001", "e0000000-0000-4000-8000-000000000001"),
	sideOf("B", "e0000000-0000-4000-8000-000000000001", "d0000000-0000-4000-8000-000000000001"),
}

func sideOf(name, own, other string) side {
	of := func(kind string) string { return url(kind + "_" + name + "_URL") }
	return side{name, own, other, of("TENANT"), of("FREED"), of("SESSION"), of("NARROW")}
}

func need(name string) string {
	value, found := os.LookupEnv(name)
	if !found {
		panic(name + " is not set")
	}
	return value
}

// lib/pq demands TLS unless it is told otherwise.
func url(name string) string {
	return need(name) + "?sslmode=disable"
}

// Both pool modes run at once, in one database.
func named(prefix string) string {
	return prefix + "_" + need("POOL_MODE")
}

func email(client string, n any) string {
	return fmt.Sprintf("%v@%s.example.org", n, named(client))
}

var passed int64

func check(what string, got, expected any) {
	if !reflect.DeepEqual(got, expected) {
		fail("%s: expected %#v, got %#v", what, expected, got)
	}
	atomic.AddInt64(&passed, 1)
	fmt.Println("ok  " + what)
}

func checkIn(what, part, whole string) {
	if !strings.Contains(whole, part) {
		fail("%s: expected %q in %q", what, part, whole)
	}
	check(what, true, true)
}

func fail(format string, arguments ...any) {
	fmt.Printf("FAILED  "+format+"\n", arguments...)
	os.Exit(1)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func got[T any](value T, err error) T {
	must(err)
	return value
}

// Both tenants at once; a panic in one ends the program.
func together(work func(side)) {
	var all sync.WaitGroup
	for _, one := range sides {
		all.Add(1)
		go func(one side) {
			defer all.Done()
			work(one)
		}(one)
	}
	all.Wait()
}

func finish() {
	fmt.Printf("passed %d\n", passed)
}
