package webhook_test

import (
	"fmt"
	"strings"
	"testing"
)

// Each rule of the house finds what it is there for, and lets pass what is right: otherwise TestHouse proves nothing.
// want is what the only offence must mention, "" when there must be none.

func TestHouseRulesOnFiles(t *testing.T) {
	doc := "// Package x is documented.\n"
	long := func(lines int) string { return strings.Repeat("\n", lines-2) }
	for _, c := range []struct {
		rule               func(goFile) []string
		path, module, text string
		want               string
	}{
		{badImports, "send.go", ".", `package webhook; import "net/http"`, ""},
		{badImports, "send.go", ".", `package webhook; import "golang.org/x/sync/errgroup"`, ""},
		{badImports, "send.go", ".", `package webhook; import "github.com/signalpost/webhook/internal/ids"`, ""},
		{badImports, "send.go", ".", `package webhook; import "github.com/google/go-cmp/cmp"`, "go-cmp"},
		{badImports, "send_test.go", ".", `package webhook; import "github.com/google/go-cmp/cmp"`, ""},
		{badImports, "send_test.go", ".", `package webhook; import "github.com/stretchr/testify"`, "testify"},
		{badImports, "send.go", ".", `package webhook; import "github.com/signalpost/webhook/memstore"`, "root imports none"},
		{badImports, "send_test.go", ".", `package webhook_test; import "github.com/signalpost/webhook/memstore"`, ""},
		{badImports, "memstore/a.go", ".", `package memstore; import "github.com/signalpost/webhook"`, ""},
		{badImports, "memstore/a.go", ".", `package memstore; import "github.com/signalpost/webhook/sqlstore"`, "never each other"},
		{badImports, "profile/a.go", ".", `package profile; import "github.com/signalpost/webhook/memstore"`, "never each other"},
		{badImports, "sqlstore/a.go", ".", `package sqlstore; import "github.com/signalpost/webhook/profile"`, "never each other"},
		{badImports, "sqlstore/a.go", ".", `package sqlstore; import "github.com/signalpost/webhook/sqlstore/migrations"`, ""},
		{badImports, "sqlstore/a.go", ".", `package sqlstore; import _ "github.com/jackc/pgx/v5/stdlib"`, "pgx"},
		{badImports, "sqlstore/a_test.go", ".", `package sqlstore; import _ "modernc.org/sqlite"`, "modernc"},
		{badImports, "memstore/a.go", ".", `package memstore; import "github.com/signalpost/webhook/storetest"`, "tests only"},
		{badImports, "memstore/a_test.go", ".", `package memstore; import "github.com/signalpost/webhook/storetest"`, ""},
		{badImports, "dashboard/a.go", ".", `package dashboard; import "github.com/signalpost/webhook/sqlstore"`, "never each other"},
		{badImports, "webhooktest/a.go", ".", `package webhooktest; import "github.com/signalpost/webhook/memstore"`, "never each other"},
		{badImports, "webhooktest/a.go", ".", `package webhooktest; import "github.com/signalpost/webhook"`, ""},
		{badImports, "webhooktest/a.go", ".", `package webhooktest; import "github.com/signalpost/webhook/storetest"`, "tests only"},
		{badImports, "bench/a.go", "bench", `package main; import "github.com/riverqueue/river"`, ""},
		{badImports, "bench/a.go", "bench", `package main; import "github.com/signalpost/webhook/webhooktest"`, "tests only"},
		{badImports, "internal/dbtest/a.go", "internal/dbtest", `package dbtest; import _ "github.com/lib/pq"`, ""},
		{badImports, "internal/pipenet/a.go", ".", `package pipenet; import _ "github.com/lib/pq"`, "lib/pq"},

		{badNames, "sqlstore/a.go", ".", "package sqlstore", ""},
		{badNames, "internal/util/a.go", ".", "package util", "util"},
		{badNames, "bench/common/a_test.go", "bench", "package common_test", "common"},
		{badNames, "bench/models/a.go", "bench", "package m", "package called m"},

		{badSizes, "a.go", ".", "package x\n" + long(499), ""},
		{badSizes, "a.go", ".", "package x\n" + long(501), "500 lines"},
		{badSizes, "a_test.go", ".", "package x\n" + long(900), ""},
		{badSizes, "a.go", ".", "package x\nfunc F() {\n" + long(59) + "}\n", ""},
		{badSizes, "a.go", ".", "package x\nfunc F() {\n" + long(60) + "}\n", "F has 60 lines"},
		{badSizes, "bench/a.go", "bench", "package x\nfunc (t T) F() {\n" + long(60) + "}\n", "F has 60 lines"},

		{undocumented, "a.go", ".", doc + "package x\nfunc F() {}", "F has no"},
		{undocumented, "a.go", ".", doc + "package x\n// F does.\nfunc F() {}", ""},
		{undocumented, "a.go", ".", doc + "package x\nfunc f() {}", ""},
		{undocumented, "a.go", ".", doc + "package x\nfunc (t *T[K]) M() {}", "M has no"},
		{undocumented, "a.go", ".", doc + "package x\nfunc (t *t) M() {}", ""},
		{undocumented, "a.go", ".", doc + "package x\ntype T int", "T has no"},
		{undocumented, "a.go", ".", doc + "package x\n// The ends.\nconst (A = 1; B = 2)", ""},
		{undocumented, "a.go", ".", doc + "package x\nconst (\nA = 1 // first\nB = 2\n)", "B has no"},
		{undocumented, "a.go", ".", doc + "package x\nvar V, w int", "V has no"},
		{undocumented, "a_test.go", ".", "package x\nfunc F() {}", ""},
		{undocumented, "internal/ids/a.go", ".", "package ids\nfunc F() {}", ""},
		{undocumented, "otelwebhook/a.go", "otelwebhook", "package otelwebhook\nfunc F() {}", "F has no"},
	} {
		f, err := parse(c.path, c.module, []byte(c.text))
		if err != nil {
			t.Fatalf("%s: %v", c.text, err)
		}
		t.Run(fmt.Sprintf("%s %.70q", c.path, c.text), func(t *testing.T) { expect(t, c.rule(f), c.want) })
	}
}

func TestHouseRulesOnTheTree(t *testing.T) {
	expect(t, badRequirements([]string{"golang.org/x/sync", "github.com/google/go-cmp", "go.uber.org/goleak"}), "")
	expect(t, badRequirements([]string{"golang.org/x/sync", "golang.org/x/time"}), "x/time")
	expect(t, badLinked([]string{modulePath, modulePath + "/memstore", "golang.org/x/sync/errgroup"}), "")
	expect(t, badLinked([]string{modulePath, "github.com/google/go-cmp/cmp"}), "go-cmp")
	expect(t, badLinked([]string{modulePath + "er"}), "webhooker")

	expect(t, badWorkspace([]string{".", "bench", "examples"}, []string{".", "examples"}), "")
	expect(t, badWorkspace([]string{".", "internal/dbtest"}, []string{"."}), "lacks module internal/dbtest")
	expect(t, badWorkspace([]string{"."}, []string{".", "bench"}), "ties bench in")

	with, err := parse("a/a.go", ".", []byte("// Package a is.\npackage a"))
	if err != nil {
		t.Fatal(err)
	}
	without, err := parse("a/b.go", ".", []byte("package a"))
	if err != nil {
		t.Fatal(err)
	}
	expect(t, packagesWithoutComment([]goFile{without, with}), "")
	expect(t, packagesWithoutComment([]goFile{without}), "a: no file")

	if got := moduleOf("bench/peers/a.go", []string{"bench", "bench/peers", "examples"}); got != "bench/peers" {
		t.Errorf("moduleOf = %q", got)
	}
	if got := moduleOf("benches/a.go", []string{"bench"}); got != "." {
		t.Errorf("moduleOf = %q", got)
	}
}

func TestHouseRuleOnPaths(t *testing.T) {
	slash := func(s string) []byte { return []byte(strings.ReplaceAll(s, "|", "/")) } // so that this file stays clean
	for text, want := range map[string]string{
		"first\nsee |work|main|x.go":            ":2",
		"\"|home|ann|src\"":                     ":1",
		"file=|Users|ann|src":                   ":1",
		"cd |root|x":                            ":1",
		"https:||example.com|home|ann|x":        "",
		"the app's own |worker| and a|work|b":   "",
		"~|work|x and ..|work|x":                "",
		"binary \x00 |root|x":                   "",
		"nothing at all":                        "",
		"|usr|lib|postgresql|15|bin and |tmp|x": "",
	} {
		t.Run(text, func(t *testing.T) { expect(t, machinePaths("f", slash(text)), want) })
	}
}

func expect(t *testing.T, offences []string, want string) {
	t.Helper()
	switch {
	case want == "" && len(offences) > 0:
		t.Errorf("found %q, want nothing", offences)
	case want != "" && (len(offences) != 1 || !strings.Contains(offences[0], want)):
		t.Errorf("found %q, want one that mentions %q", offences, want)
	}
}
