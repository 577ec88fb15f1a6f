// Command bench measures the library on each store, beside its peers, and beside what it cannot beat: the same requests without a
// store, the same hash without a signer. It prints tables in Markdown; docs/performance.md tells what they mean. A figure that
// has a bar shows it, and says so when it misses it.
//
//	go run . -only dispatch,peers -n 15000 -rounds 3
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	// The processes beside this one are this program again.
	for flag, serve := range map[string]func() error{
		receiverFlag: serveReceiver, dispatcherFlag: serveDispatcher, loaderFlag: serveLoader,
	} {
		if slices.Contains(os.Args[1:], flag) {
			exitOn(serve())
			return
		}
	}
	exitOn(run(os.Args[1:]))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are the flags.
type options struct {
	only       string
	stores     string
	n          int
	rounds     int
	endpoints  int
	many       int
	backlog    int
	inFlight   int
	senders    int
	rawSenders int
	ordered    bool
	statements bool
	noHealth   bool
	json       string
	svg        string
	profile    string
	limit      time.Duration
}

// part is something to be measured.
type part struct {
	name    string
	measure func(*options) ([]*table, error)
}

// parts in the order in which they are measured. million is not in the default: it takes half an hour.
var parts = []part{
	{"dispatch", measureDispatch},
	{"peers", measurePeers},
	{"slow", measureSlow},
	{"limits", measureLimits},
	{"endpoints", measureEndpoints},
	{"processes", measureProcesses},
	{"backlog", measureBacklog},
	{"receive", measureReceive},
	{"inflight", measureInFlight},
	{"healthy", measureHealthy},
	{"noisy", measureNoisy},
	{"claim", measureClaims},
	{"sign", measureSign},
	{"disk", measureDisk},
	{"million", measureMillion},
}

// allParts are the names of all but million.
func allParts() string {
	var names []string
	for _, p := range parts {
		if p.name != "million" {
			names = append(names, p.name)
		}
	}
	return strings.Join(names, ",")
}

func parseOptions(args []string) (*options, error) {
	o := new(options)
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.StringVar(&o.only, "only", allParts(), "what to measure, separated by commas; million is noisy with 1,000,000 waiting")
	fs.StringVar(&o.stores, "stores", "memory,sqlite,postgres,mariadb", "on which stores, separated by commas, where a part has several")
	fs.IntVar(&o.n, "n", 15_000, "deliveries a round")
	fs.IntVar(&o.rounds, "rounds", 3, "rounds")
	fs.IntVar(&o.endpoints, "endpoints", 16, "endpoints, all at one receiver")
	fs.IntVar(&o.many, "many", 10_000, "endpoints: how many the most are; inflight: endpoints, and attempts under way")
	fs.IntVar(&o.backlog, "backlog", 1_000_000, "backlog: rows that wait, against a hundredth of them")
	fs.IntVar(&o.inFlight, "inflight", 0, "attempts under way at once to one endpoint; 0: the library's default")
	fs.IntVar(&o.senders, "senders", 0, "attempts under way at once in all; 0: the library's default")
	fs.IntVar(&o.rawSenders, "raw-senders", 64, "goroutines of net/http without a store")
	fs.BoolVar(&o.ordered, "ordered", false, "claim: give every delivery an ordering key of its own")
	fs.BoolVar(&o.statements, "statements", false, "dispatch, backlog: what each statement of the drains cost on PostgreSQL, by pg_stat_statements; this slows them down")
	fs.BoolVar(&o.noHealth, "no-health", false, "noisy, million: do not slow the hanging endpoints down, as the default policy does")
	fs.StringVar(&o.json, "json", "", "write all figures to this file")
	fs.StringVar(&o.svg, "svg", "", "write pictures of drains and latencies to this folder")
	fs.StringVar(&o.profile, "profile", "", "dispatch, slow, backlog: write profiles of enqueueing and of the drains to this folder")
	fs.DurationVar(&o.limit, "limit", 2*time.Hour, "give up after this long")
	return o, fs.Parse(args)
}

func run(args []string) error {
	o, err := parseOptions(args)
	if err != nil {
		return err
	}
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	// What this process started ends with it.
	time.AfterFunc(o.limit, func() { exitOn(fmt.Errorf("not done within %v", o.limit)) })
	names := splitNames(o.only)
	for _, name := range names {
		if !slices.ContainsFunc(parts, func(p part) bool { return p.name == name }) {
			return fmt.Errorf("-only %s: unknown", name)
		}
	}
	fmt.Println(about())
	var tables []*table
	var failed error
	for _, p := range parts {
		if !slices.Contains(names, p.name) {
			continue
		}
		got, err := p.measure(o)
		for _, t := range got {
			t.print(os.Stdout)
		}
		tables = append(tables, got...)
		if err != nil { // the others are measured all the same
			failed = errors.Join(failed, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return errors.Join(failed, writeTables(o.json, tables), drawTables(o.svg, tables))
}

func writeTables(file string, tables []*table) error {
	if file == "" {
		return nil
	}
	text, err := json.MarshalIndent(tables, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

func splitNames(s string) []string { return strings.Split(s, ",") }
